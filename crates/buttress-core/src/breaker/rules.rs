use std::{num::NonZeroU32, time::Duration};

use super::{
    Settings, Tally, Trip,
    cells::{Cell, Cells},
    settings::Condition,
    window::{CallWindow, Level, Seen, Span, Streak, TimeWindow},
};
use crate::{
    TimeLimit,
    atomic::{AtomicBool, Ordering},
};

/// What became of a call, as a breaker counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The service did its work.
    Success,
    /// It did not.
    Failure,
    /// It asked for less traffic: 429 or `RESOURCE_EXHAUSTED`. Counts as a failure in a rate and
    /// for a probe, and not for failures in a row.
    Soft,
    /// Says nothing about the service.
    Ignored,
    /// Dropped by its caller. Counts as nothing.
    Cancelled,
}

impl Outcome {
    pub(super) const fn is_failure(self) -> bool {
        matches!(self, Self::Failure | Self::Soft)
    }

    /// Whether any share counts it.
    const fn counts(self) -> bool {
        self.is_failure() || matches!(self, Self::Success)
    }

    pub(super) const fn cell(self) -> Cell {
        match self {
            Self::Success => Cell::Success,
            Self::Failure => Cell::Failure,
            Self::Soft => Cell::Soft,
            Self::Ignored => Cell::Ignored,
            Self::Cancelled => Cell::Cancelled,
        }
    }
}

/// The conditions of a breaker, each with its window. Made anew when the settings change.
#[derive(Debug)]
pub struct Rules {
    armed: Box<[Armed]>,
    settings: Settings,
    /// What the shortest of the slow calls lasts.
    slower_than: Option<Duration>,
    /// How often the settings had changed before.
    generation: u64,
}

#[derive(Debug)]
struct Armed {
    trip: Trip,
    window: Held,
    /// In shadow mode: reached, and announced.
    over: AtomicBool,
}

#[derive(Debug)]
enum Held {
    Streak(Streak),
    Calls(CallWindow),
    Time(TimeWindow),
}

/// A condition that has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// So many failures in a row.
    Consecutive {
        /// How many.
        failures: u32,
    },
    /// The share of failures.
    FailureRate {
        /// What the window holds.
        tally: Tally,
    },
    /// The share of slow calls.
    SlowRate {
        /// What the window holds.
        tally: Tally,
    },
}

impl Rules {
    pub(super) fn new(settings: Settings, cells: &Cells, nanos: u64) -> Self {
        Self::build(settings, None, 0, cells, nanos)
    }

    /// Other settings over what has been seen so far: a window of the kind that stood at the same
    /// place before, and that is about the same, keeps what fits into it.
    pub(super) fn changed(
        &self,
        settings: Settings,
        generation: u64,
        cells: &Cells,
        nanos: u64,
    ) -> Self {
        Self::build(settings, Some(self), generation, cells, nanos)
    }

    fn build(
        settings: Settings,
        old: Option<&Self>,
        generation: u64,
        cells: &Cells,
        nanos: u64,
    ) -> Self {
        let arm = |(index, trip): (usize, &Trip)| {
            let old = old.and_then(|rules| rules.armed.get(index));
            // What failed is not what was slow.
            let old =
                old.filter(|old| old.trip.slower_than().is_some() == trip.slower_than().is_some());
            let window = Held::of(trip, index, old.map(|old| &old.window), cells, nanos);
            Armed { trip: *trip, window, over: AtomicBool::new(false) }
        };
        let armed = settings.trips().iter().enumerate().map(arm).collect();
        let slower_than = settings.trips().iter().filter_map(Trip::slower_than).min();
        Self { armed, settings, slower_than: slower_than.map(TimeLimit::get), generation }
    }

    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether any condition takes a call for slow whose head took so long.
    #[inline]
    pub(super) fn is_slow(&self, to_head: Duration) -> bool {
        self.slower_than.is_some_and(|least| to_head > least)
    }

    /// Until when, in nanoseconds, no success but a slow one changes more than the count of
    /// successes; `None` if the next may.
    #[inline]
    pub(super) fn calm_until(&self) -> Option<u64> {
        let mut until = u64::MAX;
        for armed in &self.armed {
            // A streak ends with a success, and a window of calls holds each of them.
            let Held::Time(window) = &armed.window else { return None };
            until = until.min(window.calm_until()?);
        }
        Some(until)
    }

    /// The settings that it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the shortest of the slow calls lasts; `None` if no condition asks.
    #[must_use]
    #[inline]
    pub fn slower_than(&self) -> Option<Duration> {
        self.slower_than
    }

    /// Counts an outcome; returns the first condition that it reaches.
    #[inline]
    pub(super) fn record(
        &self,
        cells: &Cells,
        outcome: Outcome,
        to_head: Duration,
        nanos: u64,
    ) -> Option<Cause> {
        self.count(cells, outcome, to_head, nanos);
        if !outcome.counts() {
            return None;
        }
        let mut first = None;
        for (index, armed) in self.armed.iter().enumerate() {
            // Every streak and every ring takes part in every call.
            let level = armed.level(index, cells, outcome, to_head, false);
            if level == Level::Reached && first.is_none() {
                first = Some(armed.cause(cells, nanos));
            }
        }
        first
    }

    /// As [`record`](Self::record) in shadow mode: calls `crossed` for each condition that is
    /// reached now and was not before. Says whether any is.
    pub(super) fn record_shadow(
        &self,
        cells: &Cells,
        outcome: Outcome,
        to_head: Duration,
        nanos: u64,
        mut crossed: impl FnMut(Cause),
    ) -> bool {
        self.count(cells, outcome, to_head, nanos);
        if outcome.counts() {
            for (index, armed) in self.armed.iter().enumerate() {
                match armed.level(index, cells, outcome, to_head, true) {
                    Level::Unchanged => {}
                    Level::Below => armed.over.store(false, Ordering::Relaxed),
                    Level::Reached => {
                        if !armed.over.swap(true, Ordering::Relaxed) {
                            crossed(armed.cause(cells, nanos));
                        }
                    }
                }
            }
        }
        self.armed.iter().any(|armed| armed.over.load(Ordering::Relaxed))
    }

    #[inline]
    fn count(&self, cells: &Cells, outcome: Outcome, to_head: Duration, nanos: u64) {
        // First what is too old goes, then comes what is new.
        for armed in &self.armed {
            if let Held::Time(window) = &armed.window {
                window.advance(cells, nanos);
            }
        }
        cells.add(outcome.cell());
        if outcome.counts() && self.is_slow(to_head) {
            for (index, armed) in self.armed.iter().enumerate() {
                if armed.trip.is_slow(to_head) {
                    cells.add_slow(index);
                }
            }
        }
    }

    /// What the window of each condition holds.
    pub(super) fn tallies(&self, cells: &Cells, nanos: u64) -> Vec<Measured> {
        let measure = |armed: &Armed| armed.measured(cells, nanos);
        self.armed.iter().map(measure).collect()
    }

    pub(super) fn clear(&self, cells: &Cells, nanos: u64) {
        for armed in &self.armed {
            armed.over.store(false, Ordering::Relaxed);
            match &armed.window {
                Held::Streak(streak) => streak.clear(),
                Held::Calls(window) => window.clear(),
                Held::Time(window) => window.clear(cells, nanos),
            }
        }
    }

    /// Whether the windows are empty, so that to forget them loses nothing.
    pub(super) fn is_idle(&self, cells: &Cells, nanos: u64) -> bool {
        self.armed.iter().all(|armed| match armed.measured(cells, nanos).holds {
            Holds::Streak(length) => length == 0,
            Holds::Window(tally) => tally.calls() == 0,
        })
    }
}

impl Held {
    fn of(trip: &Trip, index: usize, old: Option<&Self>, cells: &Cells, nanos: u64) -> Self {
        if let Condition::Consecutive(_) = trip.condition {
            return Self::Streak(Streak::of(match old {
                Some(Self::Streak(streak)) => streak.length(),
                _ => 0,
            }));
        }
        let slow = trip.slower_than().is_some().then_some(index);
        match (trip.window.0, old) {
            (Span::Calls(calls), Some(Self::Calls(old))) => {
                Self::Calls(CallWindow::resized(old, calls))
            }
            (Span::Calls(calls), _) => Self::Calls(CallWindow::new(calls)),
            (Span::Time { length, buckets }, Some(Self::Time(old))) => {
                Self::Time(TimeWindow::resized(old, length, buckets, cells, nanos))
            }
            (Span::Time { length, buckets }, _) => {
                Self::Time(TimeWindow::new(length, buckets, slow, cells, nanos))
            }
        }
    }
}

impl Trip {
    fn slower_than(&self) -> Option<TimeLimit> {
        match self.condition {
            Condition::SlowRate { slower_than, .. } => Some(slower_than),
            _ => None,
        }
    }

    /// Longer than the limit: a call of exactly that long is in time.
    #[inline]
    pub(super) fn is_slow(&self, to_head: Duration) -> bool {
        self.slower_than().is_some_and(|limit| to_head > limit.get())
    }
}

impl Armed {
    #[inline]
    fn level(
        &self,
        index: usize,
        cells: &Cells,
        outcome: Outcome,
        to_head: Duration,
        always: bool,
    ) -> Level {
        debug_assert!(index < Settings::MOST_TRIPS);
        let minimum = u64::from(self.trip.minimum.get());
        let failed = outcome.is_failure();
        let (rate, hit) = match self.trip.condition {
            Condition::Consecutive(most) => {
                let Held::Streak(streak) = &self.window else { unreachable!("made so") };
                return streak.record(outcome, most);
            }
            Condition::FailureRate(rate) => (rate, failed),
            Condition::SlowRate { rate, .. } => (rate, self.trip.is_slow(to_head)),
        };
        match &self.window {
            Held::Calls(window) => window.record(Seen { failed, hit }, rate, minimum, always),
            Held::Time(window) => window.level(cells, hit, rate, minimum, always),
            Held::Streak(_) => unreachable!("a rate has a window"),
        }
    }

    #[cold]
    fn cause(&self, cells: &Cells, nanos: u64) -> Cause {
        match (self.trip.condition, self.measured(cells, nanos).holds) {
            (_, Holds::Streak(failures)) => Cause::Consecutive { failures },
            (Condition::SlowRate { .. }, Holds::Window(tally)) => Cause::SlowRate { tally },
            (_, Holds::Window(tally)) => Cause::FailureRate { tally },
        }
    }

    fn measured(&self, cells: &Cells, nanos: u64) -> Measured {
        let is_slow = self.trip.slower_than().is_some();
        let (holds, most) = match &self.window {
            Held::Streak(streak) => (Holds::Streak(streak.length()), 0),
            Held::Calls(window) => (Holds::Window(window.tally(is_slow)), window.len() as u64),
            Held::Time(window) => (Holds::Window(window.tally(cells, nanos)), u64::MAX),
        };
        let minimum = u64::from(self.trip.minimum.get()).min(most);
        Measured { trip: self.trip, holds, minimum }
    }
}

/// A condition, and what its window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    trip: Trip,
    holds: Holds,
    minimum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Streak(u32),
    Window(Tally),
}

impl Measured {
    /// The condition.
    pub const fn trip(&self) -> Trip {
        self.trip
    }

    /// What the window holds; `None` for failures in a row.
    #[must_use]
    pub const fn tally(&self) -> Option<Tally> {
        match self.holds {
            Holds::Window(tally) => Some(tally),
            Holds::Streak(_) => None,
        }
    }

    /// How many failures stand in a row; `None` for a share of a window.
    #[must_use]
    pub const fn streak(&self) -> Option<u32> {
        match self.holds {
            Holds::Streak(length) => Some(length),
            Holds::Window(_) => None,
        }
    }

    /// The share that the condition is about; `None` while there are fewer calls than the
    /// minimum, and for failures in a row.
    #[must_use]
    pub fn rate(&self) -> Option<crate::Ratio> {
        let tally = self.tally().filter(|tally| tally.calls() >= self.minimum)?;
        match self.trip.condition {
            Condition::SlowRate { .. } => tally.slow_rate(),
            _ => tally.failure_rate(),
        }
    }

    /// Whether the condition is about slow calls.
    #[must_use]
    pub const fn is_slow_rate(&self) -> bool {
        matches!(self.trip.condition, Condition::SlowRate { .. })
    }

    /// How many failures in a row the condition is about; `None` for a share.
    #[must_use]
    pub const fn most_in_a_row(&self) -> Option<NonZeroU32> {
        match self.trip.condition {
            Condition::Consecutive(most) => Some(most),
            _ => None,
        }
    }
}
