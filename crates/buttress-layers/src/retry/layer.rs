use std::sync::Arc;

use buttress_core::{Auto, Custom, Shared, http::Classified, retry::Settings};
use tower_layer::Layer;

use super::{Retry, RetryHandle, handle::State};
use crate::{header, timeout::TimeoutLayer};

/// Builds [`Retry`] services.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct RetryLayer<X = Auto> {
    state: Shared<State>,
    headers: Headers,
    exchange: X,
}

/// The headers by which HTTP learns what gRPC has its own for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    /// How many attempts there were before.
    pub(super) attempt: &'static str,
    /// How long the caller will wait.
    pub(super) deadline: &'static str,
}

impl RetryLayer {
    /// A layer whose name stands in refusals, logs and metrics.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, settings: Settings) -> Self {
        let headers =
            Headers { attempt: Self::ATTEMPT_HEADER, deadline: <TimeoutLayer>::DEADLINE_HEADER };
        let state = Shared::new(State::new(name.into(), settings));
        Self { state, headers, exchange: Auto }
    }
}

impl<X> RetryLayer<X> {
    /// The HTTP header that says with a request which is sent again how many attempts there were
    /// before; gRPC has `grpc-previous-rpc-attempts`.
    pub const ATTEMPT_HEADER: &'static str = "x-retry-attempt";

    /// Says it in another header.
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

    /// Replaces how calls are judged and made again, and how time that ran out surfaces.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> RetryLayer<Y> {
        RetryLayer { state: self.state, headers: self.headers, exchange }
    }

    /// Replaces how time that ran out surfaces, the only thing that this layer ever refuses.
    #[must_use]
    pub fn on_reject<R>(self, reject: R) -> RetryLayer<Custom<X, R>> {
        let Self { state, headers, exchange } = self;
        RetryLayer { state, headers, exchange: Custom { judge: exchange, reject } }
    }

    /// Replaces what counts as a failure: a [`StatusRules`](buttress_core::http::StatusRules), or
    /// a classifier of your own, which the breaker and the SLI may share. What it calls good is
    /// never retried.
    #[must_use]
    pub fn judge<C>(self, classifier: C) -> RetryLayer<Custom<Classified<C>, X>> {
        let Self { state, headers, exchange } = self;
        let exchange = Custom { judge: Classified(classifier), reject: exchange };
        RetryLayer { state, headers, exchange }
    }

    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> RetryHandle {
        RetryHandle { state: self.state.clone() }
    }
}

impl<S, X: Clone> Layer<S> for RetryLayer<X> {
    type Service = Retry<S, X>;

    fn layer(&self, inner: S) -> Retry<S, X> {
        Retry::new(inner, self.state.clone(), self.headers, self.exchange.clone())
    }
}
