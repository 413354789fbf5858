use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Case, End, Judge, OnUnwind, Reject, Rejection, clock};
use pin_project::pin_project;

use super::Admission;
use crate::clock::read;

/// The response of a [`Throttle`](super::Throttle) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, X, C: Case, Request, Kept> {
    #[pin]
    pub(super) stage: Stage<F, C, Kept>,
    /// Whether a layer around us shares our readings of the clock.
    pub(super) nested: bool,
    pub(super) exchange: X,
    pub(super) request: PhantomData<fn(Request)>,
}

#[pin_project(project = StageProj)]
pub(super) enum Stage<F, C: Case, Kept> {
    Running {
        #[pin]
        inner: F,
        /// `None` once it is over.
        admission: Option<Admission<C>>,
    },
    Refused {
        refusal: Option<(Rejection, Kept)>,
    },
}

impl<F, X, C: Case, Request, Kept> ResponseFuture<F, X, C, Request, Kept> {
    #[cold]
    pub(super) fn refused(rejection: Rejection, kept: Kept, exchange: X) -> Self {
        let stage = Stage::Refused { refusal: Some((rejection, kept)) };
        Self { stage, nested: false, exchange, request: PhantomData }
    }
}

impl<F, X, Request, Inner, Failed, Response, Error, Kept> Future
    for ResponseFuture<F, X, X::Case, Request, Kept>
where
    F: Future<Output = Result<Inner, Failed>>,
    X: Judge<Request, Inner, Failed>
        + Reject<Request, Response, Failed, Error = Error, Context = Kept>,
    X: Judge<
            Request,
            Inner,
            Failed,
            Response<Admission<<X as Judge<Request, Inner, Failed>>::Case>> = Response,
        >,
{
    type Output = Result<Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (inner, admission) = match this.stage.project() {
            StageProj::Running { inner, admission } => (inner, admission),
            StageProj::Refused { refusal } => {
                let (rejection, kept) = refusal.take().expect("polled after completion");
                return Poll::Ready(this.exchange.reject(kept, rejection));
            }
        };
        let passed = admission.as_mut().expect("polled after completion");
        let _scope = clock::poll(*this.nested);
        let guard = OnUnwind::new(|| passed.panicked(read()));
        let outcome = inner.poll(cx);
        guard.defuse();
        match outcome {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                passed.end(End::Failed(this.exchange.error(&error)), clock::ready(read));
                *admission = None;
                Poll::Ready(Err(this.exchange.inner(error)))
            }
            Poll::Ready(Ok(response)) => {
                passed.head_came();
                this.exchange.head(&mut passed.case, &response);
                let facts = passed.case.facts();
                let passed = admission.take().expect("it was there");
                Poll::Ready(Ok(this.exchange.wrap(facts, response, passed)))
            }
        }
    }
}

impl<F, X: fmt::Debug, C: Case + fmt::Debug, Request, Kept> fmt::Debug
    for ResponseFuture<F, X, C, Request, Kept>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}
