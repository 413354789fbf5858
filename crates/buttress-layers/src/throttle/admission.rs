use std::{
    mem,
    pin::Pin,
    time::{Duration, Instant},
};

use buttress_core::{
    Case, Code, End, Finish, Judgement, Lease, Reason, Side, Stage, Timing, Verdict, Watch,
    clock::{self, Due},
};

use super::handle::State;
use crate::{clock::read, kept_back::KeptBack};

/// A request that passed, settled exactly once: at the end of its response, or when this is
/// dropped.
#[derive(Debug)]
pub struct Admission<C: Case> {
    pub(super) case: C,
    state: Lease<State>,
    started: Option<Instant>,
    /// By when layers further out give it up.
    due: Due,
    to_head: Option<Duration>,
    has_head: bool,
    ended: bool,
}

impl<C: Case> Admission<C> {
    #[inline]
    pub(super) fn new(case: C, state: Lease<State>, started: Option<Instant>, due: Due) -> Self {
        Self { case, state, started, due, to_head: None, has_head: false, ended: false }
    }

    #[inline]
    pub(super) fn head_came(&mut self) {
        self.to_head =
            self.started.map(|started| clock::ready(read).saturating_duration_since(started));
        self.has_head = true;
    }

    pub(super) fn panicked(&mut self, now: Instant) {
        self.end(End::Panicked, now);
    }

    #[inline]
    pub(super) fn end(&mut self, end: End<'_>, now: Instant) {
        if mem::replace(&mut self.ended, true) {
            return;
        }
        let total = self.started.map(|started| now.saturating_duration_since(started));
        let timing = Timing { to_head: self.to_head, total: total.unwrap_or_default() };
        // A classifier that panics must not keep the request from being settled, nor turn a panic
        // that unwinds already into an abort.
        let mut panic = KeptBack::default();
        let judged = panic.run(|| self.case.end(end, timing));
        let judgement = judged.unwrap_or(Judgement::new(Verdict::Bad, Reason::Panicked));
        if let Some(accepted) = self.is_accepted(judgement) {
            self.state.settle(accepted, now);
        }
        panic.go_on();
    }

    /// Whether the service accepted the request; `None` for one that its caller gave up.
    fn is_accepted(&self, judgement: Judgement) -> Option<bool> {
        let facts = self.case.facts();
        let too_many = facts.status == Some(429) || facts.code == Some(Code::ResourceExhausted);
        match judgement.reason {
            Reason::Left => None,
            // Whoever refused it further in did so in the name of the service.
            Reason::Refused(_) => Some(false),
            _ => Some(judgement.verdict != Verdict::Bad && !too_many),
        }
    }

    fn drop_end(&self, now: Instant) -> End<'static> {
        let (stage, due) = if self.has_head {
            (Stage::InBody, self.due.end)
        } else {
            (Stage::BeforeHead, self.due.head)
        };
        let late = due.is_some_and(|due| now >= due);
        // Ours is the side that asks: who drops a body keeps what the head said.
        End::Dropped { stage, side: Side::Client, late }
    }
}

/// Nothing in it is pinned.
impl<C: Case> Unpin for Admission<C> {}

impl<C: Case> Watch for Admission<C> {
    fn end(self: Pin<&mut Self>, finish: Finish<'_>) {
        let (this, now) = (self.get_mut(), clock::ready(read));
        let end = match finish {
            Finish::Complete { code } => End::Complete { code },
            Finish::Broken(error) => End::Broken(error),
            Finish::Panicked => End::Panicked,
            Finish::Dropped | Finish::Cut => this.drop_end(now),
        };
        Admission::end(this, end, now);
    }
}

impl<C: Case> Drop for Admission<C> {
    fn drop(&mut self) {
        if !self.ended {
            let now = read();
            self.end(self.drop_end(now), now);
        }
    }
}
