use super::{AlertPlan, Rule, View};

/// How a rule stands. The moments are on the tracker's steady timeline, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlertState {
    /// All is well.
    #[default]
    Quiet,
    /// Its condition is met, and not yet for long enough.
    Pending {
        /// Since when.
        since: i64,
    },
    /// It fires.
    Firing {
        /// Since when.
        since: i64,
    },
    /// It fired until there were no events any more to judge by. That is no recovery.
    Lost {
        /// Since when.
        since: i64,
    },
}

impl AlertState {
    /// Whether somebody has to look: it fires, or did when it was lost.
    #[must_use]
    pub const fn is_firing(self) -> bool {
        matches!(self, Self::Firing { .. } | Self::Lost { .. })
    }

    /// How bad it is: what fires is worse than what was lost, for that may be over.
    pub(crate) const fn rank(self) -> u8 {
        match self {
            Self::Quiet => 0,
            Self::Pending { .. } => 1,
            Self::Lost { .. } => 2,
            Self::Firing { .. } => 3,
        }
    }

    /// The value of a state label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Pending { .. } => "pending",
            Self::Firing { .. } => "firing",
            Self::Lost { .. } => "lost",
        }
    }

    /// Since when it is so; `None` where nothing is.
    #[must_use]
    pub const fn since(self) -> Option<i64> {
        match self {
            Self::Quiet => None,
            Self::Pending { since } | Self::Firing { since } | Self::Lost { since } => Some(since),
        }
    }
}

/// The state of one rule, and since when its condition has been gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) state: AlertState,
    pub(crate) clear_since: Option<i64>,
}

impl Alert {
    /// Looks again. `last_event` is when there was an event last. Returns the state before, if
    /// it is another now.
    pub(crate) fn step(
        &mut self,
        rule: &Rule,
        plan: &AlertPlan,
        view: &View<'_>,
        last_event: Option<i64>,
    ) -> Option<AlertState> {
        let now = view.ring.now();
        let before = self.state;
        let met = rule.is_met(view, before.is_firing());
        self.state = match (before, met) {
            (AlertState::Quiet, Some(true)) => pending(rule, now, now),
            (AlertState::Pending { since }, Some(true)) => pending(rule, since, now),
            (AlertState::Pending { .. }, Some(false)) => AlertState::Quiet,
            (AlertState::Lost { .. }, Some(true)) => AlertState::Firing { since: now },
            (AlertState::Firing { .. }, Some(true)) => before,
            (AlertState::Firing { .. } | AlertState::Lost { .. }, Some(false)) => {
                self.clear(before, rule, now)
            }
            (AlertState::Firing { .. }, None) if is_stale(plan, last_event, now) => {
                AlertState::Lost { since: now }
            }
            (AlertState::Pending { .. }, None) if is_stale(plan, last_event, now) => {
                AlertState::Quiet
            }
            (before, None) | (before @ AlertState::Quiet, Some(false)) => before,
        };
        if met == Some(true) {
            self.clear_since = None;
        }
        (self.state != before).then_some(before)
    }

    fn clear(&mut self, before: AlertState, rule: &Rule, now: i64) -> AlertState {
        let since = *self.clear_since.get_or_insert(now);
        if reaches(since, now, rule.keep.as_secs()) {
            self.clear_since = None;
            AlertState::Quiet
        } else {
            before
        }
    }
}

fn pending(rule: &Rule, since: i64, now: i64) -> AlertState {
    if reaches(since, now, rule.hold.as_secs()) {
        AlertState::Firing { since: now }
    } else {
        AlertState::Pending { since }
    }
}

fn is_stale(plan: &AlertPlan, last_event: Option<i64>, now: i64) -> bool {
    last_event.is_none_or(|last| reaches(last, now, plan.stale_seconds()))
}

fn reaches(since: i64, now: i64, seconds: u64) -> bool {
    now.saturating_sub(since) >= i64::try_from(seconds).unwrap_or(i64::MAX)
}
