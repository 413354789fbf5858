//! Counts of the last so many slices of time.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::{
    TimeLimit,
    atomic::{AtomicU64, Ordering},
    cells::{Padded, stripe, stripes},
};

/// Into how many slices a window is cut: as many as fit, with their counts, into the two cache
/// lines of a stripe. What is counted so is forgotten early by a sixteenth of the window at most.
pub(crate) const SLICES: usize = 16;

/// Whether what happened in slice `of` is in the window that ends with `slice`.
pub(crate) const fn is_within(of: u32, slice: u32) -> bool {
    const WINDOW: u32 = 16;
    const { assert!(WINDOW as usize == SLICES) };
    slice.wrapping_sub(of) < WINDOW
}

/// Cuts time into numbered slices, from the first instant that it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Slicer {
    origin: OnceLock<Instant>,
    slice: u64,
    /// 2^64 over `slice`, rounded down: to multiply costs a fraction of what it takes to divide.
    inverse: u64,
}

impl Slicer {
    /// Slices of which [`SLICES`] make up a window.
    pub(crate) fn new(window: TimeLimit) -> Self {
        Self::cutting(window, SLICES)
    }

    /// Slices of which so many make up a window.
    pub(crate) fn cutting(window: TimeLimit, slices: usize) -> Self {
        let nanos = window.get().as_nanos() / slices as u128;
        // No window is so short that a slice of it would be shorter.
        let slice = u64::try_from(nanos).unwrap_or(u64::MAX).max(2);
        let inverse = u64::try_from((1_u128 << 64) / u128::from(slice)).unwrap_or(u64::MAX);
        Self { origin: OnceLock::new(), slice, inverse }
    }

    /// The same slices. They begin now if they have not begun.
    pub(crate) fn beginning(&self, now: Instant) -> Self {
        self.since_origin(now);
        self.clone()
    }

    /// The number of the slice that `now` is in. Numbers start again from 0 after 2^32 slices.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "numbers go round")]
    pub(crate) fn number(&self, now: Instant) -> u32 {
        self.divide(self.since_origin(now)) as u32
    }

    /// `nanos / slice`.
    #[inline]
    fn divide(&self, nanos: u64) -> u64 {
        // The inverse is too small by less than one, so this is by one at the most.
        let number = ((u128::from(nanos) * u128::from(self.inverse)) >> 64) as u64;
        number + u64::from(nanos - number * self.slice >= self.slice)
    }

    /// The nanoseconds from the first instant that it was shown.
    #[inline]
    pub(crate) fn since_origin(&self, now: Instant) -> u64 {
        let origin = self.origin.get_or_init(|| now);
        nanos(now.saturating_duration_since(*origin))
    }
}

/// 584 years fit.
#[inline]
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

/// How many events fell into each of the last slices, counted by many threads at once: each has
/// a stripe, most often to itself.
#[derive(Debug)]
pub(crate) struct Slices {
    /// Shared by throttles of which one took the other's place.
    stripes: Arc<[Padded<[AtomicU64; SLICES]>]>,
}

/// A slice's number, and what goes with it: one word.
pub(crate) const fn pack(slice: u32, value: u32) -> u64 {
    ((slice as u64) << 32) | value as u64
}

#[expect(clippy::cast_possible_truncation, reason = "two halves of a word")]
pub(crate) const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// Whether `a` comes after `b`, of numbers that go round.
pub(crate) const fn is_after(a: u32, b: u32) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && ahead < 1 << 31
}

impl Slices {
    pub(crate) fn new() -> Self {
        Self::with_stripes(stripes())
    }

    pub(crate) fn with_stripes(stripes: usize) -> Self {
        let cells = |_| Padded(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { stripes: (0..stripes).map(cells).collect() }
    }

    /// The same counts, for another owner.
    pub(crate) fn share(&self) -> Self {
        Self { stripes: Arc::clone(&self.stripes) }
    }

    /// Counts one event.
    #[inline]
    pub(crate) fn add(&self, slice: u32) {
        self.add_at(stripe(), slice);
    }

    #[inline]
    pub(crate) fn add_at(&self, stripe: usize, slice: u32) {
        let cells = &self.stripes[stripe & (self.stripes.len() - 1)].0;
        let cell = &cells[slice as usize % SLICES];
        // Relaxed: a cell is all that there is to know of its slice and stripe.
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let (of, count) = unpack(seen);
            let next = if of == slice {
                pack(slice, count.saturating_add(1))
            } else if count == 0 || is_after(slice, of) {
                pack(slice, 1)
            } else {
                // The ring has gone round meanwhile: the event is out of the window already.
                return;
            };
            match cell.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// How many events there are in the window that ends with `slice`.
    pub(crate) fn sum(&self, slice: u32) -> u64 {
        let cells = self.stripes.iter().flat_map(|stripe| &stripe.0);
        cells
            .map(|cell| unpack(cell.load(Ordering::Relaxed)))
            .filter(|(of, _)| is_within(*of, slice))
            .map(|(_, count)| u64::from(count))
            .sum()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_product_divides(window in 1..=u64::MAX / 2, nanos: u64, multiple: u32) {
            let slicer = Slicer { slice: window.max(2), ..Slicer::new(TimeLimit::from_secs(1)) };
            let inverse = u64::try_from((1_u128 << 64) / u128::from(slicer.slice)).unwrap();
            let slicer = Slicer { inverse, ..slicer };

            let edge = slicer.slice.saturating_mul(multiple.into());
            for nanos in [nanos, edge, edge.saturating_sub(1), u64::MAX] {
                prop_assert_eq!(slicer.divide(nanos), nanos / slicer.slice);
            }
        }

        #[test]
        fn a_window_holds_what_a_log_would(
            steps in proptest::collection::vec((0_u32..20, 0_usize..4), 1..200),
            start: u32,
        ) {
            let slices = Slices::with_stripes(4);
            let (mut log, mut now) = (Vec::new(), start);

            for (ahead, stripe) in steps {
                now = now.wrapping_add(ahead);
                slices.add_at(stripe, now);
                log.push(now);
                let expected =
                    log.iter().filter(|at| now.wrapping_sub(**at) < 16).count();
                prop_assert_eq!(slices.sum(now), expected as u64);
            }
        }
    }

    #[test]
    fn what_comes_from_before_the_window_is_not_counted() {
        let slices = Slices::with_stripes(1);

        slices.add_at(0, 40);
        slices.add_at(0, 24);

        assert_eq!(slices.sum(40), 1);
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::{sync::Arc, thread};

    use super::*;

    #[test]
    fn loom_no_event_is_lost_in_a_slice_nor_at_the_turn_to_the_next() {
        for (first, second, expected) in [(3, 3, 2), (3, 4, 2), (3, 19, 1)] {
            loom::model(move || {
                let slices = Arc::new(Slices::with_stripes(1));
                let other = Arc::clone(&slices);
                let thread = thread::spawn(move || other.add_at(0, first));
                slices.add_at(0, second);
                thread.join().unwrap();

                assert_eq!(slices.sum(second), expected);
            });
        }
    }
}
