use std::{error::Error, ops::Range, time::Duration};

use buttress_core::{
    Kind, Ratio, Rejection, TimeLimit,
    breaker::{State, Transition},
};

use super::{Picture, Seen};

/// What a caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// What it wanted.
    Good,
    /// A refusal of ours.
    Refused(Kind),
    /// A failure.
    Failed,
    /// Nothing, for as long as it was willing to wait.
    GaveUp,
}

impl Answer {
    /// What an error is: a refusal if there is a [`Rejection`] in it, and a failure otherwise.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        Rejection::find(error).map_or(Self::Failed, |rejection| Self::Refused(rejection.kind()))
    }
}

/// One call, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Called {
    /// When it was to be made, counted from the start.
    pub due: Duration,
    /// How long after that its caller had an answer, or gave up.
    pub took: Duration,
    /// What the caller got.
    pub answer: Answer,
}

/// What happened in a [`Simulation`](super::Simulation). Two runs of one seed have equal ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    lasting: Duration,
    calls: Vec<Called>,
    reached: Vec<Duration>,
    most_at_once: u64,
    events: Vec<Seen>,
}

impl Report {
    pub(super) fn new(
        lasting: Duration,
        calls: Vec<Called>,
        reached: Vec<Duration>,
        most_at_once: u64,
        events: Vec<Seen>,
    ) -> Self {
        Self { lasting, calls, reached, most_at_once, events }
    }

    /// Every call, by when it was due.
    #[must_use]
    pub fn calls(&self) -> &[Called] {
        &self.calls
    }

    /// How many calls got this answer.
    #[must_use]
    pub fn count(&self, answer: Answer) -> usize {
        self.calls.iter().filter(|call| call.answer == answer).count()
    }

    /// How many calls were refused, for whatever reason.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call.answer, Answer::Refused(_))).count()
    }

    /// The share of callers who had an answer within this time, good or bad, rounded down. None
    /// without a call.
    #[must_use]
    pub fn answered_within(&self, patience: TimeLimit) -> Option<Ratio> {
        self.share(|call| call.answer != Answer::GaveUp && call.took <= patience.get())
    }

    /// The share of callers who had a good answer within this time, rounded down. None without a
    /// call.
    #[must_use]
    pub fn good_within(&self, patience: TimeLimit) -> Option<Ratio> {
        self.share(|call| call.answer == Answer::Good && call.took <= patience.get())
    }

    fn share(&self, of: impl Fn(&Called) -> bool) -> Option<Ratio> {
        let (part, whole) = (self.calls.iter().filter(|call| of(call)).count(), self.calls.len());
        let parts = (part as u128 * 1_000_000_000).checked_div(whole as u128)?;
        Ratio::per_billion(u32::try_from(parts).ok()?)
    }

    /// The time within which this share of all callers had their answer or gave up, from when the
    /// call was due: an exact quantile, of the nearest rank. None without a call.
    #[must_use]
    pub fn latency(&self, quantile: Ratio) -> Option<Duration> {
        let mut took: Vec<_> = self.calls.iter().map(|call| call.took).collect();
        took.sort_unstable();
        let last = u64::try_from(took.len()).ok()?.checked_sub(1)?;
        // Ranks count from 1 and are rounded up: what is left to the whole is rounded down.
        let beyond = quantile.complement().of(last + 1);
        took.get(usize::try_from(last - beyond.min(last)).ok()?).copied()
    }

    /// The instants at which calls reached the dependency, counted from the start.
    #[must_use]
    pub fn reached(&self) -> &[Duration] {
        &self.reached
    }

    /// How many calls reached the dependency from one instant up to another.
    #[must_use]
    pub fn reached_during(&self, when: Range<Duration>) -> usize {
        self.reached.iter().filter(|at| when.contains(at)).count()
    }

    /// How many calls reached the dependency in each second of the run.
    #[must_use]
    pub fn reached_per_second(&self) -> Vec<usize> {
        self.reached_per(Duration::from_secs(1))
    }

    /// How many calls reached the dependency in each of these stretches of the run.
    pub(super) fn reached_per(&self, stretch: Duration) -> Vec<usize> {
        let end = index(self.lasting.saturating_sub(Duration::from_nanos(1)), stretch);
        // What was still to be done when the last call had been made.
        let last = self.reached.last().map_or(end, |last| index(*last, stretch).max(end));
        let mut counts = vec![0; last + 1];
        for at in &self.reached {
            counts[index(*at, stretch)] += 1;
        }
        counts
    }

    /// How many calls the dependency had under way at once, at the most.
    #[must_use]
    pub fn most_at_once(&self) -> u64 {
        self.most_at_once
    }

    /// What the layers said of themselves, as it came.
    #[must_use]
    pub fn events(&self) -> &[Seen] {
        &self.events
    }

    /// What breakers did, and when.
    pub fn transitions(&self) -> impl Iterator<Item = (Duration, Transition)> {
        self.events.iter().filter_map(|seen| Some((seen.at, seen.transition()?)))
    }

    /// When a breaker first came into this state at or after an instant.
    #[must_use]
    pub fn first(&self, state: State, since: Duration) -> Option<Duration> {
        let mut after = self.transitions().filter(|(at, _)| *at >= since);
        after.find(|(_, transition)| transition.to == state).map(|(at, _)| at)
    }

    /// The run to look at: what reached the dependency, and where the breaker stood, with one
    /// character for so much time.
    #[must_use]
    pub fn picture(&self, column: TimeLimit) -> Picture {
        Picture::new(self, column.get())
    }
}

/// In which stretch an instant lies.
pub(super) fn index(at: Duration, stretch: Duration) -> usize {
    usize::try_from(at.as_nanos() / stretch.as_nanos()).unwrap_or(usize::MAX)
}
