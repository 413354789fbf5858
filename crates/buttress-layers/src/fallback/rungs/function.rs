use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{
    BoxError, Facts,
    fallback::{Skip, Why},
    http::{Adopt, Degrade, Outline},
};

use super::Rung;
use crate::fallback::ladder::{Cause, Guide, Step};

/// What a function answers: `None` if it has no answer, an error if it failed.
#[diagnostic::on_unimplemented(
    message = "a function of a fallback answers with an `Option` or a `Result`, not with `{Self}`",
    note = "`Some(..)` answers; `None` and `Err` go on to the next rung"
)]
pub trait Reply {
    /// The answer.
    type Response;

    /// As a step.
    fn into_step(self) -> Step<Self::Response>;
}

impl<Response> Reply for Option<Response> {
    type Response = Response;

    fn into_step(self) -> Step<Response> {
        match self {
            Some(response) => Step::Answered(response, None),
            None => Step::Skipped(Skip::Declined),
        }
    }
}

impl<Response, E: Into<BoxError>> Reply for Result<Response, E> {
    type Response = Response;

    fn into_step(self) -> Step<Response> {
        match self {
            Ok(response) => Step::Answered(response, None),
            Err(error) => Step::Failed(Cause::Error(error.into())),
        }
    }
}

/// What a function is told of a request.
pub trait Keep<Request, Response, X> {
    /// What that is.
    type Kept;

    /// Keeps it while the request is under way.
    fn keep(&self, exchange: &X, request: &Request) -> Self::Kept;
}

/// All of it but its body.
#[derive(Clone, Copy, Debug)]
pub struct OfHead;

impl<Request, Response, X: Degrade<Request, Response>> Keep<Request, Response, X> for OfHead {
    type Kept = <X as Outline>::Parts;

    fn keep(&self, exchange: &X, request: &Request) -> Self::Kept {
        exchange.parts(request)
    }
}

/// What a closure takes from it.
#[derive(Clone, Copy)]
pub struct OfRequest<G>(pub(in crate::fallback) G);

impl<Request, Response, X, G: Fn(&Request) -> T, T> Keep<Request, Response, X> for OfRequest<G> {
    type Kept = T;

    fn keep(&self, _: &X, request: &Request) -> T {
        (self.0)(request)
    }
}

impl<G> fmt::Debug for OfRequest<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfRequest(..)")
    }
}

/// A rung that asks an async function.
#[derive(Clone, Copy)]
pub struct Function<F, K = OfHead> {
    pub(in crate::fallback) function: F,
    pub(in crate::fallback) keep: K,
}

impl<F, K, Fut, Request, Response, Error, X> Rung<Request, Response, Error, X> for Function<F, K>
where
    K: Keep<Request, Response, X>,
    F: Fn(K::Kept, Why) -> Fut,
    Fut: Future<Output: Reply>,
    X: Adopt<<Fut::Output as Reply>::Response, Request, Response>,
{
    type Kept = Option<K::Kept>;
    type Run = Fut;

    #[inline]
    fn keep(&self, exchange: &X, request: Request, _: Facts, _: usize) -> (Request, Self::Kept) {
        let kept = self.keep.keep(exchange, &request);
        (request, Some(kept))
    }

    fn set_out(&self, kept: &mut Self::Kept, guide: &Guide<'_, X>) -> Result<Fut, Skip> {
        let kept = kept.take().ok_or(Skip::Declined)?;
        Ok((self.function)(kept, guide.why.clone()))
    }

    fn poll(
        &self,
        run: Pin<&mut Fut>,
        _: &mut Self::Kept,
        guide: &Guide<'_, X>,
        cx: &mut Context<'_>,
    ) -> Poll<Step<X::Answer>> {
        Poll::Ready(
            ready!(run.poll(cx)).into_step().adopted::<Request, Response, X>(guide.exchange),
        )
    }
}

impl<F, K: fmt::Debug> fmt::Debug for Function<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("keep", &self.keep).finish_non_exhaustive()
    }
}

/// A rung that asks a function which answers at once.
#[derive(Clone, Copy)]
pub struct Immediate<F, K = OfHead> {
    pub(in crate::fallback) function: F,
    pub(in crate::fallback) keep: K,
}

impl<F, K, R, Request, Response, Error, X> Rung<Request, Response, Error, X> for Immediate<F, K>
where
    K: Keep<Request, Response, X>,
    F: Fn(K::Kept, Why) -> R,
    R: Reply,
    X: Adopt<R::Response, Request, Response>,
{
    type Kept = Option<K::Kept>;
    type Run = ();

    #[inline]
    fn keep(&self, exchange: &X, request: Request, _: Facts, _: usize) -> (Request, Self::Kept) {
        let kept = self.keep.keep(exchange, &request);
        (request, Some(kept))
    }

    fn set_out(&self, _: &mut Self::Kept, _: &Guide<'_, X>) -> Result<(), Skip> {
        Ok(())
    }

    fn poll(
        &self,
        _: Pin<&mut ()>,
        kept: &mut Self::Kept,
        guide: &Guide<'_, X>,
        _: &mut Context<'_>,
    ) -> Poll<Step<X::Answer>> {
        let Some(kept) = kept.take() else { return Poll::Ready(Step::Skipped(Skip::Declined)) };
        let reply = (self.function)(kept, guide.why.clone());
        Poll::Ready(reply.into_step().adopted::<Request, Response, X>(guide.exchange))
    }
}

impl<F, K: fmt::Debug> fmt::Debug for Immediate<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Immediate").field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl<R> Step<R> {
    /// With the answer as it is handed out.
    fn adopted<Request, Response, X>(self, exchange: &X) -> Step<X::Answer>
    where
        X: Adopt<R, Request, Response>,
    {
        match self {
            Self::Answered(answer, age) => Step::Answered(exchange.adopt(answer), age),
            Self::Failed(cause) => Step::Failed(cause),
            Self::Skipped(skip) => Step::Skipped(skip),
        }
    }
}
