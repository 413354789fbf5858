use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};

use buttress_core::{
    Case, End, Facts, Judge, Judgement, Kind, Lease, Protocol, Rejection, Resend, Side, Stage,
    Timing, Verdict, clock, guarded, is_unreached,
    retry::{Again, Course, Failure, Known, Settings, Spent, Started, Stop, Wait, When},
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
        self.ended = true;
        if !C::HEARS_END {
            return;
        }
        let end = End::Dropped { stage: Stage::InBody, side: Side::Client, late: false };
        self.end(end, true, now);
    }

    /// Whether the head alone says that all is well; then it is handed out.
    #[inline]
    pub(crate) fn is_good(&mut self, now: Instant) -> bool {
        let judged = self.case.judged();
        let good = judged.is_some_and(|judged| judged.verdict == Verdict::Good);
        if good {
            self.hand_out(now);
        }
        good
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
        guarded(work, || self.panicked())
    }

    /// What it was at work on panicked.
    #[inline]
    pub(crate) fn panicked(&mut self) {
        if C::HEARS_END {
            self.end_unwinding(End::Panicked);
        }
    }

    /// A classifier that panics must not turn a panic that unwinds already into an abort.
    #[cold]
    fn end_unwinding(&mut self, end: End<'_>) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.end(end, false, read())));
    }
}

/// What became of an attempt whose response is not good by its head alone.
#[derive(Debug)]
pub(crate) struct Doubted {
    pub(crate) judgement: Judgement,
    facts: Facts,
    asked: Option<Wait>,
}

impl Doubted {
    /// Whether it is a failure, by these rules.
    pub(crate) fn failure(&self, settings: &Settings) -> Option<Failure> {
        Failure::of(settings, self.judgement, self.facts, self.asked, false)
    }
}

/// Judges a response that is not good by its head alone: perhaps by trailers that follow at once.
/// With `None` it is good so far: a message has come, or it may, and whatever follows, the caller is
/// to see it.
pub(crate) fn doubt<X, Request, Response, Error, C>(
    attempt: &mut Attempt<C>,
    exchange: &X,
    response: Response,
    now: Instant,
    cx: &mut Context<'_>,
) -> (<X as Resend<Request, Response>>::Response, Option<Doubted>)
where
    C: Case,
    X: Judge<Request, Response, Error, Case = C> + Resend<Request, Response>,
{
    let asked = exchange.asked(Ok(&response));
    let mut response = exchange.lay_open(response);
    let mut facts = attempt.case.facts();
    if let Some(judgement) = attempt.case.judged() {
        attempt.hand_out(now);
        return (response, Some(Doubted { judgement, facts, asked }));
    }
    let grpc = facts.protocol == Protocol::Grpc;
    let Some(peeked) = grpc.then(|| exchange.peek(&mut response, cx)).flatten() else {
        attempt.hand_out(now);
        return (response, None);
    };
    facts.code = peeked.code;
    let judgement = attempt.end(End::Complete { code: peeked.code }, true, now);
    (response, Some(Doubted { judgement, facts, asked: peeked.asked.or(asked) }))
}

/// What an error means, by these rules, and how it was judged.
pub(crate) fn failure<X, Request, Response, Error, C>(
    attempt: &mut Attempt<C>,
    exchange: &X,
    error: &Error,
    now: Instant,
    settings: &Settings,
) -> (Judgement, Option<Failure>)
where
    C: Case,
    X: Judge<Request, Response, Error, Case = C>,
{
    let source = exchange.error(error);
    let judgement = attempt.end(End::Failed(source), false, now);
    let (asked, unreached) = (exchange.asked(Err(error)), source.is_some_and(is_unreached));
    let failure = Failure::of(settings, judgement, attempt.case.facts(), asked, unreached);
    (judgement, failure)
}

impl<C: Case> Drop for Attempt<C> {
    #[inline]
    fn drop(&mut self) {
        if self.ended || !C::HEARS_END {
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

/// When an attempt has taken too long that begins now. `can_refuse` says whether what that takes was
/// kept of the request, when it came: a limit that was set since is for those that come from now
/// on.
#[inline]
pub(super) fn due(
    settings: &Settings,
    protocol: Protocol,
    now: Instant,
    is_last: bool,
    has_deadline: bool,
    can_refuse: bool,
) -> Option<Instant> {
    let limit = settings.of_attempt()?;
    // What is left to the last one is the caller's to say, and nothing follows upon a cut that is
    // not retried.
    let is_free = has_deadline && (is_last || !settings.retries_timeout(protocol));
    let is_limited = can_refuse && !is_free;
    now.checked_add(limit.get()).filter(|_| is_limited)
}

/// The scope of an attempt that must be done by `due`. A limit that is only tried out is nobody's.
#[inline]
pub(super) fn within(due: Option<Instant>, shadow: Shadow) -> Option<clock::Within> {
    let head = due.filter(|_| shadow == Shadow::Off)?;
    Some(clock::within(clock::Due { head: Some(head), end: None }))
}

/// One request, from its first attempt to its last.
#[derive(Debug)]
pub(super) struct Call<S, C: Case> {
    pub(super) state: Lease<State>,
    pub(super) attempt: Attempt<C>,
    pub(super) facts: Facts,
    pub(super) course: Course,
    /// What a second attempt takes besides what was kept of the request.
    pub(super) service: Option<S>,
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

impl<S, C: Case> Call<S, C> {
    /// Sets the clock of an attempt that follows upon another, by the settings of now.
    pub(super) fn begin_next(&mut self, now: Instant, can_refuse: bool) {
        let settings = self.state.settings.load();
        let is_last = self.course.is_last(&settings);
        self.due =
            due(&settings, self.facts.protocol, now, is_last, self.deadline.is_some(), can_refuse);
    }

    /// By when what is inside must be done.
    #[inline]
    pub(super) fn within(&self) -> Option<clock::Within> {
        within(self.due, self.shadow)
    }

    /// In shadow mode, decides what would become of an attempt that took too long, and lets it go
    /// on: then nothing more is decided.
    pub(super) fn decide_in_shadow(&mut self, now: Instant) -> bool {
        let in_shadow = self.shadow == Shadow::On;
        if in_shadow {
            self.again_after_cut(Ok(()), now);
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
        let good = self.attempt.is_good(now);
        if good {
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
    pub(super) fn again_after_cut(
        &mut self,
        kept: Result<(), Stop>,
        now: Instant,
    ) -> Option<Again> {
        let cut = Failure::cut(&self.state.settings.load(), self.facts.protocol);
        self.again(cut, kept, now)
    }

    /// Whether there is another attempt after this failure. `kept` says whether the request can be
    /// made again.
    pub(super) fn again(
        &mut self,
        failure: Failure,
        kept: Result<(), Stop>,
        now: Instant,
    ) -> Option<Again> {
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
        let kept = if in_shadow { Ok(()) } else { kept };
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
