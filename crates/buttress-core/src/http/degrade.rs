//! How an answer in the service's stead is made, in each world of requests and responses.

use std::time::Instant;

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, header, request::Parts,
    uri::Authority,
};
use http_body::Body;
use http_body_util::Empty;

use super::{
    Asked, Classified, Conventional, FallbackBody, ResponseHead, StaleCache, Stored, Tape, Target,
    stale::set_age,
};
use crate::{
    Auto, BoxError, Custom, Facts, Kept, Plain, Rejection, Resend, fallback::Degraded, retry::Stop,
};

/// What functions of a fallback are told of a request, by the exchange alone: so that a closure
/// need not name the type of its arguments.
pub trait Outline: Clone {
    /// The request without its body.
    type Parts;
}

/// How a fallback makes answers in one world. What it needs besides [`Judge`](crate::Judge).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not know how to answer `{Req}` in a service's stead with `{Res}`",
    note = "a response's body must have `Bytes` for its data, and an error that can be boxed",
    note = "a service of your own requests and responses takes `.exchange(Plain)`"
)]
pub trait Degrade<Req, Res>: Outline {
    /// The response as it is handed out: it may be the service's own, or one that is played back.
    type Answer;

    /// The request without its body.
    fn parts(&self, request: &Req) -> Self::Parts;

    /// The service's own response, written down on its way if there is a tape.
    fn deliver(&self, response: Res, tape: Option<Tape>) -> Self::Answer;

    /// Whether the response ends with its head: what is not said by then will not be said.
    fn is_over(&self, response: &Res) -> bool {
        let _ = response;
        false
    }

    /// The refusal of a layer of ours in a response.
    fn rejection<'a>(&self, response: &'a Res) -> Option<&'a Rejection> {
        let _ = response;
        None
    }

    /// Says in a response that it is an answer in the service's stead: in an extension, and in a
    /// header if one is named.
    fn mark(&self, response: &mut Self::Answer, note: Degraded, header: Option<&'static str>);
}

/// How a request is made once more for another service. As [`Resend`], whatever the responses are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not know how to send `{Req}` to another service as well",
    note = "an `http::Request` needs a body that implements `buttress::http::Replay`: those of axum, tonic and reqwest do, boxed ones, `Full` and `Empty`",
    note = "a service of your own requests takes `.exchange(Plain)`, if they are `Clone`"
)]
pub trait Remake<Req>: Clone {
    /// What is kept of a request.
    type Kept: Kept;

    /// Keeps what is needed, up to so many bytes of the body.
    ///
    /// # Errors
    ///
    /// With why it cannot be kept. It is unchanged then.
    fn keep(&self, request: Req, limit: usize) -> (Req, Result<Self::Kept, Stop>);

    /// Makes the request once more, of what was kept itself.
    ///
    /// # Errors
    ///
    /// With why that is impossible.
    fn again(&self, kept: &mut Self::Kept) -> Result<Req, Stop>;
}

/// A request with some response of its world: what is sent again does not depend on which.
/// Nobody else implements it.
pub trait Paired {
    /// The response.
    type Response;
}

impl<B> Paired for Request<B> {
    type Response = Response<Empty<Bytes>>;
}

impl<C: Clone, Req: Paired> Remake<Req> for Classified<C>
where
    Self: Resend<Req, Req::Response>,
{
    type Kept = <Self as Resend<Req, Req::Response>>::Kept;

    #[inline]
    fn keep(&self, request: Req, limit: usize) -> (Req, Result<Self::Kept, Stop>) {
        Resend::<Req, Req::Response>::keep(self, request, limit)
    }

    fn again(&self, kept: &mut Self::Kept) -> Result<Req, Stop> {
        Resend::<Req, Req::Response>::again(self, kept, true)
    }
}

impl<Req: Clone> Remake<Req> for Plain {
    type Kept = <Self as Resend<Req, ()>>::Kept;

    fn keep(&self, request: Req, limit: usize) -> (Req, Result<Self::Kept, Stop>) {
        Resend::<Req, ()>::keep(self, request, limit)
    }

    fn again(&self, kept: &mut Self::Kept) -> Result<Req, Stop> {
        Resend::<Req, ()>::again(self, kept, true)
    }
}

impl<Req> Remake<Req> for Auto
where
    Classified: Remake<Req>,
{
    type Kept = <Classified as Remake<Req>>::Kept;

    #[inline]
    fn keep(&self, request: Req, limit: usize) -> (Req, Result<Self::Kept, Stop>) {
        Remake::keep(&CONVENTIONAL, request, limit)
    }

    fn again(&self, kept: &mut Self::Kept) -> Result<Req, Stop> {
        Remake::again(&CONVENTIONAL, kept)
    }
}

impl<J, R: Clone, Req> Remake<Req> for Custom<J, R>
where
    J: Remake<Req>,
{
    type Kept = J::Kept;

    fn keep(&self, request: Req, limit: usize) -> (Req, Result<J::Kept, Stop>) {
        self.judge.keep(request, limit)
    }

    fn again(&self, kept: &mut J::Kept) -> Result<Req, Stop> {
        self.judge.again(kept)
    }
}

/// A world in which `R` is an answer as well as the service's own responses are.
///
/// Responses of HTTP may have another body than the service's, which is boxed.
#[diagnostic::on_unimplemented(
    message = "`{R}` is no answer in a service's stead where the service answers `{Res}`",
    note = "an `http::Response` may have any body that is `Send` and whose data are `Bytes`"
)]
pub trait Adopt<R, Req, Res>: Degrade<Req, Res> {
    /// The answer as it is handed out.
    fn adopt(&self, answer: R) -> Self::Answer;
}

/// A world in which good responses can be stored and played back.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot store `{Res}`, nor make one of bytes",
    note = "responses of HTTP can be, and reqwest's; for others take a function or a value"
)]
pub trait Replayable<Req, Res>: Degrade<Req, Res> {
    /// What a store has to know of a request; `None` of one that takes no part.
    fn asked(&self, cache: &StaleCache, request: &Req, facts: Facts) -> Option<Asked>;

    /// Begins to store a good response.
    fn store(
        &self,
        cache: &StaleCache,
        asked: &Asked,
        response: &Res,
        now: Instant,
    ) -> Option<Tape>;

    /// A response that is played back.
    fn play(&self, stored: &Stored) -> Self::Answer;
}

impl Outline for Auto {
    type Parts = Parts;
}

impl<C: Clone> Outline for Classified<C> {
    type Parts = Parts;
}

impl Outline for Plain {
    type Parts = ();
}

impl<J: Outline, R: Clone> Outline for Custom<J, R> {
    type Parts = J::Parts;
}

impl<Req, Res> Degrade<Req, Res> for Auto
where
    Classified: Degrade<Req, Res>,
{
    type Answer = <Classified as Degrade<Req, Res>>::Answer;

    fn parts(&self, request: &Req) -> Parts {
        Degrade::<Req, Res>::parts(&CONVENTIONAL, request)
    }

    #[inline]
    fn deliver(&self, response: Res, tape: Option<Tape>) -> Self::Answer {
        CONVENTIONAL.deliver(response, tape)
    }

    fn is_over(&self, response: &Res) -> bool {
        Degrade::<Req, Res>::is_over(&CONVENTIONAL, response)
    }

    fn rejection<'a>(&self, response: &'a Res) -> Option<&'a Rejection> {
        Degrade::<Req, Res>::rejection(&CONVENTIONAL, response)
    }

    fn mark(&self, response: &mut Self::Answer, note: Degraded, header: Option<&'static str>) {
        CONVENTIONAL.mark(response, note, header);
    }
}

impl<R, Req, Res> Adopt<R, Req, Res> for Auto
where
    Classified: Adopt<R, Req, Res>,
{
    fn adopt(&self, answer: R) -> Self::Answer {
        CONVENTIONAL.adopt(answer)
    }
}

impl<Req, Res> Replayable<Req, Res> for Auto
where
    Classified: Replayable<Req, Res>,
{
    fn asked(&self, cache: &StaleCache, request: &Req, facts: Facts) -> Option<Asked> {
        Replayable::<Req, Res>::asked(&CONVENTIONAL, cache, request, facts)
    }

    fn store(
        &self,
        cache: &StaleCache,
        asked: &Asked,
        response: &Res,
        now: Instant,
    ) -> Option<Tape> {
        Replayable::<Req, Res>::store(&CONVENTIONAL, cache, asked, response, now)
    }

    fn play(&self, stored: &Stored) -> Self::Answer {
        CONVENTIONAL.play(stored)
    }
}

const CONVENTIONAL: Classified = Classified(Conventional);

impl<J, R: Clone, Req, Res> Degrade<Req, Res> for Custom<J, R>
where
    J: Degrade<Req, Res>,
{
    type Answer = J::Answer;

    fn parts(&self, request: &Req) -> J::Parts {
        self.judge.parts(request)
    }

    fn deliver(&self, response: Res, tape: Option<Tape>) -> J::Answer {
        self.judge.deliver(response, tape)
    }

    fn is_over(&self, response: &Res) -> bool {
        self.judge.is_over(response)
    }

    fn rejection<'a>(&self, response: &'a Res) -> Option<&'a Rejection> {
        self.judge.rejection(response)
    }

    fn mark(&self, response: &mut J::Answer, note: Degraded, header: Option<&'static str>) {
        self.judge.mark(response, note, header);
    }
}

impl<J, X: Clone, R, Req, Res> Adopt<R, Req, Res> for Custom<J, X>
where
    J: Adopt<R, Req, Res>,
{
    fn adopt(&self, answer: R) -> J::Answer {
        self.judge.adopt(answer)
    }
}

impl<J, R: Clone, Req, Res> Replayable<Req, Res> for Custom<J, R>
where
    J: Replayable<Req, Res>,
{
    fn asked(&self, cache: &StaleCache, request: &Req, facts: Facts) -> Option<Asked> {
        self.judge.asked(cache, request, facts)
    }

    fn store(
        &self,
        cache: &StaleCache,
        asked: &Asked,
        response: &Res,
        now: Instant,
    ) -> Option<Tape> {
        self.judge.store(cache, asked, response, now)
    }

    fn play(&self, stored: &Stored) -> J::Answer {
        self.judge.play(stored)
    }
}

/// Anything of a service's own types: nothing is known of requests, and nothing can be said in
/// responses.
impl<Req, Res> Degrade<Req, Res> for Plain {
    type Answer = Res;

    fn parts(&self, _: &Req) {}

    #[inline]
    fn deliver(&self, response: Res, _: Option<Tape>) -> Res {
        response
    }

    fn mark(&self, _: &mut Res, _: Degraded, _: Option<&'static str>) {}
}

impl<Req, Res> Adopt<Res, Req, Res> for Plain {
    fn adopt(&self, answer: Res) -> Res {
        answer
    }
}

impl<C, B, RB> Degrade<Request<B>, Response<RB>> for Classified<C>
where
    C: Clone,
    RB: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Answer = Response<FallbackBody<RB>>;

    fn parts(&self, request: &Request<B>) -> Parts {
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        // A clone of none would still ask what there is to copy.
        if !request.headers().is_empty() {
            head.headers_mut().clone_from(request.headers());
        }
        head.extensions_mut().clone_from(request.extensions());
        head.into_parts().0
    }

    #[inline]
    fn deliver(&self, response: Response<RB>, tape: Option<Tape>) -> Response<FallbackBody<RB>> {
        response.map(|body| FallbackBody::passing(body, tape))
    }

    fn is_over(&self, response: &Response<RB>) -> bool {
        response.body().is_end_stream()
    }

    fn rejection<'a>(&self, response: &'a Response<RB>) -> Option<&'a Rejection> {
        Rejection::of_response(response)
    }

    fn mark(&self, response: &mut Self::Answer, note: Degraded, header: Option<&'static str>) {
        write_note(response.headers_mut(), &note, header);
        response.extensions_mut().insert(note);
    }
}

impl<C, B, RB, O> Adopt<Response<O>, Request<B>, Response<RB>> for Classified<C>
where
    C: Clone,
    RB: Body<Data = Bytes, Error: Into<BoxError>>,
    O: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    fn adopt(&self, answer: Response<O>) -> Response<FallbackBody<RB>> {
        answer.map(FallbackBody::other)
    }
}

impl<C, B, RB> Replayable<Request<B>, Response<RB>> for Classified<C>
where
    C: Clone,
    RB: Body<Data = Bytes, Error: Into<BoxError>>,
{
    fn asked(&self, cache: &StaleCache, request: &Request<B>, facts: Facts) -> Option<Asked> {
        let uri = request.uri();
        let target = Target {
            method: request.method(),
            scheme: uri.scheme_str().unwrap_or_default(),
            authority: authority(uri.authority(), request.headers()),
            path: uri.path(),
            query: uri.query(),
            headers: request.headers(),
            extensions: Some(request.extensions()),
        };
        cache.asked(&target, facts)
    }

    fn store(
        &self,
        cache: &StaleCache,
        asked: &Asked,
        response: &Response<RB>,
        now: Instant,
    ) -> Option<Tape> {
        cache.store(asked, ResponseHead::of(response), response.body().is_end_stream(), now)
    }

    fn play(&self, stored: &Stored) -> Response<FallbackBody<RB>> {
        stored.head().map(|()| FallbackBody::playing(stored))
    }
}

/// Whether an answer was given in the service's stead.
#[inline]
pub(crate) fn has_note(extensions: &Extensions) -> bool {
    !extensions.is_empty() && extensions.get::<Degraded>().is_some()
}

/// Where a request goes to, as far as it says.
fn authority<'a>(authority: Option<&'a Authority>, headers: &'a HeaderMap) -> &'a str {
    let host = || headers.get(header::HOST)?.to_str().ok();
    authority.map(Authority::as_str).or_else(host).unwrap_or_default()
}

/// Writes the header that says so, and the age of what is stored.
pub(crate) fn write_note(headers: &mut HeaderMap, note: &Degraded, name: Option<&'static str>) {
    if let Some(age) = note.age {
        set_age(headers, age.as_secs());
    }
    let Some(name) = name else { return };
    // Names that users choose may hold anything; what a header may not is left out.
    let text: String = note.to_string().chars().filter(|c| (' '..='~').contains(c)).collect();
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
