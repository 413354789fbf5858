use crate::{
    atomic::{AtomicU64, Ordering},
    cells::{Padded, stripe, stripes},
};

/// Everything that a breaker counts, since it was made: two cache lines for each processor.
///
/// Windows do not count for themselves. They are differences of these counts, so an outcome is
/// one addition for all of them, and for whoever publishes the totals.
#[derive(Debug)]
pub(super) struct Cells {
    stripes: Box<[Padded<[AtomicU64; CELLS]>]>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Success,
    Failure,
    /// A 429 or `RESOURCE_EXHAUSTED`.
    Soft,
    /// An outcome that says nothing about the service.
    Ignored,
    /// Dropped by its caller.
    Cancelled,
    /// Ended after the state that had admitted it, or while nothing is recorded.
    Void,
    RefusedOpen,
    RefusedHalfOpen,
    RefusedRecovering,
    RefusedForced,
    RefusedIsolated,
    /// In shadow mode.
    WouldRefuse,
}

/// How many calls were slow by each trip follows what every breaker counts.
const FIRST_SLOW: usize = 12;
const CELLS: usize = 16;

impl Cells {
    pub(super) fn new() -> Self {
        Self::with_stripes(stripes())
    }

    pub(super) fn with_stripes(stripes: usize) -> Self {
        let cells = |_| Padded(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { stripes: (0..stripes).map(cells).collect() }
    }

    #[inline]
    pub(super) fn add(&self, cell: Cell) {
        self.add_at(cell as usize);
    }

    #[inline]
    pub(super) fn add_slow(&self, trip: usize) {
        self.add_at(FIRST_SLOW + trip);
    }

    #[inline]
    fn add_at(&self, cell: usize) {
        // Release, so that who sees this count and then a fence sees the window that it fell into
        // as well. Whoever compares counts puts a fence between its own addition and its reads.
        self.stripes[stripe() & (self.stripes.len() - 1)].0[cell].fetch_add(1, Ordering::Release);
    }

    /// Adds as another processor would.
    #[cfg(all(test, buttress_loom))]
    pub(super) fn add_on(&self, stripe: usize, cell: Cell) {
        self.stripes[stripe].0[cell as usize].fetch_add(1, Ordering::Release);
    }

    pub(super) fn sum(&self, cell: Cell) -> u64 {
        self.sum_at(cell as usize)
    }

    pub(super) fn sum_slow(&self, trip: usize) -> u64 {
        self.sum_at(FIRST_SLOW + trip)
    }

    fn sum_at(&self, cell: usize) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0[cell].load(Ordering::Relaxed)).sum()
    }

    /// Failures of both kinds.
    pub(super) fn failures(&self) -> u64 {
        self.sum(Cell::Failure) + self.sum(Cell::Soft)
    }
}
