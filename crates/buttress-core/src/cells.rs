//! Counts that many threads write at once and one reader adds up now and then.
//!
//! A counter that all threads share is a cache line that they fight over: 32 to 37 ns an
//! increment with two threads, where one thread needs 5. So each thread has a stripe, most often
//! to itself, and reading is what costs a little more. Nothing is lost and nothing is counted
//! twice; a read that runs beside writes sees each of them or does not, yet.

use std::{
    array,
    cell::Cell,
    num::NonZeroUsize,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering as StdOrdering},
    },
    thread,
    time::Duration,
};

use crate::atomic::{AtomicU64, Ordering};

/// A value on cache lines of its own.
///
/// 128 bytes, because today's processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

/// The stripe of this thread: counts up from 0 in the order in which threads first ask.
#[must_use]
#[inline]
pub fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    let stripe = STRIPE.get();
    if stripe != usize::MAX {
        return stripe;
    }
    let stripe = NEXT.fetch_add(1, StdOrdering::Relaxed);
    STRIPE.set(stripe);
    stripe
}

/// How many stripes there are: a power of two, one for each processor, 16 at the most.
///
/// Past 16 the reader's cost and the memory grow on, while threads seldom meet any more.
#[must_use]
#[inline]
pub fn stripes() -> usize {
    const MOST: usize = 16;
    static STRIPES: OnceLock<usize> = OnceLock::new();
    *STRIPES.get_or_init(|| {
        let processors = thread::available_parallelism().map_or(MOST, NonZeroUsize::get);
        processors.next_power_of_two().min(MOST)
    })
}

/// A count that only grows.
///
/// ```
/// use buttress_core::cells::Counter;
///
/// let refused = Counter::new();
/// refused.increment();
/// assert_eq!(refused.total(), 1);
/// ```
#[derive(Debug)]
pub struct Counter {
    cells: Box<[Padded<AtomicU64>]>,
}

impl Counter {
    /// A counter at 0.
    #[must_use]
    pub fn new() -> Self {
        Self::with_stripes(stripes())
    }

    fn with_stripes(stripes: usize) -> Self {
        Self { cells: (0..stripes).map(|_| Padded(AtomicU64::new(0))).collect() }
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(stripe());
    }

    #[inline]
    fn add(&self, stripe: usize) {
        // Relaxed: nothing else is published through a count, and addition has no order.
        self.cells[stripe & (self.cells.len() - 1)].0.fetch_add(1, Ordering::Relaxed);
    }

    /// What has been added so far. Never less than an earlier total.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cells.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

/// Several counts that only grow, of one layer: those of a thread lie side by side.
///
/// ```
/// use buttress_core::cells::Counters;
///
/// let counters = Counters::<3>::new();
/// counters.increment(2);
/// assert_eq!(counters.totals(), [0, 0, 1]);
/// ```
#[derive(Debug)]
pub struct Counters<const N: usize> {
    cells: Box<[Padded<[AtomicU64; N]>]>,
}

impl<const N: usize> Counters<N> {
    /// Counters at 0.
    #[must_use]
    pub fn new() -> Self {
        let cells = |_| Padded(array::from_fn(|_| AtomicU64::new(0)));
        Self { cells: (0..stripes()).map(cells).collect() }
    }

    /// Adds one to the counter of this number.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[inline]
    pub fn increment(&self, counter: usize) {
        // Relaxed: nothing else is published through a count, and addition has no order.
        self.cells[stripe() & (self.cells.len() - 1)].0[counter].fetch_add(1, Ordering::Relaxed);
    }

    /// What has been added so far. Never less than an earlier total.
    #[must_use]
    pub fn totals(&self) -> [u64; N] {
        let total = |counter: usize| {
            self.cells.iter().map(|cell| cell.0[counter].load(Ordering::Relaxed)).sum()
        };
        array::from_fn(total)
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The upper bounds of the duration buckets, as OpenTelemetry advises for request durations.
///
/// A last bucket holds what is longer.
pub const BOUNDS: [Duration; 14] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(75),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(750),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_millis(7500),
    Duration::from_secs(10),
];

/// The bounds in nanoseconds, which compare faster than durations.
const NANOS: [u64; BOUNDS.len()] = {
    let mut nanos = [0; BOUNDS.len()];
    let mut index = 0;
    while index < nanos.len() {
        nanos[index] =
            BOUNDS[index].as_secs() * 1_000_000_000 + BOUNDS[index].subsec_nanos() as u64;
        index += 1;
    }
    nanos
};

/// The number of buckets: one for each bound and one past the last.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// Durations counted per bucket, each bucket with its sum.
///
/// With its own sum a bucket can be handed on as so many times its mean: no value changes its
/// bucket, and the sum stays exact.
#[derive(Debug)]
pub struct Histogram {
    cells: Box<[Padded<[Bucket; BUCKETS]>]>,
}

#[derive(Debug)]
struct Bucket {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::with_stripes(stripes())
    }

    fn with_stripes(stripes: usize) -> Self {
        let bucket = |_| Bucket { count: AtomicU64::new(0), nanos: AtomicU64::new(0) };
        Self { cells: (0..stripes).map(|_| Padded(array::from_fn(bucket))).collect() }
    }

    /// Counts `value` into the first bucket whose bound it does not exceed.
    #[inline]
    pub fn record(&self, value: Duration) {
        self.record_at(stripe(), value);
    }

    #[inline]
    fn record_at(&self, stripe: usize, value: Duration) {
        let nanos = value.as_secs().saturating_mul(1_000_000_000);
        let nanos = nanos.saturating_add(u64::from(value.subsec_nanos()));
        let bucket = NANOS.iter().position(|bound| nanos <= *bound).unwrap_or(BUCKETS - 1);
        let bucket = &self.cells[stripe & (self.cells.len() - 1)].0[bucket];
        // Release, so that a reader who sees the count sees a sum that has the value in it: what
        // is handed on of the sum, count by count, is then never more than the sum.
        bucket.nanos.fetch_add(nanos, Ordering::Relaxed);
        bucket.count.fetch_add(1, Ordering::Release);
    }

    /// What has been recorded so far.
    #[must_use]
    pub fn read(&self) -> Buckets {
        let mut read = Buckets::default();
        for cell in &self.cells {
            for (bucket, into) in cell.0.iter().zip(&mut read.0) {
                into.count += bucket.count.load(Ordering::Acquire);
                into.nanos += bucket.nanos.load(Ordering::Relaxed);
            }
        }
        read
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`Histogram`] held at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets(pub [BucketCount; BUCKETS]);

/// How many durations fell into one bucket, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketCount {
    /// How many.
    pub count: u64,
    /// Their sum, in nanoseconds.
    pub nanos: u64,
}

impl Buckets {
    /// How many durations there are in all buckets.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.count).sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.0.iter().map(|bucket| bucket.nanos).sum())
    }

    /// Adds what another histogram held.
    pub fn merge(&mut self, other: &Self) {
        for (into, from) in self.0.iter_mut().zip(&other.0) {
            into.count += from.count;
            into.nanos += from.nanos;
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_duration_at_its_bound_is_inside() {
        let histogram = Histogram::new();

        histogram.record(Duration::from_millis(5));
        histogram.record(Duration::from_nanos(5_000_001));
        histogram.record(Duration::from_secs(10));
        histogram.record(Duration::from_secs(11));

        let counts = histogram.read().0.map(|bucket| bucket.count);
        assert_eq!(counts, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn the_sum_is_exact() {
        let histogram = Histogram::new();

        for nanos in [1, 22, 333, 4_444_444, 55_555_555_555] {
            histogram.record(Duration::from_nanos(nanos));
        }

        assert_eq!(histogram.read().sum(), Duration::from_nanos(55_560_000_355));
        assert_eq!(histogram.read().count(), 5);
    }

    #[test]
    fn many_threads_lose_nothing() {
        let counter = Counter::new();
        let histogram = Histogram::new();

        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counter.increment();
                        histogram.record(Duration::from_millis(7));
                    }
                });
            }
        });

        assert_eq!(counter.total(), 80_000);
        assert_eq!(histogram.read().count(), 80_000);
        assert_eq!(histogram.read().sum(), Duration::from_secs(560));
    }
}

/// Run with `RUSTFLAGS="--cfg buttress_loom" cargo test -p buttress-core --release loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::{sync::Arc, thread};

    use super::*;

    #[test]
    fn loom_two_writers_and_a_reader_lose_nothing_and_see_no_sum_behind_its_count() {
        loom::model(|| {
            let histogram = Arc::new(Histogram::with_stripes(1));
            let writers: Vec<_> = (0..2)
                .map(|stripe| {
                    let histogram = Arc::clone(&histogram);
                    thread::spawn(move || histogram.record_at(stripe, Duration::from_nanos(3)))
                })
                .collect();

            let during = histogram.read().0[0];
            assert!(during.nanos >= during.count * 3);

            for writer in writers {
                writer.join().unwrap();
            }
            assert_eq!(histogram.read().0[0], BucketCount { count: 2, nanos: 6 });
        });
    }

    #[test]
    fn loom_a_total_never_steps_back() {
        loom::model(|| {
            let counter = Arc::new(Counter::with_stripes(2));
            let writers: Vec<_> = (0..2)
                .map(|stripe| {
                    let counter = Arc::clone(&counter);
                    thread::spawn(move || counter.add(stripe))
                })
                .collect();

            let first = counter.total();
            let second = counter.total();
            assert!(first <= second);

            for writer in writers {
                writer.join().unwrap();
            }
            assert_eq!(counter.total(), 2);
        });
    }
}
