use std::{num::NonZeroU32, time::Duration};

use super::Measured;
use crate::{Ratio, TimeLimit};

/// Additive increase, multiplicative decrease: one more after a good period, a share less after
/// one in which calls were dropped or took too long.
///
/// Not grown while less than half of it is used: a limit that nobody feels says nothing.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::bulkhead::{Adaptive, Measured};
///
/// let mut aimd = Adaptive::aimd();
/// aimd.start(30);
/// let good = Measured { latency: Duration::from_millis(5), in_flight: 30, dropped: false };
/// assert_eq!(aimd.update(good), 31);
/// assert_eq!(aimd.update(Measured { dropped: true, ..good }), 27);
/// ```
#[derive(Clone, Debug)]
pub struct Aimd {
    limit: u32,
    floor: u32,
    ceiling: u32,
    backoff: Ratio,
    timeout: Duration,
    pub(super) period: TimeLimit,
}

impl Aimd {
    /// From 1 to 1,000, nine tenths after a bad period, bad when calls hold their places for more
    /// than 5 s on average, ten periods a second.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            limit: 1,
            floor: 1,
            ceiling: 1_000,
            backoff: Ratio::percent(90),
            timeout: Duration::from_secs(5),
            period: TimeLimit::from_millis(100),
        }
    }

    /// The lowest limit.
    #[must_use]
    pub const fn floor(mut self, limit: NonZeroU32) -> Self {
        self.floor = limit.get();
        self
    }

    /// The highest limit.
    #[must_use]
    pub const fn ceiling(mut self, limit: NonZeroU32) -> Self {
        self.ceiling = limit.get();
        self
    }

    /// What is left of the limit after a bad period, rounded down.
    #[must_use]
    pub const fn backoff(mut self, share: Ratio) -> Self {
        self.backoff = share;
        self
    }

    /// A mean latency above this is as bad as a call that is dropped.
    #[must_use]
    pub const fn timeout(mut self, limit: TimeLimit) -> Self {
        self.timeout = limit.get();
        self
    }

    /// How long calls are gathered before the limit is moved.
    #[must_use]
    pub const fn every(mut self, period: TimeLimit) -> Self {
        self.period = period;
        self
    }

    /// Begins at `limit`. The bounds make room for it.
    pub fn start(&mut self, limit: u32) {
        self.limit = limit.max(1);
        self.floor = self.floor.min(self.limit);
        self.ceiling = self.ceiling.max(self.limit);
    }

    /// The limit after a period.
    pub fn update(&mut self, measured: Measured) -> u32 {
        if measured.dropped || measured.latency > self.timeout {
            let less = self.backoff.of(self.limit.into());
            self.limit = u32::try_from(less).unwrap_or(u32::MAX);
        } else if u64::from(measured.in_flight) * 2 >= self.limit.into() {
            self.limit = self.limit.saturating_add(1);
        }
        self.limit = self.limit.min(self.ceiling).max(self.floor);
        self.limit
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    fn after(limit: u32, in_flight: u32, dropped: bool) -> u32 {
        let mut aimd = Aimd::new();
        aimd.start(limit);
        aimd.update(Measured { latency: Duration::from_millis(1), in_flight, dropped })
    }

    /// A01.
    #[test]
    fn one_more_when_it_is_used_and_nine_tenths_after_a_drop() {
        assert_eq!(after(20, 10, false), 21);
        assert_eq!(after(30, 0, true), 27);
        assert_eq!(after(20, 9, false), 20, "less than half of it is used");
    }

    /// A01.
    #[test]
    fn the_bounds_hold() {
        let mut aimd = Aimd::new().ceiling(NonZeroU32::new(21).unwrap());
        aimd.start(21);
        let good = Measured { latency: Duration::ZERO, in_flight: 21, dropped: false };

        assert_eq!(aimd.update(good), 21);
        for _ in 0..100 {
            aimd.update(Measured { dropped: true, ..good });
        }
        assert_eq!(aimd.update(Measured { dropped: true, ..good }), 1);
    }

    #[test]
    fn slow_is_as_bad_as_dropped() {
        let mut aimd = Aimd::new().timeout(TimeLimit::from_secs(1));
        aimd.start(30);
        let at = |millis| Measured {
            latency: Duration::from_millis(millis),
            in_flight: 30,
            dropped: false,
        };

        assert_eq!(aimd.update(at(1000)), 31);
        assert_eq!(aimd.update(at(1001)), 27);
    }
}
