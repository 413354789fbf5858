//! What a breaker does, by the numbers of the behaviours that each test proves.
//!
//! Every time is in milliseconds after a first instant; nothing here reads a clock but the rig,
//! once, for somewhere to begin.

mod by_hand;
mod change;
mod epochs;
mod incumbents;
mod model;
mod opening;
mod probing;
mod properties;
mod ramp;
mod shadow;
mod sliding;
mod time;
mod waiting;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Machine, Move, Moves, OpenFor, Outcome, Probes, Progress, Refused, Report, Rules, Settings,
    Snapshot, State, Ticket, Transition, Trip, Window,
};
use crate::{Ratio, TimeLimit};

/// A breaker, its clock, and all that it has told its observers.
struct Rig {
    machine: Machine,
    rules: Arc<Rules>,
    start: Instant,
    moves: Moves,
}

/// A call that is admitted and ends: how, and how long it took to its head.
#[derive(Clone, Copy, Debug)]
struct Call(Outcome, Duration);

const S: Call = Call(Outcome::Success, Duration::ZERO);
const F: Call = Call(Outcome::Failure, Duration::ZERO);
const X: Call = Call(Outcome::Ignored, Duration::ZERO);

impl Call {
    const fn taking(self, millis: u64) -> Self {
        Self(self.0, Duration::from_millis(millis))
    }
}

impl Rig {
    fn new(settings: Settings) -> Self {
        Self::seeded(settings, 1)
    }

    fn seeded(settings: Settings, seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
        let start = Instant::now() + Duration::from_secs(24 * 60 * 60);
        let (machine, rules) = Machine::new(settings, seed);
        Self { machine, rules, start, moves: Moves::new() }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn admit(&mut self, millis: u64) -> Result<Ticket, Refused> {
        let now = self.at(millis);
        self.machine.admit(|| Arc::clone(&self.rules), || now, &mut self.moves)
    }

    #[track_caller]
    fn admitted(&mut self, millis: u64) -> Ticket {
        self.admit(millis).expect("admitted")
    }

    /// Admits a call that never ends.
    #[track_caller]
    fn hang(&mut self, millis: u64) {
        let _ = self.admitted(millis);
    }

    /// Why a call is refused, and for how many milliseconds.
    #[track_caller]
    fn refusal(&mut self, millis: u64) -> (&'static str, Option<u64>) {
        let refused = self.admit(millis).expect_err("refused");
        (refused.why.as_str(), refused.retry_after.map(whole_millis))
    }

    fn settle(&mut self, millis: u64, ticket: Ticket, call: Call) {
        let report = Report { to_head: call.1, ..call.0.into() };
        self.report(millis, ticket, report);
    }

    fn report(&mut self, millis: u64, ticket: Ticket, report: Report) {
        let now = self.at(millis);
        let is_slow = self.rules.slower_than().is_some_and(|least| report.to_head > least);
        // As a layer does: the rules are asked only where they have a say.
        let counted = report.outcome == Outcome::Success
            && !is_slow
            && self.machine.count_success(ticket, now);
        if !counted {
            self.machine.settle(&self.rules, ticket, report, now, &mut self.moves);
        }
    }

    /// Calls that are each admitted and settled before the next.
    #[track_caller]
    fn run(&mut self, millis: u64, calls: impl IntoIterator<Item = Call>) {
        for call in calls {
            let ticket = self.admitted(millis);
            self.settle(millis, ticket, call);
        }
    }

    #[track_caller]
    fn run_many(&mut self, millis: u64, number: usize, call: Call) {
        self.run(millis, std::iter::repeat_n(call, number));
    }

    fn state(&mut self, millis: u64) -> State {
        let now = self.at(millis);
        self.machine.state(&self.rules, now, &mut self.moves)
    }

    fn snapshot(&mut self, millis: u64) -> Snapshot {
        let now = self.at(millis);
        self.machine.snapshot(&self.rules, now, &mut self.moves)
    }

    /// The failure rate.
    fn rate(&mut self, millis: u64) -> Option<Ratio> {
        self.snapshot(millis).failure_rate()
    }

    /// Successes, all that count, and failures.
    fn counts(&mut self, millis: u64) -> (u64, u64, u64) {
        let tally = self.snapshot(millis).tally();
        (tally.successes, tally.calls(), tally.failures)
    }

    fn slow(&mut self, millis: u64) -> (u64, Option<Ratio>) {
        let snapshot = self.snapshot(millis);
        let tallies = snapshot.conditions.iter().filter_map(super::Measured::tally);
        let slow = snapshot.probes.map(|probes| probes.tally.slow);
        let slow = slow.or_else(|| tallies.map(|tally| tally.slow).max());
        (slow.unwrap_or_default(), snapshot.slow_rate())
    }

    /// How many were refused since it came into its state.
    fn refused(&mut self, millis: u64) -> u64 {
        self.snapshot(millis).refused
    }

    fn progress(&mut self, millis: u64) -> Progress {
        self.snapshot(millis).probes.expect("probes")
    }

    fn free(&mut self, millis: u64) -> usize {
        self.progress(millis).free
    }

    fn reset(&mut self, millis: u64) {
        let now = self.at(millis);
        self.machine.reset(&self.rules, now, &mut self.moves);
    }

    fn force_open(&mut self, millis: u64) {
        let now = self.at(millis);
        self.machine.force_open(&self.rules, now, &mut self.moves);
    }

    fn force_closed(&mut self, millis: u64) {
        let now = self.at(millis);
        self.machine.force_closed(&self.rules, now, &mut self.moves);
    }

    fn set_shadow(&mut self, shadow: bool, millis: u64) -> bool {
        let now = self.at(millis);
        self.machine.set_shadow(&self.rules, shadow, now, &mut self.moves)
    }

    fn open_until(&mut self, until: u64, millis: u64) {
        let (until, now) = (self.at(until), self.at(millis));
        self.machine.open_until(&self.rules, until, now, &mut self.moves);
    }

    fn change(&mut self, settings: Settings, millis: u64) {
        let now = self.at(millis);
        self.rules = self.machine.change(&self.rules, settings, now, &mut self.moves);
    }

    fn transitions(&self) -> Vec<Transition> {
        let transition = |step: &Move| match step {
            Move::Transition(transition) => Some(*transition),
            Move::WouldOpen(_) => None,
        };
        self.moves.iter().filter_map(transition).collect()
    }

    /// All transitions so far, as they are written into a log.
    fn told(&self) -> Vec<String> {
        self.transitions().iter().map(ToString::to_string).collect()
    }

    /// How often it came into the states open, half-open and closed.
    fn visits(&self) -> [usize; 3] {
        let visits = |state| self.transitions().iter().filter(|one| one.to == state).count();
        [State::Open, State::HalfOpen, State::Closed].map(visits)
    }
}

fn whole_millis(wait: Duration) -> u64 {
    wait.as_millis().try_into().expect("no refusal lasts that long")
}

const fn seconds(seconds: u64) -> TimeLimit {
    TimeLimit::from_secs(seconds)
}

const HALF: Ratio = Ratio::percent(50);

/// The last so many calls, of which at least `minimum`, by this failure rate.
fn last(calls: u16, minimum: u32, rate: Ratio) -> Settings {
    Settings::new(Trip::failure_rate(rate).over(Window::calls(calls)).minimum(minimum))
}

/// What the state machine tests of resilience4j configure.
fn cbsm() -> Settings {
    let window = Window::time(seconds(20));
    Settings::new(Trip::failure_rate(HALF).over(window).minimum(5))
        .or(Trip::slow_rate(HALF, seconds(4)).over(window).minimum(5))
        .open_for(OpenFor::fixed(seconds(5)))
        .probes(Probes::new(4))
}

/// What gobreaker's tests call custom, but for its fixed interval.
fn gobreaker() -> Settings {
    let window = Window::time(seconds(30)).buckets(10);
    Settings::new(Trip::failure_rate(Ratio::percent(60)).over(window).minimum(3))
        .open_for(OpenFor::fixed(seconds(90)))
        .probes(Probes::new(3).fail_fast())
}

/// Half-open at `millis`, without a probe out.
fn half_open(settings: Settings, millis: u64) -> Rig {
    let mut rig = Rig::new(settings);
    rig.open_until(millis, millis);
    let ticket = rig.admitted(millis);
    rig.settle(millis, ticket, X);
    assert_eq!(rig.state(millis), State::HalfOpen);
    rig
}
