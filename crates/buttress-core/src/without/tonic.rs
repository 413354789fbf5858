//! Without tonic a rejection has no `Status` behind it, and no inner timeout to translate.

use std::error::Error;

use crate::Rejection;

#[derive(Debug, Default)]
pub(crate) struct StatusSlot(());

impl StatusSlot {
    #[expect(clippy::unused_self, reason = "with tonic there is something in it")]
    pub(crate) fn source(&self, _: &Rejection) -> Option<&(dyn Error + 'static)> {
        None
    }
}

#[cfg(feature = "http")]
pub(crate) fn is_timeout(_: &(dyn Error + 'static)) -> bool {
    false
}
