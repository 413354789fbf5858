use std::{
    fmt,
    task::{Context, Poll},
};

use buttress_core::{Auto, Case, Judge, Reason, Shared, Side, clock, fallback::Why, http::Degrade};
use tower_service::Service;

use super::{Ladder, Nothing, ResponseFuture, future::Stage, layer::Inner, look::Look};
use crate::clock::read;

/// Answers in the service's stead when it fails.
///
/// See the [module docs](super) for an example.
pub struct Fallback<S, L = Nothing, X = Auto> {
    inner: S,
    shared: Shared<Inner<L>>,
    exchange: X,
}

impl<S, L, X> Fallback<S, L, X> {
    pub(super) fn new(inner: S, shared: Shared<Inner<L>>, exchange: X) -> Self {
        Self { inner, shared, exchange }
    }
}

impl<S: Clone, L, X: Clone> Clone for Fallback<S, L, X> {
    fn clone(&self) -> Self {
        let Self { inner, shared, exchange } = self;
        Self { inner: inner.clone(), shared: shared.clone(), exchange: exchange.clone() }
    }
}

impl<S: fmt::Debug, L, X: fmt::Debug> fmt::Debug for Fallback<S, L, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("inner", &self.inner)
            .field("state", &self.shared.state)
            .field("exchange", &self.exchange)
            .finish()
    }
}

impl<S, L, X, Request> Service<Request> for Fallback<S, L, X>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error> + Degrade<Request, S::Response>,
    L: Ladder<Request, S::Response, S::Error, X>,
{
    type Response = X::Answer;
    type Error = S::Error;
    type Future = ResponseFuture<S, L, X, Request>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        let (shared, exchange) = (self.shared.lease(), &self.exchange);
        let started = X::Case::TIMED.then(|| clock::enter(read).now());
        let facts = exchange.facts(&request);
        let look = Look::new(exchange.open(&request, facts, Side::Server), started);
        let nothing = shared.ladder.nothing(facts);
        // Who answers nothing keeps nothing.
        if nothing.is_some() || shared.state.is_shadow() {
            let inner = self.inner.call(request);
            let (stage, exchange) = (Stage::Asking { inner }, exchange.clone());
            return ResponseFuture { stage, look, kept: nothing, shared, exchange };
        }
        let (request, mut kept) = shared.ladder.keep(exchange, request, facts, shared.state.body);
        if let Some(given) = shared.ladder.at_once(&mut kept, exchange) {
            let why = Why::new(Reason::Other, facts);
            let answer = shared.state.hand_out::<Request, S::Response, X>(exchange, given, why);
            return ResponseFuture::given(answer, look, shared, exchange.clone());
        }
        let inner = self.inner.call(request);
        let (stage, exchange) = (Stage::Asking { inner }, exchange.clone());
        ResponseFuture { stage, look, kept: Some(kept), shared, exchange }
    }
}
