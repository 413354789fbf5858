use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
};

use buttress_core::cells::{Padded, stripe, stripes};

/// Everything that a rate limit counts, on cache lines for each processor.
#[derive(Debug)]
pub(super) struct Counts {
    /// Each has one writer, the thread with that stripe.
    own: Box<[Line]>,
    /// Of threads that came later than the processors are many.
    shared: Box<[Line]>,
}

type Line = Padded<[AtomicU64; CELLS]>;

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
        let lines = || (0..stripes()).map(cells).collect();
        Self { own: lines(), shared: lines() }
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
        let stripe = stripe();
        // Relaxed: nothing else is published through a count, and addition has no order.
        if let Some(own) = self.own.get(stripe) {
            // Nobody writes in between, and to load and to store costs a fifth of what `fetch_add`
            // does.
            let count = &own.0[cell];
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        } else {
            let line = &self.shared[stripe & (self.shared.len() - 1)];
            line.0[cell].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let sum = |cell: usize| {
            let lines = self.own.iter().chain(&self.shared);
            lines.map(|line| line.0[cell].load(Ordering::Relaxed)).sum()
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn more_threads_than_processors_lose_no_count() {
        let counts = Counts::new();

        thread::scope(|scope| {
            for _ in 0..4 * stripes() {
                scope.spawn(|| (0..10_000).for_each(|_| counts.add(Cell::Admitted)));
            }
        });

        assert_eq!(counts.totals().admitted, 40_000 * stripes() as u64);
    }
}
