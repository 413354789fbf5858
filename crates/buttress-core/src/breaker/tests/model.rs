//! A breaker as its description reads: it keeps every call, and looks through all of them again
//! for each answer.

use super::*;
use crate::{
    Random,
    breaker::{Cause, Opening, Refusal, Tally, Then, Totals, Why},
};

/// What the settings of both are made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) trips: Vec<Condition>,
    pub(super) probes: u16,
    pub(super) verdict: Verdict,
    pub(super) deadline: u64,
    pub(super) limit: Option<(u64, Then)>,
    pub(super) open: u64,
    pub(super) ramp: Option<u64>,
    pub(super) seed: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    Row(u32),
    Failed { percent: u32, span: Span, minimum: u32 },
    Slow { percent: u32, span: Span, minimum: u32, limit: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Span {
    Calls(u16),
    Time { millis: u64, buckets: u16 },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Certain,
    AfterAll,
    FailFast,
    Successes(u16),
}

impl Plan {
    pub(super) fn settings(&self) -> Settings {
        let mut trips = self.trips.iter().map(Condition::trip);
        let mut settings = Settings::new(trips.next().expect("a condition"));
        settings = trips.fold(settings, Settings::or);
        let mut probes = Probes::new(self.probes).deadline(TimeLimit::from_millis(self.deadline));
        probes = match self.verdict {
            Verdict::Certain => probes,
            Verdict::AfterAll => probes.after_all(),
            Verdict::FailFast => probes.fail_fast(),
            Verdict::Successes(number) => probes.successes(number),
        };
        if let Some((limit, then)) = self.limit {
            probes = probes.limit(TimeLimit::from_millis(limit), then);
        }
        if let Some(ramp) = self.ramp {
            settings = settings.ramp(TimeLimit::from_millis(ramp));
        }
        settings.probes(probes).open_for(self.open_for())
    }

    fn open_for(&self) -> OpenFor {
        let open_for = OpenFor::fixed(TimeLimit::from_millis(self.open));
        open_for.doubling().up_to(TimeLimit::from_millis(self.open * 5)).jitter(Ratio::percent(20))
    }

    /// Whether so many failed and slow ones of all probes open it.
    fn is_bad(&self, failed: u64, slow: u64) -> Option<bool> {
        let all = u64::from(self.probes);
        let rate = |is: fn(&Condition) -> Option<u32>| self.trips.iter().find_map(is);
        let failures = match (self.verdict, rate(Condition::failed_percent)) {
            (Verdict::Successes(number), _) => all - failed < u64::from(number),
            (Verdict::Certain | Verdict::AfterAll, Some(percent)) => {
                failed * 100 >= u64::from(percent) * all
            }
            _ => failed >= 1,
        };
        let slow_rate = rate(Condition::slow_percent);
        let slow = slow_rate.is_some_and(|percent| slow * 100 >= u64::from(percent) * all);
        if failures { Some(true) } else { slow.then_some(false) }
    }
}

impl Condition {
    fn trip(&self) -> Trip {
        let window = |span: Span| match span {
            Span::Calls(calls) => Window::calls(calls),
            Span::Time { millis, buckets } => {
                Window::time(TimeLimit::from_millis(millis)).buckets(buckets)
            }
        };
        match *self {
            Self::Row(failures) => Trip::consecutive(failures),
            Self::Failed { percent, span, minimum } => {
                Trip::failure_rate(Ratio::percent(percent)).over(window(span)).minimum(minimum)
            }
            Self::Slow { percent, span, minimum, limit } => {
                let limit = TimeLimit::from_millis(limit);
                let trip = Trip::slow_rate(Ratio::percent(percent), limit);
                trip.over(window(span)).minimum(minimum)
            }
        }
    }

    fn failed_percent(&self) -> Option<u32> {
        if let Self::Failed { percent, .. } = self { Some(*percent) } else { None }
    }

    fn slow_percent(&self) -> Option<u32> {
        if let Self::Slow { percent, .. } = self { Some(*percent) } else { None }
    }

    fn is_slow(&self, took: u64) -> bool {
        matches!(self, Self::Slow { limit, .. } if took > *limit)
    }
}

/// A call that has ended, and was recorded.
#[derive(Clone, Copy, Debug)]
struct Ended {
    at: u64,
    outcome: Outcome,
    took: u64,
}

/// A call that was admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    epoch: u64,
    /// Which of the probes of its spell.
    probe: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Probe {
    Out { since: u64, head: Option<u64> },
    Ended { failed: bool, slow: bool },
    GivenBack,
}

#[derive(Debug)]
pub(super) struct Model {
    plan: Plan,
    pub(super) state: State,
    epoch: u64,
    /// Of the state that ends by itself.
    since: u64,
    until: u64,
    pub(super) shadow: bool,
    over: Vec<bool>,
    pub(super) openings: u32,
    pub(super) refused: u64,
    probes: Vec<Probe>,
    probed: bool,
    drawn: u64,
    /// All that counts since the windows were last cleared.
    log: Vec<Ended>,
    pub(super) totals: Totals,
    pub(super) moves: Moves,
}

impl Model {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            over: vec![false; plan.trips.len()],
            plan,
            state: State::Closed,
            epoch: 0,
            since: 0,
            until: 0,
            shadow: false,
            openings: 0,
            refused: 0,
            probes: Vec::new(),
            probed: false,
            drawn: 0,
            log: Vec::new(),
            totals: Totals::default(),
            moves: Moves::new(),
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        Random::at(self.plan.seed, self.drawn - 1)
    }

    fn go(&mut self, to: State, why: Why) {
        let number = 1 + self.moves.iter().filter(|m| matches!(m, Move::Transition(_))).count();
        let number = number as u64;
        self.moves.push(Move::Transition(Transition { from: self.state, to, why, number }));
        self.epoch += u64::from(why != Why::RampOver);
        self.state = to;
        self.refused = 0;
    }

    fn clear(&mut self) {
        self.log.clear();
        self.over.fill(false);
    }

    /// What a window holds, failures in a row, and whether the condition is reached.
    pub(super) fn holds(&self, index: usize, now: u64) -> (Tally, u32, bool) {
        let condition = self.plan.trips[index];
        let counts = |one: &&Ended| {
            matches!(one.outcome, Outcome::Success | Outcome::Failure | Outcome::Soft)
        };
        let (percent, span, minimum) = match condition {
            Condition::Row(most) => {
                let hard = self
                    .log
                    .iter()
                    .rev()
                    .filter(|one| matches!(one.outcome, Outcome::Success | Outcome::Failure));
                let row = hard.take_while(|one| one.outcome == Outcome::Failure).count();
                let row = u32::try_from(row).unwrap();
                return (Tally::default(), row, row >= most);
            }
            Condition::Failed { percent, span, minimum }
            | Condition::Slow { percent, span, minimum, .. } => (percent, span, minimum),
        };
        let (inside, minimum): (Vec<Ended>, u32) = match span {
            Span::Calls(calls) => {
                let last = self.log.iter().rev().filter(counts).take(calls.into());
                (last.copied().collect(), minimum.min(calls.into()))
            }
            Span::Time { millis, buckets } => {
                let width = (millis * 1_000_000).div_ceil(buckets.into());
                let bucket = |at: u64| at * 1_000_000 / width;
                let young = |one: &&Ended| bucket(one.at) + u64::from(buckets) > bucket(now);
                (self.log.iter().filter(young).copied().collect(), minimum)
            }
        };
        let mut tally = Tally::default();
        for one in &inside {
            tally.successes += u64::from(one.outcome == Outcome::Success);
            tally.failures += u64::from(one.outcome.is_failure());
            tally.ignored += u64::from(one.outcome == Outcome::Ignored);
            tally.slow += u64::from(counts(&one) && condition.is_slow(one.took));
        }
        let slow = matches!(condition, Condition::Slow { .. });
        let hits = if slow { tally.slow } else { tally.failures };
        let reached =
            tally.calls() >= u64::from(minimum) && hits * 100 >= u64::from(percent) * tally.calls();
        (tally, 0, reached)
    }

    fn cause(&self, index: usize, now: u64) -> Cause {
        let (tally, failures, _) = self.holds(index, now);
        match self.plan.trips[index] {
            Condition::Row(_) => Cause::Consecutive { failures },
            Condition::Failed { .. } => Cause::FailureRate { tally },
            Condition::Slow { .. } => Cause::SlowRate { tally },
        }
    }

    /// What the probes have become, and how many permits nobody holds.
    pub(super) fn progress(&self) -> Option<(Tally, usize)> {
        let shows = self.state == State::HalfOpen || (self.state == State::Open && self.probed);
        shows.then(|| self.probe_tally())
    }

    fn probe_tally(&self) -> (Tally, usize) {
        let mut tally = Tally::default();
        let mut taken = 0;
        for probe in &self.probes {
            taken += usize::from(*probe != Probe::GivenBack);
            if let Probe::Ended { failed, slow } = *probe {
                tally.failures += u64::from(failed);
                tally.successes += u64::from(!failed);
                tally.slow += u64::from(slow);
            }
        }
        (tally, usize::from(self.plan.probes) - taken)
    }

    /// By trying out everything that the probes to come may become.
    fn judge(&mut self, at: u64) {
        let (tally, _) = self.probe_tally();
        let left = u64::from(self.plan.probes) - tally.calls();
        let mut verdicts = (0..=left).flat_map(|failed| {
            let plan = &self.plan;
            (0..=left).map(move |slow| plan.is_bad(tally.failures + failed, tally.slow + slow))
        });
        let is_certain = if let Verdict::AfterAll = self.plan.verdict {
            left == 0
        } else {
            let first = verdicts.next().unwrap().is_some();
            verdicts.all(|verdict| verdict.is_some() == first)
        };
        if is_certain {
            match self.plan.is_bad(tally.failures, tally.slow) {
                Some(true) => self.open(Why::ProbesFailed(Cause::FailureRate { tally }), at),
                Some(false) => self.open(Why::ProbesFailed(Cause::SlowRate { tally }), at),
                None => self.close(Why::ProbesPassed, at),
            }
            return;
        }
        if let Some((limit, then)) = self.plan.limit
            && at >= self.since + limit
        {
            match then {
                Then::Open => self.open(Why::OutOfTime(then), at),
                Then::Close => self.close(Why::OutOfTime(then), at),
            }
        }
    }

    fn open(&mut self, why: Why, at: u64) {
        self.openings += 1;
        let draw = self.draw();
        let wait = self.plan.open_for().wait(&Opening::number(self.openings), draw);
        // In nanoseconds from here: jitter is finer than a millisecond.
        self.until = at * 1_000_000 + u64::try_from(wait.as_nanos()).unwrap();
        self.probed = !matches!(why, Why::Tripped(_));
        self.go(State::Open, why);
    }

    fn close(&mut self, why: Why, at: u64) {
        self.clear();
        if let Some(ramp) = self.plan.ramp {
            (self.since, self.until) = (at, (at + ramp) * 1_000_000);
            self.go(State::Recovering, why);
        } else {
            self.openings = 0;
            self.go(State::Closed, why);
        }
    }

    fn next_change(&self) -> Option<u64> {
        let due = self.probes.iter().filter_map(|probe| match probe {
            Probe::Out { since, .. } => Some(since + self.plan.deadline),
            _ => None,
        });
        due.chain(self.plan.limit.map(|(limit, _)| self.since + limit)).min()
    }

    pub(super) fn catch_up(&mut self, now: u64) {
        while self.state == State::HalfOpen
            && let Some(at) = self.next_change().filter(|at| *at <= now)
        {
            for probe in &mut self.probes {
                if let Probe::Out { since, head } = *probe
                    && since + self.plan.deadline <= at
                {
                    let is_slow = |head| self.plan.trips.iter().any(|trip| trip.is_slow(head));
                    let slow = head.is_some_and(is_slow);
                    *probe = Probe::Ended { failed: head.is_none(), slow };
                }
            }
            self.judge(at);
        }
        if self.state == State::Recovering && now * 1_000_000 >= self.until {
            self.openings = 0;
            self.go(State::Closed, Why::RampOver);
        }
    }

    fn refuse(&mut self, why: Refusal, retry_after: Option<u64>) -> Refused {
        self.refused += 1;
        self.totals.refused[why as usize] += 1;
        Refused { why, retry_after: retry_after.map(Duration::from_nanos) }
    }

    pub(super) fn admit(&mut self, now: u64) -> Result<Admitted, Refused> {
        self.catch_up(now);
        let nanos = now * 1_000_000;
        let left = self.until.saturating_sub(nanos);
        match self.state {
            State::Closed | State::ForcedClosed => {
                self.totals.would_refuse += u64::from(self.would_refuse());
            }
            State::ForcedOpen | State::Isolated => {
                return Err(self.refuse(Refusal::Forced, None));
            }
            State::Recovering => {
                let length = self.until - self.since * 1_000_000;
                let share = u128::from(nanos - self.since * 1_000_000) * 1_000_000_000;
                let share = u32::try_from(share / u128::from(length)).unwrap();
                let draw = self.draw();
                if !Random::hits(draw, Ratio::per_billion(share).unwrap()) {
                    return Err(self.refuse(Refusal::Recovering, Some(left)));
                }
            }
            State::Open if left > 0 => return Err(self.refuse(Refusal::Open, Some(left))),
            State::Open if self.shadow => {
                self.clear();
                self.openings = 0;
                self.go(State::Closed, Why::WaitOver);
            }
            State::Open => {
                self.clear();
                self.probes.clear();
                self.since = now;
                self.go(State::HalfOpen, Why::WaitOver);
            }
            State::HalfOpen => {}
        }
        if self.state != State::HalfOpen {
            return Ok(Admitted { epoch: self.epoch, probe: None });
        }
        if self.probe_tally().1 == 0 {
            let least = self.plan.open_for().wait(&Opening::number(1), u64::MAX);
            let least = u64::try_from(least.as_nanos()).unwrap();
            let change = self.next_change().map_or(least, |at| (at - now) * 1_000_000);
            return Err(self.refuse(Refusal::HalfOpen, Some(change.min(least))));
        }
        self.probes.push(Probe::Out { since: now, head: None });
        Ok(Admitted { epoch: self.epoch, probe: Some(self.probes.len() - 1) })
    }

    pub(super) fn head_came(&mut self, call: Admitted, now: u64) {
        self.catch_up(now);
        if call.epoch == self.epoch
            && let Some(probe) = call.probe
            && let Probe::Out { since, head } = &mut self.probes[probe]
        {
            *head = Some(now - *since);
        }
    }

    pub(super) fn settle(&mut self, call: Admitted, outcome: Outcome, took: u64, now: u64) {
        self.catch_up(now);
        let records = matches!(self.state, State::Closed | State::Recovering | State::HalfOpen);
        if call.epoch != self.epoch || !records {
            self.totals.void += 1;
            return;
        }
        *match outcome {
            Outcome::Success => &mut self.totals.successes,
            Outcome::Failure => &mut self.totals.failures,
            Outcome::Soft => &mut self.totals.soft_failures,
            Outcome::Ignored => &mut self.totals.ignored,
            Outcome::Cancelled => &mut self.totals.cancelled,
        } += 1;
        let counts = matches!(outcome, Outcome::Success | Outcome::Failure | Outcome::Soft);
        if let Some(probe) = call.probe {
            if let Probe::Out { .. } = self.probes[probe] {
                let slow = self.plan.trips.iter().any(|trip| trip.is_slow(took));
                let ended = Probe::Ended { failed: outcome.is_failure(), slow };
                self.probes[probe] = if counts { ended } else { Probe::GivenBack };
            }
            return self.judge(now);
        }
        self.log.push(Ended { at: now, outcome, took });
        if !counts {
            return;
        }
        let reached: Vec<_> = (0..self.over.len()).map(|index| self.holds(index, now).2).collect();
        if self.shadow {
            for (index, reached) in reached.into_iter().enumerate() {
                if reached && !self.over[index] {
                    self.moves.push(Move::WouldOpen(self.cause(index, now)));
                }
                self.over[index] = reached;
            }
        } else if let Some(index) = reached.iter().position(|reached| *reached) {
            self.open(Why::Tripped(self.cause(index, now)), now);
        }
    }

    pub(super) fn would_refuse(&self) -> bool {
        self.shadow && self.over.contains(&true)
    }

    pub(super) fn until_probe(&self, now: u64) -> Option<Duration> {
        let left = self.until.saturating_sub(now * 1_000_000);
        (self.state == State::Open).then(|| Duration::from_nanos(left))
    }

    pub(super) fn force(&mut self, to: State, until: u64, now: u64) {
        self.catch_up(now);
        self.openings = if to == State::Open { self.openings + 1 } else { 0 };
        self.until = until * 1_000_000;
        self.probed = false;
        if self.state == to {
            self.epoch += 1;
            self.refused = 0;
        } else {
            self.go(to, Why::ByHand);
        }
        self.clear();
    }

    pub(super) fn set_shadow(&mut self, shadow: bool, now: u64) {
        if self.shadow != shadow {
            self.catch_up(now);
            if self.state != State::Closed {
                self.go(State::Closed, Why::ByHand);
            }
            self.shadow = shadow;
            (self.openings, self.refused) = (0, 0);
            self.epoch += 1;
            self.clear();
        }
    }
}
