use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
};

use buttress_core::{
    Rate, Ratio, TimeLimit,
    breaker::{self, OpenFor, Probes, Trip},
};

use crate::Lease;

/// How a limit of a fleet asks its store, and what it does when there is no answer.
///
/// ```
/// use buttress_core::TimeLimit;
/// use buttress_redis::{Lease, Outage, Replicas, Settings};
///
/// let exact = Settings::strict().within(TimeLimit::from_millis(10)).outage(Outage::Closed);
/// let fast = Settings::leased(Lease::new(100.try_into().unwrap()))
///     .outage(Outage::Share(Replicas::Given(4.try_into().unwrap())));
/// # let _ = (exact, fast);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Settings {
    pub(crate) lease: Option<Lease>,
    pub(crate) within: TimeLimit,
    pub(crate) outage: Outage,
    pub(crate) circuit: breaker::Settings,
    pub(crate) prefix: Arc<str>,
    pub(crate) capacity: NonZeroUsize,
}

/// What decides while the store does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// A bucket in this process, with its share of the rate and of the burst.
    Share(Replicas),
    /// Nothing: all requests are admitted.
    Open,
    /// Nothing: no request is admitted. They are refused with 503 or `UNAVAILABLE`, for it is not
    /// they who are at fault.
    Closed,
}

/// How many processes share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// So many.
    Given(NonZeroU32),
    /// As many as say so in the store, which each does once a second while its
    /// [`FleetLimitHandle::run`](crate::FleetLimitHandle::run) runs. So many until the first has
    /// been heard of; what was last heard counts on through an outage.
    Counted(NonZeroU32),
}

impl Settings {
    /// Asks the store for each request: never more than the limit across the fleet.
    pub fn strict() -> Self {
        // Three in a row, because one late answer is an accident and each costs a caller its wait;
        // half a second, because the probe that comes then costs one caller as much again.
        let open_for = OpenFor::fixed(TimeLimit::from_millis(500))
            .doubling()
            .up_to(TimeLimit::from_secs(2))
            .jitter(Ratio::percent(20));
        let circuit = breaker::Settings::new(Trip::consecutive(3)).open_for(open_for);
        Self {
            lease: None,
            within: TimeLimit::from_millis(20),
            outage: Outage::Share(Replicas::Counted(NonZeroU32::MIN)),
            circuit: circuit.probes(Probes::new(1).deadline(TimeLimit::from_secs(1))),
            prefix: "buttress".into(),
            capacity: CAPACITY,
        }
    }

    /// Takes tokens from the store in batches and decides with those: see [`Lease`].
    pub fn leased(lease: Lease) -> Self {
        Self { lease: Some(lease), ..Self::strict() }
    }

    /// How long a request waits for the store at the most, 20 ms by default. Timers are as fine as
    /// a millisecond, by which it may be longer.
    ///
    /// Let it be less than twice what callers wait: those that leave before half of it has passed
    /// say nothing of the store, and where all do, none finds out that it is dead. A spawned
    /// [`run`](crate::FleetLimitHandle::run) that counts replicas does so as well.
    ///
    /// It is measured by this process, which cannot tell a store that is slow from its own threads
    /// being busy: work that keeps a thread of the runtime for longer than this, or a machine with more
    /// to do than it can, has answers read too late, and three in a row open the circuit. Where
    /// `buttress_fleet_limit_store_state` flaps and the server is idle, say 100 ms or more here, and
    /// do long work elsewhere (`spawn_blocking`).
    pub fn within(mut self, limit: TimeLimit) -> Self {
        self.within = limit;
        self
    }

    /// What decides while the store does not. By default a share for each replica that is counted.
    pub fn outage(mut self, outage: Outage) -> Self {
        self.outage = outage;
        self
    }

    /// When the store is left alone, and for how long. By default three failures in a row do, for
    /// half a second that doubles up to two, with jitter; then one probe.
    pub fn circuit(mut self, settings: breaker::Settings) -> Self {
        self.circuit = settings;
        self
    }

    /// What all keys in the store begin with, `buttress` by default.
    pub fn prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// For how many keys there is room for what this process holds of them: leases, and the share
    /// of an outage. 65,536 by default. The store has room for as many as it likes.
    pub fn capacity(mut self, keys: NonZeroUsize) -> Self {
        self.capacity = keys;
        self
    }
}

const CAPACITY: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// The part of a rate, and of its burst, that one of so many may have. Rounded down, but for one
/// request at once, without which there would be none at all.
///
/// ```
/// use buttress_core::Rate;
/// use buttress_redis::share_of;
///
/// let share = share_of(Rate::per_second(1000.try_into().unwrap()), 3.try_into().unwrap());
/// assert_eq!(share.most_at_once().get(), 333);
/// assert_eq!(share.interval(), std::time::Duration::from_millis(3));
/// ```
#[must_use]
pub fn share_of(rate: Rate, replicas: NonZeroU32) -> Rate {
    let part =
        |whole: NonZeroU32| NonZeroU32::new(whole.get() / replicas).unwrap_or(NonZeroU32::MIN);
    let burst = part(rate.most_at_once());
    let longer = rate.period().checked_mul(replicas.get());
    let share = match longer.and_then(|period| TimeLimit::try_from(period).ok()) {
        Some(period) => Rate::new(rate.events(), period),
        // Longer than a year.
        None => Rate::new(part(rate.events()), TimeLimit::MAX),
    };
    share.burst(burst)
}

impl Replicas {
    pub(crate) const fn at_first(self) -> NonZeroU32 {
        match self {
            Self::Given(replicas) | Self::Counted(replicas) => replicas,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn all_shares_together_are_no_more_than_the_rate() {
        for events in [1, 7, 1000, u32::MAX] {
            for replicas in [1, 3, 64, u32::MAX] {
                for period in
                    [Duration::from_secs(1), Duration::from_hours(24), TimeLimit::MAX.get()]
                {
                    let rate = Rate::new(n(events), TimeLimit::try_from(period).unwrap());
                    let share = share_of(rate, n(replicas));

                    let told = format!("{rate:?} among {replicas}: {share:?}");
                    let yields = |rate: Rate| u128::from(rate.events().get());
                    let all = yields(share) * u128::from(replicas) * rate.period().as_nanos();
                    let one_a_year = share.events() == NonZeroU32::MIN;
                    assert!(
                        one_a_year || all <= yields(rate) * share.period().as_nanos(),
                        "{told}"
                    );
                    let burst = u64::from(share.most_at_once().get()) * u64::from(replicas);
                    assert!(burst <= u64::from(events.max(replicas)), "{told}");
                }
            }
        }
    }
}
