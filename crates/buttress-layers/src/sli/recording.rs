use std::{mem, pin::Pin, time::Instant};

use buttress_core::{
    Case, Change, Code, End, Facts, Finish, Judgement, Lease, Protocol, Reason, Side, Stage,
    Timing, Verdict, Watch, clock,
};

use super::{Record, handle::State, routes::Place};
use crate::{clock::read, kept_back::KeptBack};

/// One call on its way into the counts, where it arrives exactly once: at its end, or when this
/// is dropped.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the call")]
#[derive(Debug)]
pub struct Recording<C: Case> {
    case: C,
    state: Lease<State>,
    place: Place,
    /// Whether the route is a name that only a stranger has said: the method of a gRPC call.
    callers_word: bool,
    started: Instant,
    /// From when on a caller that leaves leaves because we are late.
    late: Option<Instant>,
    /// Whether there were sinks when it came: it is for them.
    has_sinks: bool,
    head: Head,
    /// Whether somebody else answered in the service's stead.
    degraded: bool,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// There is none yet.
    Awaited,
    /// The classifier is looking at it.
    Judging,
    /// When, where somebody asks.
    Came(Option<Instant>),
}

impl<C: Case> Recording<C> {
    #[inline]
    pub(super) fn start(
        case: C,
        state: Lease<State>,
        place: Place,
        started: Instant,
        late: Option<Instant>,
    ) -> Self {
        state.started.increment();
        let has_sinks = !state.sinks.is_empty();
        let callers_word = state.side == Side::Server && case.facts().protocol == Protocol::Grpc;
        Self {
            case,
            state,
            place,
            callers_word,
            started,
            late,
            has_sinks,
            head: Head::Awaited,
            degraded: false,
            ended: false,
        }
    }

    /// Takes the head into the case. A panic of the classifier is one of the call.
    #[inline]
    pub(super) fn head_came(&mut self, degraded: bool, take: impl FnOnce(&mut C)) -> Facts {
        // Without sinks the counts are all there is, and they are of the whole call.
        let came = (C::TIMED || self.has_sinks).then(|| clock::ready(read));
        self.head = Head::Judging;
        self.degraded = degraded;
        take(&mut self.case);
        self.head = Head::Came(came);
        let facts = self.case.facts();
        if facts.protocol == Protocol::Grpc && facts.code.is_none() {
            // Its status is to follow in trailers, so a service has answered to that name.
            self.callers_word = false;
        }
        facts
    }

    #[inline]
    pub(super) fn end(&mut self, end: End<'_>, now: Instant) {
        if mem::replace(&mut self.ended, true) {
            return;
        }
        let since = |at: Instant| at.saturating_duration_since(self.started);
        let to_head = match self.head {
            Head::Came(at) => at.map(since),
            Head::Awaited | Head::Judging => None,
        };
        let timing = Timing { to_head, total: since(now) };
        // A classifier or a sink that panics must not keep the call from being counted, nor
        // turn a panic that unwinds already into an abort.
        let mut panic = KeptBack::default();
        let judged = panic.run(|| self.case.end(end, timing));
        let judgement = judged.unwrap_or(Judgement::new(Verdict::Bad, Reason::Panicked));
        let judgement = if self.degraded { self.state.degraded(judgement) } else { judgement };
        let facts = self.case.facts();
        let full = self.settle_place(facts);

        let cells = self.state.routes.cells(&self.place);
        cells.histogram(facts, judgement).record(timing.total);
        let route = Some(&*cells.template).filter(|template| !template.is_empty());
        let side = self.state.side;
        let degraded = self.degraded;
        let record = Record { judgement, facts, side, route, timing, degraded, ended: now };
        for sink in self.state.sinks.iter().filter(|_| self.has_sinks) {
            panic.run(|| sink.record(&record));
        }
        if full {
            let capacity = self.state.routes.capacity();
            panic.run(|| self.state.emit(Change::LabelsFull { capacity }));
        }
        panic.go_on();
    }

    /// Gives a route that has not been seen before its place, unless its caller made it up. Says
    /// whether this is the first to find no room.
    #[inline]
    fn settle_place(&mut self, facts: Facts) -> bool {
        if let Place::New(template) = &mut self.place {
            let template = mem::take(template);
            // An error without a stream before it may come from a layer that answers for any
            // name. A success does not.
            let known = !self.callers_word || facts.code == Some(Code::Ok);
            self.place = if known { self.state.routes.add(template) } else { Place::Other };
        }
        self.place == Place::Other && self.state.routes.is_full_and_untold()
    }

    #[inline]
    fn drop_end(&self, now: Instant) -> End<'static> {
        let stage = match self.head {
            Head::Judging => return End::Panicked,
            Head::Awaited => Stage::BeforeHead,
            Head::Came(_) => Stage::InBody,
        };
        let late = self.late.is_some_and(|late| now >= late);
        End::Dropped { stage, side: self.state.side, late }
    }
}

/// Nothing in it is pinned.
impl<C: Case> Unpin for Recording<C> {}

impl<C: Case> Watch for Recording<C> {
    #[inline]
    fn end(self: Pin<&mut Self>, finish: Finish<'_>) {
        let (this, now) = (self.get_mut(), clock::ready(read));
        let end = match finish {
            Finish::Complete { code } => End::Complete { code },
            Finish::Broken(error) => End::Broken(error),
            Finish::Panicked => End::Panicked,
            Finish::Dropped | Finish::Cut => this.drop_end(now),
        };
        Recording::end(this, end, now);
    }
}

impl<C: Case> Drop for Recording<C> {
    #[inline]
    fn drop(&mut self) {
        if !self.ended {
            let now = read();
            self.end(self.drop_end(now), now);
        }
    }
}
