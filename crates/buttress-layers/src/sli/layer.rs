use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use buttress_core::{Auto, Shared, Side, TimeLimit, http::Classified};
use tower_layer::Layer;

use super::{DEFAULT_ROUTES, Sink, Sli, SliHandle, handle::State, routes::Place};

/// Builds [`Sli`] services.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct SliLayer<X = Auto> {
    state: Shared<State>,
    late_after: Option<Duration>,
    exchange: X,
}

impl SliLayer {
    /// Records what we answer. The name stands in logs and metrics.
    #[must_use]
    pub fn server(name: impl Into<Arc<str>>) -> Self {
        Self::new(name.into(), Side::Server, DEFAULT_ROUTES)
    }

    /// Records what others answer us. The name stands in logs and metrics.
    #[must_use]
    pub fn client(name: impl Into<Arc<str>>) -> Self {
        Self::new(name.into(), Side::Client, DEFAULT_ROUTES)
    }

    /// As [`server`](Self::server), with room for so many route templates.
    #[must_use]
    pub fn server_with_routes(name: impl Into<Arc<str>>, most: u16) -> Self {
        Self::new(name.into(), Side::Server, most.into())
    }

    /// As [`client`](Self::client), with room for so many route templates.
    #[must_use]
    pub fn client_with_routes(name: impl Into<Arc<str>>, most: u16) -> Self {
        Self::new(name.into(), Side::Client, most.into())
    }

    fn new(name: Arc<str>, side: Side, routes: usize) -> Self {
        let state = Shared::new(State::new(name, side, routes));
        Self { state, late_after: None, exchange: Auto }
    }
}

impl<X> SliLayer<X> {
    /// Hands every call to `sink` too, at its end. It becomes part of the layer's state, and so
    /// of its clones.
    #[must_use]
    pub fn sink(self, sink: impl Sink) -> Self {
        self.state.sinks.add(Arc::new(sink));
        self
    }

    /// Names routes beforehand, so that their series are there, at 0, before their first call: a
    /// rate over a series that starts with its first failure does not see that failure. They
    /// become part of the layer's state, and so of its clones.
    #[must_use]
    pub fn routes<R: Into<Box<str>>>(self, templates: impl IntoIterator<Item = R>) -> Self {
        for template in templates {
            let template = template.into();
            if let Place::New(template) = self.state.routes.find(Some(&template)) {
                self.state.routes.add(template);
            }
        }
        self
    }

    /// A caller that leaves after this long counts as bad: it left because we were late.
    #[must_use]
    pub fn late_after(mut self, limit: TimeLimit) -> Self {
        self.late_after = Some(limit.get());
        self
    }

    /// Counts as bad what somebody else answered in the service's stead, as a
    /// [`fallback`](crate::fallback) does. Without it such a call is good, and counted beside as
    /// [degraded](super::SliHandle::degraded). It becomes part of the layer's state, and so of
    /// its clones.
    #[must_use]
    pub fn degraded_is_bad(self) -> Self {
        self.state.degraded_is_bad.store(true, Ordering::Relaxed);
        self
    }

    /// Replaces how calls are read and judged.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> SliLayer<Y> {
        SliLayer { state: self.state, late_after: self.late_after, exchange }
    }

    /// Replaces what counts as good, bad and excluded: a
    /// [`StatusRules`](buttress_core::http::StatusRules), or a classifier of your own.
    #[must_use]
    pub fn judge<C>(self, classifier: C) -> SliLayer<Classified<C>> {
        self.exchange(Classified(classifier))
    }

    /// Reads the counts while the layer works.
    #[must_use]
    pub fn handle(&self) -> SliHandle {
        SliHandle { state: self.state.clone() }
    }
}

impl<S, X: Clone> Layer<S> for SliLayer<X> {
    type Service = Sli<S, X>;

    fn layer(&self, inner: S) -> Sli<S, X> {
        Sli::new(inner, self.state.clone(), self.late_after, self.exchange.clone())
    }
}
