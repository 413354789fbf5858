use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{
    BoxError, Case, Facts, Judge, Kept, Reason, Side, Verdict,
    fallback::{Skip, Why},
    http::{Adopt, Degrade, Remake},
    retry::Stop,
};
use pin_project::pin_project;
use tower_service::Service;

use super::Rung;
use crate::{
    clock::read,
    fallback::{
        ladder::{Cause, Guide, Step},
        look::{self, Look},
    },
};

/// A rung that asks another service.
#[derive(Clone)]
pub struct Backup<V>(pub(in crate::fallback) V);

/// Another service at work.
#[pin_project(project = RunProj)]
pub enum BackupRun<V, F, C: Case> {
    /// Until it is ready.
    Readying(V),
    /// Until it has answered.
    Asking(#[pin] Asking<F, C>),
}

/// Another service that was asked.
#[pin_project]
pub struct Asking<F, C: Case> {
    #[pin]
    inner: F,
    look: Look<C>,
}

impl<V, Request, Response, Error, X> Rung<Request, Response, Error, X> for Backup<V>
where
    V: Service<Request, Error: Into<BoxError>> + Clone,
    X: Adopt<V::Response, Request, Response>
        + Remake<Request>
        + Judge<Request, V::Response, V::Error>
        + Degrade<Request, V::Response>,
{
    type Kept = Result<<X as Remake<Request>>::Kept, Stop>;
    type Run = BackupRun<V, V::Future, X::Case>;

    #[inline]
    fn keep(&self, exchange: &X, request: Request, _: Facts, body: usize) -> (Request, Self::Kept) {
        Remake::keep(exchange, request, body)
    }

    fn set_out(&self, kept: &mut Self::Kept, _: &Guide<'_, X>) -> Result<Self::Run, Skip> {
        kept.as_ref().map_err(|stop| *stop)?.check()?;
        // A clone of its own: what others of its clones are ready for is theirs.
        Ok(BackupRun::Readying(self.0.clone()))
    }

    fn poll(
        &self,
        mut run: Pin<&mut Self::Run>,
        kept: &mut Self::Kept,
        guide: &Guide<'_, X>,
        cx: &mut Context<'_>,
    ) -> Poll<Step<<X as Degrade<Request, Response>>::Answer>> {
        loop {
            match run.as_mut().project() {
                RunProj::Readying(service) => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        return Poll::Ready(Step::Failed(Cause::Error(error.into())));
                    }
                    let again = kept.as_mut().map_err(|stop| *stop);
                    let request = match again.and_then(|kept| guide.exchange.again(kept)) {
                        Ok(request) => request,
                        Err(stop) => return Poll::Ready(Step::Skipped(stop.into())),
                    };
                    let started = X::Case::TIMED.then(read);
                    let case = guide.exchange.open(&request, guide.facts, Side::Server);
                    let look = Look::new(case, started);
                    let inner = service.call(request);
                    run.set(BackupRun::Asking(Asking { inner, look }));
                }
                RunProj::Asking(asking) => {
                    let asking = asking.project();
                    return Poll::Ready(match ready!(asking.inner.poll(cx)) {
                        Err(error) => Step::Failed(Cause::Error(error.into())),
                        Ok(response) => match failed::<Request, _, V::Error, X>(
                            asking.look,
                            guide.exchange,
                            response,
                        ) {
                            Ok(response) => Step::Answered(guide.exchange.adopt(response), None),
                            Err(why) => Step::Failed(Cause::Answer(why)),
                        },
                    });
                }
            }
        }
    }
}

/// An answer that is a failure itself is none.
fn failed<Request, Response, Error, X>(
    look: &mut Look<X::Case>,
    exchange: &X,
    response: Response,
) -> Result<Response, Why>
where
    X: Degrade<Request, Response> + Judge<Request, Response, Error>,
{
    exchange.head(&mut look.case, &response);
    let as_it_is = |response| response;
    let (response, ended) =
        look::response::<Request, Response, Error, X, _>(look, exchange, response, as_it_is);
    let is_bad = |ended: &look::Ended| {
        let judgement = ended.judgement;
        judgement.verdict == Verdict::Bad || matches!(judgement.reason, Reason::Refused(_))
    };
    ended.filter(is_bad).map_or(Ok(response), |ended| Err(ended.why()))
}

impl<V> fmt::Debug for Backup<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backup(..)")
    }
}

impl<V, F, C: Case> fmt::Debug for BackupRun<V, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Readying(_) => "Readying(..)",
            Self::Asking(_) => "Asking(..)",
        })
    }
}

impl<F, C: Case> fmt::Debug for Asking<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asking(..)")
    }
}
