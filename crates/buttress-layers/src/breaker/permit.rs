use std::{
    mem,
    pin::Pin,
    time::{Duration, Instant},
};

use buttress_core::{
    Case, Code, End, Facts, Finish, Judgement, Kind, Lease, Reason, Side, Stage, Timing, Verdict,
    Watch,
    breaker::{Dropped, Move, Outcome, Report, Ticket},
    clock::{self, Due},
};

use super::circuit::Circuit;
use crate::{clock::read, kept_back::KeptBack};

/// Leave to make one call, settled exactly once: at the end of the response, or when this is
/// dropped.
#[derive(Debug)]
pub struct Permit<C: Case> {
    case: C,
    circuit: Lease<Circuit>,
    ticket: Ticket,
    /// When the call came in, if anybody wants to know how long it takes.
    started: Option<Instant>,
    /// By when its caller wants an answer.
    due: Due,
    to_head: Option<Duration>,
    retry_after: Option<Duration>,
    head: Head,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// There is none yet.
    Awaited,
    /// The classifier is looking at it.
    Judging,
    Came,
}

impl<C: Case> Permit<C> {
    #[inline]
    pub(super) fn new(
        case: C,
        circuit: Lease<Circuit>,
        ticket: Ticket,
        started: Option<Instant>,
        due: Due,
    ) -> Self {
        Self {
            case,
            circuit,
            ticket,
            started,
            due,
            to_head: None,
            retry_after: None,
            head: Head::Awaited,
            ended: false,
        }
    }

    /// Takes the head into the case, and what it asks for if it is not good. A panic of the
    /// classifier is one of the call.
    #[inline]
    pub(super) fn head_came(
        &mut self,
        take: impl FnOnce(&mut C),
        retry_after: impl FnOnce() -> Option<Duration>,
    ) -> Facts {
        let timed = self.started.map(|started| (started, clock::ready(read)));
        self.to_head = timed.map(|(started, now)| now.saturating_duration_since(started));
        self.head = Head::Judging;
        take(&mut self.case);
        self.head = Head::Came;
        let verdict = self.case.judged().map(|judged| judged.verdict);
        if !matches!(verdict, None | Some(Verdict::Good)) {
            self.retry_after = retry_after();
        }
        if self.ticket.is_probe() && verdict != Some(Verdict::Bad) {
            self.circuit.head_came(self.ticket, clock::ready(read));
        }
        self.case.facts()
    }

    /// Tells observers what the admission of this call made of the breaker.
    #[inline]
    pub(super) fn tell(&self, moves: &[Move]) {
        self.circuit.tell(moves);
    }

    /// The call failed before it had a head.
    #[inline]
    pub(super) fn failed(&mut self, end: End<'_>, retry_after: Option<Duration>, now: Instant) {
        self.retry_after = retry_after;
        self.end(end, now);
    }

    #[inline]
    pub(super) fn end(&mut self, end: End<'_>, now: Instant) {
        if mem::replace(&mut self.ended, true) {
            return;
        }
        let total = self.started.map(|started| now.saturating_duration_since(started));
        let timing = Timing { to_head: self.to_head, total: total.unwrap_or_default() };
        // A classifier that panics must not keep the call from being settled, nor turn a panic
        // that unwinds already into an abort.
        let mut panic = KeptBack::default();
        let judged = panic.run(|| self.case.end(end, timing));
        let judgement = judged.unwrap_or(Judgement::new(Verdict::Bad, Reason::Panicked));
        let report = Report {
            outcome: outcome(judgement, self.case.facts()),
            to_head: self.to_head.unwrap_or(timing.total),
            retry_after: self.retry_after,
        };
        self.circuit.settle(self.ticket, report, now);
        panic.go_on();
    }

    #[inline]
    fn drop_end(&self, now: Instant) -> End<'static> {
        let stage = match self.head {
            Head::Judging => return End::Panicked,
            Head::Awaited => Stage::BeforeHead,
            Head::Came => Stage::InBody,
        };
        // Ours is the side that asks: who drops a body keeps what the head said.
        End::Dropped { stage, side: Side::Client, late: self.is_late(stage, now) }
    }

    #[inline]
    fn is_late(&self, stage: Stage, now: Instant) -> bool {
        let policy = self.circuit.rules().settings().on_drop();
        if policy == Dropped::Ignored {
            return false;
        }
        let before_head = stage == Stage::BeforeHead;
        let due = if before_head { self.due.head } else { self.due.end };
        let past_deadline = due.is_some_and(|due| now >= due);
        let took = self.started.map(|started| now.saturating_duration_since(started));
        let slow = || took.zip(self.circuit.slower_than()).is_some_and(|(took, slow)| took > slow);
        past_deadline || (before_head && (policy == Dropped::Failure || slow()))
    }
}

/// What a judgement means for a breaker.
#[inline]
fn outcome(judgement: Judgement, facts: Facts) -> Outcome {
    let too_many = facts.status == Some(429) || facts.code == Some(Code::ResourceExhausted);
    match (judgement.reason, judgement.verdict) {
        (Reason::Left, _) => Outcome::Cancelled,
        // Time ran out for the service. All else that a layer of ours refuses, it refuses for
        // reasons of its own.
        (Reason::Refused(kind), _) if kind != Kind::TimedOut => Outcome::Ignored,
        (_, Verdict::Good) => Outcome::Success,
        (Reason::Status, _) if too_many => Outcome::Soft,
        (_, Verdict::Bad) => Outcome::Failure,
        (_, Verdict::Excluded) => Outcome::Ignored,
    }
}

/// Nothing in it is pinned.
impl<C: Case> Unpin for Permit<C> {}

impl<C: Case> Watch for Permit<C> {
    #[inline]
    fn end(self: Pin<&mut Self>, finish: Finish<'_>) {
        let (this, now) = (self.get_mut(), clock::ready(read));
        let end = match finish {
            Finish::Complete { code } => End::Complete { code },
            Finish::Broken(error) => End::Broken(error),
            Finish::Panicked => End::Panicked,
            Finish::Dropped | Finish::Cut => this.drop_end(now),
        };
        Permit::end(this, end, now);
    }
}

impl<C: Case> Drop for Permit<C> {
    #[inline]
    fn drop(&mut self) {
        if !self.ended {
            let now = read();
            self.end(self.drop_end(now), now);
        }
    }
}
