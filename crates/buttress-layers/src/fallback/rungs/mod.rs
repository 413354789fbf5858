//! The kinds of rungs.

mod backup;
mod function;
mod stale;
mod value;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{
    Facts,
    fallback::Skip,
    http::{Degrade, Tape},
};

pub use self::{
    backup::Backup,
    function::{Function, Immediate, Keep, OfHead, OfRequest, Reply},
    stale::Stale,
    value::{Fixed, Value},
};
use super::ladder::{Aged, Guide, Step};

/// One rung of a [`Ladder`](super::Ladder).
pub trait Rung<Request, Response, Error, X>
where
    X: Degrade<Request, Response>,
{
    /// What it keeps of a request while it is under way.
    type Kept;
    /// Its work.
    type Run;

    /// What is kept by a rung that needs nothing of a request but what is known of it.
    #[inline]
    fn nothing(&self, facts: Facts) -> Option<Self::Kept> {
        let _ = facts;
        None
    }

    /// Keeps of a request what it needs.
    fn keep(
        &self,
        exchange: &X,
        request: Request,
        facts: Facts,
        body: usize,
    ) -> (Request, Self::Kept);

    /// An answer without asking the service.
    #[inline]
    fn at_once(&self, kept: &mut Self::Kept, exchange: &X) -> Option<(X::Answer, Aged)> {
        let _ = (kept, exchange);
        None
    }

    /// The service has answered well.
    #[inline]
    fn went_well(&self, kept: &mut Self::Kept, exchange: &X, response: &Response) -> Option<Tape> {
        let _ = (kept, exchange, response);
        None
    }

    /// The service has answered, or failed in a way that is to be answered for.
    #[inline]
    fn settle(&self, kept: &mut Self::Kept, failed: bool) {
        let _ = (kept, failed);
    }

    /// Sets to work.
    ///
    /// # Errors
    ///
    /// With why it is of no use for this request.
    fn set_out(&self, kept: &mut Self::Kept, guide: &Guide<'_, X>) -> Result<Self::Run, Skip>;

    /// Works.
    fn poll(
        &self,
        run: Pin<&mut Self::Run>,
        kept: &mut Self::Kept,
        guide: &Guide<'_, X>,
        cx: &mut Context<'_>,
    ) -> Poll<Step<X::Answer>>;
}
