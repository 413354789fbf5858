use std::fmt;

/// Runs `work`; should it panic, runs `on_unwind` and lets the panic go on.
///
/// A layer wraps its calls into the inner service with this, and so blames a panic on the call
/// that it unwound through. `std::thread::panicking()` in a `Drop` would blame every call that
/// happens to be dropped while some other panic unwinds.
///
/// ```
/// # use std::panic::{catch_unwind, AssertUnwindSafe};
/// use buttress_core::guarded;
///
/// let mut panics = 0;
/// let caught = catch_unwind(AssertUnwindSafe(|| guarded(|| panic!("boom"), || panics += 1)));
///
/// assert!(caught.is_err());
/// assert_eq!(panics, 1);
/// assert_eq!(guarded(|| 7, || unreachable!("nothing unwinds")), 7);
/// ```
#[inline]
pub fn guarded<T>(work: impl FnOnce() -> T, on_unwind: impl FnOnce()) -> T {
    let guard = OnUnwind::new(on_unwind);
    let done = work();
    guard.defuse();
    done
}

/// Runs a closure when it is dropped, unless it has been [defused](Self::defuse) before.
///
/// For work whose result is large: [`guarded`] moves what it returns.
#[must_use = "it runs at once if it is not kept"]
pub struct OnUnwind<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnUnwind<F> {
    /// Will run `on_unwind`.
    #[inline]
    pub fn new(on_unwind: F) -> Self {
        Self(Some(on_unwind))
    }

    /// Nothing has unwound.
    #[inline]
    pub fn defuse(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnUnwind<F> {
    #[inline]
    fn drop(&mut self) {
        if let Some(on_unwind) = self.0.take() {
            on_unwind();
        }
    }
}

impl<F: FnOnce()> fmt::Debug for OnUnwind<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnUnwind").finish_non_exhaustive()
    }
}
