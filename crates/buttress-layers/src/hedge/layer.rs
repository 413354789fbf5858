use std::sync::Arc;

use buttress_core::{
    Auto, Custom, Shared,
    hedge::{Settings, Switch},
    http::Classified,
};
use tower_layer::Layer;

use super::{By, Hedge, HedgeHandle, Unsaid, handle::State};
use crate::{header, retry::RetryLayer, timeout::TimeoutLayer};

/// Builds [`Hedge`] services.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct HedgeLayer<X = Auto, T = Unsaid, const N: usize = 1> {
    state: Shared<State>,
    headers: Headers,
    exchange: X,
    chooses: T,
}

/// The headers by which HTTP learns what gRPC has its own for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    /// How many attempts there were before.
    pub(super) attempt: &'static str,
    /// How long the caller will wait.
    pub(super) deadline: &'static str,
}

impl HedgeLayer {
    /// A layer whose name stands in logs and metrics.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, settings: Settings) -> Self {
        let (attempt, deadline) = (<RetryLayer>::ATTEMPT_HEADER, <TimeoutLayer>::DEADLINE_HEADER);
        let state = Shared::new(State::new(name.into(), settings));
        let headers = Headers { attempt, deadline };
        Self { state, headers, exchange: Auto, chooses: Unsaid }
    }
}

impl<X, T, const N: usize> HedgeLayer<X, T, N> {
    /// Sends up to so many attempts after the first, each when the delay has passed once more:
    /// from 1, which it is unless told otherwise, to 4.
    #[must_use]
    pub fn extra<const M: usize>(self) -> HedgeLayer<X, T, M> {
        let Self { state, headers, exchange, chooses } = self;
        HedgeLayer { state, headers, exchange, chooses }
    }

    /// Lets a closure say of each request whether it is to be hedged, or not to be; `None` leaves
    /// it to the [`Switch`] in the extensions of the request, and to its method.
    #[must_use]
    pub fn switch<F, Request>(self, by: F) -> HedgeLayer<X, By<F>, N>
    where
        F: Fn(&Request) -> Option<Switch>,
    {
        let Self { state, headers, exchange, chooses: _ } = self;
        HedgeLayer { state, headers, exchange, chooses: By(by) }
    }

    /// Says in another header than [`RetryLayer::ATTEMPT_HEADER`], with a request that is sent
    /// again, how many attempts there were before; gRPC has `grpc-previous-rpc-attempts`.
    ///
    /// # Panics
    ///
    /// If `header` is no header name in lower case.
    #[must_use]
    pub fn attempt_header(mut self, header: &'static str) -> Self {
        self.headers.attempt = header::checked(header);
        self
    }

    /// Reads the caller's deadline from another header than
    /// [`TimeoutLayer::DEADLINE_HEADER`], and writes what is left of it there.
    ///
    /// # Panics
    ///
    /// If `header` is no header name in lower case.
    #[must_use]
    pub fn deadline_header(mut self, header: &'static str) -> Self {
        self.headers.deadline = header::checked(header);
        self
    }

    /// Replaces how calls are judged and made again.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> HedgeLayer<Y, T, N> {
        let Self { state, headers, exchange: _, chooses } = self;
        HedgeLayer { state, headers, exchange, chooses }
    }

    /// Replaces what counts as a failure: a [`StatusRules`](buttress_core::http::StatusRules), or
    /// a classifier of your own, which the retry, the breaker and the SLI may share. What it
    /// calls good is handed out.
    #[must_use]
    pub fn judge<C>(self, classifier: C) -> HedgeLayer<Custom<Classified<C>, X>, T, N> {
        let Self { state, headers, exchange, chooses } = self;
        let exchange = Custom { judge: Classified(classifier), reject: exchange };
        HedgeLayer { state, headers, exchange, chooses }
    }

    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> HedgeHandle {
        HedgeHandle { state: self.state.clone() }
    }
}

impl<S, X: Clone, T: Clone, const N: usize> Layer<S> for HedgeLayer<X, T, N> {
    type Service = Hedge<S, X, T, N>;

    fn layer(&self, inner: S) -> Hedge<S, X, T, N> {
        let state = self.state.clone();
        Hedge::new(inner, state, self.headers, self.exchange.clone(), self.chooses.clone())
    }
}
