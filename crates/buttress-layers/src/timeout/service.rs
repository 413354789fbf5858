use std::{
    mem,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress_core::{Auto, Facts, Judge, Reject, Remaining, Shared, TimeLimit, clock};
use tower_service::Service;

use super::{
    Clock, Cut, ResponseFuture,
    future::{Call, Told},
    handle::{Arrival, State},
    limits::{Due, SeenLimits},
};
use crate::clock::read;

/// Refuses requests whose response takes too long.
///
/// See the [module docs](super) for an example.
#[derive(Debug)]
pub struct Timeout<S, X = Auto> {
    inner: S,
    /// Whether `inner` was ready when last polled, and has not been called since.
    ready: bool,
    limits: SeenLimits,
    state: Shared<State>,
    propagate: Option<&'static str>,
    exchange: X,
}

impl<S, X> Timeout<S, X> {
    pub(super) fn new(
        inner: S,
        state: Shared<State>,
        propagate: Option<&'static str>,
        exchange: X,
    ) -> Self {
        Self { inner, ready: false, limits: state.limits.see(), state, propagate, exchange }
    }

    /// By when the caller wants its answer, where it says so and we are to listen.
    #[inline]
    fn callers<Req, Res, Err>(&self, request: &Req, facts: Facts, now: Instant) -> Option<Due>
    where
        X: Judge<Req, Res, Err>,
    {
        let remaining = self.exchange.deadline(request, facts, Some(self.propagate?))?;
        let remaining = match remaining {
            // Tokio's timer rounds up to whole milliseconds, so half of one earlier falls on the
            // tick of the caller's own timer or just before it: our answer says what happened,
            // where theirs would say `Cancelled`.
            Remaining::For(left) => Remaining::For(left.saturating_sub(HALF_A_TICK.min(left / 2))),
            Remaining::Until(at) => Remaining::Until(at),
        };
        Some(Due { at: remaining.ends(now)?, clock: Clock::Deadline })
    }
}

const HALF_A_TICK: Duration = Duration::from_micros(500);

impl<S: Clone, X: Clone> Clone for Timeout<S, X> {
    fn clone(&self) -> Self {
        // A clone is never ready.
        Self {
            inner: self.inner.clone(),
            ready: false,
            limits: self.limits,
            state: self.state.clone(),
            propagate: self.propagate,
            exchange: self.exchange.clone(),
        }
    }
}

impl<S, X, Request> Service<Request> for Timeout<S, X>
where
    S: Service<Request> + Clone,
    X: Judge<Request, S::Response, S::Error>
        + Reject<Request, <X as Judge<Request, S::Response, S::Error>>::Response<Cut>, S::Error>,
{
    type Response = <X as Judge<Request, S::Response, S::Error>>::Response<Cut>;
    type Error = <X as Reject<Request, Self::Response, S::Error>>::Error;
    type Future = ResponseFuture<
        S,
        S::Future,
        X,
        Request,
        <X as Reject<Request, Self::Response, S::Error>>::Context,
    >;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !self.ready {
            self.ready = match self.inner.poll_ready(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.exchange.inner(error))),
                // Waited for in the future, where the clock runs.
                Poll::Pending => false,
            };
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: Request) -> Self::Future {
        let arrived = clock::arrive(read);
        let now = arrived.now();
        let facts = self.exchange.facts(&request);
        let limits = *self.limits.refreshed(&self.state.limits);

        let own = Due::after(now, limits.of_total(), Clock::Total);
        let callers = self.callers::<_, S::Response, S::Error>(&request, facts, now);
        let kept = self.exchange.context_of(&request, facts);
        let state = self.state.lease();
        let total = Due::sooner(own, callers);
        let head = Due::sooner(total, Due::after(now, limits.of_head(), Clock::Head));
        let idle = limits.of_idle().map(TimeLimit::get);
        let mut call = Call { head, total, idle, facts };
        let mut told = Told { header: self.propagate, deadline: None };
        if told.header.is_some() {
            // A limit that is only tried out is nobody's deadline.
            let due = if state.is_shadow() { callers } else { total };
            told.deadline = due.map(|due| due.at).filter(|at| *at > now);
        }
        if self.propagate.is_some() {
            match state.arrives(callers.map(|due| due.at), now) {
                Arrival::InTime => {}
                Arrival::Refused(rejection) => {
                    let exchange = self.exchange.clone();
                    return ResponseFuture::refused(rejection, call, state, kept, exchange);
                }
                Arrival::Tried => call.stop(),
                // Its caller's word is not taken; our own limits hold.
                Arrival::Spared => {
                    call.total = own;
                    call.head = Due::sooner(own, Due::after(now, limits.of_head(), Clock::Head));
                    // Or the next hop refuses it by that word.
                    told.deadline = own.map(|due| due.at).filter(|_| !state.is_shadow());
                }
            }
        }
        let exchange = self.exchange.clone();
        if mem::take(&mut self.ready) {
            told.forward::<X, _, S::Response, S::Error>(&exchange, &mut request, facts, now);
            let within = call.within(&state);
            let inner = self.inner.call(request);
            drop(within);
            return ResponseFuture::running(inner, call, state, kept, exchange);
        }
        // The instance that was polled holds our place in whatever queue it waits in.
        let clone = self.inner.clone();
        let polled = mem::replace(&mut self.inner, clone);
        ResponseFuture::waiting(polled, (request, told), call, state, kept, exchange)
    }
}
