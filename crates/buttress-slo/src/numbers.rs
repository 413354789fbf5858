use std::time::Duration;

use buttress_core::Ratio;

use crate::{
    AlertState, Budget, Burn, Counts, Coverage, Forecast, Period, Severity, Target, WindowCounts,
};

/// How one objective stands, as of the last tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// What is promised.
    pub target: Target,
    /// The period, in wall time. A rolling one ends now.
    pub period: Period,
    /// Its counts, in events or in slices, with what the edge of the window leaves open.
    pub counts: WindowCounts,
    /// How many counts are one event, or one slice.
    pub unit: u64,
    /// What may be bad, what is spent and what is left.
    pub budget: Budget,
    /// How much was observed of that part of the period that has passed. The coverage of the
    /// budget is of the whole period; that of a calendar is full only at its end.
    pub observed: Coverage,
    /// How fast it burns, over each window of its alerts; the shortest first.
    pub burns: Vec<WindowBurn>,
    /// When it will be spent.
    pub forecast: Forecast,
    /// How long ago the last event was; `None` if there was none.
    pub quiet_for: Option<Duration>,
}

impl Numbers {
    /// The share of good events, rounded down. `None` is no data: neither 0 nor 100 %.
    #[must_use]
    pub fn sli(&self) -> Option<Ratio> {
        self.budget.counts().sli()
    }

    /// Whether there are events to judge by.
    #[must_use]
    pub fn has_data(&self) -> bool {
        !self.budget.counts().is_empty()
    }

    /// How fast the budget burns over one of the windows of its alerts.
    #[must_use]
    pub fn burn(&self, window: Duration) -> Option<Burn> {
        self.burns.iter().find(|burn| burn.window == window)?.burn
    }
}

/// How fast a budget burns over one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowBurn {
    /// The window.
    pub window: Duration,
    /// What it holds, in units of the method.
    pub counts: Counts,
    /// The burn of what was observed of it; `None` without events.
    pub burn: Option<Burn>,
    /// How much of it was observed.
    pub coverage: Coverage,
}

/// How one rule of alerting stands, as of the last tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertStatus {
    /// Its name.
    pub rule: Box<str>,
    /// Whom it tells.
    pub severity: Severity,
    /// How it stands.
    pub state: AlertState,
    /// For how long; `None` where nothing is.
    pub since: Option<Duration>,
    /// The burn of its windows, the long one first.
    pub burns: Vec<WindowBurn>,
    /// In words, when it fires.
    pub fires_when: String,
    /// In words, when it clears.
    pub clears_when: String,
}
