use std::{
    mem,
    task::{Context, Poll},
};

use buttress_core::{Auto, Reject, clock};
use tower_service::Service;

use super::{Plan, ResponseFuture, Weigh, common::Admission, future::Waiting, pool::Pool};
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

impl<S, X, K, C, Request> Service<Request> for RateLimit<S, X, Plan<K, C>>
where
    S: Service<Request> + Clone,
    K: Pool<Request>,
    C: Weigh<Request>,
    X: Reject<Request, S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = X::Error;
    type Future = ResponseFuture<S, S::Future, X, K::Seat, Request, X::Context>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.exchange.inner(error))
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        let entered = clock::enter(read);
        let nested = entered.is_nested();
        let ask = self.plan.cost.weigh(&request);
        match self.plan.pool.enter(&request, ask, entered.now()) {
            Admission::Admitted => {
                let inner = self.inner.call(request);
                ResponseFuture::running(inner, nested, self.exchange.clone())
            }
            Admission::Refused(rejection) => {
                let kept = self.exchange.context(&request);
                ResponseFuture::refused(rejection, kept, nested, self.exchange.clone())
            }
            Admission::Waiting(seat) => {
                let kept = self.exchange.context(&request);
                // The instance that was polled is the one that may be called.
                let clone = self.inner.clone();
                let service = mem::replace(&mut self.inner, clone);
                let waiting = Waiting::new(seat, service, request, kept);
                ResponseFuture::waiting(waiting, nested, self.exchange.clone())
            }
        }
    }
}
