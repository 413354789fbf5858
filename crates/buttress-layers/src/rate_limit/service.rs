use std::{
    mem,
    task::{Context, Poll},
};

use buttress_core::{Auto, Reject, clock};
use tower_service::Service;

use super::{
    Announce, Plan, ResponseFuture, Weigh, common::Admission, future::Waiting, pool::Pool,
};
use crate::clock::read;

/// Refuses requests that come faster than a rate, or lets them wait.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct RateLimit<S, X = Auto, P = Plan> {
    inner: S,
    plan: P,
    exchange: X,
}

impl<S, X, P> RateLimit<S, X, P> {
    pub(super) fn new(inner: S, plan: P, exchange: X) -> Self {
        Self { inner, plan, exchange }
    }
}

impl<S, X, K, C, N, Request> Service<Request> for RateLimit<S, X, Plan<K, C, N>>
where
    S: Service<Request> + Clone,
    K: Pool<Request>,
    C: Weigh<Request>,
    N: Announce<S::Response>,
    X: Reject<Request, S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = X::Error;
    type Future = ResponseFuture<S, S::Future, X, K::Seat, Request, X::Context, N, N::Note>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.exchange.inner(error))
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        let arrived = clock::arrive(read);
        let now = arrived.now();
        let Plan { pool, cost, announce } = &self.plan;
        if cost.is_free(&request) {
            let (announce, exchange) = (announce.clone(), self.exchange.clone());
            return ResponseFuture::running(self.inner.call(request), None, announce, exchange);
        }
        let note =
            |retry_after| announce.note(pool.name(), || pool.standings(&request, now), retry_after);
        match pool.enter(&request, cost.weigh(&request), now) {
            Admission::Admitted => {
                let (note, announce, exchange) =
                    (note(None), announce.clone(), self.exchange.clone());
                ResponseFuture::running(self.inner.call(request), Some(note), announce, exchange)
            }
            Admission::Refused(rejection) => {
                let (note, exchange) = (note(rejection.retry_after()), self.exchange.clone());
                let refusal = (rejection, exchange.context(&request));
                ResponseFuture::refused(refusal, note, announce.clone(), exchange)
            }
            Admission::Waiting(seat) => {
                let exchange = self.exchange.clone();
                let kept = exchange.context(&request);
                // The instance that was polled is the one that may be called.
                let clone = self.inner.clone();
                let service = mem::replace(&mut self.inner, clone);
                let waiting = Waiting::new(seat, service, request, kept);
                ResponseFuture::waiting(waiting, announce.clone(), exchange)
            }
        }
    }
}
