//! Without tonic a rejection has no `Status` behind it.

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
