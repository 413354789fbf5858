use std::fmt;

use crate::{AlertState, ClockChange, Counts, Name, Period, Severity, Share};

/// Something that happened at a tick, for a journal and for those who listen.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// A rule of alerting moved.
    Alert {
        /// Of which objective.
        objective: Name,
        /// Its name.
        rule: Box<str>,
        /// Whom it tells.
        severity: Severity,
        /// How it stood.
        from: AlertState,
        /// How it stands.
        to: AlertState,
    },
    /// The last page of an incident cleared, and from shortly before the first until now so much
    /// of the budget was spent that the policy wants it written up.
    PostmortemDue {
        /// Of which objective.
        objective: Name,
        /// What it has spent.
        spent: Share,
    },
    /// A policy moved.
    Level {
        /// Of which objective, or composite.
        name: Name,
        /// The level that it left.
        from: Box<str>,
        /// The level that it is on.
        to: Box<str>,
        /// What is left of the budget.
        remaining: Share,
    },
    /// The calendar gave a new budget.
    NewPeriod {
        /// Of which objective.
        objective: Name,
        /// The period that began.
        period: Period,
    },
    /// Somebody excused an objective for a time that has passed.
    Excused {
        /// Which.
        objective: Name,
        /// For what time.
        period: Period,
        /// What it had counted then, in units of its method.
        counts: Counts,
    },
    /// Maintenance began, or ended.
    Maintenance(bool),
    /// The clocks did more than to go on.
    Clock(ClockChange),
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert { objective, rule, severity, from, to } => {
                let (severity, from, to) = (severity.as_str(), from.as_str(), to.as_str());
                write!(f, "{objective}: {severity} {rule} is {to}, was {from}")
            }
            Self::PostmortemDue { objective, spent } => {
                write!(f, "{objective}: an incident spent {spent} of the budget; write it up")
            }
            Self::Level { name, from, to, remaining } => {
                write!(f, "{name}: the policy is on {to}, was on {from}; {remaining} is left")
            }
            Self::NewPeriod { objective, period } => {
                write!(f, "{objective}: a new budget for {period}")
            }
            Self::Excused { objective, period, counts: Counts { good, bad } } => {
                write!(f, "{objective}: {good} good and {bad} bad of {period} are excused")
            }
            Self::Maintenance(true) => f.write_str("maintenance began: events are excluded"),
            Self::Maintenance(false) => f.write_str("maintenance ended"),
            Self::Clock(ClockChange::SteppedForward(by)) => {
                write!(f, "the wall clock was set forward by {by:?}; windows are as they were")
            }
            Self::Clock(ClockChange::SteppedBack(by)) => {
                write!(f, "the wall clock was set back by {by:?}; windows are as they were")
            }
            Self::Clock(ClockChange::Slept(time)) => {
                write!(f, "the machine slept for {time:?}: nobody counted")
            }
            Self::Clock(ClockChange::Late(time)) => {
                write!(f, "the ticker was held up: the last tick was {time:?} ago")
            }
        }
    }
}
