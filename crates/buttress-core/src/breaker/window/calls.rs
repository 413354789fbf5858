use std::num::NonZeroU16;

use super::{Level, Tally, reaches};
use crate::{
    Ratio,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

/// The last so many calls, each in a place of a ring, with running sums beside it.
///
/// Three atomic operations record a call: take a place, swap what stands there, add the
/// difference to the sums. Between the swap and the addition of one thread, others may see sums
/// that are off by its call. They are never taken at their word: a condition that the sums reach
/// is counted over the ring itself before it is believed. While a thread stands between taking a
/// place and swapping, the ring holds one older call for its newer one.
#[derive(Debug)]
pub(in crate::breaker) struct CallWindow {
    ring: Box<[AtomicU8]>,
    /// How many calls have been recorded; modulo the ring, where the next one goes.
    next: AtomicU64,
    /// Calls in the lower half, hits in the upper, both counted from [`ZERO`].
    sums: AtomicU64,
}

/// A place of the ring: empty, or a call that failed or not, and was a hit or not.
const EMPTY: u8 = 0;
const CALL: u8 = 1;
const FAILED: u8 = 2;
const HIT: u8 = 4;

/// Neither half borrows from the other while a subtraction has overtaken its addition: that would
/// take 65,536 threads between one instruction and the next.
const ZERO: u64 = (1 << 16) | (1 << 48);

/// A call, as the window sees it.
#[derive(Clone, Copy, Debug)]
pub(in crate::breaker) struct Seen {
    pub(in crate::breaker) failed: bool,
    /// Whether the condition counts it: a failure, or a slow call.
    pub(in crate::breaker) hit: bool,
}

impl CallWindow {
    pub(in crate::breaker) fn new(calls: NonZeroU16) -> Self {
        Self {
            ring: (0..calls.get()).map(|_| AtomicU8::new(EMPTY)).collect(),
            next: AtomicU64::new(0),
            sums: AtomicU64::new(ZERO),
        }
    }

    /// A window of another length with as many of the last calls of `other` as fit.
    pub(in crate::breaker) fn resized(other: &Self, calls: NonZeroU16) -> Self {
        let resized = Self::new(calls);
        let places = other.ring.len() as u64;
        let next = other.next.load(Ordering::Relaxed);
        for index in next..next + places {
            let place = other.place(index).load(Ordering::Relaxed);
            if place != EMPTY {
                resized.swap_in(place);
            }
        }
        resized
    }

    pub(in crate::breaker) fn len(&self) -> usize {
        self.ring.len()
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than the ring's 16 bits")]
    fn place(&self, index: u64) -> &AtomicU8 {
        &self.ring[(index % self.ring.len() as u64) as usize]
    }

    /// Counts a call. `always`: says where the condition stands even if it cannot have risen.
    #[inline]
    pub(in crate::breaker) fn record(
        &self,
        seen: Seen,
        rate: Ratio,
        minimum: u64,
        always: bool,
    ) -> Level {
        let mut place = CALL;
        if seen.failed {
            place |= FAILED;
        }
        if seen.hit {
            place |= HIT;
        }
        let (old, calls, hits) = self.swap_in(place);
        if !seen.hit && old != EMPTY && !always {
            // It pushed out a hit, or another that was none. One that pushes nothing out may be
            // the call that was missing to the minimum.
            return Level::Unchanged;
        }
        let minimum = minimum.min(self.ring.len() as u64);
        let reached = |calls, hits| calls >= minimum && reaches(hits, calls, rate);
        if !reached(calls, hits) {
            return Level::Below;
        }
        let (calls, hits) = self.counted();
        if reached(calls, hits) { Level::Reached } else { Level::Below }
    }

    /// Puts a call into the next place; returns what stood there, and the sums: calls and hits.
    #[inline]
    fn swap_in(&self, place: u8) -> (u8, u64, u64) {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let old = self.place(index).swap(place, Ordering::Relaxed);
        let delta = weight(place).wrapping_sub(weight(old));
        let sums = self.sums.fetch_add(delta, Ordering::AcqRel).wrapping_add(delta);
        let half = |bits: u64| (bits & 0xFFFF_FFFF).saturating_sub(1 << 16);
        (old, half(sums), half(sums >> 32))
    }

    /// Calls and hits, counted.
    fn counted(&self) -> (u64, u64) {
        let mut counted = (0, 0);
        for place in &self.ring {
            let place = place.load(Ordering::Relaxed);
            counted.0 += u64::from(place & CALL);
            counted.1 += u64::from(place & HIT > 0);
        }
        counted
    }

    pub(in crate::breaker) fn tally(&self, hit_is_slow: bool) -> Tally {
        let mut tally = Tally::default();
        for place in &self.ring {
            let place = place.load(Ordering::Relaxed);
            tally.successes += u64::from(place & (CALL | FAILED) == CALL);
            tally.failures += u64::from(place & FAILED > 0);
            tally.slow += u64::from(hit_is_slow && place & HIT > 0);
        }
        tally
    }

    pub(in crate::breaker) fn clear(&self) {
        for place in &self.ring {
            let old = place.swap(EMPTY, Ordering::Relaxed);
            self.sums.fetch_sub(weight(old), Ordering::AcqRel);
        }
    }
}

/// What a place adds to the sums.
fn weight(place: u8) -> u64 {
    u64::from(place & CALL) | u64::from(place & HIT > 0) << 32
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    const CALLS: fn(u16) -> NonZeroU16 = |calls| NonZeroU16::new(calls).unwrap();
    const FAILURE: Seen = Seen { failed: true, hit: true };
    const SUCCESS: Seen = Seen { failed: false, hit: false };

    #[test]
    fn sums_that_lag_behind_the_ring_are_not_taken_at_their_word() {
        let window = CallWindow::new(CALLS(2));
        window.record(FAILURE, Ratio::ONE, 2, false);
        window.record(SUCCESS, Ratio::ONE, 2, false);

        // A success has pushed the failure out; its thread has not come to the sums.
        window.next.fetch_add(1, Ordering::Relaxed);
        window.place(2).swap(CALL, Ordering::Relaxed);

        assert_eq!(window.record(FAILURE, Ratio::ONE, 2, false), Level::Below);
    }

    #[test]
    fn sums_from_which_a_call_has_gone_before_it_came_are_none_and_not_many() {
        let window = CallWindow::new(CALLS(1));

        // A failure stands in the ring; its thread has not come to the sums.
        window.next.fetch_add(1, Ordering::Relaxed);
        window.place(0).swap(CALL | FAILED | HIT, Ordering::Relaxed);

        let (old, calls, hits) = window.swap_in(CALL);
        assert_eq!((old, calls, hits), (CALL | FAILED | HIT, 0, 0));
        window.clear();
        assert_eq!(window.swap_in(CALL | FAILED | HIT), (EMPTY, 0, 0));
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::{sync::Arc, thread};

    use super::*;

    const FAILURE: Seen = Seen { failed: true, hit: true };
    const SUCCESS: Seen = Seen { failed: false, hit: false };

    /// Records two calls at once into a window of so many calls that holds `before`; what each
    /// made of it.
    fn race(calls: u16, before: &[Seen], two: [Seen; 2], rate: u32, minimum: u64) -> [Level; 2] {
        let rate = Ratio::percent(rate);
        let window = Arc::new(CallWindow::new(NonZeroU16::new(calls).unwrap()));
        for seen in before {
            window.record(*seen, Ratio::ONE, u64::MAX, false);
        }
        let other = Arc::clone(&window);
        let other = thread::spawn(move || other.record(two[0], rate, minimum, false));

        let mine = window.record(two[1], rate, minimum, false);
        let levels = [other.join().unwrap(), mine];

        let sums = window.sums.load(Ordering::Relaxed) - ZERO;
        assert_eq!((sums & 0xFFFF_FFFF, sums >> 32), window.counted());
        levels
    }

    #[test]
    fn loom_of_two_failures_that_fill_a_window_one_sees_both() {
        loom::model(|| {
            let levels = race(3, &[SUCCESS], [FAILURE, FAILURE], 60, 3);

            assert!(levels.contains(&Level::Reached));
        });
    }

    #[test]
    fn loom_of_two_failures_that_push_successes_out_one_sees_both() {
        loom::model(|| {
            let levels = race(2, &[SUCCESS, SUCCESS], [FAILURE, FAILURE], 100, 2);

            assert!(levels.contains(&Level::Reached));
        });
    }

    #[test]
    fn loom_a_success_that_is_missing_to_the_minimum_and_a_failure_reach_it() {
        loom::model(|| {
            let levels = race(3, &[], [FAILURE, SUCCESS], 50, 2);

            assert!(levels.contains(&Level::Reached));
        });
    }

    #[test]
    fn loom_what_no_order_of_the_calls_reaches_is_not_reached() {
        loom::model(|| {
            let before = [FAILURE, FAILURE, SUCCESS, SUCCESS];
            let levels = race(4, &before, [SUCCESS, FAILURE], 75, 4);

            assert!(!levels.contains(&Level::Reached));
        });
    }

    #[test]
    fn loom_a_call_beside_a_clear_is_in_the_ring_and_in_the_sums_or_in_neither() {
        loom::model(|| {
            let window = Arc::new(CallWindow::new(NonZeroU16::new(2).unwrap()));
            window.record(FAILURE, Ratio::ONE, 9, false);
            let other = Arc::clone(&window);
            let other = thread::spawn(move || other.record(FAILURE, Ratio::ONE, 2, false));

            window.clear();
            other.join().unwrap();

            let sums = window.sums.load(Ordering::Relaxed) - ZERO;
            assert_eq!((sums & 0xFFFF_FFFF, sums >> 32), window.counted());
        });
    }
}
