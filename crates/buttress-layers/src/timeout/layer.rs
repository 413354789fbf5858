use std::sync::Arc;

use buttress_core::{Auto, Custom, Expired, ExpiredCap, Plain, Shared, TimeLimit};
use tower_layer::Layer;

use super::{Limits, Timeout, TimeoutHandle, handle::State};
use crate::header;

/// Builds [`Timeout`] services.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct TimeoutLayer<X = Auto> {
    state: Shared<State>,
    propagate: Option<&'static str>,
    exchange: X,
}

impl TimeoutLayer {
    /// A layer whose name stands in refusals, logs and metrics. A [`TimeLimit`] alone is a total.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, limits: impl Into<Limits>) -> Self {
        let state = Shared::new(State::new(name.into(), limits.into()));
        Self { state, propagate: None, exchange: Auto }
    }
}

impl TimeoutLayer<Plain> {
    /// A limit on connecting, for reqwest's `connector_layer` and for connectors elsewhere: what
    /// they make is no response, and has no body to wait for.
    #[must_use]
    pub fn connect(name: impl Into<Arc<str>>, limit: TimeLimit) -> Self {
        TimeoutLayer::new(name, limit).exchange(Plain)
    }
}

impl<X> TimeoutLayer<X> {
    /// Reads the caller's deadline and writes what is left of it for the next hop: in
    /// `grpc-timeout` for gRPC, in [`DEADLINE_HEADER`](Self::DEADLINE_HEADER) for HTTP.
    #[must_use]
    pub fn propagate(self) -> Self {
        self.propagate_in(Self::DEADLINE_HEADER)
    }

    /// As [`propagate`](Self::propagate), with another header for HTTP, such as Envoy's
    /// `x-envoy-expected-rq-timeout-ms`. Its value is whole milliseconds, eight digits at most.
    ///
    /// # Panics
    ///
    /// If `header` is no header name in lower case.
    #[must_use]
    pub fn propagate_in(mut self, header: &'static str) -> Self {
        self.propagate = Some(header::checked(header));
        self
    }

    /// Refuses no more than this share of the work whose deadline has passed, where all of it is
    /// otherwise: so many as are served pay for one refusal. Who sends wrong deadlines is served so
    /// most of the time, within our own limits; the next hop is told of our total then, where there
    /// is one.
    ///
    /// Only with [`propagate`](Self::propagate). It becomes part of the layer's state, once.
    ///
    /// ```
    /// use buttress_core::{ExpiredCap, Ratio, TimeLimit};
    /// use buttress_layers::timeout::TimeoutLayer;
    ///
    /// let layer = TimeoutLayer::new("checkout", TimeLimit::from_secs(2))
    ///     .propagate()
    ///     .refuse_expired_at_most(ExpiredCap::new(Ratio::percent(20)));
    /// assert_eq!(layer.handle().snapshot().came_late(), 0);
    /// ```
    ///
    /// # Panics
    ///
    /// If this layer, or a clone of it, has a cap already.
    #[must_use]
    pub fn refuse_expired_at_most(self, cap: impl Into<ExpiredCap>) -> Self {
        let set = self.state.cap.set(Expired::new(cap.into()));
        assert!(set.is_ok(), "a timeout has one cap on what it refuses as expired, and has it");
        self
    }

    /// The HTTP header of [`propagate`](Self::propagate): the milliseconds that are left.
    pub const DEADLINE_HEADER: &'static str = "x-request-timeout-ms";

    /// Replaces how requests are read and refusals surface.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> TimeoutLayer<Y> {
        TimeoutLayer { state: self.state, propagate: self.propagate, exchange }
    }

    /// Replaces how refusals surface.
    #[must_use]
    pub fn on_reject<R>(self, reject: R) -> TimeoutLayer<Custom<X, R>> {
        let Self { state, propagate, exchange } = self;
        TimeoutLayer { state, propagate, exchange: Custom { judge: exchange, reject } }
    }

    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> TimeoutHandle {
        TimeoutHandle { state: self.state.clone() }
    }
}

impl<S, X: Clone> Layer<S> for TimeoutLayer<X> {
    type Service = Timeout<S, X>;

    fn layer(&self, inner: S) -> Timeout<S, X> {
        Timeout::new(inner, self.state.clone(), self.propagate, self.exchange.clone())
    }
}
