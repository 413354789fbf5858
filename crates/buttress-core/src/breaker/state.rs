use std::{fmt, time::Duration};

use super::{Cause, Measured, Progress, Tally, Then};
use crate::Ratio;

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls pass in a growing share: the ramp after the probes.
    Recovering,
    /// Calls are refused, until a probe may pass.
    Open,
    /// A few probes pass.
    HalfOpen,
    /// Calls are refused, until somebody says otherwise.
    ForcedOpen,
    /// Calls pass and nothing is recorded, until somebody says otherwise.
    ForcedClosed,
    /// Calls are refused: a switch that many breakers share is off.
    Isolated,
}

impl State {
    /// All states, in the order in which tables print them.
    pub const ALL: [Self; 7] = [
        Self::Closed,
        Self::Recovering,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::ForcedClosed,
        Self::Isolated,
    ];

    /// The value of the `state` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Recovering => "recovering",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Isolated => "isolated",
        }
    }
}

/// A breaker went from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Where it stood.
    pub from: State,
    /// Where it stands.
    pub to: State,
    /// Why.
    pub why: Why,
    /// Counts the transitions of one breaker, from 1: events that reach an observer on several
    /// threads can be put in order by it.
    pub number: u64,
}

/// Why a breaker went from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A condition was reached.
    Tripped(Cause),
    /// The probes failed.
    ProbesFailed(Cause),
    /// The probes succeeded.
    ProbesPassed,
    /// It had been open for as long as it should, and a call came.
    WaitOver,
    /// It had been half-open for as long as it may.
    OutOfTime(Then),
    /// The ramp is over.
    RampOver,
    /// Somebody said so, through a handle.
    ByHand,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from.as_str(), self.to.as_str(), self.why)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tripped(cause) => cause.fmt(f),
            Self::ProbesFailed(cause) => write!(f, "the probes failed ({cause})"),
            Self::ProbesPassed => f.write_str("the probes passed"),
            Self::WaitOver => f.write_str("the wait is over"),
            Self::OutOfTime(_) => f.write_str("the probes did not decide in time"),
            Self::RampOver => f.write_str("the ramp is over"),
            Self::ByHand => f.write_str("set by hand"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive { failures: 1 } => f.write_str("a failure"),
            Self::Consecutive { failures } => write!(f, "{failures} failures in a row"),
            Self::FailureRate { tally } => {
                write!(f, "{} of {} failed", tally.failures, calls(tally))
            }
            Self::SlowRate { tally } => write!(f, "{} of {} slow", tally.slow, calls(tally)),
        }
    }
}

fn calls(tally: &Tally) -> String {
    match tally.calls() {
        1 => "1 call".to_owned(),
        calls => format!("{calls} calls"),
    }
}

/// Why a breaker refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is open.
    Open,
    /// It is half-open, and all probes are out.
    HalfOpen,
    /// It is recovering, and this call was not in the share that passes.
    Recovering,
    /// It was forced open.
    Forced,
    /// It is isolated.
    Isolated,
}

impl Refusal {
    /// All of them, in the order in which tables print them.
    pub const ALL: [Self; 5] =
        [Self::Open, Self::HalfOpen, Self::Recovering, Self::Forced, Self::Isolated];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Recovering => "recovering",
            Self::Forced => "forced_open",
            Self::Isolated => "isolated",
        }
    }

    /// What a caller is told.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Open => "circuit breaker open",
            Self::HalfOpen => "circuit breaker half-open, all probes are out",
            Self::Recovering => "circuit breaker recovering, not all calls pass yet",
            Self::Forced => "circuit breaker forced open",
            Self::Isolated => "isolated",
        }
    }
}

/// A call that a breaker did not admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// After what time to try again, never early for an open breaker; `None` where only a person
    /// can tell.
    pub retry_after: Option<Duration>,
}

/// What a breaker looks like at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Where it stands.
    pub state: State,
    /// Whether it decides and records but refuses nothing.
    pub shadow: bool,
    /// In shadow mode: whether it would refuse calls now.
    pub would_refuse: bool,
    /// Each condition with what its window holds. An open breaker's is what opened it.
    pub conditions: Vec<Measured>,
    /// How far the probes have come, of a half-open breaker or of one that they opened again.
    pub probes: Option<Progress>,
    /// In how much time a probe may pass, of an open breaker; none where only a person can tell.
    pub until_probe: Option<Duration>,
    /// How often it has opened since it was last closed.
    pub openings: u32,
    /// Calls refused since it came into this state.
    pub refused: u64,
    /// Everything counted since it was made.
    pub totals: Totals,
}

impl Snapshot {
    /// What decides: what the probes became, if there are any, or what the first window holds.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let window = || self.conditions.iter().find_map(Measured::tally);
        self.probes.map(|probes| probes.tally).or_else(window).unwrap_or_default()
    }

    /// The share of failures among the probes, if there are any, or by the first condition that
    /// is about one; `None` below the minimum.
    #[must_use]
    pub fn failure_rate(&self) -> Option<Ratio> {
        let is_about =
            |measured: &&Measured| measured.tally().is_some() && !measured.is_slow_rate();
        match self.probes {
            Some(probes) => probes.failure_rate(),
            None => self.conditions.iter().find(is_about)?.rate(),
        }
    }

    /// The share of slow calls among the probes, if there are any, or by the first condition that
    /// is about one; `None` below the minimum.
    #[must_use]
    pub fn slow_rate(&self) -> Option<Ratio> {
        match self.probes {
            Some(probes) => probes.slow_rate(),
            None => self.conditions.iter().find(|measured| measured.is_slow_rate())?.rate(),
        }
    }
}

/// Everything that a breaker has counted since it was made. Only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls answered with 429 or `RESOURCE_EXHAUSTED`.
    pub soft_failures: u64,
    /// Calls that said nothing about the service.
    pub ignored: u64,
    /// Calls that their callers dropped.
    pub cancelled: u64,
    /// Calls that changed nothing: they ended after the state that had admitted them, or while
    /// nothing was recorded.
    pub void: u64,
    /// Calls refused, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Calls that would have been refused, but for shadow mode.
    pub would_refuse: u64,
}

impl Totals {
    /// Calls refused for this reason.
    #[must_use]
    pub const fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize]
    }

    /// Calls that were admitted and have ended.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.successes
            + self.failures
            + self.soft_failures
            + self.ignored
            + self.cancelled
            + self.void
    }
}
