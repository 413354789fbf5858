use buttress_core::Ratio;

use crate::{
    Burn, Release, Share,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

/// How an objective stands, for layers to read on every call without a lock.
///
/// The tracker writes it once a tick; so a budget that burns makes a service more careful by
/// itself: retries are fewer, sheddable traffic goes first, chaos stops. Each value is of the
/// last tick, and two of them read one after the other may be of two ticks.
///
/// ```
/// use buttress_core::Ratio;
/// use buttress_slo::{Burn, Clocks, Objective, Sli, Tracker};
/// # use std::time::{Instant, SystemTime};
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// # let clocks = Clocks { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH, boot: None };
///
/// let up = Objective::new("up".parse()?, Sli::Availability, "99.9%".parse()?);
/// let tracker = Tracker::new("shop".parse()?, [up], clocks)?;
/// let signal = tracker.signal("up").unwrap();
///
/// assert_eq!(signal.retry_share(Burn::times(14)), Ratio::ONE);
/// assert!(!signal.sheds());
/// assert!(!signal.allows_chaos(Burn::times(2)), "not before there is traffic to see harm in");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Signal {
    release: AtomicU64,
    remaining: AtomicI64,
    /// In millionths; all ones for none.
    burn: AtomicU64,
    paging: AtomicBool,
    ticks: AtomicU64,
}

/// What a tick writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) release: Release,
    pub(crate) remaining: Share,
    pub(crate) burn: Option<Burn>,
    pub(crate) paging: bool,
}

impl Signal {
    pub(crate) fn new() -> Self {
        Self {
            release: AtomicU64::new(Release::Normally as u64),
            remaining: AtomicI64::new(Share::ONE.parts_per_billion()),
            burn: AtomicU64::new(u64::MAX),
            paging: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, reading: Reading) {
        // Relaxed: each value stands for itself, and a tick later is soon enough.
        let burn = reading.burn.map_or(u64::MAX, Burn::as_millionths);
        self.release.store(reading.release as u64, Ordering::Relaxed);
        self.remaining.store(reading.remaining.parts_per_billion(), Ordering::Relaxed);
        self.burn.store(burn, Ordering::Relaxed);
        self.paging.store(reading.paging, Ordering::Relaxed);
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// What may be released.
    #[must_use]
    pub fn release(&self) -> Release {
        let number = usize::try_from(self.release.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        Release::ALL.get(number).copied().unwrap_or(Release::Nothing)
    }

    /// What is left of the budget.
    #[must_use]
    pub fn remaining(&self) -> Share {
        Share::per_billion(self.remaining.load(Ordering::Relaxed))
    }

    /// How fast the budget burns, over the shortest window of its alerts: five minutes, for 30
    /// days. What was not observed of it is taken to be free of errors. `None` without traffic.
    #[must_use]
    pub fn burn(&self) -> Option<Burn> {
        let burn = self.burn.load(Ordering::Relaxed);
        (burn != u64::MAX).then(|| Burn::millionths(burn))
    }

    /// Whether a page fires.
    #[must_use]
    pub fn is_paging(&self) -> bool {
        self.paging.load(Ordering::Relaxed)
    }

    /// How many times it was written. Who must not act upon old news, such as one that injects
    /// faults, sees by it that somebody still ticks.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// How much had better be done of what can be done without: all of it while the policy
    /// releases as ever, half from the level on that asks for care, and a quarter while a page
    /// fires.
    ///
    /// It falls at once, and rises as pages clear and policies do: a page when its windows have
    /// recovered, a level 2 % above its edge and an hour after it was reached.
    #[must_use]
    pub fn leeway(&self) -> Ratio {
        match (self.is_paging(), self.release()) {
            (true, _) => Ratio::percent(25),
            (false, Release::Freely | Release::Normally) => Ratio::ONE,
            (false, _) => Ratio::percent(50),
        }
    }

    /// The share of its retry budget that a retry layer had better keep to: [`Signal::leeway`],
    /// and while the budget burns faster than `limit`, so many times less as it does. A few
    /// failures are what retries are for; retries of many are load on top of a service that
    /// fails already. The factor of the fastest page, 14.4, is a good limit.
    #[must_use]
    pub fn retry_share(&self, limit: Burn) -> Ratio {
        let burn = self.burn().unwrap_or(limit).max(limit).as_millionths();
        let parts = (u128::from(limit.as_millionths()) * 1_000_000_000).checked_div(burn.into());
        let parts = parts.and_then(|parts| u32::try_from(parts).ok());
        parts.and_then(Ratio::per_billion).unwrap_or(Ratio::ONE).min(self.leeway())
    }

    /// Whether traffic that can be done without had better go: a page fires, or the policy
    /// releases fixes at the most.
    #[must_use]
    pub fn sheds(&self) -> bool {
        self.is_paging() || self.release() >= Release::FixesOnly
    }

    /// Whether faults may be injected: no page, nothing slowed down, and a burn that is known
    /// and no faster than `limit`.
    #[must_use]
    pub fn allows_chaos(&self, limit: Burn) -> bool {
        let calm = !self.is_paging() && self.release() <= Release::Normally;
        calm && self.burn().is_some_and(|burn| burn <= limit)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    fn signal(release: Release, burn: Option<Burn>, paging: bool) -> Signal {
        let signal = Signal::new();
        signal.set(Reading { release, remaining: Share::ONE, burn, paging });
        signal
    }

    #[test]
    fn retries_shrink_as_the_budget_burns() {
        let share = |burn| {
            let signal = signal(Release::Normally, burn, false);
            signal.retry_share(Burn::times(10)).to_string()
        };

        assert_eq!(share(None), "1");
        assert_eq!(share(Some(Burn::millionths(0))), "1");
        assert_eq!(share(Some(Burn::times(10))), "1");
        assert_eq!(share(Some(Burn::times(40))), "0.25");
        assert_eq!(share(Some(Burn::times(1_000))), "0.01");
        let never = signal(Release::Normally, Some(Burn::ONE), false);
        assert_eq!(never.retry_share(Burn::millionths(0)), Ratio::ZERO);
    }

    #[test]
    fn a_page_or_a_freeze_sheds_and_stops_chaos() {
        let slow = Some(Burn::ONE);
        let limit = Burn::times(2);

        assert!(signal(Release::Normally, slow, false).allows_chaos(limit));
        assert!(!signal(Release::Normally, Some(Burn::times(3)), false).allows_chaos(limit));
        assert!(!signal(Release::Normally, None, false).allows_chaos(limit));
        assert!(!signal(Release::Carefully, slow, false).allows_chaos(limit));
        assert!(!signal(Release::Normally, slow, true).allows_chaos(limit));
        assert!(signal(Release::Normally, slow, true).sheds());
        assert!(signal(Release::FixesOnly, slow, false).sheds());
        assert!(!signal(Release::Carefully, slow, false).sheds());
    }

    #[test]
    fn what_can_be_done_without_is_half_on_a_slow_level_and_a_quarter_under_a_page() {
        let leeway = |release, paging| signal(release, None, paging).leeway().to_string();

        assert_eq!(leeway(Release::Freely, false), "1");
        assert_eq!(leeway(Release::Normally, false), "1");
        for release in [Release::Carefully, Release::FixesOnly, Release::Nothing] {
            assert_eq!(leeway(release, false), "0.5", "{release:?}");
            assert_eq!(leeway(release, true), "0.25", "{release:?}");
        }
        let calm = signal(Release::Nothing, Some(Burn::ONE), false);
        assert_eq!(calm.retry_share(Burn::times(10)).to_string(), "0.5", "spent long ago");
        let burning = signal(Release::Carefully, Some(Burn::times(100)), true);
        assert_eq!(burning.retry_share(Burn::times(10)).to_string(), "0.1");
    }

    #[test]
    fn who_looks_twice_sees_whether_somebody_ticks() {
        let signal = signal(Release::Normally, None, false);
        let before = signal.ticks();

        signal.set(Reading {
            release: Release::Normally,
            remaining: Share::ONE,
            burn: None,
            paging: false,
        });

        assert_eq!(signal.ticks(), before + 1);
    }
}
