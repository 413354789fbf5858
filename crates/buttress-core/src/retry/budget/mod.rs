mod covered;
mod in_flight;
mod percentage;
mod tokens;

use std::{sync::Arc, time::Instant};

pub use self::{
    covered::{Covered, Known},
    in_flight::InFlight,
    percentage::Percentage,
    tokens::Tokens,
};
use self::{in_flight::Flights, percentage::Window, tokens::Bucket};
use crate::{Leeway, Ratio};

/// How many retries there may be, for all that share it.
///
/// Retries of a service that is down multiply its load just then. A budget ties them to what is
/// asked of it anyway: clone it into any number of retry and hedge layers, and they spend from one.
///
/// ```
/// use std::time::Instant;
/// use buttress_core::{Ratio, retry::{Budget, Percentage}};
///
/// let budget = Budget::from(Percentage::new(Ratio::percent(10)).floor(0));
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// let now = Instant::now();
/// for _ in 0..20 {
///     budget.begin(now);
/// }
///
/// let retries = (0..20).filter(|_| budget.withdraw(now).is_some()).count();
/// assert_eq!(retries, 2);
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    kind: Kind,
    leeway: Option<Leeway>,
}

#[derive(Clone, Debug)]
enum Kind {
    Unlimited,
    Percentage(Arc<Window>),
    Tokens(Arc<Bucket>),
    InFlight(Arc<Flights>),
}

impl Budget {
    /// This share of the requests, in percent, of the last ten seconds, and ten a second
    /// besides: [`Percentage`] with its defaults.
    ///
    /// # Panics
    ///
    /// If `percent` is over 100.
    #[must_use]
    pub fn percent(percent: u32) -> Self {
        Percentage::new(Ratio::percent(percent)).into()
    }

    /// As many as anybody likes. For tests, and for callers that wait for people.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::of(Kind::Unlimited)
    }

    const fn of(kind: Kind) -> Self {
        Self { kind, leeway: None }
    }

    /// Grants no more than this share of what it would otherwise, as of each moment, rounded
    /// down: of tokens fewer may be gone, and of no limit at all nothing is less but nothing.
    ///
    /// It goes with this value and its clones. Others that spend from the same budget keep to
    /// what they were told themselves.
    #[must_use]
    pub fn leeway(mut self, leeway: Leeway) -> Self {
        self.leeway = Some(leeway);
        self
    }

    fn share(&self) -> Ratio {
        self.leeway.as_ref().map_or(Ratio::ONE, Leeway::share)
    }

    /// Notes a request, once, however many attempts it takes, unless it is
    /// [known already](Self::cover). What is returned is held until the request is over.
    #[inline]
    pub fn begin(&self, now: Instant) -> Started {
        if self.is_covered() {
            return Started::NONE;
        }
        match &self.kind {
            Kind::Percentage(window) => window.deposit(now),
            Kind::InFlight(flights) => return Started { _flight: Some(flights.start()) },
            Kind::Unlimited | Kind::Tokens(_) => {}
        }
        Started::NONE
    }

    /// Takes leave for one retry, or one hedge; `None` if there is none to be had. What is
    /// returned is held until that attempt is over.
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> Option<Spent> {
        // Asked once, before anything is changed: it is somebody else's code.
        let share = self.share();
        let granted = match &self.kind {
            Kind::Unlimited => share > Ratio::ZERO,
            Kind::Percentage(window) => window.withdraw(now, share),
            Kind::Tokens(bucket) => bucket.allows(share),
            Kind::InFlight(flights) => {
                return Some(Spent { _repeat: Some(Flights::withdraw(flights, share)?) });
            }
        };
        granted.then_some(Spent { _repeat: None })
    }

    /// Whether [`Budget::withdraw`] would be granted.
    #[must_use]
    pub fn would_allow(&self, now: Instant) -> bool {
        self.balance(now).is_none_or(|balance| balance > 0)
    }

    /// Notes that an attempt succeeded.
    #[inline]
    pub fn succeeded(&self) {
        if let Kind::Tokens(bucket) = &self.kind {
            bucket.succeeded();
        }
    }

    /// Notes that an attempt failed in a way that is retried, whether or not it will be.
    pub fn failed(&self) {
        if let Kind::Tokens(bucket) = &self.kind {
            bucket.failed();
        }
    }

    /// Whether it wants to hear of successes and failures.
    #[must_use]
    #[inline]
    pub fn is_told(&self) -> bool {
        matches!(self.kind, Kind::Tokens(_))
    }

    /// How many retries there is leave for just now; `None` if there is no limit. Tokens count
    /// down to their threshold.
    #[must_use]
    pub fn balance(&self, now: Instant) -> Option<u64> {
        let share = self.share();
        match &self.kind {
            Kind::Unlimited if share > Ratio::ZERO => None,
            Kind::Unlimited => Some(0),
            Kind::Percentage(window) => Some(window.balance(now, share)),
            Kind::Tokens(bucket) => Some(bucket.balance(share)),
            Kind::InFlight(flights) => Some(flights.balance(share)),
        }
    }

    /// Whether the two are one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Percentage(a), Kind::Percentage(b)) => Arc::ptr_eq(a, b),
            (Kind::Tokens(a), Kind::Tokens(b)) => Arc::ptr_eq(a, b),
            (Kind::InFlight(a), Kind::InFlight(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Budget {
    /// Lets layers further in know, for one `call`, that this budget knows of the request: a hedge
    /// inside of a retry is to spend from its budget, and not to count each attempt as a request.
    #[inline]
    pub fn cover(&self) -> Covered {
        self.known().cover()
    }

    /// That this budget knows of a request, for the polls that follow upon its `call`.
    #[must_use]
    #[inline]
    pub fn known(&self) -> Known {
        Known(self.address())
    }

    /// Whether a layer around the `call`, or `poll`, that is on this thread's stack has noted the
    /// request.
    #[must_use]
    #[inline]
    pub fn is_covered(&self) -> bool {
        covered::is_by(self.address())
    }

    /// What tells it from any other that lives at the same time; 0 for one that counts nothing.
    #[inline]
    fn address(&self) -> usize {
        match &self.kind {
            Kind::Unlimited => 0,
            Kind::Percentage(window) => Arc::as_ptr(window).addr(),
            Kind::Tokens(bucket) => Arc::as_ptr(bucket).addr(),
            Kind::InFlight(flights) => Arc::as_ptr(flights).addr(),
        }
    }
}

impl From<Percentage> for Budget {
    fn from(percentage: Percentage) -> Self {
        Self::of(Kind::Percentage(Arc::new(Window::new(percentage))))
    }
}

impl From<Tokens> for Budget {
    fn from(tokens: Tokens) -> Self {
        Self::of(Kind::Tokens(Arc::new(Bucket::new(tokens))))
    }
}

impl From<InFlight> for Budget {
    fn from(in_flight: InFlight) -> Self {
        Self::of(Kind::InFlight(Arc::new(Flights::new(in_flight))))
    }
}

/// A request that its budget knows of, for as long as this is held.
#[derive(Debug)]
#[must_use = "the request is over when this is dropped"]
pub struct Started {
    _flight: Option<in_flight::Flight>,
}

/// Leave for one retry, for as long as this is held.
#[derive(Debug)]
#[must_use = "the retry is over when this is dropped"]
pub struct Spent {
    _repeat: Option<in_flight::Repeat>,
}

impl Started {
    /// A request that no budget knows of.
    pub const NONE: Self = Self { _flight: None };
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;
