use std::{num::NonZeroU32, time::Duration};

use crate::TimeLimit;

/// So many events in so much time, and how many of them may come at once.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::{Rate, TimeLimit};
///
/// let rate = Rate::per_second(4.try_into().unwrap()).burst(2.try_into().unwrap());
/// assert_eq!(rate.interval(), Duration::from_millis(250));
/// assert_eq!(rate.most_at_once().get(), 2);
///
/// const TEN: std::num::NonZeroU32 = std::num::NonZeroU32::new(10).unwrap();
/// const SLOW: Rate = Rate::new(TEN, TimeLimit::from_secs(15 * 60));
/// assert_eq!(SLOW.interval(), Duration::from_secs(90));
/// ```
///
/// No boundary is where the count begins anew: in any time there may be as many as the burst and
/// what the rate yields meanwhile. So a thousand a day, all of which may come at once, are up to
/// two thousand in the first 24 hours after a quiet spell; five hundred a day are a thousand in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    events: NonZeroU32,
    period: TimeLimit,
    burst: NonZeroU32,
}

impl Rate {
    /// So many within that time, all of which may come at once.
    #[must_use]
    pub const fn new(events: NonZeroU32, period: TimeLimit) -> Self {
        Self { events, period, burst: events }
    }

    /// So many a second, all of which may come at once.
    #[must_use]
    pub const fn per_second(events: NonZeroU32) -> Self {
        Self::new(events, TimeLimit::from_secs(1))
    }

    /// So many a minute, all of which may come at once.
    #[must_use]
    pub const fn per_minute(events: NonZeroU32) -> Self {
        Self::new(events, TimeLimit::from_secs(60))
    }

    /// So many an hour, all of which may come at once.
    #[must_use]
    pub const fn per_hour(events: NonZeroU32) -> Self {
        Self::new(events, TimeLimit::from_secs(60 * 60))
    }

    /// So many a day of 24 hours, all of which may come at once.
    #[must_use]
    pub const fn per_day(events: NonZeroU32) -> Self {
        Self::new(events, TimeLimit::from_secs(24 * 60 * 60))
    }

    /// How many may come at once.
    #[must_use]
    pub const fn burst(mut self, most: NonZeroU32) -> Self {
        self.burst = most;
        self
    }

    /// How many in a [`period`](Self::period).
    #[must_use]
    pub const fn events(self) -> NonZeroU32 {
        self.events
    }

    /// The time in which there are so many.
    #[must_use]
    pub const fn period(self) -> Duration {
        self.period.get()
    }

    /// The time between two events at this rate, rounded up to a nanosecond.
    #[must_use]
    pub const fn interval(self) -> Duration {
        // Rounded up, so that the rate is never exceeded.
        Duration::from_nanos(self.period_nanos().div_ceil(self.events.get() as u64))
    }

    /// How many may come at once.
    #[must_use]
    pub const fn most_at_once(self) -> NonZeroU32 {
        self.burst
    }

    pub(crate) const fn period_nanos(self) -> u64 {
        // A time limit is a year at the most, which fits.
        let period = self.period.get();
        period.as_secs() * 1_000_000_000 + period.subsec_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_that_does_not_divide_is_rounded_up() {
        let rate = Rate::per_second(3.try_into().unwrap());

        assert_eq!(rate.interval(), Duration::from_nanos(333_333_334));
    }
}
