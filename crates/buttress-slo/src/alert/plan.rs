use std::time::Duration;

use buttress_core::Ratio;

use super::{Rule, Severity};
use crate::{Burn, Window};

/// The rules of one objective. See the [module docs](super) for an example.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertPlan {
    rules: Vec<Rule>,
    stale_after: Duration,
}

impl AlertPlan {
    /// No rules.
    #[must_use]
    pub const fn none() -> Self {
        Self { rules: Vec::new(), stale_after: STALE_AFTER }
    }

    /// The rules that suit a window: of 28 to 31 days the four pairs with
    /// [scaled factors](Self::with_scaled_factors), of a week or more the four pairs with
    /// [scaled windows](Self::with_scaled_windows), and of less a page when the SLI of the window
    /// is below its target, for there is no time to see a budget burn.
    #[must_use]
    pub fn for_window(window: &Window) -> Self {
        const DAY: u64 = 86_400;
        let period = window.nominal();
        match period.as_secs() / DAY {
            28..=31 => Self::with_scaled_factors(period),
            7.. => Self::with_scaled_windows(period),
            _ => Self::none().with(Rule::below_target("below-target", Severity::Page, period)),
        }
    }

    /// The four pairs at which 2, 5, 10 and 10 % of the budget are spent, over windows of 1 h,
    /// 6 h, 1 d and 3 d: the factors are `share * period / window`, as sloth has them.
    #[must_use]
    pub fn with_scaled_factors(period: Duration) -> Self {
        PAIRS.into_iter().fold(Self::none(), |plan, (name, severity, share, long, _)| {
            let factor = Burn::spending(share, period, long);
            plan.with(Rule::pair(name, severity, factor, long))
        })
    }

    /// The four pairs at factors 14.4, 6, 3 and 1, over the windows of 30 days scaled to the
    /// period: for a week, factors scaled instead would alert within budget, and for a quarter
    /// they would be blunt.
    #[must_use]
    pub fn with_scaled_windows(period: Duration) -> Self {
        PAIRS.into_iter().fold(Self::none(), |plan, (name, severity, _, long, factor)| {
            let long = Duration::from_secs(long.as_secs() * period.as_secs() / MONTH.as_secs());
            plan.with(Rule::pair(name, severity, factor, long))
        })
    }

    /// The four pairs by share of the budget: the same while traffic is even, and deaf to what
    /// happens while there is hardly any.
    #[must_use]
    pub fn by_budget_spent() -> Self {
        PAIRS.into_iter().fold(Self::none(), |plan, (name, severity, share, long, _)| {
            plan.with(Rule::spent(name, severity, share, long))
        })
    }

    /// One more rule. A rule of the same name is replaced.
    #[must_use]
    pub fn with(mut self, rule: Rule) -> Self {
        self.rules.retain(|other| other.name() != rule.name());
        self.rules.push(rule);
        self
    }

    /// Without the rules of one severity.
    #[must_use]
    pub fn without(mut self, severity: Severity) -> Self {
        self.rules.retain(|rule| rule.severity() != severity);
        self
    }

    /// Every rule, changed: to set the fewest failures for all, say.
    #[must_use]
    pub fn each(mut self, change: impl FnMut(Rule) -> Rule) -> Self {
        self.rules = self.rules.into_iter().map(change).collect();
        self
    }

    /// After how long without any event a rule that fires is lost; an hour by default.
    #[must_use]
    pub const fn stale_after(mut self, wait: Duration) -> Self {
        self.stale_after = wait;
        self
    }

    /// The rules, in the order in which they were added.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(super) const fn stale_seconds(&self) -> u64 {
        self.stale_after.as_secs()
    }

    /// The longest window of any rule, in seconds.
    pub(crate) fn longest(&self) -> u64 {
        self.rules.iter().flat_map(Rule::windows).map(|window| window.as_secs()).max().unwrap_or(0)
    }
}

/// Long enough for a deployment or a restart, which stop traffic too, and short enough that
/// nobody takes a silence for a recovery.
const STALE_AFTER: Duration = Duration::from_secs(3600);

const MONTH: Duration = Duration::from_secs(30 * 86_400);

type Pair = (&'static str, Severity, Ratio, Duration, Burn);

/// SRE workbook, table 5-8, and the row of a day from the listing after it.
const PAIRS: [Pair; 4] = [
    ("page-fast", Severity::Page, Ratio::percent(2), hours(1), Burn::millionths(14_400_000)),
    ("page-slow", Severity::Page, Ratio::percent(5), hours(6), Burn::times(6)),
    ("ticket-fast", Severity::Ticket, Ratio::percent(10), hours(24), Burn::times(3)),
    ("ticket-slow", Severity::Ticket, Ratio::percent(10), hours(72), Burn::times(1)),
];

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}
