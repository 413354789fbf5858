use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{Case, End, Judge, OnUnwind, Reject, Rejection, clock};
use pin_project::pin_project;
use tower_service::Service;

use super::Permit;
use crate::clock::read;

/// The response of a [`Breaker`](super::Breaker) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S, F, X, C: Case, Request, Kept> {
    #[pin]
    stage: Stage<S, F, Request, Kept>,
    /// `None` once it is over, and of a call that was refused.
    permit: Option<Permit<C>>,
    /// Whether a layer around us shares our readings of the clock.
    nested: bool,
    exchange: X,
}

#[pin_project(project = StageProj)]
enum Stage<S, F, Request, Kept> {
    Running {
        #[pin]
        inner: F,
    },
    /// For the inner service to become ready.
    Waiting {
        service: S,
        request: Option<Request>,
    },
    Refused {
        refusal: Option<(Rejection, Kept)>,
    },
}

impl<S, F, X, C: Case, Request, Kept> ResponseFuture<S, F, X, C, Request, Kept> {
    #[inline]
    pub(super) fn running(inner: F, permit: Permit<C>, nested: bool, exchange: X) -> Self {
        Self { stage: Stage::Running { inner }, permit: Some(permit), nested, exchange }
    }

    pub(super) fn waiting(
        service: S,
        request: Request,
        permit: Permit<C>,
        nested: bool,
        exchange: X,
    ) -> Self {
        let stage = Stage::Waiting { service, request: Some(request) };
        Self { stage, permit: Some(permit), nested, exchange }
    }

    pub(super) fn refused(rejection: Rejection, kept: Kept, exchange: X) -> Self {
        let stage = Stage::Refused { refusal: Some((rejection, kept)) };
        Self { stage, permit: None, nested: false, exchange }
    }
}

impl<S, X, Request, Response, Error, Kept> Future
    for ResponseFuture<S, S::Future, X, X::Case, Request, Kept>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error>
        + Reject<Request, Response, S::Error, Error = Error, Context = Kept>,
    X: Judge<
            Request,
            S::Response,
            S::Error,
            Response<Permit<<X as Judge<Request, S::Response, S::Error>>::Case>> = Response,
        >,
{
    type Output = Result<Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StageProj::Refused { refusal } = this.stage.as_mut().project() {
            let (rejection, kept) = refusal.take().expect("polled after completion");
            return Poll::Ready(this.exchange.reject(kept, rejection));
        }
        let permit = this.permit.as_mut().expect("polled after completion");
        let _scope = clock::poll(*this.nested);

        let guard = OnUnwind::new(|| permit.end(End::Panicked, read()));
        let outcome = match this.stage.as_mut().project() {
            StageProj::Running { inner } => inner.poll(cx),
            _ => start(this.stage, cx),
        };
        guard.defuse();
        match outcome {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                let retry_after = this.exchange.retry_after(Err(&error));
                let end = End::Failed(this.exchange.error(&error));
                permit.failed(end, retry_after, clock::ready(read));
                *this.permit = None;
                Poll::Ready(Err(this.exchange.inner(error)))
            }
            Poll::Ready(Ok(response)) => {
                let facts = permit.head_came(
                    |case| this.exchange.head(case, &response),
                    || this.exchange.retry_after(Ok(&response)),
                );
                let permit = this.permit.take().expect("it was there");
                Poll::Ready(Ok(this.exchange.wrap(facts, response, permit)))
            }
        }
    }
}

/// Waits for the inner service to become ready, and calls it.
fn start<S, Request, Kept>(
    mut stage: Pin<&mut Stage<S, S::Future, Request, Kept>>,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Response, S::Error>>
where
    S: Service<Request>,
{
    if let StageProj::Waiting { service, request } = stage.as_mut().project() {
        ready!(service.poll_ready(cx))?;
        let request = request.take().expect("called once");
        let inner = service.call(request);
        stage.set(Stage::Running { inner });
    }
    match stage.project() {
        StageProj::Running { inner } => inner.poll(cx),
        _ => unreachable!("it has been started, and was not refused"),
    }
}

impl<S, F, X: fmt::Debug, C: Case + fmt::Debug, Request, Kept> fmt::Debug
    for ResponseFuture<S, F, X, C, Request, Kept>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("permit", &self.permit)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
