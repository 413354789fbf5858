//! What time it is: tokio's clock, which a paused test moves.

use std::time::Instant;

pub(crate) fn read() -> Instant {
    tokio::time::Instant::now().into_std()
}
