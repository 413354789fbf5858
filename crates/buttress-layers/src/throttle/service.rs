use std::{
    marker::PhantomData,
    task::{Context, Poll},
};

use buttress_core::{
    Auto, Judge, OnUnwind, Reject, Shared, Side,
    clock::{self, Entered},
};
use tower_service::Service;

use super::{Admission, ResponseFuture, future::Stage, handle::State};
use crate::clock::read;

/// Holds back what its service would refuse.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Throttle<S, X = Auto> {
    inner: S,
    state: Shared<State>,
    exchange: X,
}

impl<S, X> Throttle<S, X> {
    pub(super) fn new(inner: S, state: Shared<State>, exchange: X) -> Self {
        Self { inner, state, exchange }
    }
}

impl<S, X, Request> Service<Request> for Throttle<S, X>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error>
        + Reject<
            Request,
            <X as Judge<Request, S::Response, S::Error>>::Response<
                Admission<<X as Judge<Request, S::Response, S::Error>>::Case>,
            >,
            S::Error,
        >,
{
    type Response = <X as Judge<Request, S::Response, S::Error>>::Response<
        Admission<<X as Judge<Request, S::Response, S::Error>>::Case>,
    >;
    type Error = <X as Reject<Request, Self::Response, S::Error>>::Error;
    type Future = ResponseFuture<
        S::Future,
        X,
        <X as Judge<Request, S::Response, S::Error>>::Case,
        Request,
        <X as Reject<Request, Self::Response, S::Error>>::Context,
    >;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.exchange.inner(error))
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        let state = self.state.lease();
        if let Some(rejection) = state.admit(|| clock::enter(read).now()) {
            let context = self.exchange.context(&request);
            return ResponseFuture::refused(rejection, context, self.exchange.clone());
        }
        let timed = <X::Case as buttress_core::Case>::TIMED.then(|| clock::enter(read));
        let nested = timed.as_ref().map_or_else(clock::is_entered, Entered::is_nested);
        let started = timed.as_ref().map(Entered::now);
        let facts = self.exchange.facts(&request);
        let case = self.exchange.open(&request, facts, Side::Client);
        let mut admission = Admission::new(case, state, started, clock::due());
        let guard = OnUnwind::new(|| admission.panicked(read()));
        let inner = self.inner.call(request);
        guard.defuse();
        ResponseFuture {
            stage: Stage::Running { inner, admission: Some(admission) },
            nested,
            exchange: self.exchange.clone(),
            request: PhantomData,
        }
    }
}
