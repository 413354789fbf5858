use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use super::{OpenFor, Window};
use crate::{Ratio, TimeLimit};

/// When a breaker opens, for how long, and what it asks of a service that has come back.
///
/// ```
/// use buttress_core::{
///     Ratio, TimeLimit,
///     breaker::{OpenFor, Probes, Settings, Trip, Window},
/// };
///
/// // Half of the last 100 calls, or five failures in a row, or most calls slower than 2 s.
/// let settings = Settings::new(Trip::failure_rate(Ratio::percent(50)).over(Window::calls(100)))
///     .or(Trip::consecutive(5))
///     .or(Trip::slow_rate(Ratio::percent(80), TimeLimit::from_secs(2)))
///     .open_for(OpenFor::fixed(TimeLimit::from_secs(10)))
///     .probes(Probes::new(4).fail_fast());
///
/// assert_eq!(settings.trips().len(), 3);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Settings {
    trips: Vec<Trip>,
    pub(super) open_for: OpenFor,
    pub(super) probes: Probes,
    pub(super) ramp: Option<TimeLimit>,
    dropped: Dropped,
    seed: Option<u64>,
}

impl Settings {
    /// The plainest thing that works: so many failures in a row open it, for a minute; then one
    /// probe.
    ///
    /// Five is past what a restart of one replica behind a balancer causes and short of what a
    /// caller endures; a minute is what most things take to come back. It does not see a service
    /// that fails half of its calls reliably, and of one that fails a few all day it makes an
    /// outage by chance: [`Settings::rate`] does neither.
    ///
    /// # Panics
    ///
    /// If `failures` is 0. In a constant that is an error of the compiler.
    pub fn consecutive(failures: u32) -> Self {
        Self::new(Trip::consecutive(failures))
            .open_for(OpenFor::fixed(TimeLimit::from_secs(60)))
            .probes(Probes::new(1))
    }

    /// The default: half of at least 20 calls within 30 seconds open it, for 5 seconds that
    /// double up to 60 with jitter; three probes.
    ///
    /// 20 calls, because the rate of fewer is an accident: at a true failure rate of 10 % one
    /// window of 20 in 10,000,000 shows 50 %. 30 seconds hold enough calls of a quiet service,
    /// and let go of an incident soon after it. 5 seconds give a restart its time without
    /// costing much where a blip was all; doubling spares what is down for longer, and jitter
    /// keeps many instances from probing in step. Three probes, because one may be lucky.
    ///
    /// After steady good traffic it takes half of the window, 15 seconds, until a service that is
    /// down altogether has failed half of it. Where that is too long, have a row of failures open
    /// it as well: `Settings::rate().or(Trip::consecutive(20))`.
    pub fn rate() -> Self {
        let open_for = OpenFor::fixed(TimeLimit::from_secs(5))
            .doubling()
            .up_to(TimeLimit::from_secs(60))
            .jitter(Ratio::percent(20));
        Self::new(Trip::failure_rate(Ratio::percent(50))).open_for(open_for)
    }

    /// Opens on one condition, with the waits and probes of [`Settings::rate`].
    pub fn new(trip: Trip) -> Self {
        let open_for = OpenFor::fixed(TimeLimit::from_secs(5));
        let probes = Probes::new(3);
        let dropped = Dropped::WhenLate;
        Self { trips: vec![trip], open_for, probes, ramp: None, dropped, seed: None }
    }

    /// Opens on another condition too: any of them is enough.
    ///
    /// # Panics
    ///
    /// If there would be more than [`Settings::MOST_TRIPS`].
    pub fn or(mut self, trip: Trip) -> Self {
        assert!(
            self.trips.len() < Self::MOST_TRIPS,
            "a breaker has {} conditions at the most; fold some into one",
            Self::MOST_TRIPS
        );
        self.trips.push(trip);
        self
    }

    /// As many conditions as fit, with their counts, into two cache lines of each processor.
    pub const MOST_TRIPS: usize = 4;

    /// How long it stays open.
    pub fn open_for(mut self, open_for: OpenFor) -> Self {
        self.open_for = open_for;
        self
    }

    /// What is asked of a service that may have come back.
    pub fn probes(mut self, probes: Probes) -> Self {
        self.probes = probes;
        self
    }

    /// Lets the share of admitted calls grow from nothing to all of them over this time, once the
    /// probes have passed. Without it all traffic comes back at once.
    pub fn ramp(mut self, over: TimeLimit) -> Self {
        self.ramp = Some(over);
        self
    }

    /// What a call counts as that is dropped before its response.
    pub fn dropped(mut self, dropped: Dropped) -> Self {
        self.dropped = dropped;
        self
    }

    /// Decides all that is random about a breaker when it is made: the jitter of its waits, and
    /// who passes on a ramp. Without a seed each draws its own, so that many do not probe in step;
    /// with one a simulation of it runs the same each time.
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What it opens on.
    pub fn trips(&self) -> &[Trip] {
        &self.trips
    }

    /// Whether any condition takes a call of this duration for slow.
    pub(super) fn is_slow(&self, to_head: Duration) -> bool {
        self.trips.iter().any(|trip| trip.is_slow(to_head))
    }

    /// What a dropped call counts as.
    #[must_use]
    pub fn on_drop(&self) -> Dropped {
        self.dropped
    }

    /// What decides all that is random about it.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }
}

impl Default for Settings {
    /// [`Settings::rate`].
    fn default() -> Self {
        Self::rate()
    }
}

/// A condition on which a breaker opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Trip {
    pub(super) condition: Condition,
    pub(super) window: Window,
    pub(super) minimum: NonZeroU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Consecutive(NonZeroU32),
    FailureRate(Ratio),
    SlowRate { rate: Ratio, slower_than: TimeLimit },
}

impl Trip {
    /// So many failures in a row. A 429 or `RESOURCE_EXHAUSTED` neither adds to the row nor ends
    /// it: what answers so is not down.
    ///
    /// # Panics
    ///
    /// If `failures` is 0.
    pub const fn consecutive(failures: u32) -> Self {
        let failures = NonZeroU32::new(failures).expect("no failures in a row are no condition");
        Self::on(Condition::Consecutive(failures))
    }

    /// This share of the calls in the window failed, or more.
    ///
    /// # Panics
    ///
    /// If `rate` is 0, which every window reaches.
    pub const fn failure_rate(rate: Ratio) -> Self {
        assert!(rate.parts_per_billion() > 0, "a failure rate of 0 is reached without a failure");
        Self::on(Condition::FailureRate(rate))
    }

    /// This share of the calls in the window, or more, took longer than `slower_than` to their
    /// response head. A call of exactly that long is not slow.
    ///
    /// # Panics
    ///
    /// If `rate` is 0, which every window reaches.
    pub const fn slow_rate(rate: Ratio, slower_than: TimeLimit) -> Self {
        assert!(rate.parts_per_billion() > 0, "a slow rate of 0 is reached without a slow call");
        Self::on(Condition::SlowRate { rate, slower_than })
    }

    const fn on(condition: Condition) -> Self {
        const MINIMUM: NonZeroU32 = NonZeroU32::new(20).expect("not 0");
        Self { condition, window: Window::time(TimeLimit::from_secs(30)), minimum: MINIMUM }
    }

    /// The calls of which the share is taken: those of the last 30 seconds unless told otherwise.
    /// Failures in a row have no window.
    pub const fn over(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// How many calls must be in the window before their share means anything: 20 unless told
    /// otherwise, and never more than a [`Window::calls`] holds.
    ///
    /// # Panics
    ///
    /// If `calls` is 0.
    pub const fn minimum(mut self, calls: u32) -> Self {
        self.minimum = NonZeroU32::new(calls).expect("the share of no calls at all means nothing");
        self
    }
}

/// What is asked of a service that may have come back: so many calls pass while the breaker is
/// half-open, and what becomes of them decides.
///
/// They are judged by the rates at which the breaker opens, over the probes, as soon as the
/// verdict is certain: with 4 probes and 50 % it opens at the second failure and closes at the
/// third success. Without a failure rate among the conditions, any failure opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Probes {
    pub(super) number: NonZeroU16,
    pub(super) successes: Option<NonZeroU16>,
    pub(super) verdict: When,
    pub(super) deadline: TimeLimit,
    pub(super) limit: Option<(TimeLimit, Then)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Certain,
    AllDone,
    FirstFailure,
}

/// Where a half-open breaker goes that has run out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It opens again.
    Open,
    /// It closes.
    Close,
}

impl Probes {
    /// So many probes, each of which has 10 seconds.
    ///
    /// # Panics
    ///
    /// If `number` is 0: a breaker that admits no probe never closes.
    pub const fn new(number: u16) -> Self {
        Self {
            number: NonZeroU16::new(number).expect("without a probe a breaker never closes"),
            successes: None,
            verdict: When::Certain,
            deadline: TimeLimit::from_secs(10),
            limit: None,
        }
    }

    /// How many of them must succeed, whatever the rates are at which the breaker opens.
    ///
    /// # Panics
    ///
    /// If `successes` is 0, or more than there are probes.
    pub const fn successes(mut self, successes: u16) -> Self {
        assert!(successes <= self.number.get(), "more successes than probes cannot be");
        let successes = NonZeroU16::new(successes).expect("no successes at all prove nothing");
        self.successes = Some(successes);
        self
    }

    /// Judges only once all of them have ended.
    pub const fn after_all(mut self) -> Self {
        self.verdict = When::AllDone;
        self
    }

    /// Opens at the first failure, whatever the rates.
    pub const fn fail_fast(mut self) -> Self {
        self.verdict = When::FirstFailure;
        self
    }

    /// How long a probe may take before it counts as failed, should it hang. A good response head
    /// in this time is enough: a stream may go on for longer.
    pub const fn deadline(mut self, each: TimeLimit) -> Self {
        self.deadline = each;
        self
    }

    /// How long the breaker stays half-open at the most, with or without traffic. Without this a
    /// breaker without traffic waits for its probes.
    pub const fn limit(mut self, limit: TimeLimit, then: Then) -> Self {
        self.limit = Some((limit, then));
        self
    }
}

/// What a call counts as that its caller drops before there is a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// As nothing, however late it was.
    Ignored,
    /// As nothing, unless it had run past its deadline or past the duration of a slow call: then
    /// as a failure. The default: who leaves early says nothing about the service, who gives up
    /// does.
    WhenLate,
    /// As a failure, always: for callers that only ever leave because they gave up.
    Failure,
}
