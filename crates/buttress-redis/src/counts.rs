use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
};

use buttress_core::cells::{Buckets, Histogram, Padded, stripe, stripes};

use crate::Failure;

/// Everything that a limit counts: cache lines for each processor.
#[derive(Debug)]
pub(crate) struct Counts {
    stripes: Box<[Padded<[AtomicU64; CELLS]>]>,
    /// How long the store took to answer.
    answers: Histogram,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Admitted(Source),
    Refused(Source),
    TooMuch,
    Left,
    Failed(Failure),
    Leased,
    Lapsed,
    GivenBack,
}

const SOURCES: usize = Source::ALL.len();
const FAILURES: usize = Failure::ALL.len();
const CELLS: usize = 2 * SOURCES + FAILURES + 5;

/// What decided over a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The store, asked for this request.
    Store,
    /// Tokens that had been leased from the store, or what was known of its bucket.
    Lease,
    /// The share of this process, while the store does not answer.
    Local,
    /// Nothing, while the store does not answer: admitted.
    Open,
    /// Nothing, while the store does not answer: refused.
    Closed,
}

impl Source {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 5] = [Self::Store, Self::Lease, Self::Local, Self::Open, Self::Closed];

    /// The value of a `source` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Lease => "lease",
            Self::Local => "local",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

impl Cell {
    const fn place(self) -> usize {
        let after = 2 * SOURCES + FAILURES;
        match self {
            Self::Admitted(source) => source as usize,
            Self::Refused(source) => SOURCES + source as usize,
            Self::Failed(failure) => 2 * SOURCES + failure as usize,
            Self::TooMuch => after,
            Self::Left => after + 1,
            Self::Leased => after + 2,
            Self::Lapsed => after + 3,
            Self::GivenBack => after + 4,
        }
    }
}

impl Counts {
    pub(crate) fn new() -> Self {
        let cells = |_| Padded(array::from_fn(|_| AtomicU64::new(0)));
        let stripes = (0..stripes()).map(cells).collect();
        Self { stripes, answers: Histogram::new() }
    }

    #[inline]
    pub(crate) fn add(&self, cell: Cell) {
        self.add_many(cell, 1);
    }

    #[inline]
    pub(crate) fn add_many(&self, cell: Cell, number: u64) {
        // Relaxed: nothing else is published through a count, and addition has no order.
        let stripe = &self.stripes[stripe() & (self.stripes.len() - 1)];
        stripe.0[cell.place()].fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, after: std::time::Duration) {
        self.answers.record(after);
    }

    pub(crate) fn answers(&self) -> Buckets {
        self.answers.read()
    }

    pub(crate) fn totals(&self) -> Totals {
        let sum = |cell: Cell| {
            let of = |stripe: &Padded<[AtomicU64; CELLS]>| {
                stripe.0[cell.place()].load(Ordering::Relaxed)
            };
            self.stripes.iter().map(of).sum()
        };
        Totals {
            admitted: Source::ALL.map(|source| sum(Cell::Admitted(source))),
            refused: Source::ALL.map(|source| sum(Cell::Refused(source))),
            failed: Failure::ALL.map(|failure| sum(Cell::Failed(failure))),
            too_much: sum(Cell::TooMuch),
            left: sum(Cell::Left),
            leased: sum(Cell::Leased),
            lapsed: sum(Cell::Lapsed),
            given_back: sum(Cell::GivenBack),
        }
    }
}

/// What a limit of a fleet has counted in this process since it was made. In shadow mode: what it
/// would have refused is counted as refused, and was let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    admitted: [u64; SOURCES],
    refused: [u64; SOURCES],
    failed: [u64; FAILURES],
    /// Refused because they ask for more than may ever come at once.
    pub too_much: u64,
    /// Gone before it was decided: their futures were dropped while they waited for the store.
    pub left: u64,
    /// Tokens taken from the store in batches.
    pub leased: u64,
    /// Of those, not used in time.
    pub lapsed: u64,
    /// Of those, given back.
    pub given_back: u64,
}

impl Totals {
    /// How many were admitted by this source.
    #[must_use]
    pub const fn admitted(&self, source: Source) -> u64 {
        self.admitted[source as usize]
    }

    /// How many were refused by this source.
    #[must_use]
    pub const fn refused(&self, source: Source) -> u64 {
        self.refused[source as usize]
    }

    /// How often the store has not answered, for this reason.
    #[must_use]
    pub const fn failed(&self, failure: Failure) -> u64 {
        self.failed[failure as usize]
    }

    /// How many were admitted.
    #[must_use]
    pub fn all_admitted(&self) -> u64 {
        self.admitted.iter().sum()
    }

    /// How many were refused.
    #[must_use]
    pub fn all_refused(&self) -> u64 {
        self.refused.iter().sum::<u64>() + self.too_much
    }
}
