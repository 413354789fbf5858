use std::time::Instant;

use crate::{
    Ratio, TimeLimit,
    cells::{Buckets, Histogram},
    retry::{Budget, Percentage},
};

/// How much of the work whose deadline has passed is refused at the most.
///
/// Deadlines are read off clocks and headers of other people. Where they are wrong, a server that
/// refuses all expired work refuses everything; with a cap it serves most of it.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress_core::{Expired, ExpiredCap, Ratio};
///
/// let expired = Expired::new(ExpiredCap::new(Ratio::percent(20)));
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// let now = Instant::now();
/// (0..5).for_each(|_| expired.served(now));
///
/// assert!(expired.may_refuse(now));
/// assert!(!expired.may_refuse(now), "five that are served pay for one that is not");
/// (0..5).for_each(|_| expired.served(now));
/// assert!(!expired.may_refuse(now + Duration::from_secs(11)), "and are forgotten");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ExpiredCap(Percentage);

impl ExpiredCap {
    /// For each so many that are served one may be refused: a share of 20 % is one for five, of
    /// the last ten seconds. As Finagle's `DeadlineFilter` has it.
    pub const fn new(share: Ratio) -> Self {
        Self(Percentage::new(share).floor(0))
    }

    /// How long a request that was served counts: from a second to a minute.
    ///
    /// # Panics
    ///
    /// If it is shorter or longer. In a constant that is an error of the compiler.
    pub const fn within(self, window: TimeLimit) -> Self {
        Self(self.0.within(window))
    }
}

/// The requests that were served and refused under an [`ExpiredCap`], and how late they came.
///
/// Exact and lock-free, for it is a retry budget: what is served pays in, a refusal takes out.
#[derive(Debug)]
pub struct Expired {
    budget: Budget,
    late: Histogram,
    left: Histogram,
}

impl Expired {
    /// Nothing was served yet, and so nothing may be refused.
    #[must_use]
    pub fn new(cap: ExpiredCap) -> Self {
        Self { budget: cap.0.into(), late: Histogram::new(), left: Histogram::new() }
    }

    /// Notes a request that is served.
    #[inline]
    pub fn served(&self, now: Instant) {
        // Nothing of a share has to be held.
        drop(self.budget.begin(now));
    }

    /// Whether a request that came too late may be refused, which takes that leave.
    #[must_use]
    pub fn may_refuse(&self, now: Instant) -> bool {
        self.budget.withdraw(now).is_some()
    }

    /// Notes that a request came so long before or after its deadline.
    pub fn came(&self, deadline: Instant, now: Instant) {
        match deadline.checked_duration_since(now) {
            Some(left) if !left.is_zero() => self.left.record(left),
            _ => self.late.record(now.saturating_duration_since(deadline)),
        }
    }

    /// How long after their deadlines requests came.
    #[must_use]
    pub fn late(&self) -> Buckets {
        self.late.read()
    }

    /// How long before their deadlines requests came.
    #[must_use]
    pub fn left(&self) -> Buckets {
        self.left.read()
    }
}

impl From<Ratio> for ExpiredCap {
    fn from(share: Ratio) -> Self {
        Self::new(share)
    }
}
