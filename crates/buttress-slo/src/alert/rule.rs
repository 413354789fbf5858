use std::{fmt, time::Duration};

use buttress_core::Ratio;

use crate::{
    Budget, Burn, Counts, Coverage, Share, Target, burn::wide_product, coverage::Gaps, ring::Ring,
    window::short,
};

/// One rule of alerting. See the [module docs](super) for an example.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    name: Box<str>,
    severity: Severity,
    condition: Condition,
    pub(super) hold: Duration,
    pub(super) keep: Duration,
    clear_at: Option<Burn>,
    min_events: u64,
    min_bad: u64,
}

/// Whom a rule tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Somebody looks at it on the next working day.
    Ticket,
    /// Somebody gets up.
    Page,
}

impl Severity {
    /// The value of a `severity` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Page => "page",
        }
    }
}

/// What makes a rule fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The budget burns faster than `factor`, strictly, over the long window and over the short.
    Burn {
        /// How fast.
        factor: Burn,
        /// The window that makes it worth telling.
        long: Duration,
        /// The window that says it still goes on.
        short: Option<Duration>,
    },
    /// The long window has spent more than a share of the whole period's budget, and the short
    /// one its part of it.
    Spent {
        /// How much of the budget.
        share: Ratio,
        /// The window that makes it worth telling.
        long: Duration,
        /// The window that says it still goes on.
        short: Option<Duration>,
    },
    /// No more than this is left of the budget.
    Left {
        /// How much.
        at_most: Share,
    },
}

impl Rule {
    fn new(name: impl Into<Box<str>>, severity: Severity, condition: Condition) -> Self {
        Self {
            name: name.into(),
            severity,
            condition,
            hold: Duration::ZERO,
            keep: Duration::ZERO,
            clear_at: None,
            min_events: 0,
            min_bad: 0,
        }
    }

    /// Fires when the budget burns faster than `factor` over `long`, and over a twelfth of it.
    #[must_use]
    pub fn pair(
        name: impl Into<Box<str>>,
        severity: Severity,
        factor: Burn,
        long: Duration,
    ) -> Self {
        let short = Some(twelfth(long));
        Self::new(name, severity, Condition::Burn { factor, long, short })
    }

    /// Fires when the budget burns faster than `factor` over one window.
    #[must_use]
    pub fn burn(
        name: impl Into<Box<str>>,
        severity: Severity,
        factor: Burn,
        window: Duration,
    ) -> Self {
        Self::new(name, severity, Condition::Burn { factor, long: window, short: None })
    }

    /// Fires when the SLI of one window is below the target: for a latency objective of 99 %,
    /// when p99 is above its threshold.
    #[must_use]
    pub fn below_target(name: impl Into<Box<str>>, severity: Severity, window: Duration) -> Self {
        Self::burn(name, severity, Burn::ONE, window)
    }

    /// Fires when `long` has spent more than `share` of the period's budget, and a twelfth of it
    /// its part. The same as [`Rule::pair`] while traffic is even, and deaf to a quiet night.
    #[must_use]
    pub fn spent(
        name: impl Into<Box<str>>,
        severity: Severity,
        share: Ratio,
        long: Duration,
    ) -> Self {
        let short = Some(twelfth(long));
        Self::new(name, severity, Condition::Spent { share, long, short })
    }

    /// Fires when no more than `at_most` is left of the budget.
    #[must_use]
    pub fn left(name: impl Into<Box<str>>, severity: Severity, at_most: Share) -> Self {
        Self::new(name, severity, Condition::Left { at_most })
    }

    /// Waits so long before it fires, while its condition stays.
    #[must_use]
    pub const fn hold(mut self, wait: Duration) -> Self {
        self.hold = wait;
        self
    }

    /// Goes on firing for so long after its condition has gone.
    #[must_use]
    pub const fn keep(mut self, wait: Duration) -> Self {
        self.keep = wait;
        self
    }

    /// Clears only once the burn is no faster than this, or than what it fires at, if that is
    /// less. For rules on burn; others clear where they fire.
    #[must_use]
    pub const fn clear_at(mut self, burn: Burn) -> Self {
        self.clear_at = Some(burn);
        self
    }

    /// Needs so many events in its long window to fire. What fires goes on with fewer: traffic
    /// that dwindles is no recovery.
    #[must_use]
    pub const fn min_events(mut self, events: u64) -> Self {
        self.min_events = events;
        self
    }

    /// Needs so many bad events in its long window to fire. 3 is a good number below a request a
    /// second.
    #[must_use]
    pub const fn min_bad(mut self, events: u64) -> Self {
        self.min_bad = events;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whom it tells.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// What makes it fire.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        self.condition
    }

    /// How many bad events it needs, one at the least.
    #[must_use]
    pub const fn fewest_bad(&self) -> u64 {
        if self.min_bad == 0 { 1 } else { self.min_bad }
    }

    /// How many events it needs.
    #[must_use]
    pub const fn fewest_events(&self) -> u64 {
        self.min_events
    }

    /// Its windows, the long one first.
    pub fn windows(&self) -> impl Iterator<Item = Duration> + use<> {
        let (long, short) = match self.condition {
            Condition::Burn { long, short, .. } | Condition::Spent { long, short, .. } => {
                (Some(long), short)
            }
            Condition::Left { .. } => (None, None),
        };
        long.into_iter().chain(short)
    }

    /// No more than it fires at, or it would fire and clear with every other tick.
    fn clears_at(&self, factor: Burn) -> Burn {
        self.clear_at.map_or(factor, |burn| burn.min(factor))
    }

    /// In words, when it clears.
    #[must_use]
    pub fn clears_when(&self, target: Target) -> String {
        let windows: Vec<_> = self.windows().map(short).collect();
        let windows = windows.join(" or in ");
        let words = match self.condition {
            Condition::Burn { factor, .. } => {
                let burn = self.clears_at(factor).as_millionths();
                let parts = u128::from(burn) * u128::from(target.error_parts()) / 1_000_000;
                let share = Share::per_billion(i64::try_from(parts).unwrap_or(i64::MAX));
                format!("clears when at most {share} of the events in {windows} are bad")
            }
            Condition::Spent { share, .. } => {
                format!(
                    "clears when what was spent in {windows} is at most {share} of the budget, or its part"
                )
            }
            Condition::Left { at_most } => {
                format!("clears when more than {at_most} of the budget is left")
            }
        };
        if self.keep.is_zero() { words } else { format!("{words}, for {}", short(self.keep)) }
    }

    /// Whether its condition is met; `None` without events to judge by. A rule that fires is
    /// asked by what it clears at.
    pub(super) fn is_met(&self, view: &View<'_>, firing: bool) -> Option<bool> {
        let (long, short) = match self.condition {
            Condition::Left { at_most } => {
                let known = !view.budget.counts().is_empty();
                return known.then(|| view.budget.remaining() <= at_most);
            }
            Condition::Burn { long, short, .. } | Condition::Spent { long, short, .. } => {
                (long, short)
            }
        };
        let (events, coverage) = view.window(long);
        let newest = short.map_or((events, coverage), |short| view.window(short));
        if newest.0.is_empty() {
            return None;
        }
        // What keeps a rule from firing for too little does not make it clear for too little:
        // neither traffic that dwindles below a minimum nor a window that a restart has emptied
        // is a recovery. What fires is asked of what was seen alone.
        let enough = firing
            || events.total() >= self.min_events.saturating_mul(view.unit)
                && events.bad >= self.min_bad.saturating_mul(view.unit);
        let over = |(counts, coverage): (Counts, Coverage)| match self.condition {
            Condition::Spent { share, long, .. } => {
                let seen = coverage.observed_seconds();
                let length = if firing { seen } else { coverage.length_seconds() };
                view.has_spent(share, counts, length, long)
            }
            Condition::Burn { factor, .. } if firing => {
                let length = coverage.length_seconds();
                let whole = Coverage::of_seconds(length, length);
                self.clears_at(factor).is_exceeded_by(counts, view.target, whole)
            }
            Condition::Burn { factor, .. } => factor.is_exceeded_by(counts, view.target, coverage),
            Condition::Left { .. } => false,
        };
        Some(enough && over((events, coverage)) && over(newest))
    }
}

fn twelfth(long: Duration) -> Duration {
    Duration::from_secs((long.as_secs() / 12).max(SHORTEST))
}

/// Two of the finest slots.
const SHORTEST: u64 = 10;

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match self.condition {
            Condition::Burn { factor, .. } => write!(f, "burn over {factor} in ")?,
            Condition::Spent { share, .. } => write!(f, "over {share} of the budget spent in ")?,
            Condition::Left { at_most } => write!(f, "at most {at_most} of the budget left")?,
        }
        let windows: Vec<_> = self.windows().map(short).collect();
        f.write_str(&windows.join(" and in "))?;
        if self.hold.is_zero() { Ok(()) } else { write!(f, ", for {}", short(self.hold)) }
    }
}

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) ring: &'a Ring,
    pub(crate) target: Target,
    /// Of the whole period.
    pub(crate) budget: Budget,
    /// Since when somebody counts, and when nobody did.
    pub(crate) since: i64,
    pub(crate) gaps: &'a Gaps,
    /// How many counts are one event.
    pub(crate) unit: u64,
}

impl View<'_> {
    /// What a window holds, and how much of it was observed.
    pub(crate) fn window(&self, length: Duration) -> (Counts, Coverage) {
        let length = length.as_secs();
        let now = self.ring.now();
        // The ring was made for the longest window of the objective's rules.
        let counts = self.ring.window(length).map_or_else(Counts::default, |window| window.counts);
        let start = now.saturating_sub_unsigned(length);
        (counts, Coverage::of_seconds(self.gaps.observed(self.since, start, now), length))
    }

    /// Whether a window has spent more than its part of `share` of the period's budget.
    fn has_spent(&self, share: Ratio, counts: Counts, length: u64, long: Duration) -> bool {
        const WHOLE: u128 = 1_000_000_000;
        let period = self.budget.coverage();
        let total = u128::from(self.budget.counts().total());
        let observed = u128::from(period.observed_seconds().max(1));
        // bad * 10^18 * observed * long > share * allowed * total * period * length.
        let spent = u128::from(counts.bad) * WHOLE;
        let left = wide_product(spent, WHOLE * observed * u128::from(long.as_secs()));
        let parts = u128::from(share.parts_per_billion()) * u128::from(self.target.error_parts());
        let seconds = u128::from(period.length_seconds()) * u128::from(length);
        left > wide_product(total, parts * seconds)
    }
}
