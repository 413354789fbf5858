use std::{num::NonZeroU32, sync::Arc};

use buttress_core::{
    Auto, Custom, Leeway, Shared, TimeLimit,
    bulkhead::{Adaptive, Partitions},
    http::Classified,
};
use tower_layer::Layer;

use super::{
    Bulkhead, BulkheadHandle, Bypass, Divided, Everyone, Ranked, Shedding, handle::State,
    service::Options,
};

/// Builds [`Bulkhead`] services.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct BulkheadLayer<X = Auto, T = Everyone> {
    state: Shared<State>,
    options: Options,
    triage: T,
    exchange: X,
}

impl BulkheadLayer {
    /// A layer whose name stands in refusals, logs and metrics. So many requests may be under way
    /// at once; the next is refused, unless there is a [`queue`](Self::queue).
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, limit: NonZeroU32) -> Self {
        let state = Shared::new(State::new(name.into(), limit.get()));
        Self { state, options: Options::default(), triage: Everyone, exchange: Auto }
    }

    /// How long a request waits in the queue when nothing else has been said: about as long as a
    /// user does, and much longer than a queue takes that is only smoothing bursts.
    pub const DEFAULT_WAIT: TimeLimit = TimeLimit::from_secs(1);
}

impl<X, T> BulkheadLayer<X, T> {
    /// Lets so many requests wait in line for a place, each for
    /// [`DEFAULT_WAIT`](BulkheadLayer::DEFAULT_WAIT) unless [`wait`](Self::wait) says otherwise. The
    /// queue becomes part of the layer's state, and so of its clones.
    #[must_use]
    pub fn queue(self, waiters: u32) -> Self {
        self.state.gate.set_bound(waiters);
        self
    }

    /// How long a request waits in the queue at most. It becomes part of the layer's state.
    #[must_use]
    pub fn wait(self, limit: TimeLimit) -> Self {
        self.state.set_wait(limit);
        self
    }

    /// Divides the limit. `by` names the partition of a request; a name that is none of them
    /// belongs to the rest, which has no share and only borrows.
    ///
    /// Say so before the first request. Each request then goes through a lock.
    #[must_use]
    pub fn partitions<F>(self, partitions: Partitions, by: F) -> BulkheadLayer<X, Divided<F, T>> {
        self.state.gate.divide(&partitions);
        self.triage(|others| Divided::new(by, partitions, others))
    }

    /// Lets a request through that `by` says yes to: it takes no place, and is not counted in
    /// flight. For health checks and for administrators, who must get in when nobody else does.
    #[must_use]
    pub fn bypass<F>(self, by: F) -> BulkheadLayer<X, Bypass<F, T>> {
        self.triage(|others| Bypass::new(by, others))
    }

    /// Sheds the least critical requests first. How critical a request is, an outer layer or a
    /// header says.
    #[must_use]
    pub fn criticality(mut self, shedding: Shedding) -> Self {
        self.options.shedding = Some(shedding);
        self
    }

    /// As [`criticality`](Self::criticality), and asks `by` first, which answers with an
    /// `Option<Criticality>`.
    #[must_use]
    pub fn criticality_by<F>(self, shedding: Shedding, by: F) -> BulkheadLayer<X, Ranked<F, T>> {
        self.criticality(shedding).triage(|others| Ranked::new(by, others))
    }

    /// Sheds sooner when there is less leeway: of its share of the room each class that
    /// [`criticality`](Self::criticality) sheds has no more than this part, as of each moment, and place for one at the least. What
    /// is critical keeps its own. It becomes part of the layer's state.
    #[must_use]
    pub fn leeway(self, leeway: Leeway) -> Self {
        self.state.set_leeway(Some(leeway));
        self
    }

    /// Moves the limit with the latency that is measured; that of [`new`](BulkheadLayer::new) is
    /// where it begins. It becomes part of the layer's state.
    #[must_use]
    pub fn adaptive(self, adaptive: impl Into<Adaptive>) -> Self {
        self.state.adapt(adaptive.into());
        self
    }

    /// Gives a place back when the head of the response is there, and not at the end of its body.
    #[must_use]
    pub fn until_head(mut self) -> Self {
        self.options.until_head = true;
        self
    }

    /// Replaces how requests are read and refusals surface.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> BulkheadLayer<Y, T> {
        let Self { state, options, triage, .. } = self;
        BulkheadLayer { state, options, triage, exchange }
    }

    /// Replaces how calls are judged, for a limit that moves with how they end: a
    /// [`StatusRules`](buttress_core::http::StatusRules), or a classifier of your own.
    #[must_use]
    pub fn judge<C>(self, classifier: C) -> BulkheadLayer<Custom<Classified<C>, X>, T> {
        let Self { state, options, triage, exchange: reject } = self;
        let exchange = Custom { judge: Classified(classifier), reject };
        BulkheadLayer { state, options, triage, exchange }
    }

    /// Replaces how refusals surface.
    #[must_use]
    pub fn on_reject<R>(self, reject: R) -> BulkheadLayer<Custom<X, R>, T> {
        let Self { state, options, triage, exchange: judge } = self;
        BulkheadLayer { state, options, triage, exchange: Custom { judge, reject } }
    }

    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> BulkheadHandle {
        BulkheadHandle { state: self.state.clone() }
    }

    fn triage<U>(self, with: impl FnOnce(T) -> U) -> BulkheadLayer<X, U> {
        let Self { state, options, triage, exchange } = self;
        BulkheadLayer { state, options, triage: with(triage), exchange }
    }
}

impl<S, X: Clone, T: Clone> Layer<S> for BulkheadLayer<X, T> {
    type Service = Bulkhead<S, X, T>;

    fn layer(&self, inner: S) -> Bulkhead<S, X, T> {
        let (triage, exchange) = (self.triage.clone(), self.exchange.clone());
        Bulkhead::new(inner, self.state.clone(), self.options, triage, exchange)
    }
}
