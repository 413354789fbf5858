use std::{pin::Pin, time::Instant};

use buttress_core::{Case, Change, Code, End, Facts, Finish, Lease, Stage, Timing, Watch, clock};

use super::{Record, handle::State, routes::Place};
use crate::clock::read;

/// One call on its way into the counts, where it arrives exactly once: at its end, or when this
/// is dropped.
#[derive(Debug)]
pub struct Recording<C: Case> {
    case: C,
    state: Lease<State>,
    place: Place,
    started: Instant,
    /// From when on a caller that leaves leaves because we are late.
    late: Option<Instant>,
    head: Option<Instant>,
    nested: bool,
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
        nested: bool,
    ) -> Self {
        state.started.increment();
        Self { case, state, place, started, late, head: None, nested, ended: false }
    }

    #[inline]
    pub(super) fn case(&mut self) -> &mut C {
        &mut self.case
    }

    #[inline]
    pub(super) fn head_came(&mut self, now: Instant) -> Facts {
        self.head = Some(now);
        self.case.facts()
    }

    #[inline]
    pub(super) fn end(&mut self, end: End<'_>, now: Instant) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let since = |at: Instant| at.saturating_duration_since(self.started);
        let timing = Timing { to_head: self.head.map(since), total: since(now) };
        let judgement = self.case.end(end, timing);
        let facts = self.case.facts();
        self.settle_place(facts);

        let cells = self.state.routes.cells(&self.place);
        cells.histogram(facts, judgement).record(timing.total);
        let route = Some(&*cells.template).filter(|template| !template.is_empty());
        for sink in self.state.sinks.iter() {
            let side = self.state.side;
            sink.record(&Record { judgement, facts, side, route, timing, ended: now });
        }
    }

    /// Gives a route that has not been seen before its place, unless its caller made it up.
    #[inline]
    fn settle_place(&mut self, facts: Facts) {
        if matches!(self.place, Place::New(_))
            && let Place::New(template) = std::mem::replace(&mut self.place, Place::Other)
            && facts.code != Some(Code::Unimplemented)
        {
            let (place, was_last) = self.state.routes.add(template);
            self.place = place;
            if was_last {
                let capacity = self.state.routes.capacity();
                self.state.emit(Change::LabelsFull { capacity });
            }
        }
    }

    fn drop_end(&self, now: Instant) -> End<'static> {
        let stage = if self.head.is_some() { Stage::InBody } else { Stage::BeforeHead };
        let late = self.late.is_some_and(|late| now >= late);
        End::Dropped { stage, side: self.state.side, late }
    }
}

/// Nothing in it is pinned.
impl<C: Case> Unpin for Recording<C> {}

impl<C: Case> Watch for Recording<C> {
    fn is_nested(&self) -> bool {
        self.nested
    }

    fn end(self: Pin<&mut Self>, finish: Finish<'_>) {
        let this = self.get_mut();
        let end = match finish {
            Finish::Complete { code } => End::Complete { code },
            Finish::Broken(error) => End::Broken(error),
            Finish::Panicked => End::Panicked,
            // When it is dropped, which follows at once.
            Finish::Dropped | Finish::Cut => return,
        };
        Recording::end(this, end, clock::ready(read));
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
