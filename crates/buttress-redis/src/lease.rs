use std::{num::NonZeroU32, time::Duration};

use buttress_core::{Rate, TimeLimit};

/// How many tokens a process takes from the fleet's bucket at once, and for how long it keeps them.
///
/// As many as it will want in a tenth of a second, as far as it can be told from what it wanted
/// since it last asked; never more than twice as many as the last time, and never so many that it
/// would hold more than [`most`](Self::most) of one bucket. Half of them gone, more are asked for.
/// What is not used in time lapses, and is lost to the fleet for as long as the bucket takes to
/// yield it again.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::Rate;
/// use buttress_redis::Lease;
///
/// let lease = Lease::new(100.try_into().unwrap());
/// assert_eq!(lease.size(50, Duration::from_millis(50), 64), 100);
/// assert_eq!(lease.size(50, Duration::from_millis(50), 8), 16);
/// assert_eq!(lease.size(50, Duration::from_secs(1), 64), 5);
///
/// // Four processes that hold a hundred each may use them at the wrong moment, and no more.
/// let rate = Rate::per_second(1000.try_into().unwrap());
/// assert_eq!(lease.over_admission(rate, 4.try_into().unwrap()), 400);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Lease {
    most: NonZeroU32,
    lasts: TimeLimit,
}

/// How much demand a batch is to cover: ten round trips a second for each busy key are nothing to
/// a server that does 100,000, and a tenth of a second is a hundred of them apart.
const AHEAD: Duration = Duration::from_millis(100);

impl Lease {
    /// Takes no more than so many at once. They last for a second.
    pub const fn new(most: NonZeroU32) -> Self {
        Self { most, lasts: TimeLimit::from_secs(1) }
    }

    /// How long they may be used, from when they were asked for, by the monotonic clock of the
    /// process: one that was stopped for longer finds them lapsed. On Linux that clock stands still
    /// while the whole machine is suspended, and then they are there when it goes on.
    pub const fn lasting(mut self, time: TimeLimit) -> Self {
        self.lasts = time;
        self
    }

    /// How many tokens of one bucket a process holds at the most.
    #[must_use]
    pub const fn most(&self) -> NonZeroU32 {
        self.most
    }

    /// How long they may be used.
    #[must_use]
    pub const fn lasts(&self) -> TimeLimit {
        self.lasts
    }

    /// How many tokens to take, when so many were asked for since the last time, so long ago, when
    /// it were `last`. At least one.
    #[must_use]
    pub fn size(&self, asked: u64, over: Duration, last: u32) -> u32 {
        let demand = u128::from(asked) * AHEAD.as_nanos() / over.as_nanos().max(1);
        let demand = u32::try_from(demand).unwrap_or(u32::MAX);
        demand.min(last.saturating_mul(2)).clamp(1, self.most.get())
    }

    /// How many requests more than the burst and what the rate yields may be admitted in any span
    /// of time: those for which tokens were taken before it began. At the most as many as all
    /// processes may hold, and as the rate yields while a lease lasts.
    #[must_use]
    pub fn over_admission(&self, rate: Rate, replicas: NonZeroU32) -> u64 {
        let held = u64::from(self.most.get()) * u64::from(replicas.get());
        let yielded = u128::from(rate.events().get()) * self.lasts.get().as_nanos();
        let yielded = yielded.div_ceil(rate.period().as_nanos());
        held.min(u64::try_from(yielded).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn a_batch_grows_twofold_at_a_time_and_shrinks_at_once() {
        let lease = Lease::new(n(1000));
        let mut size = 1;

        let grown: Vec<_> = (0..12)
            .map(|_| {
                size = lease.size(10_000, Duration::from_millis(1), size);
                size
            })
            .collect();

        assert_eq!(grown, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000, 1000]);
        assert_eq!(lease.size(1, Duration::from_secs(60), 1000), 1);
        assert_eq!(lease.size(u64::MAX, Duration::ZERO, u32::MAX), 1000);
    }

    #[test]
    fn over_admission_is_what_is_held_and_no_more_than_a_lease_lasts() {
        let (rate, lease) = (Rate::per_second(n(1000)), Lease::new(n(100)));

        assert_eq!(lease.over_admission(rate, n(4)), 400);
        assert_eq!(lease.over_admission(rate, n(400)), 1000);
        let short = lease.lasting(TimeLimit::from_millis(100));
        assert_eq!(short.over_admission(rate, n(4)), 100);
    }
}
