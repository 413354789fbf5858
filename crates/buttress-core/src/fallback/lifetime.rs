use std::time::{Duration, Instant};

/// For how long a response that was good may answer for one that is not.
///
/// It is fresh for a while, and may then stand in for an error for another while: the
/// `stale-if-error` of [RFC 5861](https://www.rfc-editor.org/rfc/rfc5861), with ages as
/// [RFC 9111, section 4.2](https://www.rfc-editor.org/rfc/rfc9111#section-4.2) counts them.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress_core::fallback::Lifetime;
///
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// let t0 = Instant::now();
/// let at = |seconds| t0 + Duration::from_secs(seconds);
/// let life = Lifetime::new(t0, Duration::from_secs(10), Duration::from_secs(60));
///
/// assert!(!life.is_stale(at(10)) && life.is_stale(at(11)));
/// assert!(life.is_usable(at(70)) && !life.is_usable(at(71)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    received: Instant,
    /// How old it was when it came.
    initial: Duration,
    fresh: Duration,
    if_error: Duration,
}

impl Lifetime {
    /// Of a response received at `received`, which is fresh for so long, and may stand in for an
    /// error for so long after that.
    #[must_use]
    pub const fn new(received: Instant, fresh: Duration, if_error: Duration) -> Self {
        Self { received, initial: Duration::ZERO, fresh, if_error }
    }

    /// It was that old already when it was received, as a cache further away said in `Age`.
    #[must_use]
    pub const fn aged(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// No longer than this in all.
    #[must_use]
    pub fn at_most(mut self, age: Duration) -> Self {
        self.fresh = self.fresh.min(age);
        self.if_error = self.if_error.min(age.saturating_sub(self.fresh));
        self
    }

    /// When it was received.
    #[must_use]
    pub fn received(&self) -> Instant {
        self.received
    }

    /// How old it is.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.initial.saturating_add(now.saturating_duration_since(self.received))
    }

    /// For how long it has not been fresh any more.
    #[must_use]
    pub fn staleness(&self, now: Instant) -> Duration {
        self.age(now).saturating_sub(self.fresh)
    }

    /// Whether it is not fresh any more.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        !self.staleness(now).is_zero()
    }

    /// Whether it may answer for an error.
    #[must_use]
    pub fn is_usable(&self, now: Instant) -> bool {
        self.age(now) <= self.longest()
    }

    /// Until when, that instant included, it may answer; `None` if it never could, or for longer
    /// than clocks go.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.received.checked_add(self.longest().checked_sub(self.initial)?)
    }

    fn longest(&self) -> Duration {
        self.fresh.saturating_add(self.if_error)
    }
}
