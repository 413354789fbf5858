use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use buttress_core::{Facts, Judge, Lease, Reject, clock};
use pin_project::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::{Clock, Cut, handle::State, limits::Due};
use crate::clock::read;

/// The response of a [`Timeout`](super::Timeout) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S, F, X, Request, Kept, Answer> {
    #[pin]
    stage: Stage<S, F, Request, Answer>,
    /// Made when the inner future is first found pending: most never are.
    #[pin]
    timer: Option<Sleep>,
    call: Option<Call>,
    kept: Option<Kept>,
    exchange: X,
}

#[pin_project(project = StageProj)]
enum Stage<S, F, Request, Answer> {
    /// For the inner service to become ready.
    Waiting {
        service: S,
        request: Option<Request>,
    },
    Running {
        #[pin]
        inner: F,
    },
    Refused {
        answer: Option<Answer>,
    },
    Over,
}

/// What the service decided for one call.
#[derive(Debug)]
pub(super) struct Call {
    /// By when the head must be there.
    pub(super) head: Option<Due>,
    /// By when the body must have ended.
    pub(super) total: Option<Due>,
    pub(super) idle: Option<Duration>,
    pub(super) facts: Facts,
    /// The header that tells the next hop of `total`, if it shall be told.
    pub(super) forward: Option<&'static str>,
    pub(super) state: Lease<State>,
    pub(super) nested: bool,
}

impl Call {
    /// Tells the next hop what is left, as the request leaves.
    pub(super) fn forward<X, Req, Res, Err>(&self, exchange: &X, request: &mut Req, now: Instant)
    where
        X: Judge<Req, Res, Err>,
    {
        if let (Some(header), Some(due)) = (self.forward, self.total) {
            exchange.forward(request, self.facts, header, due.at, now);
        }
    }
}

impl<S, F, X, Request, Kept, Answer> ResponseFuture<S, F, X, Request, Kept, Answer> {
    pub(super) fn running(inner: F, call: Call, kept: Kept, exchange: X) -> Self {
        Self::new(Stage::Running { inner }, Some(call), Some(kept), exchange)
    }

    pub(super) fn waiting(
        service: S,
        request: Request,
        call: Call,
        kept: Kept,
        exchange: X,
    ) -> Self {
        let request = Some(request);
        Self::new(Stage::Waiting { service, request }, Some(call), Some(kept), exchange)
    }

    pub(super) fn refused(answer: Answer, exchange: X) -> Self {
        Self::new(Stage::Refused { answer: Some(answer) }, None, None, exchange)
    }

    fn new(
        stage: Stage<S, F, Request, Answer>,
        call: Option<Call>,
        kept: Option<Kept>,
        exchange: X,
    ) -> Self {
        Self { stage, timer: None, call, kept, exchange }
    }
}

impl<S, X, Request, Response, Error, Kept> Future
    for ResponseFuture<S, S::Future, X, Request, Kept, Result<Response, Error>>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error, Response<Cut> = Response>
        + Reject<Request, Response, S::Error, Error = Error, Context = Kept>,
{
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StageProj::Refused { answer } = this.stage.as_mut().project() {
            return Poll::Ready(answer.take().expect("polled after completion"));
        }
        let call = this.call.as_mut().expect("polled after completion");
        let _scope = clock::poll(call.nested);

        let expired = match drive(this.stage.as_mut(), this.exchange, call, cx) {
            Poll::Pending => {
                let Some(due) = call.head else { return Poll::Pending };
                ready!(sleep(this.timer.as_mut(), due.at).poll(cx));
                // Counted once, shadow mode or not.
                call.head = None;
                if due.clock != Clock::Head {
                    call.total = None;
                }
                call.state.expire(due.clock)
            }
            Poll::Ready(outcome) => {
                let gave_up = this.exchange.is_timeout(call.facts, &outcome);
                let expired = gave_up.then(|| call.state.expire(Clock::Deadline)).flatten();
                if expired.is_none() {
                    let call = this.call.take().expect("it was there");
                    this.stage.set(Stage::Over);
                    let response = outcome.map_err(|error| this.exchange.inner(error))?;
                    let watched = watch::<X, Request, _, S::Error>(this.exchange, response, call);
                    return Poll::Ready(Ok(watched));
                }
                expired
            }
        };
        // In shadow mode nothing is refused, and the inner future will wake us.
        let Some(expired) = expired else { return Poll::Pending };
        // What is inside is dropped now, and not when the caller gets round to it.
        this.stage.set(Stage::Over);
        this.call.take();
        let kept = this.kept.take().expect("kept until a refusal");
        Poll::Ready(this.exchange.reject(kept, expired))
    }
}

/// Drives the inner service: first ready, then to its response.
fn drive<S, X, Request, Answer>(
    mut stage: Pin<&mut Stage<S, S::Future, Request, Answer>>,
    exchange: &X,
    call: &Call,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Response, S::Error>>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error>,
{
    loop {
        let inner = match stage.as_mut().project() {
            StageProj::Running { inner } => return inner.poll(cx),
            StageProj::Waiting { service, request } => {
                ready!(service.poll_ready(cx))?;
                let mut request = request.take().expect("called once");
                let entered = clock::enter(read);
                call.forward::<X, Request, S::Response, S::Error>(
                    exchange,
                    &mut request,
                    entered.now(),
                );
                service.call(request)
            }
            StageProj::Refused { .. } | StageProj::Over => unreachable!("polled after completion"),
        };
        stage.set(Stage::Running { inner });
    }
}

/// Lets the body be cut, if it can run out of time.
fn watch<X, Request, Response, Error>(
    exchange: &X,
    response: Response,
    call: Call,
) -> X::Response<Cut>
where
    X: Judge<Request, Response, Error>,
{
    if call.total.is_none() && call.idle.is_none() {
        return exchange.pass(response);
    }
    let facts = call.facts;
    exchange.wrap(facts, response, Cut::new(call))
}

/// The timer, made if it is not there yet, and set to `at`.
pub(super) fn sleep(mut timer: Pin<&mut Option<Sleep>>, at: Instant) -> Pin<&mut Sleep> {
    if timer.is_none() {
        timer.set(Some(sleep_until(at.into())));
    }
    timer.as_pin_mut().expect("made above")
}

impl<S, F, X: fmt::Debug, Request, Kept, Answer> fmt::Debug
    for ResponseFuture<S, F, X, Request, Kept, Answer>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("call", &self.call)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
