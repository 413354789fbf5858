use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{
    Facts, Protocol,
    fallback::Skip,
    http::{Adopt, Replayable, Stored},
};

use super::Rung;
use crate::fallback::ladder::{Guide, Step};

/// A rung with a value that a closure makes.
#[derive(Clone, Copy)]
pub struct Value<F>(pub(in crate::fallback) F);

impl<F, R, Request, Response, Error, X> Rung<Request, Response, Error, X> for Value<F>
where
    F: Fn() -> R,
    X: Adopt<R, Request, Response>,
{
    type Kept = ();
    type Run = ();

    #[inline]
    fn nothing(&self, _: Facts) -> Option<()> {
        Some(())
    }

    #[inline]
    fn keep(&self, _: &X, request: Request, _: Facts, _: usize) -> (Request, ()) {
        (request, ())
    }

    fn set_out(&self, (): &mut (), _: &Guide<'_, X>) -> Result<(), Skip> {
        Ok(())
    }

    fn poll(
        &self,
        _: Pin<&mut ()>,
        (): &mut (),
        guide: &Guide<'_, X>,
        _: &mut Context<'_>,
    ) -> Poll<Step<X::Answer>> {
        Poll::Ready(Step::Answered(guide.exchange.adopt((self.0)()), None))
    }
}

/// A rung with a response of a status and bytes.
#[derive(Clone, Debug)]
pub struct Fixed(pub(in crate::fallback) Stored);

impl<Request, Response, Error, X> Rung<Request, Response, Error, X> for Fixed
where
    X: Replayable<Request, Response>,
{
    /// How the caller speaks. Of a response that did not, the facts tell something else.
    type Kept = Protocol;
    type Run = ();

    #[inline]
    fn nothing(&self, facts: Facts) -> Option<Protocol> {
        Some(facts.protocol)
    }

    #[inline]
    fn keep(&self, _: &X, request: Request, facts: Facts, _: usize) -> (Request, Protocol) {
        (request, facts.protocol)
    }

    fn set_out(&self, caller: &mut Protocol, _: &Guide<'_, X>) -> Result<(), Skip> {
        if *caller == Protocol::Grpc { Err(Skip::NotForGrpc) } else { Ok(()) }
    }

    fn poll(
        &self,
        _: Pin<&mut ()>,
        _: &mut Protocol,
        guide: &Guide<'_, X>,
        _: &mut Context<'_>,
    ) -> Poll<Step<X::Answer>> {
        Poll::Ready(Step::Answered(guide.exchange.play(&self.0), None))
    }
}

impl<F> fmt::Debug for Value<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}
