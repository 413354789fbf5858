//! How a breaker goes from one state to another.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use super::{Inner, Machine, Move, Moves, nanos};
use crate::{
    atomic::Ordering,
    breaker::{Cause, Opening, Rules, Then, Transition, Why, half_open::Shown, word::Phase},
};

impl Machine {
    /// Brings about what time alone has done by now, each thing at its own instant: nobody may have
    /// looked for a while.
    pub(super) fn catch_up(&self, inner: &mut Inner, rules: &Rules, now: u64, moves: &mut Moves) {
        while self.word().phase() == Phase::HalfOpen
            && let Some(at) = inner.probing.next_change().filter(|at| *at <= now)
        {
            inner.probing.expire(at);
            self.judge_probes(inner, rules, None, at, moves);
        }
        if self.word().phase() == Phase::Recovering && now >= self.until.load(Ordering::Relaxed) {
            inner.openings = 0;
            self.go(inner, Phase::Closed, Why::RampOver, moves);
        }
    }

    pub(super) fn judge_probes(
        &self,
        inner: &mut Inner,
        rules: &Rules,
        retry_after: Option<Duration>,
        at: u64,
        moves: &mut Moves,
    ) {
        match inner.probing.shown(at) {
            Shown::Undecided => {}
            Shown::Failed(cause) => {
                self.open(inner, Why::ProbesFailed(cause), retry_after, at, moves);
            }
            Shown::Recovered => self.close(inner, rules, Why::ProbesPassed, at, moves),
            Shown::OutOfTime(Then::Close) => {
                self.close(inner, rules, Why::OutOfTime(Then::Close), at, moves);
            }
            Shown::OutOfTime(Then::Open) => {
                self.open(inner, Why::OutOfTime(Then::Open), retry_after, at, moves);
            }
        }
    }

    /// Opens, from `at` on. What the windows hold stays to be seen until the next probe.
    pub(super) fn open(
        &self,
        inner: &mut Inner,
        why: Why,
        retry_after: Option<Duration>,
        at: u64,
        moves: &mut Moves,
    ) {
        inner.openings = inner.openings.saturating_add(1);
        let mut opening = Opening { retry_after, ..Opening::number(inner.openings) };
        if let Why::Tripped(cause) | Why::ProbesFailed(cause) = why {
            (opening.failures, opening.failure_rate) = match cause {
                Cause::Consecutive { failures } => (failures.into(), None),
                Cause::FailureRate { tally } | Cause::SlowRate { tally } => {
                    (tally.failures, tally.failure_rate())
                }
            };
        }
        // Half-way through a move: what a function of the user's own panics with stays here, or
        // the probes would be over and the breaker half-open for good. The hook has reported it.
        let draw = self.random.draw();
        let wait = || inner.settings.open_for.wait(&opening, draw);
        let wait = catch_unwind(AssertUnwindSafe(wait)).unwrap_or(inner.least);
        self.until.store(at.saturating_add(nanos(wait)), Ordering::Release);
        inner.probed = matches!(why, Why::ProbesFailed(_) | Why::OutOfTime(_));
        self.go(inner, Phase::Open, why, moves);
    }

    /// Closes, by way of the ramp if there is one.
    fn close(&self, inner: &mut Inner, rules: &Rules, why: Why, at: u64, moves: &mut Moves) {
        self.forget(rules, at);
        let Some(ramp) = inner.settings.ramp else {
            inner.openings = 0;
            return self.go(inner, Phase::Closed, why, moves);
        };
        self.since.store(at, Ordering::Release);
        self.until.store(at.saturating_add(nanos(ramp.get())), Ordering::Release);
        self.go(inner, Phase::Recovering, why, moves);
    }

    /// Goes to another phase, in an epoch of its own; only the end of a ramp begins none.
    pub(super) fn go(&self, inner: &mut Inner, to: Phase, why: Why, moves: &mut Moves) {
        let before = self.word();
        let after = if why == Why::RampOver { before.with(to) } else { before.next(to) };
        inner.refused_before = self.refused();
        Self::tell(inner, before.phase(), to, why, moves);
        // Release: who sees the new state sees how long it lasts.
        self.word.store(after.bits(), Ordering::Release);
    }

    pub(super) fn tell(inner: &mut Inner, from: Phase, to: Phase, why: Why, moves: &mut Moves) {
        inner.transitions += 1;
        let (from, to, number) = (from.state(), to.state(), inner.transitions);
        moves.push(Move::Transition(Transition { from, to, why, number }));
    }
}
