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
    struct Armed<F: FnOnce()>(Option<F>);

    impl<F: FnOnce()> Drop for Armed<F> {
        #[inline]
        fn drop(&mut self) {
            if let Some(on_unwind) = self.0.take() {
                on_unwind();
            }
        }
    }

    let mut armed = Armed(Some(on_unwind));
    let done = work();
    armed.0 = None;
    done
}
