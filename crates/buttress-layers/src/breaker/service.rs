use std::{
    mem,
    task::{Context, Poll},
};

use buttress_core::{
    Auto, Case, End, Judge, OnUnwind, Reject, Remaining, Side,
    breaker::{Moves, Outcome},
    clock::{self, Due, Entered},
    guarded,
};
use tower_service::Service;

use super::{One, Permit, ResponseFuture, pick::Pick};
use crate::clock::read;

/// Refuses calls to a service that keeps failing.
///
/// See the [module docs](super) for an example.
#[derive(Debug)]
pub struct Breaker<S, X = Auto, K = One> {
    inner: S,
    /// Whether `inner` was ready when last polled, and has not been called since.
    ready: bool,
    circuits: K,
    exchange: X,
}

impl<S, X, K> Breaker<S, X, K> {
    pub(super) fn new(inner: S, circuits: K, exchange: X) -> Self {
        Self { inner, ready: false, circuits, exchange }
    }
}

impl<S: Clone, X: Clone, K: Clone> Clone for Breaker<S, X, K> {
    fn clone(&self) -> Self {
        // A clone is never ready.
        Self {
            inner: self.inner.clone(),
            ready: false,
            circuits: self.circuits.clone(),
            exchange: self.exchange.clone(),
        }
    }
}

impl<S, X, K, Request> Service<Request> for Breaker<S, X, K>
where
    S: Service<Request> + Clone,
    K: Pick<Request>,
    X: Judge<Request, S::Response, S::Error>
        + Reject<
            Request,
            <X as Judge<Request, S::Response, S::Error>>::Response<
                Permit<<X as Judge<Request, S::Response, S::Error>>::Case>,
            >,
            S::Error,
        >,
{
    type Response = <X as Judge<Request, S::Response, S::Error>>::Response<
        Permit<<X as Judge<Request, S::Response, S::Error>>::Case>,
    >;
    type Error = <X as Reject<Request, Self::Response, S::Error>>::Error;
    type Future = ResponseFuture<
        S,
        S::Future,
        X,
        <X as Judge<Request, S::Response, S::Error>>::Case,
        Request,
        <X as Reject<Request, Self::Response, S::Error>>::Context,
    >;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !self.ready {
            self.ready = match self.inner.poll_ready(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.exchange.inner(error))),
                // An open breaker answers all the same; a call that it admits waits in its future.
                Poll::Pending => false,
            };
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        let circuit = self.circuits.pick(&request);
        let mut moves = Moves::new();
        let ticket = match circuit.admit(&mut moves) {
            Ok(ticket) => ticket,
            Err(rejection) => {
                circuit.tell(&moves);
                let kept = self.exchange.context(&request);
                return ResponseFuture::refused(rejection, kept, self.exchange.clone());
            }
        };
        let look = || {
            let facts = self.exchange.facts(&request);
            let remaining = self.exchange.deadline(&request, facts, None);
            (self.exchange.open(&request, facts, Side::Client), remaining)
        };
        // It is admitted by now: a panic of its classifier is one of the call.
        let (case, remaining) = guarded(look, || {
            circuit.tell(&moves);
            circuit.settle(ticket, Outcome::Failure.into(), read());
        });
        // The clock is read for those who look at it: most calls are over before anybody asks.
        let timed = X::Case::TIMED
            || circuit.slower_than().is_some()
            || matches!(remaining, Some(Remaining::For(_)));
        let entered = timed.then(|| clock::enter(read));
        let nested = entered.as_ref().map_or_else(clock::is_entered, Entered::is_nested);
        let started = entered.as_ref().map(Entered::now);
        let theirs = match remaining {
            Some(Remaining::For(_)) => {
                remaining.zip(started).and_then(|(remaining, started)| remaining.ends(started))
            }
            Some(Remaining::Until(at)) => Some(at),
            None => None,
        };
        let mut due = clock::due();
        if theirs.is_some() {
            due = due.sooner(Due { head: theirs, end: theirs });
        }

        let mut permit = Permit::new(case, circuit, ticket, started, due);
        permit.tell(&moves);
        if mem::take(&mut self.ready) {
            let guard = OnUnwind::new(|| permit.end(End::Panicked, read()));
            let inner = self.inner.call(request);
            guard.defuse();
            return ResponseFuture::running(inner, permit, nested, self.exchange.clone());
        }
        // The instance that was polled holds our place in whatever queue it waits in.
        let clone = self.inner.clone();
        let polled = mem::replace(&mut self.inner, clone);
        ResponseFuture::waiting(polled, request, permit, nested, self.exchange.clone())
    }
}
