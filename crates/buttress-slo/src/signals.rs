use std::sync::Arc;

use buttress_core::{Leeway, Ratio};

use crate::{Burn, Release, Share, Signal};

/// How several objectives stand, taken together: always the worst of them.
///
/// What closes the loop between a tracker and the layers that answer for its objectives. A value
/// is cheap to clone and to read, and takes no lock; each reading is of the last tick.
///
/// ```
/// use buttress_core::{Ratio, retry::Budget};
/// use buttress_slo::{Burn, Clocks, Objective, Sli, Tracker};
/// # use std::time::{Instant, SystemTime};
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// # let clocks = Clocks { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH, boot: None };
///
/// let up = Objective::new("up".parse()?, Sli::Availability, "99.9%".parse()?);
/// let tracker = Tracker::new("shop".parse()?, [up], clocks)?;
/// let signals = tracker.signals();
///
/// // A fifth of the requests while all is well, and less of that as the budget burns.
/// let budget = Budget::percent(20).leeway(signals.retries(Burn::times(14)));
///
/// assert_eq!(budget.balance(clocks.monotonic), Some(100));
/// assert_eq!(signals.leeway(), Ratio::ONE);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Signals(Arc<[Arc<Signal>]>);

impl Signals {
    /// Of these objectives.
    #[must_use]
    pub fn of(signals: impl IntoIterator<Item = Arc<Signal>>) -> Self {
        Self(signals.into_iter().collect())
    }

    /// What may be released: no more than the strictest policy admits.
    #[must_use]
    pub fn release(&self) -> Release {
        self.0.iter().map(|signal| signal.release()).max().unwrap_or(Release::Normally)
    }

    /// What is left of the budget that has the least left; `None` of no objectives at all.
    #[must_use]
    pub fn remaining(&self) -> Option<Share> {
        self.0.iter().map(|signal| signal.remaining()).min()
    }

    /// How fast the budget burns that burns fastest; `None` without traffic.
    #[must_use]
    pub fn burn(&self) -> Option<Burn> {
        self.0.iter().filter_map(|signal| signal.burn()).max()
    }

    /// Whether a page fires.
    #[must_use]
    pub fn is_paging(&self) -> bool {
        self.0.iter().any(|signal| signal.is_paging())
    }

    /// How much had better be done of what can be done without: see [`Signal::leeway`].
    #[must_use]
    pub fn leeway(&self) -> Ratio {
        self.0.iter().map(|signal| signal.leeway()).min().unwrap_or(Ratio::ONE)
    }

    /// The share of its budget that a retry layer had better keep to: see [`Signal::retry_share`].
    #[must_use]
    pub fn retry_share(&self, limit: Burn) -> Ratio {
        self.0.iter().map(|signal| signal.retry_share(limit)).min().unwrap_or(Ratio::ONE)
    }

    /// Whether traffic that can be done without had better go: see [`Signal::sheds`].
    #[must_use]
    pub fn sheds(&self) -> bool {
        self.0.iter().any(|signal| signal.sheds())
    }

    /// Whether faults may be injected: each objective has to allow it, and there has to be one.
    /// See [`Signal::allows_chaos`].
    #[must_use]
    pub fn allows_chaos(&self, limit: Burn) -> bool {
        !self.0.is_empty() && self.0.iter().all(|signal| signal.allows_chaos(limit))
    }

    /// [`Signals::leeway`] for a layer that asks by itself: a bulkhead that sheds.
    #[must_use]
    pub fn optional_work(&self) -> Leeway {
        let signals = self.clone();
        Leeway::by(move || signals.leeway())
    }

    /// [`Signals::retry_share`] for a layer that asks by itself: a budget of retries, and of
    /// hedges, which spend from one.
    #[must_use]
    pub fn retries(&self, limit: Burn) -> Leeway {
        let signals = self.clone();
        Leeway::by(move || signals.retry_share(limit))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::signal::Reading;

    fn signal(release: Release, left: i32, burn: Option<u32>, paging: bool) -> Arc<Signal> {
        let signal = Signal::new();
        let (remaining, burn) = (Share::percent(left), burn.map(Burn::times));
        signal.set(Reading { release, remaining, burn, paging });
        Arc::new(signal)
    }

    #[test]
    fn the_worst_of_all_is_what_counts() {
        let well = signal(Release::Freely, 90, Some(1), false);
        let slow = signal(Release::Carefully, 20, None, false);
        let paging = signal(Release::Carefully, 60, Some(40), true);
        let limit = Burn::times(10);

        let both = Signals::of([&well, &slow].map(Arc::clone));
        assert_eq!(both.release(), Release::Carefully);
        assert_eq!(both.remaining(), Some(Share::percent(20)));
        assert_eq!(both.burn(), Some(Burn::ONE));
        assert_eq!((both.leeway(), both.is_paging()), (Ratio::percent(50), false));
        assert!(!both.sheds() && !both.allows_chaos(limit));

        let all = Signals::of([Arc::clone(&well), slow, paging]);
        assert_eq!((all.leeway(), all.sheds(), all.is_paging()), (Ratio::percent(25), true, true));
        assert_eq!(
            (all.burn(), all.retry_share(limit)),
            (Some(Burn::times(40)), Ratio::percent(25))
        );
        assert_eq!(all.optional_work().share(), Ratio::percent(25));
        assert_eq!(all.retries(Burn::times(4)).share(), Ratio::percent(10));

        assert!(Signals::of([well]).allows_chaos(limit));
    }

    #[test]
    fn no_objectives_hold_nobody_back_and_allow_no_chaos() {
        let none = Signals::of([]);

        assert_eq!((none.leeway(), none.retry_share(Burn::ONE)), (Ratio::ONE, Ratio::ONE));
        assert_eq!((none.burn(), none.remaining(), none.sheds()), (None, None, false));
        assert!(!none.allows_chaos(Burn::times(1_000)));
    }
}
