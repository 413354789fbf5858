//! Reads the clocks of a tracker, which may be somebody's own.

use std::cell::Cell;

use buttress_slo::Clocks;

thread_local! {
    /// Whether this thread is reading the clocks of a tracker.
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// # Panics
///
/// If `clocks` reads the clocks of a tracker itself: it would go on doing so for ever.
pub(super) fn read(clocks: &dyn Fn() -> Clocks) -> Clocks {
    assert!(
        !READING.replace(true),
        "the clocks of a tracker must not tick, save, keep or excuse, nor begin or end \
         maintenance: each of these asks for the clocks again"
    );
    let _reading = Reading;
    clocks()
}

/// However a reading ends, the next one is the first.
struct Reading;

impl Drop for Reading {
    fn drop(&mut self) {
        READING.set(false);
    }
}
