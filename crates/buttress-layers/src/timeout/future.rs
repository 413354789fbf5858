use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use buttress_core::{Facts, Judge, Lease, Reject, Rejection, clock};
use pin_project::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::{Clock, Cut, handle::State, limits::Due};
use crate::clock::read;

/// The response of a [`Timeout`](super::Timeout) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S, F, X, Request, Kept> {
    #[pin]
    stage: Stage<S, F, Request>,
    /// Made when the inner future is first found pending: most never are.
    #[pin]
    timer: Option<Sleep>,
    call: Call,
    /// `None` once it is over.
    state: Option<Lease<State>>,
    kept: Option<Kept>,
    exchange: X,
}

#[pin_project(project = StageProj)]
enum Stage<S, F, Request> {
    Running {
        #[pin]
        inner: F,
    },
    /// For the inner service to become ready.
    Waiting {
        service: S,
        request: Option<Request>,
    },
    /// Refused before it started.
    Refused {
        rejection: Option<Rejection>,
    },
    Over,
}

/// What the service decided for one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// By when the head must be there.
    pub(super) head: Option<Due>,
    /// By when the body must have ended.
    pub(super) total: Option<Due>,
    pub(super) idle: Option<Duration>,
    pub(super) facts: Facts,
    /// The header that tells the next hop of a deadline, if it shall be told.
    pub(super) forward: Option<&'static str>,
    /// The deadline that it is told.
    pub(super) told: Option<Instant>,
    pub(super) nested: bool,
}

impl Call {
    /// Tells the next hop what is left, as the request leaves.
    #[inline]
    pub(super) fn forward<X, Req, Res, Err>(&self, exchange: &X, request: &mut Req, now: Instant)
    where
        X: Judge<Req, Res, Err>,
    {
        // In shadow mode it may leave late: what has passed goes on as it came.
        if let (Some(header), Some(at)) = (self.forward, self.told.filter(|at| *at > now)) {
            exchange.forward(request, self.facts, header, at, now);
        }
    }

    /// Calls or polls what must be done by our limits, and lets it know.
    #[inline]
    pub(super) fn within<T>(&self, state: &State, work: impl FnOnce() -> T) -> T {
        // A limit that is only tried out is nobody's deadline.
        if state.is_shadow() {
            return work();
        }
        let at = |due: Option<Due>| due.map(|due| due.at);
        let _within = clock::within(clock::Due { head: at(self.head), end: at(self.total) });
        work()
    }

    /// Stops all clocks: in shadow mode, once the request would have been refused.
    pub(super) fn stop(&mut self) {
        (self.head, self.total, self.idle) = (None, None, None);
    }
}

impl<S, F, X, Request, Kept> ResponseFuture<S, F, X, Request, Kept> {
    #[inline]
    pub(super) fn running(
        inner: F,
        call: Call,
        state: Lease<State>,
        kept: Kept,
        exchange: X,
    ) -> Self {
        Self::new(Stage::Running { inner }, call, state, kept, exchange)
    }

    pub(super) fn waiting(
        service: S,
        request: Request,
        call: Call,
        state: Lease<State>,
        kept: Kept,
        exchange: X,
    ) -> Self {
        Self::new(Stage::Waiting { service, request: Some(request) }, call, state, kept, exchange)
    }

    pub(super) fn refused(
        rejection: Rejection,
        call: Call,
        state: Lease<State>,
        kept: Kept,
        exchange: X,
    ) -> Self {
        Self::new(Stage::Refused { rejection: Some(rejection) }, call, state, kept, exchange)
    }

    #[inline]
    fn new(
        stage: Stage<S, F, Request>,
        call: Call,
        state: Lease<State>,
        kept: Kept,
        exchange: X,
    ) -> Self {
        Self { stage, timer: None, call, state: Some(state), kept: Some(kept), exchange }
    }
}

impl<S, X, Request, Response, Error, Kept> Future for ResponseFuture<S, S::Future, X, Request, Kept>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error, Response<Cut> = Response>
        + Reject<Request, Response, S::Error, Error = Error, Context = Kept>,
{
    type Output = Result<Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let state = this.state.as_ref().expect("polled after completion");
        let _scope = clock::poll(this.call.nested);

        // Before the inner future, which may use up the task's budget: a timer without any would
        // be pending for ever. What it says counts only if the inner future is pending.
        let mut rang = false;
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            rang = timer.poll(cx).is_ready();
        }
        let call = &*this.call;
        let outcome = match this.stage.as_mut().project() {
            StageProj::Running { inner } => call.within(state, || inner.poll(cx)),
            StageProj::Waiting { .. } => {
                call.within(state, || start(this.stage.as_mut(), this.exchange, call, cx))
            }
            StageProj::Refused { rejection } => {
                let rejection = rejection.take().expect("refused once");
                this.state.take();
                let kept = this.kept.take().expect("kept until a refusal");
                return Poll::Ready(this.exchange.reject(kept, rejection));
            }
            StageProj::Over => unreachable!("its state was taken"),
        };
        let rejection = match outcome {
            Poll::Pending => {
                let Some(due) = this.call.head else { return Poll::Pending };
                if !rang {
                    ready!(sleep(this.timer.as_mut(), due.at).poll(cx));
                }
                let Some(rejection) = state.expire(due.clock) else {
                    // In shadow mode it goes on, and starts if it was kept from it.
                    this.call.stop();
                    this.timer.set(None);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                };
                rejection
            }
            Poll::Ready(outcome) => {
                // Without a clock it has been counted already, in shadow mode.
                let gave_up =
                    this.call.head.is_some() && this.exchange.is_timeout(this.call.facts, &outcome);
                let Some(rejection) = gave_up.then(|| state.expire(Clock::Deadline)).flatten()
                else {
                    if gave_up {
                        this.call.stop();
                    }
                    return Poll::Ready(match outcome {
                        Ok(response) => {
                            let state = this.state.take().expect("it was there");
                            let (exchange, call) = (this.exchange, this.call);
                            Ok(watch::<X, Request, _, S::Error>(exchange, response, call, state))
                        }
                        Err(error) => {
                            this.state.take();
                            Err(this.exchange.inner(error))
                        }
                    });
                };
                rejection
            }
        };
        // What is inside is dropped now, and not when the caller gets round to it.
        this.stage.set(Stage::Over);
        this.state.take();
        let kept = this.kept.take().expect("kept until a refusal");
        Poll::Ready(this.exchange.reject(kept, rejection))
    }
}

/// Waits for the inner service to become ready, and calls it.
fn start<S, X, Request>(
    mut stage: Pin<&mut Stage<S, S::Future, Request>>,
    exchange: &X,
    call: &Call,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Response, S::Error>>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error>,
{
    if let StageProj::Waiting { service, request } = stage.as_mut().project() {
        ready!(service.poll_ready(cx))?;
        let entered = clock::enter(read);
        if call.head.is_some_and(|due| due.at <= entered.now()) {
            // Too late to start. The timer has rung, or is about to.
            return Poll::Pending;
        }
        let mut request = request.take().expect("called once");
        call.forward::<X, Request, S::Response, S::Error>(exchange, &mut request, entered.now());
        let inner = service.call(request);
        drop(entered);
        stage.set(Stage::Running { inner });
    }
    match stage.project() {
        StageProj::Running { inner } => inner.poll(cx),
        _ => unreachable!("it has been started"),
    }
}

/// Lets the body be cut, if it can run out of time.
#[inline]
fn watch<X, Request, Response, Error>(
    exchange: &X,
    response: Response,
    call: &Call,
    state: Lease<State>,
) -> X::Response<Cut>
where
    X: Judge<Request, Response, Error>,
{
    if call.total.is_none() && call.idle.is_none() {
        return exchange.pass(response);
    }
    exchange.wrap(call.facts, response, Cut::new(call, state))
}

/// The timer, made if it is not there yet, and set to `at`.
pub(super) fn sleep(mut timer: Pin<&mut Option<Sleep>>, at: Instant) -> Pin<&mut Sleep> {
    if timer.is_none() {
        timer.set(Some(sleep_until(at.into())));
    }
    timer.as_pin_mut().expect("made above")
}

impl<S, F, X: fmt::Debug, Request, Kept> fmt::Debug for ResponseFuture<S, F, X, Request, Kept> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("call", &self.call)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
