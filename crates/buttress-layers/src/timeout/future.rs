use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use buttress_core::{
    Facts, Judge, Lease, Reject, Rejection,
    clock::{self, Within},
};
use pin_project::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::{Clock, Cut, handle::State, limits::Due};
use crate::clock::{read, sleep};

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
        told: Told,
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
}

impl Call {
    /// Lets whatever is called or polled within the scope know by when it must be done.
    #[inline]
    pub(super) fn within(&self, state: &State) -> Option<Within> {
        let at = |due: Option<Due>| due.map(|due| due.at);
        // A limit that is only tried out is nobody's deadline.
        let due = || clock::Due { head: at(self.head), end: at(self.total) };
        (!state.is_shadow()).then(|| clock::within(due()))
    }

    /// Stops all clocks: in shadow mode, once the request would have been refused.
    pub(super) fn stop(&mut self) {
        (self.head, self.total, self.idle) = (None, None, None);
    }
}

/// What the next hop is told of a deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// The header that tells it, if it shall be told.
    pub(super) header: Option<&'static str>,
    pub(super) deadline: Option<Instant>,
}

impl Told {
    /// Tells it what is left, as the request leaves.
    #[inline]
    pub(super) fn forward<X, Req, Res, Err>(
        self,
        exchange: &X,
        request: &mut Req,
        facts: Facts,
        now: Instant,
    ) where
        X: Judge<Req, Res, Err>,
    {
        // In shadow mode it may leave late: what has passed goes on as it came.
        if let (Some(header), Some(at)) = (self.header, self.deadline.filter(|at| *at > now)) {
            exchange.forward(request, facts, header, at, now);
        }
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
        (request, told): (Request, Told),
        call: Call,
        state: Lease<State>,
        kept: Kept,
        exchange: X,
    ) -> Self {
        let stage = Stage::Waiting { service, request: Some(request), told };
        Self::new(stage, call, state, kept, exchange)
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

        // Before the inner future, which may use up the task's budget: a timer without any would
        // be pending for ever. What it says counts only if the inner future is pending.
        let mut rang = false;
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            rang = timer.poll(cx).is_ready();
        }
        let within = this.call.within(state);
        let outcome = match this.stage.as_mut().project() {
            StageProj::Running { inner } => inner.poll(cx),
            StageProj::Waiting { .. } => start(this.stage.as_mut(), this.exchange, this.call, cx),
            StageProj::Refused { rejection } => {
                let rejection = rejection.take().expect("refused once");
                this.state.take();
                let kept = this.kept.take().expect("kept until a refusal");
                return Poll::Ready(this.exchange.reject(kept, rejection));
            }
            StageProj::Over => unreachable!("its state was taken"),
        };
        drop(within);
        let rejection = match &outcome {
            Poll::Pending => {
                let Some(due) = this.call.head else { return Poll::Pending };
                if !rang {
                    ready!(sleep(this.timer.as_mut(), due.at).poll(cx));
                }
                let rejection = state.expire(due.clock);
                if rejection.is_none() {
                    // In shadow mode it goes on, and starts if it was kept from it.
                    this.call.stop();
                    this.timer.set(None);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                rejection
            }
            // Without a clock it has been counted already, in shadow mode.
            Poll::Ready(outcome)
                if this.call.head.is_some()
                    && this.exchange.is_timeout(this.call.facts, outcome) =>
            {
                let rejection = state.expire(Clock::Deadline);
                if rejection.is_none() {
                    this.call.stop();
                }
                rejection
            }
            Poll::Ready(_) => None,
        };
        let state = this.state.take().expect("it was there");
        if let Some(rejection) = rejection {
            // What is inside is dropped now, and not when the caller gets round to it.
            this.stage.set(Stage::Over);
            let kept = this.kept.take().expect("kept until a refusal");
            return Poll::Ready(this.exchange.reject(kept, rejection));
        }
        match outcome {
            Poll::Ready(Ok(response)) if this.call.total.is_none() && this.call.idle.is_none() => {
                Poll::Ready(Ok(this.exchange.pass::<Cut>(response)))
            }
            Poll::Ready(Ok(response)) => {
                let cut = Cut::new(this.call, state);
                Poll::Ready(Ok(this.exchange.wrap(this.call.facts, response, cut)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(this.exchange.inner(error))),
            Poll::Pending => unreachable!("that has returned, or was refused"),
        }
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
    if let StageProj::Waiting { service, request, told } = stage.as_mut().project() {
        ready!(service.poll_ready(cx))?;
        let entered = clock::arrive(read);
        let now = entered.now();
        if call.head.is_some_and(|due| due.at <= now) {
            // Too late to start. The timer has rung, or is about to.
            return Poll::Pending;
        }
        let mut request = request.take().expect("called once");
        told.forward::<X, Request, S::Response, S::Error>(exchange, &mut request, call.facts, now);
        let inner = service.call(request);
        drop(entered);
        stage.set(Stage::Running { inner });
    }
    match stage.project() {
        StageProj::Running { inner } => inner.poll(cx),
        _ => unreachable!("it has been started"),
    }
}

impl<S, F, X: fmt::Debug, Request, Kept> fmt::Debug for ResponseFuture<S, F, X, Request, Kept> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("call", &self.call)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
