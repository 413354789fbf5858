use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Case, End, Judge, OnUnwind, clock};
use pin_project::pin_project;

use super::Recording;
use crate::clock::read;

/// The response of an [`Sli`](super::Sli) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, X, C: Case, Request> {
    #[pin]
    inner: F,
    recording: Option<Recording<C>>,
    /// Whether a layer around us shares our readings of the clock.
    nested: bool,
    exchange: X,
    request: PhantomData<fn(Request)>,
}

impl<F, X, C: Case, Request> ResponseFuture<F, X, C, Request> {
    #[inline]
    pub(super) fn new(inner: F, recording: Recording<C>, nested: bool, exchange: X) -> Self {
        Self { inner, recording: Some(recording), nested, exchange, request: PhantomData }
    }
}

impl<F, X, Request, Response, Error> Future for ResponseFuture<F, X, X::Case, Request>
where
    F: Future<Output = Result<Response, Error>>,
    X: Judge<Request, Response, Error>,
{
    type Output = Result<X::Response<Recording<X::Case>>, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let recording = this.recording.as_mut().expect("polled after completion");
        let _scope = clock::poll(*this.nested);

        let guard = OnUnwind::new(|| recording.end(End::Panicked, read()));
        let outcome = this.inner.poll(cx);
        guard.defuse();
        match outcome {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                recording.end(End::Failed(this.exchange.error(&error)), clock::ready(read));
                *this.recording = None;
                Poll::Ready(Err(error))
            }
            Poll::Ready(Ok(response)) => {
                let degraded = this.exchange.is_degraded(&response);
                let take = |case: &mut _| this.exchange.head(case, &response);
                let facts = recording.head_came(degraded, take);
                let recording = this.recording.take().expect("it was there");
                Poll::Ready(Ok(this.exchange.wrap(facts, response, recording)))
            }
        }
    }
}

impl<F, X: fmt::Debug, C: Case + fmt::Debug, Request> fmt::Debug
    for ResponseFuture<F, X, C, Request>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("recording", &self.recording)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
