//! Panics of a user's own code, kept back until what must be done has been done.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

/// The last panic of several pieces of work, none of which keeps the others from being done.
///
/// A call is settled though its classifier panics, and every observer hears though one of them
/// does.
#[derive(Default)]
pub(crate) struct KeptBack(Option<Box<dyn Any + Send>>);

impl KeptBack {
    /// Does some work; `None` if it panicked.
    #[inline]
    pub(crate) fn run<T>(&mut self, work: impl FnOnce() -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|payload| self.0 = Some(payload)).ok()
    }

    /// Lets the panic go on, if there was one. Beside one that unwinds already it would be an
    /// abort, so that one is enough.
    #[inline]
    pub(crate) fn go_on(self) {
        if let Some(payload) = self.0.filter(|_| !thread::panicking()) {
            resume_unwind(payload);
        }
    }
}
