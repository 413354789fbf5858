use std::time::{Duration, Instant};

use crate::{
    Ratio, TimeLimit,
    atomic::{AtomicU64, Ordering},
    slices::{SLICES, Slicer, Slices, is_after, is_within, pack, unpack},
};

/// Retries as a share of the requests in a sliding window, and so many a second besides.
///
/// At any moment the retries of the window are no more than the share of its requests, rounded
/// down, plus the floor: so a service that fails half of the time at 20 % gets 1.2 times its load
/// and not twice. The window moves in sixteenths, and both sides of it at once.
///
/// ```
/// use buttress_core::{Ratio, TimeLimit, retry::{Budget, Percentage}};
///
/// let modest = Percentage::new(Ratio::percent(10)).floor(3).within(TimeLimit::from_secs(30));
/// let budget = Budget::from(modest);
/// # let _ = budget;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Percentage {
    /// In billionths.
    share: u64,
    floor: u32,
    window: TimeLimit,
}

impl Percentage {
    /// This share, of the last ten seconds, and ten retries a second besides.
    ///
    /// As Finagle and linkerd have it: ten seconds, for retries should answer to the traffic of
    /// now; ten a second, so that a client with little traffic can retry at all.
    pub const fn new(share: Ratio) -> Self {
        let share = share.parts_per_billion() as u64;
        Self { share, floor: 10, window: TimeLimit::from_secs(10) }
    }

    /// So many retries for each request: for a caller that would rather wait than fail.
    pub const fn times(retries: u32) -> Self {
        let mut percentage = Self::new(Ratio::ZERO);
        percentage.share = retries as u64 * 1_000_000_000;
        percentage
    }

    /// So many retries a second whatever the traffic. All of a window's may come at once.
    pub const fn floor(mut self, per_second: u32) -> Self {
        self.floor = per_second;
        self
    }

    /// How long a request counts: from a second to a minute.
    ///
    /// # Panics
    ///
    /// If it is shorter or longer. In a constant that is an error of the compiler.
    pub const fn within(mut self, window: TimeLimit) -> Self {
        const SECOND: u128 = Duration::from_secs(1).as_nanos();
        let nanos = window.get().as_nanos();
        assert!(
            nanos >= SECOND && nanos <= 60 * SECOND,
            "a budget looks back on a second at least and a minute at most"
        );
        self.window = window;
        self
    }

    /// The floor of a whole window.
    fn reserve(&self) -> u64 {
        let nanos = u128::from(self.floor) * self.window.get().as_nanos();
        u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

/// The requests and retries of a sliding window.
#[derive(Debug)]
pub(super) struct Window {
    share: u64,
    reserve: u64,
    slicer: Slicer,
    requests: Slices,
    retries: Retries,
}

impl Window {
    pub(super) fn new(percentage: Percentage) -> Self {
        Self {
            share: percentage.share,
            reserve: percentage.reserve(),
            slicer: Slicer::new(percentage.window),
            requests: Slices::new(),
            retries: Retries::new(),
        }
    }

    #[inline]
    pub(super) fn deposit(&self, now: Instant) {
        if self.share > 0 {
            self.requests.add(self.slicer.number(now));
        }
    }

    pub(super) fn withdraw(&self, now: Instant, of: Ratio) -> bool {
        self.retries.take(self.slicer.number(now), |slice| of.of(self.allowance(slice)))
    }

    pub(super) fn balance(&self, now: Instant, of: Ratio) -> u64 {
        let (slice, spent) = self.retries.spent(self.slicer.number(now));
        of.of(self.allowance(slice)).saturating_sub(spent)
    }

    /// How many retries the window that ends with `slice` may hold.
    fn allowance(&self, slice: u32) -> u64 {
        let share = u128::from(self.requests.sum(slice)) * u128::from(self.share) / 1_000_000_000;
        self.reserve.saturating_add(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// The retries of a sliding window: counted in one word, so that no two of them take the last
/// one that there is.
///
/// The word holds the slice of the last retry and the number of all retries ever. What there was
/// of them when a slice began is noted beside it, and the difference is the window's.
#[derive(Debug)]
struct Retries {
    head: AtomicU64,
    /// Of a slice that somebody was in: how many retries there were before it. Twice as many
    /// as a window has slices: who is late by less than a window finds what it looks for.
    begins: [AtomicU64; 2 * SLICES],
}

impl Retries {
    fn new() -> Self {
        Self { head: AtomicU64::new(0), begins: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Takes one more, if the window holds fewer than `allowance` has for it.
    fn take(&self, now: u32, allowance: impl Fn(u32) -> u64) -> bool {
        // Acquire, to see the beginnings that were noted before the head moved on to their slice.
        let mut seen = self.head.load(Ordering::Acquire);
        loop {
            let (of, ever) = unpack(seen);
            let slice = if is_after(now, of) { now } else { of };
            if self.since(slice, ever) >= allowance(slice) {
                return false;
            }
            if slice != of {
                self.begin(slice, ever);
            }
            let next = pack(slice, ever.wrapping_add(1));
            // Whoever took one meanwhile has changed the head, and then this one counts again.
            match self.head.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// The window's slice, and how many retries it holds.
    fn spent(&self, now: u32) -> (u32, u64) {
        let (of, ever) = unpack(self.head.load(Ordering::Acquire));
        let slice = if is_after(now, of) { now } else { of };
        (slice, self.since(slice, ever))
    }

    /// Of `ever`, those within the window that ends with `slice`.
    fn since(&self, slice: u32, ever: u32) -> u64 {
        let noted = self.begins.iter().enumerate().filter_map(|(place, begin)| {
            let (of, before) = unpack(begin.load(Ordering::Relaxed));
            // A place that nobody has written yet says slice 0, which has a place of its own.
            let written = of as usize % (2 * SLICES) == place;
            (written && is_within(of, slice)).then(|| (slice.wrapping_sub(of), before))
        });
        // No slice of the window was begun: nothing was taken in it.
        noted.max_by_key(|(age, _)| *age).map_or(0, |(_, before)| ever.wrapping_sub(before).into())
    }

    /// Notes how many there were before `slice`. The latest word is right: whoever moves the head
    /// has noted the number that it moved it with, and all others noted less.
    fn begin(&self, slice: u32, ever: u32) {
        let place = &self.begins[slice as usize % (2 * SLICES)];
        let mut seen = place.load(Ordering::Relaxed);
        loop {
            let (of, before) = unpack(seen);
            if !(is_after(slice, of) || (slice == of && is_after(ever, before))) {
                return;
            }
            let next = pack(slice, ever);
            // Relaxed: the head publishes it.
            match place.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;

/// Run with `RUSTFLAGS="--cfg buttress_loom" cargo test -p buttress-core --release --lib loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::{sync::Arc, thread};

    use super::*;

    fn both<T: Send + Sync + 'static>(
        shared: &Arc<T>,
        first: impl FnOnce(&T) -> bool + Send + 'static,
        second: impl FnOnce(&T) -> bool + Send + 'static,
    ) -> usize {
        let other = Arc::clone(shared);
        let thread = thread::spawn(move || first(&other));
        let mine = second(shared);
        usize::from(thread.join().unwrap()) + usize::from(mine)
    }

    #[test]
    fn loom_two_that_want_the_last_one_get_one() {
        loom::model(|| {
            let retries = Arc::new(Retries::new());

            let taken = both(&retries, |r| r.take(0, |_| 1), |r| r.take(0, |_| 1));

            assert_eq!(taken, 1);
            assert_eq!(retries.spent(0), (0, 1));
        });
    }

    #[test]
    fn loom_two_in_slices_next_to_each_other_get_one() {
        loom::model(|| {
            let retries = Arc::new(Retries::new());

            let taken = both(&retries, |r| r.take(7, |_| 1), |r| r.take(8, |_| 1));

            assert_eq!(taken, 1);
            assert_eq!(retries.spent(8).1, 1);
        });
    }

    #[test]
    fn loom_at_the_turn_of_the_ring_nobody_forgets_what_is_still_in_the_window() {
        loom::model(|| {
            let retries = Arc::new(Retries::new());
            // One in the oldest slice of the window of 15, none of which is in that of 16.
            assert!(retries.take(0, |_| 1));

            let taken = both(&retries, |r| r.take(15, |_| 1), |r| r.take(16, |_| 1));

            // The first is refused unless it came after the turn, and then it finds the second.
            assert_eq!(taken, 1);
            assert_eq!(retries.spent(16).1, 1);
        });
    }

    #[test]
    fn loom_what_was_paid_in_can_be_taken_out_once() {
        loom::model(|| {
            let window = Arc::new((Slices::with_stripes(1), Retries::new()));
            window.0.add_at(0, 0);

            let taken = both(
                &window,
                |(requests, retries)| {
                    requests.add_at(0, 0);
                    retries.take(0, |slice| requests.sum(slice))
                },
                |(requests, retries)| retries.take(0, |slice| requests.sum(slice)),
            );

            assert_eq!(taken, 2);
        });
    }
}
