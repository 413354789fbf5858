//! Without tonic a rejection has no `Status` behind it.

use std::{error::Error, time::Duration};

use crate::{Rejection, retry::Wait};

#[derive(Debug, Default)]
pub(crate) struct StatusSlot(());

impl StatusSlot {
    #[expect(clippy::unused_self, reason = "with tonic there is something in it")]
    pub(crate) fn source(&self, _: &Rejection) -> Option<&(dyn Error + 'static)> {
        None
    }
}

/// What an error asks its callers to wait: as a rejection of ours.
pub(crate) fn retry_after(error: &(dyn Error + 'static)) -> Option<Duration> {
    Rejection::find(error)?.retry_after()
}

/// As [`retry_after`], and whether it asks them not to come again at all.
pub(crate) fn asked(error: &(dyn Error + 'static)) -> Option<Wait> {
    Rejection::find(error)?.asked()
}
