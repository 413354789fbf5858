use std::time::Duration;

use super::{
    Cause, Outcome, Probes, Settings, Tally, Trip,
    machine::nanos,
    settings::{Condition, Then, When},
    window::reaches,
};
use crate::Ratio;

/// The probes of one half-open spell.
#[derive(Debug)]
pub(super) struct Probing {
    /// By place: a permit that is taken, used up, or free.
    places: Vec<Place>,
    tally: Tally,
    demand: Demand,
    /// When the spell began.
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    Out {
        /// By when it must have shown something.
        due: u64,
        /// What it has: a response head that is not bad, and whether that was slow.
        head: Option<Slow>,
    },
    Done,
}

type Slow = bool;

/// What the probes must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Demand {
    /// So many failures are too many.
    failures: u64,
    /// So many slow calls are too many.
    slow: u64,
    when: When,
    deadline: u64,
    limit: Option<(u64, Then)>,
}

/// What the probes have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Not enough.
    Undecided,
    Recovered,
    Failed(Cause),
    /// Nothing in the time that there was.
    OutOfTime(Then),
}

impl Demand {
    fn of(settings: &Settings) -> Self {
        let Probes { number, successes, verdict, deadline, limit } = settings.probes;
        let number = u64::from(number.get());
        let too_many = |rate| (1..=number).find(|hits| reaches(*hits, number, rate));
        let failure_rate = |trip: &Trip| match trip.condition {
            Condition::FailureRate(rate) => Some(rate),
            _ => None,
        };
        let slow_rate = |trip: &Trip| match trip.condition {
            Condition::SlowRate { rate, .. } => Some(rate),
            _ => None,
        };
        let failures = match (successes, verdict) {
            (_, When::FirstFailure) => Some(1),
            (Some(successes), _) => Some(number - u64::from(successes.get()) + 1),
            (None, _) => settings.trips().iter().find_map(failure_rate).and_then(too_many),
        };
        let slow = settings.trips().iter().find_map(slow_rate).and_then(too_many);
        Self {
            failures: failures.unwrap_or(1),
            slow: slow.unwrap_or(u64::MAX),
            when: verdict,
            deadline: nanos(deadline.get()),
            limit: limit.map(|(limit, then)| (nanos(limit.get()), then)),
        }
    }
}

impl Probing {
    pub(super) fn begin(settings: &Settings, now: u64) -> Self {
        let places = vec![Place::Free; settings.probes.number.get().into()];
        Self { places, tally: Tally::default(), demand: Demand::of(settings), since: now }
    }

    /// Takes a permit.
    pub(super) fn admit(&mut self, now: u64) -> Option<u16> {
        let free = self.places.iter().position(|place| *place == Place::Free)?;
        let due = now.saturating_add(self.demand.deadline);
        self.places[free] = Place::Out { due, head: None };
        u16::try_from(free).ok()
    }

    /// A response head that is not bad has come: the deadline is met, if it had not passed.
    pub(super) fn head_came(
        &mut self,
        place: u16,
        now: u64,
        is_slow: impl FnOnce(Duration) -> bool,
    ) {
        if let Some(Place::Out { head, due }) = self.places.get_mut(usize::from(place))
            && now < *due
        {
            let admitted = due.saturating_sub(self.demand.deadline);
            *head = Some(is_slow(Duration::from_nanos(now.saturating_sub(admitted))));
        }
    }

    /// Takes an outcome, or the permit of one that says nothing. A probe whose time had run out
    /// has been counted already.
    pub(super) fn settle(&mut self, place: u16, outcome: Outcome, slow: bool) {
        let Some(place @ Place::Out { .. }) = self.places.get_mut(usize::from(place)) else {
            return;
        };
        match outcome {
            Outcome::Success => self.tally.successes += 1,
            Outcome::Failure | Outcome::Soft => self.tally.failures += 1,
            Outcome::Ignored | Outcome::Cancelled => {
                *place = Place::Free;
                return;
            }
        }
        *place = Place::Done;
        self.tally.slow += u64::from(slow);
    }

    /// Judges the probes whose time has run out: one with a good head by that, any other has
    /// failed.
    pub(super) fn expire(&mut self, now: u64) {
        for place in &mut self.places {
            if let Place::Out { due, head } = *place
                && due <= now
            {
                *place = Place::Done;
                match head {
                    Some(slow) => {
                        self.tally.successes += 1;
                        self.tally.slow += u64::from(slow);
                    }
                    None => self.tally.failures += 1,
                }
            }
        }
    }

    /// What all this shows by now.
    pub(super) fn shown(&self, now: u64) -> Shown {
        let Self { tally, demand, .. } = self;
        let left = (self.places.len() as u64).saturating_sub(tally.calls());
        if demand.when != When::AllDone || left == 0 {
            if tally.failures >= demand.failures {
                return Shown::Failed(Cause::FailureRate { tally: *tally });
            }
            if tally.slow >= demand.slow {
                return Shown::Failed(Cause::SlowRate { tally: *tally });
            }
            let certain = tally.failures + left < demand.failures
                && (demand.slow == u64::MAX || tally.slow + left < demand.slow);
            if certain || left == 0 {
                return Shown::Recovered;
            }
        }
        match demand.limit {
            Some((limit, then)) if now.saturating_sub(self.since) >= limit => {
                Shown::OutOfTime(then)
            }
            _ => Shown::Undecided,
        }
    }

    /// When the spell is to end, where it has a limit.
    fn limit_at(&self) -> Option<u64> {
        self.demand.limit.map(|(limit, _)| self.since.saturating_add(limit))
    }

    /// When time alone will next change something.
    pub(super) fn next_change(&self) -> Option<u64> {
        let due = self.places.iter().filter_map(|place| match place {
            Place::Out { due, .. } => Some(*due),
            Place::Free | Place::Done => None,
        });
        due.chain(self.limit_at()).min()
    }

    pub(super) fn progress(&self) -> Progress {
        let free = self.places.iter().filter(|place| **place == Place::Free).count();
        Progress { tally: self.tally, permits: self.places.len(), free }
    }
}

/// How far a half-open breaker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What the probes that have ended became.
    pub tally: Tally,
    /// How many probes there are in all.
    pub permits: usize,
    /// How many of them nobody has taken yet.
    pub free: usize,
}

impl Progress {
    /// The share of probes that failed; `None` until all of them have ended.
    #[must_use]
    pub fn failure_rate(&self) -> Option<Ratio> {
        self.tally.failure_rate().filter(|_| self.tally.calls() >= self.permits as u64)
    }

    /// The share of probes that were slow; `None` until all of them have ended.
    #[must_use]
    pub fn slow_rate(&self) -> Option<Ratio> {
        self.tally.slow_rate().filter(|_| self.tally.calls() >= self.permits as u64)
    }
}
