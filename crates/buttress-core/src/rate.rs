use std::{num::NonZeroU32, time::Duration};

/// So many events in so much time, and how many of them may come at once.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::Rate;
///
/// let rate = Rate::per_second(4.try_into().unwrap()).burst(2.try_into().unwrap());
/// assert_eq!(rate.interval(), Duration::from_millis(250));
/// assert_eq!(rate.most_at_once().get(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    interval: Duration,
    burst: NonZeroU32,
}

impl Rate {
    /// So many a second, all of which may come at once.
    #[must_use]
    pub const fn per_second(events: NonZeroU32) -> Self {
        Self::per(1, events)
    }

    /// So many a minute, all of which may come at once.
    #[must_use]
    pub const fn per_minute(events: NonZeroU32) -> Self {
        Self::per(60, events)
    }

    const fn per(seconds: u64, events: NonZeroU32) -> Self {
        // Rounded up to a nanosecond, so that the rate is never exceeded.
        let nanos = seconds * 1_000_000_000;
        Self { interval: Duration::from_nanos(nanos.div_ceil(events.get() as u64)), burst: events }
    }

    /// How many may come at once.
    #[must_use]
    pub const fn burst(mut self, most: NonZeroU32) -> Self {
        self.burst = most;
        self
    }

    /// The time between two events at this rate, rounded up to a nanosecond.
    #[must_use]
    pub const fn interval(self) -> Duration {
        self.interval
    }

    /// How many may come at once.
    #[must_use]
    pub const fn most_at_once(self) -> NonZeroU32 {
        self.burst
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
