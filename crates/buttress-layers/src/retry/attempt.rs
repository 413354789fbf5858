use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use buttress_core::{
    Case, End, Facts, Judgement, Kept, Kind, Lease, Rejection, Side, Stage, Timing, Verdict, clock,
    guarded,
    retry::{Again, Course, Failure, Known, Settings, Spent, Started, Stop, When},
};

use super::{
    handle::{Count, State},
    layer::Headers,
};
use crate::clock::read;

/// One attempt, judged exactly once.
#[derive(Debug)]
pub(crate) struct Attempt<C: Case> {
    pub(crate) case: C,
    started: Instant,
    ended: bool,
}

impl<C: Case> Attempt<C> {
    pub(crate) fn new(case: C, started: Instant) -> Self {
        Self { case, started, ended: false }
    }

    /// When it ends, for a classifier that asks how long it took.
    #[inline]
    pub(crate) fn ends(&self, read: impl FnOnce() -> Instant) -> Instant {
        if C::TIMED { read() } else { self.started }
    }

    #[inline]
    pub(crate) fn end(&mut self, end: End<'_>, to_head: bool, now: Instant) -> Judgement {
        self.ended = true;
        // A subtraction of instants costs as much as all else here.
        let total =
            if C::TIMED { now.saturating_duration_since(self.started) } else { Duration::ZERO };
        self.case.end(end, Timing { to_head: to_head.then_some(total), total })
    }

    /// Hands out what has a head: what becomes of its body is not ours to see.
    #[inline]
    pub(crate) fn hand_out(&mut self, now: Instant) {
        let end = End::Dropped { stage: Stage::InBody, side: Side::Client, late: false };
        self.end(end, true, now);
    }

    /// It took too long, if it had begun.
    pub(crate) fn time_out(&mut self, now: Instant) {
        if !self.ended {
            let end = End::Dropped { stage: Stage::BeforeHead, side: Side::Client, late: true };
            self.end(end, false, now);
        }
    }

    /// Works for this attempt, which ends if that panics.
    #[inline]
    pub(crate) fn guard<T>(&mut self, work: impl FnOnce() -> T) -> T {
        guarded(work, || self.end_unwinding(End::Panicked))
    }

    /// A classifier that panics must not turn a panic that unwinds already into an abort.
    #[cold]
    fn end_unwinding(&mut self, end: End<'_>) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.end(end, false, read())));
    }
}

impl<C: Case> Drop for Attempt<C> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let end = End::Dropped { stage: Stage::BeforeHead, side: Side::Client, late: false };
        self.end_unwinding(end);
    }
}

/// Whether it is only decided if there would be a second attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shadow {
    Off,
    On,
    /// On, and that was decided.
    Decided,
}

/// One request, from its first attempt to its last.
#[derive(Debug)]
pub(super) struct Call<S, C: Case, K> {
    pub(super) state: Lease<State>,
    pub(super) attempt: Attempt<C>,
    pub(super) facts: Facts,
    pub(super) course: Course,
    /// What a second attempt takes, or why there is none. Each has its own place, so that what is
    /// large is put there at once.
    pub(super) service: Option<S>,
    pub(super) kept: Result<K, Stop>,
    pub(super) shadow: Shadow,
    pub(super) deadline: Option<Instant>,
    /// Whether the request itself carries the deadline.
    pub(super) is_told: bool,
    /// By when the attempt must have its head.
    pub(super) due: Option<Instant>,
    /// Whether the budget wants to hear of successes.
    pub(super) tells: bool,
    /// The budget that has noted the request, for a hedge further in that spends from it too.
    pub(super) known: Known,
    pub(super) _started: Started,
    pub(super) spent: Option<Spent>,
    pub(super) nested: bool,
    pub(super) headers: Headers,
}

impl<S, C: Case, K> Call<S, C, K> {
    /// Sets the clock of an attempt that begins. `can_refuse` says whether what that takes was kept
    /// of the request, when it came: a limit that was set since is for those that come from now on.
    #[inline]
    pub(super) fn begin(&mut self, settings: &Settings, now: Instant, can_refuse: bool) {
        let Some(limit) = settings.of_attempt() else { return };
        // What is left to the last one is the caller's to say, and nothing follows upon a cut that
        // is not retried.
        let is_last = self.course.is_last(settings)
            || self.kept.is_err() && self.shadow == Shadow::Off
            || !settings.retries_timeout(self.facts.protocol);
        let is_free = self.deadline.is_some() && is_last;
        let is_limited = can_refuse && !is_free;
        self.due = now.checked_add(limit.get()).filter(|_| is_limited);
    }

    /// As [`Call::begin`], of a later attempt, by the settings of now.
    pub(super) fn begin_next(&mut self, now: Instant, can_refuse: bool) {
        let settings = self.state.settings.load();
        self.begin(&settings, now, can_refuse);
    }

    /// By when what is inside must be done. A limit that is only tried out is nobody's.
    #[inline]
    pub(super) fn within(&self) -> Option<clock::Within> {
        let head = self.due.filter(|_| self.shadow == Shadow::Off)?;
        Some(clock::within(clock::Due { head: Some(head), end: None }))
    }

    /// In shadow mode, decides what would become of an attempt that took too long, and lets it go
    /// on: then nothing more is decided.
    pub(super) fn decide_in_shadow(&mut self, now: Instant) -> bool
    where
        K: Kept,
    {
        let in_shadow = self.shadow == Shadow::On;
        if in_shadow {
            self.again_after_cut(now);
            self.shadow = Shadow::Decided;
            self.due = None;
        }
        in_shadow
    }

    /// What its caller is told when time ran out.
    pub(super) fn timed_out(&self, why: &'static str) -> Rejection {
        Rejection::new(Kind::TimedOut, Arc::clone(&self.state.name)).because(why)
    }

    /// Whether the head alone says that all is well; then it is handed out.
    #[inline]
    pub(super) fn is_good(&mut self, now: Instant) -> bool {
        let judged = self.attempt.case.judged();
        let good = judged.is_some_and(|judged| judged.verdict == Verdict::Good);
        if good {
            self.attempt.hand_out(now);
            self.succeeded();
        }
        good
    }

    /// An attempt succeeded.
    #[inline]
    pub(super) fn succeeded(&self) {
        if self.tells {
            self.state.settings.load().of_budget().succeeded();
        }
    }

    /// Whether there is another attempt after one that took too long.
    pub(super) fn again_after_cut(&mut self, now: Instant) -> Option<Again>
    where
        K: Kept,
    {
        let cut = Failure::cut(&self.state.settings.load(), self.facts.protocol);
        self.again(cut, now)
    }

    /// Whether there is another attempt after this failure.
    pub(super) fn again(&mut self, failure: Failure, now: Instant) -> Option<Again>
    where
        K: Kept,
    {
        if self.shadow == Shadow::Decided {
            return None;
        }
        // The attempt is over, and its leave is there for the next one.
        self.spent = None;
        let (state, settings) = (&self.state, &**self.state.settings.load());
        let budget = settings.of_budget();
        if failure.is_counted() {
            budget.failed();
        }
        let in_shadow = self.shadow == Shadow::On;
        let kept = match &self.kept {
            Ok(kept) => kept.check(),
            Err(_) if in_shadow => Ok(()),
            Err(stop) => Err(*stop),
        };
        let mut spent = None;
        let withdraw = || {
            // What is only decided costs those nothing who share the budget.
            if in_shadow {
                return budget.would_allow(now);
            }
            spent = budget.withdraw(now);
            state.budget_said(spent.is_some());
            spent.is_some()
        };
        let when = When { now, deadline: self.deadline, draw: state.random.draw() };
        match self.course.again(settings, failure, kept, when, withdraw) {
            Err(stop) => {
                state.stopped(stop);
                None
            }
            Ok(_) if in_shadow => {
                state.count(Count::WouldRetry);
                None
            }
            Ok(again) => {
                state.count(if again.transparent { Count::Transparent } else { Count::Retry });
                self.spent = spent;
                Some(again)
            }
        }
    }
}
