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

/// As [`retry_after`]; no rejection of ours asks its callers not to come again.
pub(crate) fn asked(error: &(dyn Error + 'static)) -> Option<Wait> {
    retry_after(error).map(Wait::After)
}
