use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
};

use buttress_core::cells::{Padded, stripe, stripes};

/// Everything that a rate limit counts: one cache line for each processor.
#[derive(Debug)]
pub(super) struct Counts {
    stripes: Box<[Padded<[AtomicU64; CELLS]>]>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Admitted,
    /// Those of them that had to wait.
    Waited,
    /// Left before it was admitted.
    Left,
    /// One for each [`Refusal`], in their order.
    Refused,
}

const CELLS: usize = 3 + Refusal::ALL.len();

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There was not enough, and nobody waits.
    Empty,
    /// There was not enough, and would not be in time.
    TooLong,
    /// It asks for more than may ever come at once.
    TooMuch,
}

impl Refusal {
    /// All reasons, each at the place of its number.
    pub const ALL: [Self; 3] = [Self::Empty, Self::TooLong, Self::TooMuch];

    /// The value of a `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::TooMuch => "too_much",
        }
    }
}

impl Counts {
    pub(super) fn new() -> Self {
        let cells = |_| Padded(array::from_fn(|_| AtomicU64::new(0)));
        Self { stripes: (0..stripes()).map(cells).collect() }
    }

    #[inline]
    pub(super) fn add(&self, cell: Cell) {
        self.add_at(cell as usize);
    }

    pub(super) fn refuse(&self, why: Refusal) {
        self.add_at(Cell::Refused as usize + why as usize);
    }

    #[inline]
    fn add_at(&self, cell: usize) {
        // Relaxed: nothing else is published through a count, and addition has no order.
        self.stripes[stripe() & (self.stripes.len() - 1)].0[cell].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn totals(&self) -> Totals {
        let sum = |cell: usize| {
            self.stripes.iter().map(|stripe| stripe.0[cell].load(Ordering::Relaxed)).sum()
        };
        Totals {
            admitted: sum(Cell::Admitted as usize),
            waited: sum(Cell::Waited as usize),
            left: sum(Cell::Left as usize),
            refused: array::from_fn(|why| sum(Cell::Refused as usize + why)),
        }
    }
}

/// What a rate limit has counted since it was made. In shadow mode: what it would have refused is
/// counted as refused, and was let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Admitted, at once or after a wait.
    pub admitted: u64,
    /// Those of them that had to wait.
    pub waited: u64,
    /// Gone before they were admitted: their futures were dropped while they waited.
    pub left: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl Totals {
    /// How many were refused for this reason.
    #[must_use]
    pub const fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize]
    }

    /// How many were refused, for whatever reason.
    #[must_use]
    pub fn all_refused(&self) -> u64 {
        self.refused.iter().sum()
    }
}
