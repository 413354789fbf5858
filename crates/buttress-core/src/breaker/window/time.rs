use std::{num::NonZeroU16, sync::PoisonError};

use super::{Level, Tally, reaches};
use crate::{
    Ratio, TimeLimit,
    atomic::{AtomicU64, Ordering, fence},
    breaker::cells::{Cell, Cells},
    sync::Mutex,
};

/// The calls of so long: what the breaker has counted by now, less what it had counted when the
/// window's first bucket began.
///
/// Nothing is counted per bucket, so nothing has to be cleared when a bucket leaves: at the first
/// outcome of each bucket one thread takes a sample of the counts, and keeps as many samples as
/// there are buckets. Everybody else goes on counting, each thread into cells of its own.
///
/// A call that neither failed nor was slow can only make a rate rise by filling the window up to
/// the minimum. So once the minimum has been seen in a bucket's time, good calls do not even add
/// up what other threads have counted.
#[derive(Debug)]
pub(in crate::breaker) struct TimeWindow {
    /// The trip whose slow calls these are; `None` for failures.
    slow: Option<usize>,
    /// Of a bucket, in nanoseconds.
    width: u64,
    /// When the next bucket begins.
    next: AtomicU64,
    /// The `next` under which the window was seen to hold the minimum.
    filled: AtomicU64,
    /// The counts at the beginning of the window. Hits are written before calls and read after
    /// them, so that a rate between two writes is taken for lower than it is; whoever moves the
    /// window looks at it afterwards.
    base_hits: AtomicU64,
    base_calls: AtomicU64,
    edges: Mutex<Edges>,
}

/// The counts at the beginning of each bucket.
#[derive(Clone, Debug)]
struct Edges {
    /// The bucket that is being filled, counted from the breaker's origin.
    bucket: u64,
    /// At the bucket's number, modulo their number.
    samples: Box<[Sample]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    successes: u64,
    failures: u64,
    slow: u64,
    ignored: u64,
}

impl TimeWindow {
    pub(in crate::breaker) fn new(
        length: TimeLimit,
        buckets: NonZeroU16,
        slow: Option<usize>,
        cells: &Cells,
        nanos: u64,
    ) -> Self {
        let width = width(length, buckets);
        let sample = Sample::of(cells, slow);
        let samples = vec![sample; buckets.get().into()].into();
        Self::from_edges(Edges { bucket: nanos / width, samples }, width, slow)
    }

    /// A window of another length, or of other buckets, over the same counts: what `other` holds
    /// and would still be inside stays inside, no earlier than it was.
    pub(in crate::breaker) fn resized(
        other: &Self,
        length: TimeLimit,
        buckets: NonZeroU16,
        cells: &Cells,
        nanos: u64,
    ) -> Self {
        other.move_to(cells, nanos);
        let old = other.edges.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let width = width(length, buckets);
        let (count, bucket) = (u64::from(buckets.get()), nanos / width);
        let mut samples = vec![Sample::default(); buckets.get().into()];
        for number in bucket.saturating_sub(count - 1)..=bucket {
            // What had been counted when a bucket of ours began had been counted when the old
            // bucket around that instant ended: taken from there, nothing drops out early.
            let old_number = (number * width) / other.width;
            let place = index(number, samples.len());
            samples[place] = old.at(old_number);
        }
        Self::from_edges(Edges { bucket, samples: samples.into() }, width, other.slow)
    }

    fn from_edges(edges: Edges, width: u64, slow: Option<usize>) -> Self {
        let base = edges.base();
        Self {
            slow,
            width,
            next: AtomicU64::new(edges.bucket.saturating_add(1).saturating_mul(width)),
            filled: AtomicU64::new(0),
            base_hits: AtomicU64::new(base.hits(slow)),
            base_calls: AtomicU64::new(base.calls()),
            edges: Mutex::new(edges),
        }
    }

    /// Lets go of what is too old by now. To be called before an outcome is counted.
    #[inline]
    pub(in crate::breaker) fn advance(&self, cells: &Cells, nanos: u64) {
        if nanos >= self.next.load(Ordering::Relaxed) {
            self.move_on(cells, nanos);
        }
    }

    /// One thread does it. The others go on, and may count into the bucket before.
    #[cold]
    fn move_on(&self, cells: &Cells, nanos: u64) {
        if let Ok(mut edges) = self.edges.try_lock() {
            self.move_edges(&mut edges, cells, nanos);
        }
    }

    /// As [`advance`](Self::advance), and waits for a thread that is at it.
    fn move_to(&self, cells: &Cells, nanos: u64) {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        self.move_edges(&mut edges, cells, nanos);
    }

    fn move_edges(&self, edges: &mut Edges, cells: &Cells, nanos: u64) {
        let bucket = nanos / self.width;
        if bucket <= edges.bucket {
            return;
        }
        let sample = Sample::of(cells, self.slow);
        let count = edges.samples.len() as u64;
        // Buckets that went by without an outcome begin with the same counts; of more than there
        // are buckets, only the last matter.
        for number in edges.bucket.saturating_add(1).max(bucket.saturating_sub(count - 1))..=bucket
        {
            let place = index(number, edges.samples.len());
            edges.samples[place] = sample;
        }
        edges.bucket = bucket;
        let base = edges.base();
        self.base_hits.store(base.hits(self.slow), Ordering::Release);
        self.base_calls.store(base.calls(), Ordering::Release);
        self.next.store(bucket.saturating_add(1).saturating_mul(self.width), Ordering::Release);
    }

    /// Where the condition stands after an outcome that has been counted. `hit`: it is one of
    /// those that make the rate. `always`: even if it cannot have risen.
    #[inline]
    pub(in crate::breaker) fn level(
        &self,
        cells: &Cells,
        hit: bool,
        rate: Ratio,
        minimum: u64,
        always: bool,
    ) -> Level {
        let mut next = self.next.load(Ordering::Acquire);
        if !hit && !always && self.filled.load(Ordering::Relaxed) == next {
            return Level::Unchanged;
        }
        // Of two threads that count a hit and then look, one at least sees both.
        fence(Ordering::SeqCst);
        loop {
            // The base before the counts: the other way round, all that is counted while the
            // window moves in between is missing, and a share of the rest is of no window.
            let base_calls = self.base_calls.load(Ordering::Acquire);
            let base_hits = self.base_hits.load(Ordering::Acquire);
            let hits = self.hits(cells).saturating_sub(base_hits);
            let calls = cells.sum(Cell::Success) + cells.failures();
            let calls = calls.saturating_sub(base_calls);
            if calls < minimum {
                return Level::Below;
            }
            self.filled.store(next, Ordering::Relaxed);
            if !reaches(hits, calls, rate) {
                return Level::Below;
            }
            // Believed if the window has not moved meanwhile. It does once a bucket.
            fence(Ordering::Acquire);
            let after = self.next.load(Ordering::Relaxed);
            if after == next {
                return Level::Reached;
            }
            next = after;
        }
    }

    /// Until when a call that is no hit changes nothing here: the beginning of the next bucket, if
    /// the minimum has been seen in this one.
    #[inline]
    pub(in crate::breaker) fn calm_until(&self) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        (self.filled.load(Ordering::Relaxed) == next).then_some(next)
    }

    fn hits(&self, cells: &Cells) -> u64 {
        self.slow.map_or_else(|| cells.failures(), |trip| cells.sum_slow(trip))
    }

    pub(in crate::breaker) fn tally(&self, cells: &Cells, nanos: u64) -> Tally {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        self.move_edges(&mut edges, cells, nanos);
        let (now, base) = (Sample::of(cells, self.slow), edges.base());
        Tally {
            successes: now.successes - base.successes,
            failures: now.failures - base.failures,
            slow: now.slow - base.slow,
            ignored: now.ignored - base.ignored,
        }
    }

    /// Forgets all that has been counted so far.
    pub(in crate::breaker) fn clear(&self, cells: &Cells, nanos: u64) {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        self.move_edges(&mut edges, cells, nanos);
        let sample = Sample::of(cells, self.slow);
        edges.samples.fill(sample);
        self.base_hits.store(sample.hits(self.slow), Ordering::Release);
        self.base_calls.store(sample.calls(), Ordering::Release);
        self.filled.store(0, Ordering::Release);
    }
}

impl Edges {
    /// The counts at the beginning of the window.
    fn base(&self) -> Sample {
        self.at(self.bucket.saturating_sub(self.samples.len() as u64 - 1))
    }

    /// The counts at the beginning of a bucket, or of the first that is still known.
    fn at(&self, number: u64) -> Sample {
        let oldest = self.bucket.saturating_sub(self.samples.len() as u64 - 1);
        self.samples[index(number.clamp(oldest, self.bucket), self.samples.len())]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "less than the length")]
fn index(number: u64, length: usize) -> usize {
    (number % length as u64) as usize
}

/// Rounded up: a window is never shorter than asked for.
fn width(length: TimeLimit, buckets: NonZeroU16) -> u64 {
    let nanos = u64::try_from(length.get().as_nanos()).unwrap_or(u64::MAX);
    nanos.div_ceil(buckets.get().into())
}

impl Sample {
    /// The parts before the whole: what is counted in between is in no part without being in the
    /// whole.
    fn of(cells: &Cells, slow: Option<usize>) -> Self {
        Self {
            slow: slow.map_or(0, |trip| cells.sum_slow(trip)),
            ignored: cells.sum(Cell::Ignored),
            failures: cells.failures(),
            successes: cells.sum(Cell::Success),
        }
    }

    fn calls(self) -> u64 {
        self.successes + self.failures
    }

    fn hits(self, slow: Option<usize>) -> u64 {
        if slow.is_some() { self.slow } else { self.failures }
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::{sync::Arc, thread};

    use super::*;

    /// Two buckets of a second, two successes in the first.
    fn window(stripes: usize) -> (Arc<Cells>, Arc<TimeWindow>) {
        let cells = Arc::new(Cells::with_stripes(stripes));
        let (length, buckets) = (TimeLimit::from_secs(2), NonZeroU16::new(2).unwrap());
        let window = Arc::new(TimeWindow::new(length, buckets, None, &cells, 0));
        cells.add_on(0, Cell::Success);
        cells.add_on(0, Cell::Success);
        (cells, window)
    }

    const MILLISECOND: u64 = 1_000_000;

    #[test]
    fn loom_of_two_failures_around_the_end_of_a_bucket_one_sees_both() {
        loom::model(|| {
            let (cells, window) = window(2);
            window.advance(&cells, 1_000 * MILLISECOND);
            let record = |cells: &Cells, window: &TimeWindow, stripe, millis| {
                window.advance(cells, millis * MILLISECOND);
                cells.add_on(stripe, Cell::Failure);
                window.level(cells, true, Ratio::ONE, 2, false)
            };

            let other = (Arc::clone(&cells), Arc::clone(&window));
            let early = thread::spawn(move || record(&other.0, &other.1, 0, 1_999));
            let late = record(&cells, &window, 1, 2_000);
            let early = early.join().unwrap();

            assert!([early, late].contains(&Level::Reached), "{early:?} {late:?}");
            let tally = window.tally(&cells, 2_000 * MILLISECOND);
            assert_eq!((tally.successes, tally.failures), (0, 2));
        });
    }

    #[test]
    fn loom_a_window_that_moves_beside_a_failure_reaches_nothing_that_it_never_held() {
        loom::model(|| {
            let (cells, window) = window(1);
            window.advance(&cells, 1_000 * MILLISECOND);
            cells.add_on(0, Cell::Failure);

            // The window holds SSF; F comes, and SS, and then the first SS leaves: 2 of 4 failed
            // at the most.
            let other = (Arc::clone(&cells), Arc::clone(&window));
            let failing = thread::spawn(move || {
                let (cells, window) = &other;
                cells.add_on(0, Cell::Failure);
                window.level(cells, true, Ratio::percent(75), 2, false)
            });
            cells.add_on(0, Cell::Success);
            cells.add_on(0, Cell::Success);
            window.advance(&cells, 2_000 * MILLISECOND);

            assert_eq!(failing.join().unwrap(), Level::Below);
        });
    }

    #[test]
    fn loom_failures_after_the_move_are_not_added_to_those_that_left_with_it() {
        loom::model(|| {
            let (cells, window) = window(1);
            let add = |cell, times| (0..times).for_each(|_| cells.add_on(0, cell));
            add(Cell::Success, 2);
            add(Cell::Failure, 5);
            window.advance(&cells, 1_000 * MILLISECOND);
            add(Cell::Success, 4);

            // 5 of 13 failed, and one more: 6 of 14. Without the first bucket 1 of 5, and with
            // two more 3 of 7. Only what no window holds, 8 of 16, is a half.
            let other = (Arc::clone(&cells), Arc::clone(&window));
            let failing = thread::spawn(move || {
                let (cells, window) = &other;
                cells.add_on(0, Cell::Failure);
                window.level(cells, true, Ratio::percent(50), 2, false)
            });
            window.advance(&cells, 2_000 * MILLISECOND);
            add(Cell::Failure, 2);

            assert_eq!(failing.join().unwrap(), Level::Below);
        });
    }

    #[test]
    fn loom_an_outcome_that_overtakes_the_move_is_in_the_window_and_counted_once() {
        loom::model(|| {
            let (cells, window) = window(1);
            let record = |cells: &Cells, window: &TimeWindow| {
                window.advance(cells, 1_000 * MILLISECOND);
                cells.add_on(0, Cell::Failure);
            };

            let other = (Arc::clone(&cells), Arc::clone(&window));
            let other = thread::spawn(move || record(&other.0, &other.1));
            record(&cells, &window);
            other.join().unwrap();

            let tally = window.tally(&cells, 1_999 * MILLISECOND);
            assert_eq!((tally.successes, tally.failures), (2, 2));
        });
    }
}
