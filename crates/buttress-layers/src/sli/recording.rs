use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    thread,
    time::Instant,
};

use buttress_core::{
    Case, Change, Code, End, Facts, Finish, Judgement, Lease, Protocol, Reason, Side, Stage,
    Timing, Verdict, Watch, clock,
};

use super::{Record, handle::State, routes::Place};
use crate::clock::read;

/// One call on its way into the counts, where it arrives exactly once: at its end, or when this
/// is dropped.
#[derive(Debug)]
pub struct Recording<C: Case> {
    case: C,
    state: Lease<State>,
    place: Place,
    /// Whether the route is a name that a stranger has said: the method of a gRPC call.
    callers_word: bool,
    started: Instant,
    /// From when on a caller that leaves leaves because we are late.
    late: Option<Instant>,
    head: Option<Instant>,
    /// While the classifier looks at the head.
    judging: bool,
    ended: bool,
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
        let callers_word = state.side == Side::Server && case.facts().protocol == Protocol::Grpc;
        Self {
            case,
            state,
            place,
            callers_word,
            started,
            late,
            head: None,
            judging: false,
            ended: false,
        }
    }

    /// Takes the head into the case. A panic of the classifier is one of the call.
    #[inline]
    pub(super) fn head_came(&mut self, now: Instant, take: impl FnOnce(&mut C)) -> Facts {
        self.head = Some(now);
        self.judging = true;
        take(&mut self.case);
        self.judging = false;
        self.case.facts()
    }

    #[inline]
    pub(super) fn end(&mut self, end: End<'_>, now: Instant) {
        if mem::replace(&mut self.ended, true) {
            return;
        }
        let since = |at: Instant| at.saturating_duration_since(self.started);
        let timing = Timing { to_head: self.head.map(since), total: since(now) };
        // A classifier or a sink that panics must not keep the call from being counted, nor
        // turn a panic that unwinds already into an abort.
        let mut panic = None;
        let judged = catch_unwind(AssertUnwindSafe(|| self.case.end(end, timing)));
        let judgement = judged.unwrap_or_else(|payload| {
            panic = Some(payload);
            Judgement::new(Verdict::Bad, Reason::Panicked)
        });
        let facts = self.case.facts();
        self.settle_place(facts, judgement);

        let cells = self.state.routes.cells(&self.place);
        cells.histogram(facts, judgement).record(timing.total);
        let route = Some(&*cells.template).filter(|template| !template.is_empty());
        let side = self.state.side;
        let record = Record { judgement, facts, side, route, timing, ended: now };
        for sink in self.state.sinks.iter() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| sink.record(&record))) {
                panic = Some(payload);
            }
        }
        if let Some(payload) = panic.filter(|_| !thread::panicking()) {
            resume_unwind(payload);
        }
    }

    /// Gives a route that has not been seen before its place, unless its caller made it up.
    fn settle_place(&mut self, facts: Facts, judgement: Judgement) {
        if let Place::New(template) = &mut self.place {
            let template = mem::take(template);
            self.place = if !self.callers_word || is_known_method(facts, judgement) {
                self.state.routes.add(template)
            } else {
                Place::Other
            };
        }
        if self.place == Place::Other && self.state.routes.is_full_and_untold() {
            self.state.emit(Change::LabelsFull { capacity: self.state.routes.capacity() });
        }
    }

    fn drop_end(&self, now: Instant) -> End<'static> {
        if self.judging {
            return End::Panicked;
        }
        let stage = if self.head.is_some() { Stage::InBody } else { Stage::BeforeHead };
        let late = self.late.is_some_and(|late| now >= late);
        End::Dropped { stage, side: self.state.side, late }
    }
}

/// Whether a gRPC method is one that the server has: a service answered for it, and not a layer
/// that answers for any name.
fn is_known_method(facts: Facts, judgement: Judgement) -> bool {
    let turned_away = [Code::Unimplemented, Code::Unauthenticated, Code::PermissionDenied];
    facts.protocol == Protocol::Grpc
        && !matches!(judgement.reason, Reason::Refused(_))
        && facts.code.is_some_and(|code| !turned_away.contains(&code))
}

/// Nothing in it is pinned.
impl<C: Case> Unpin for Recording<C> {}

impl<C: Case> Watch for Recording<C> {
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
    fn drop(&mut self) {
        if !self.ended {
            let now = read();
            self.end(self.drop_end(now), now);
        }
    }
}
