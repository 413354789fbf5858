use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Reject, Rejection, clock};
use pin_project::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::{Announce, common::Told, pool::Seat};
use crate::clock::{read, sleep};

/// The response of a [`RateLimit`](super::RateLimit) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S, F, X, T, Request, Kept, N, Note> {
    #[pin]
    stage: Stage<S, F, T, Request, Kept>,
    exchange: X,
    announce: N,
    /// What the response will say of the limit, once that is known.
    note: Option<Note>,
}

#[pin_project(project = StageProj)]
enum Stage<S, F, T, Request, Kept> {
    Running {
        #[pin]
        inner: F,
    },
    Waiting {
        #[pin]
        waiting: Waiting<S, T, Request, Kept>,
    },
    Refused {
        refusal: Option<(Rejection, Kept)>,
    },
}

/// A call that waits for its turn.
#[pin_project(project = WaitingProj)]
pub(super) struct Waiting<S, T, Request, Kept> {
    seat: T,
    /// Made when it is first polled.
    #[pin]
    timer: Option<Sleep>,
    /// The instance that was ready.
    service: S,
    /// What the call takes along, or the refusal: `None` afterwards.
    rest: Option<(Request, Kept)>,
}

impl<S, T, Request, Kept> Waiting<S, T, Request, Kept> {
    pub(super) fn new(seat: T, service: S, request: Request, kept: Kept) -> Self {
        Self { seat, timer: None, service, rest: Some((request, kept)) }
    }

    /// What the response will say of the limit.
    fn note<N, Res>(&self, announce: &N, retry_after: Option<Duration>) -> N::Note
    where
        T: Seat,
        N: Announce<Res>,
    {
        announce.note(self.seat.name(), || self.seat.standings(read()), retry_after)
    }

    /// Waits until it is let in, and calls; or is refused.
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Future, (Rejection, Kept)>>
    where
        S: Service<Request>,
        T: Seat,
    {
        // It is called later than whatever call may be waiting further up the stack.
        let _scope = clock::poll(false);
        let WaitingProj { seat, mut timer, service, rest } = self.project();
        loop {
            let refused = match seat.ask(read(), cx.waker()) {
                Told::Admitted => None,
                Told::Refused(rejection) => Some(rejection),
                Told::Wait(until) => {
                    ready!(sleep(timer.as_mut(), until).poll(cx));
                    continue;
                }
            };
            let (request, kept) = rest.take().expect("its turn comes once");
            return Poll::Ready(match refused {
                None => {
                    let _arrived = clock::arrive(read);
                    Ok(service.call(request))
                }
                Some(rejection) => Err((rejection, kept)),
            });
        }
    }
}

impl<S, F, X, T, Request, Kept, N, Note> ResponseFuture<S, F, X, T, Request, Kept, N, Note> {
    #[inline]
    pub(super) fn running(inner: F, note: Option<Note>, announce: N, exchange: X) -> Self {
        Self { stage: Stage::Running { inner }, exchange, announce, note }
    }

    pub(super) fn waiting(waiting: Waiting<S, T, Request, Kept>, announce: N, exchange: X) -> Self {
        Self { stage: Stage::Waiting { waiting }, exchange, announce, note: None }
    }

    pub(super) fn refused(
        refusal: (Rejection, Kept),
        note: Note,
        announce: N,
        exchange: X,
    ) -> Self {
        let stage = Stage::Refused { refusal: Some(refusal) };
        Self { stage, exchange, announce, note: Some(note) }
    }
}

impl<S, X, T, Request, N> Future
    for ResponseFuture<S, S::Future, X, T, Request, X::Context, N, N::Note>
where
    S: Service<Request>,
    T: Seat,
    N: Announce<S::Response>,
    X: Reject<Request, S::Response, S::Error>,
{
    type Output = Result<S::Response, X::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StageProj::Waiting { mut waiting } = this.stage.as_mut().project() {
            let turn = ready!(waiting.as_mut().poll(cx));
            let refused = turn.as_ref().err();
            let retry_after = refused.and_then(|(rejection, _)| rejection.retry_after());
            *this.note = Some(waiting.note(this.announce, retry_after));
            this.stage.set(match turn {
                Ok(inner) => Stage::Running { inner },
                Err(refusal) => Stage::Refused { refusal: Some(refusal) },
            });
        }
        match this.stage.project() {
            StageProj::Running { inner } => match inner.poll(cx) {
                Poll::Ready(Ok(mut response)) => {
                    if let Some(note) = this.note.take() {
                        N::stamp(note, &mut response);
                    }
                    Poll::Ready(Ok(response))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(this.exchange.inner(error))),
                Poll::Pending => Poll::Pending,
            },
            StageProj::Refused { refusal } => {
                let (refusal, note) = (refusal.take(), this.note.take());
                Poll::Ready(surface::<_, _, _, N, _>(refusal, note, this.exchange))
            }
            StageProj::Waiting { .. } => unreachable!("it waits no more"),
        }
    }
}

/// Surfaces a refusal.
#[cold]
fn surface<Request, Res, Error, N, X>(
    refusal: Option<(Rejection, X::Context)>,
    note: Option<N::Note>,
    exchange: &X,
) -> Result<Res, X::Error>
where
    N: Announce<Res>,
    X: Reject<Request, Res, Error>,
{
    let (rejection, kept) = refusal.expect("polled after completion");
    let mut answer = exchange.reject(kept, rejection);
    if let (Ok(response), Some(note)) = (&mut answer, note) {
        N::stamp(note, response);
    }
    answer
}

impl<S, F, X: fmt::Debug, T, Request, Kept, N, Note> fmt::Debug
    for ResponseFuture<S, F, X, T, Request, Kept, N, Note>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Running { .. } => "Running",
            Stage::Waiting { .. } => "Waiting",
            Stage::Refused { .. } => "Refused",
        };
        f.debug_struct("ResponseFuture")
            .field("stage", &stage)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
