use std::task::Context;

use crate::{
    Code, Custom, Facts, Plain,
    hedge::Switch,
    retry::{Stop, Wait},
};

/// How a request is kept while it is under way, and made again, in one world.
///
/// What a retry and a hedge need besides [`Judge`](crate::Judge). The types of request and
/// response stay what they were, so that a retrying client stacks wherever the client did.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not know how to send `{Req}` a second time",
    note = "an `http::Request` needs a body that implements `buttress::http::Replay`: those of axum, tonic and reqwest do, boxed ones, `Full` and `Empty`",
    note = "a service of your own requests takes `.exchange(Plain)`, if they are `Clone`"
)]
pub trait Resend<Req, Res>: Clone {
    /// What is kept of a request.
    type Kept: Kept;
    /// The response as it is handed out: something may have been looked at.
    type Response;

    /// Whether the request carries an `Idempotency-Key`: sent twice, it is done once.
    fn is_keyed(&self, request: &Req) -> bool;

    /// Whether the request itself says that it is to be hedged, or not to be: the extension that
    /// its caller has put there.
    fn switch(&self, request: &Req) -> Option<Switch> {
        let _ = request;
        None
    }

    /// Keeps what is needed to send the request again, up to so many bytes of its body. It goes
    /// out as it came, but that its body may be written down while it is sent. It stays in its
    /// place, for it is large to move.
    ///
    /// # Errors
    ///
    /// With why it cannot be kept. It is unchanged then.
    fn keep_of(&self, request: &mut Req, limit: usize) -> Result<Self::Kept, Stop>;

    /// As [`Resend::keep_of`], of a request that is handed through.
    fn keep(&self, mut request: Req, limit: usize) -> (Req, Result<Self::Kept, Stop>) {
        let kept = self.keep_of(&mut request, limit);
        (request, kept)
    }

    /// Makes the request again; for the `last` time, of what was kept itself.
    ///
    /// # Errors
    ///
    /// With why that is impossible, as [`Kept::check`] says beforehand.
    fn again(&self, kept: &mut Self::Kept, last: bool) -> Result<Req, Stop>;

    /// Writes into a request that is sent again how many attempts there were before: in
    /// `grpc-previous-rpc-attempts`, or in the header named `header`.
    fn number(&self, request: &mut Req, facts: Facts, previous: u32, header: &'static str);

    /// How many attempts there were before, as a layer further out has written into the request:
    /// 0 if none has.
    fn previous(&self, request: &Req, facts: Facts, header: &'static str) -> u32 {
        let _ = (request, facts, header);
        0
    }

    /// Readies a response to be looked into.
    fn lay_open(&self, response: Res) -> Self::Response;

    /// Looks, without waiting, whether the response ends before it has said anything: a gRPC
    /// error may come in trailers after the head. What was seen stays in the response.
    fn peek(&self, response: &mut Self::Response, cx: &mut Context<'_>) -> Option<Peeked> {
        let _ = (response, cx);
        None
    }
}

/// What is kept of a request.
pub trait Kept {
    /// Whether the request can be made again by now.
    ///
    /// # Errors
    ///
    /// With why it cannot: its body is longer than what is kept of one, or not yet sent to its end.
    fn check(&self) -> Result<(), Stop>;
}

/// A response that ended before it had said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// The gRPC code of its trailers, if they had one.
    pub code: Option<Code>,
    /// What they ask for.
    pub asked: Option<Wait>,
}

/// A clone of the request.
#[derive(Clone, Copy, Debug)]
pub struct Cloned<T>(Option<T>);

impl<T> Kept for Cloned<T> {
    fn check(&self) -> Result<(), Stop> {
        if self.0.is_some() { Ok(()) } else { Err(Stop::Attempts) }
    }
}

/// What was kept, or a clone of it. Once it was the last time there is no more.
pub(crate) fn take<T: Clone>(kept: &mut Option<T>, last: bool) -> Result<T, Stop> {
    let taken = if last { kept.take() } else { kept.clone() };
    taken.ok_or(Stop::Attempts)
}

impl<Req: Clone, Res> Resend<Req, Res> for Plain {
    type Kept = Cloned<Req>;
    type Response = Res;

    /// Who says that a service of unknown requests is retried has thought of that.
    fn is_keyed(&self, _: &Req) -> bool {
        true
    }

    #[inline]
    fn keep_of(&self, request: &mut Req, _: usize) -> Result<Cloned<Req>, Stop> {
        Ok(Cloned(Some(request.clone())))
    }

    fn again(&self, kept: &mut Cloned<Req>, last: bool) -> Result<Req, Stop> {
        take(&mut kept.0, last)
    }

    fn number(&self, _: &mut Req, _: Facts, _: u32, _: &'static str) {}

    fn lay_open(&self, response: Res) -> Res {
        response
    }
}

impl<J, R: Clone, Req, Res> Resend<Req, Res> for Custom<J, R>
where
    J: Resend<Req, Res>,
{
    type Kept = J::Kept;
    type Response = J::Response;

    fn is_keyed(&self, request: &Req) -> bool {
        self.judge.is_keyed(request)
    }

    fn switch(&self, request: &Req) -> Option<Switch> {
        self.judge.switch(request)
    }

    #[inline]
    fn keep_of(&self, request: &mut Req, limit: usize) -> Result<J::Kept, Stop> {
        self.judge.keep_of(request, limit)
    }

    fn again(&self, kept: &mut J::Kept, last: bool) -> Result<Req, Stop> {
        self.judge.again(kept, last)
    }

    fn number(&self, request: &mut Req, facts: Facts, previous: u32, header: &'static str) {
        self.judge.number(request, facts, previous, header);
    }

    fn previous(&self, request: &Req, facts: Facts, header: &'static str) -> u32 {
        self.judge.previous(request, facts, header)
    }

    fn lay_open(&self, response: Res) -> J::Response {
        self.judge.lay_open(response)
    }

    fn peek(&self, response: &mut J::Response, cx: &mut Context<'_>) -> Option<Peeked> {
        self.judge.peek(response, cx)
    }
}
