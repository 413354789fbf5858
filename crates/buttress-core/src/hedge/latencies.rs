use std::{
    fmt,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Ratio, TimeLimit,
    atomic::{AtomicU64, Ordering},
    cells::{stripe, stripes},
    slices::{Slicer, is_after, pack, unpack},
};

/// Into how many slices a window is cut: a bucket's counts of all of them are one cache line.
const SLICES: usize = 8;
const WINDOW: u32 = 8;
const _: () = assert!(WINDOW as usize == SLICES);

/// Latencies up to this are not told apart: no timer here is finer than a millisecond.
const FIRST: u32 = 14;
/// How many times a latency may double from there, which makes a minute.
const OCTAVES: u32 = 22;
/// Into how many parts each doubling is cut, as a power of two: a bucket's bound is a sixteenth
/// more than the least that is in it, at the most (the buckets of `HdrHistogram`).
const PARTS: u32 = 4;
/// One before the first doubling and one past the last.
const BUCKETS: usize = 2 + ((OCTAVES as usize) << PARTS);

/// How many stripes there are at the most. One is 22 KiB, and since the calls of a service differ
/// in how long they take, threads seldom meet in a bucket.
const STRIPES: usize = 4;

/// Latencies of a sliding window, counted by many threads at once, and one quantile of them.
///
/// To count one is an addition, and to ask for the quantile a look at a word: that is worked out
/// anew when a slice of the window begins, and when there are enough for the first time.
pub(super) struct Latencies {
    samples: Arc<Samples>,
    share: Ratio,
    minimum: NonZeroU32,
    /// The slice in which the quantile was worked out, and its bucket, counted from 1; 0 as long as
    /// there are too few.
    known: AtomicU64,
    /// How many were counted while it was not known.
    unknown: AtomicU64,
}

struct Samples {
    window: TimeLimit,
    slicer: Slicer,
    cells: Cells,
}

/// The number of a slice and a count, for each of the last slices, of each bucket, of each stripe.
struct Cells {
    buckets: usize,
    stripes: Box<[Box<[AtomicU64]>]>,
}

impl Latencies {
    pub(super) fn new(share: Ratio, window: TimeLimit, minimum: NonZeroU32) -> Self {
        let slicer = Slicer::cutting(window, SLICES);
        let cells = Cells::new(stripes().min(STRIPES), BUCKETS);
        Self::of(Arc::new(Samples { window, slicer, cells }), share, minimum)
    }

    fn of(samples: Arc<Samples>, share: Ratio, minimum: NonZeroU32) -> Self {
        let (known, unknown) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { samples, share, minimum, known, unknown }
    }

    /// Another quantile of the same latencies.
    pub(super) fn seen_by(&self, share: Ratio, minimum: NonZeroU32) -> Self {
        let other = Self::of(Arc::clone(&self.samples), share, minimum);
        // Should the slice be another one by now, it is worked out again.
        let (slice, _) = unpack(self.known.load(Ordering::Relaxed));
        other.work_out(slice);
        other
    }

    pub(super) fn window(&self) -> TimeLimit {
        self.samples.window
    }

    /// Whether nothing was ever counted.
    pub(super) fn is_new(&self) -> bool {
        self.known.load(Ordering::Relaxed) == 0 && self.unknown.load(Ordering::Relaxed) == 0
    }

    #[inline]
    pub(super) fn record(&self, took: Duration, now: Instant) {
        let slice = self.samples.slicer.number(now);
        self.samples.cells.add(stripe(), bucket(took), slice);
        let (of, known) = unpack(self.known.load(Ordering::Relaxed));
        if of != slice {
            self.work_out(slice);
        } else if known == 0 {
            let seen = self.unknown.fetch_add(1, Ordering::Relaxed) + 1;
            if seen.is_multiple_of(u64::from(self.minimum.get())) {
                self.work_out(slice);
            }
        }
    }

    /// In nanoseconds, if enough were counted.
    #[inline]
    pub(super) fn quantile(&self, now: Instant) -> Option<u64> {
        let slice = self.samples.slicer.number(now);
        let (of, mut known) = unpack(self.known.load(Ordering::Relaxed));
        if of != slice {
            known = self.work_out(slice);
        }
        known.checked_sub(1).map(|bucket| bound(bucket as usize))
    }

    fn work_out(&self, slice: u32) -> u32 {
        let bucket = self.samples.cells.quantile(slice, self.share, self.minimum);
        let known = bucket.and_then(|bucket| u32::try_from(bucket + 1).ok()).unwrap_or_default();
        // Relaxed: the word is all that there is to know. An older slice does not replace a newer
        // one; of two for the same either is right, for they differ by what was counted meanwhile.
        let keep_newest = |seen| (!is_after(unpack(seen).0, slice)).then(|| pack(slice, known));
        let _ = self.known.fetch_update(Ordering::Relaxed, Ordering::Relaxed, keep_newest);
        known
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latencies").field("share", &self.share).finish_non_exhaustive()
    }
}

impl Cells {
    fn new(stripes: usize, buckets: usize) -> Self {
        let stripe = |_| (0..buckets * SLICES).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, stripes: (0..stripes).map(stripe).collect() }
    }

    #[inline]
    fn add(&self, stripe: usize, bucket: usize, slice: u32) {
        let cells = &self.stripes[stripe & (self.stripes.len() - 1)];
        let cell = &cells[bucket * SLICES + slice as usize % SLICES];
        // Relaxed: a cell is all that there is to know of its slice, bucket and stripe.
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let (of, count) = unpack(seen);
            let next = if of == slice {
                pack(slice, count.saturating_add(1))
            } else if count == 0 || is_after(slice, of) {
                pack(slice, 1)
            } else {
                // The ring has gone round meanwhile: it is out of the window already.
                return;
            };
            match cell.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// The first bucket up to which there is this share of what the window holds that ends with
    /// `slice`; `None` if that is less than `minimum`.
    fn quantile(&self, slice: u32, share: Ratio, minimum: NonZeroU32) -> Option<usize> {
        let mut counts = [0; BUCKETS];
        for stripe in &self.stripes {
            for (count, cells) in counts.iter_mut().zip(stripe.chunks_exact(SLICES)) {
                *count += cells
                    .iter()
                    .map(|cell| unpack(cell.load(Ordering::Relaxed)))
                    .filter(|(of, _)| slice.wrapping_sub(*of) < WINDOW)
                    .map(|(_, count)| u64::from(count))
                    .sum::<u64>();
            }
        }
        let all = counts.iter().sum::<u64>();
        if all < u64::from(minimum.get()) {
            return None;
        }
        // Rounded up: no more than the rest of them take longer.
        let rank = (all - share.complement().of(all)).max(1);
        let mut up_to = 0;
        counts[..self.buckets].iter().position(|count| {
            up_to += count;
            up_to >= rank
        })
    }
}

/// The bucket of a latency.
fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    // A bound belongs to its bucket.
    let below = nanos.saturating_sub(1) | 1;
    let doublings = below.ilog2();
    let Some(octave) = doublings.checked_sub(FIRST) else { return 0 };
    if octave >= OCTAVES {
        return BUCKETS - 1;
    }
    let part = (below >> (doublings - PARTS)) & ((1 << PARTS) - 1);
    1 + ((octave as usize) << PARTS) + usize::try_from(part).unwrap_or_default()
}

/// The longest latency of a bucket, in nanoseconds: that of the last is longer than anybody waits.
fn bound(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(1) else { return 1 << FIRST };
    if bucket >= BUCKETS - 1 {
        return u64::MAX;
    }
    let (octave, part) = (above >> PARTS, above & ((1 << PARTS) - 1));
    let parts = (1 << PARTS) + part as u64 + 1;
    parts << (FIRST as usize - PARTS as usize + octave)
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;

#[cfg(all(test, buttress_loom))]
mod loom_tests;
