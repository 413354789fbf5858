//! What time it is: tokio's clock, which a paused test moves.

use std::time::Instant;

/// A reading, for the scopes of [`buttress_core::clock`].
#[inline]
pub(crate) fn read() -> Instant {
    tokio::time::Instant::now().into_std()
}
