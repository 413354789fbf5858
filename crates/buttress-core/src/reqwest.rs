//! reqwest's native request, response and error.
//!
//! reqwest keeps its body type to itself, so a watched body is boxed: one allocation of ours and
//! one of reqwest's for each response. It keeps the extensions of a request to itself as well, so a
//! deadline travels in its header alone: what is sent again has to be told its deadline again.
//! The `http` adapter of `buttress-layers` costs one less.

use std::{
    error::Error,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use ::http::request::Parts;
use ::reqwest::{Body, Request, Response, ResponseBuilderExt};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::{
    ClientError, Criticality, Facts, Judge, Kept, Peeked, Rejection, Remaining, Resend,
    SaysCriticality, Side, Watch, as_error,
    fallback::Degraded,
    http::{
        Adopt, Asked, Classified, Classify, Degrade, FallbackBody, HttpCase, Peekable, Rebox,
        Recorded, Recording, Replay, Replayable, RequestHead, ResponseHead, Room, StaleCache,
        Stored, Tape, Target, Watched,
        degrade::{Paired, has_note, write_note},
        judge::{asked, criticality, deadline, forward, is_timeout, retry_after, set_criticality},
        resend,
    },
    retry::{Stop, Wait},
};

impl ClientError for ::reqwest::Error {}

impl SaysCriticality for Request {
    fn criticality(&self, header: &'static str) -> Option<Criticality> {
        criticality(self.headers(), None, header)
    }
}

/// Of any error: the first layer makes a `BoxError` of reqwest's own, and the next one sees that.
impl<C: Classify, E: 'static> Judge<Request, Response, E> for Classified<C> {
    type Case = HttpCase<C>;
    type Response<W: Watch> = Response;

    fn facts(&self, request: &Request) -> Facts {
        head(request).facts()
    }

    fn route<'a>(&self, request: &'a Request, facts: Facts) -> Option<&'a str> {
        self.0.route(head(request), facts)
    }

    fn deadline(
        &self,
        request: &Request,
        facts: Facts,
        header: Option<&'static str>,
    ) -> Option<Remaining> {
        deadline(request.headers(), None, facts, header)
    }

    fn forward(
        &self,
        request: &mut Request,
        facts: Facts,
        header: &'static str,
        at: Instant,
        now: Instant,
    ) {
        forward(request.headers_mut(), facts, header, at, now);
    }

    fn criticality(
        &self,
        request: &Request,
        _: Facts,
        header: &'static str,
    ) -> Option<Criticality> {
        request.criticality(header)
    }

    fn set_criticality(
        &self,
        request: &mut Request,
        _: Facts,
        header: &'static str,
        criticality: Criticality,
    ) {
        set_criticality(request.headers_mut(), header, criticality);
    }

    fn open(&self, request: &Request, facts: Facts, side: Side) -> HttpCase<C> {
        self.open(head(request), facts, side)
    }

    fn head(&self, case: &mut HttpCase<C>, response: &Response) {
        case.head(response_head(response));
    }

    fn error<'a>(&self, error: &'a E) -> Option<&'a (dyn Error + 'static)> {
        as_error(error)
    }

    fn retry_after(&self, outcome: Result<&Response, &E>) -> Option<Duration> {
        retry_after(outcome.map(response_head).map_err(as_error))
    }

    fn asked(&self, outcome: Result<&Response, &E>) -> Option<Wait> {
        asked(outcome.map(response_head).map_err(as_error))
    }

    fn is_timeout(&self, facts: Facts, outcome: &Result<Response, E>) -> bool {
        is_timeout(facts, outcome.as_ref().map(response_head).map_err(as_error))
    }

    fn is_degraded(&self, response: &Response) -> bool {
        has_note(response.extensions())
    }

    fn wrap<W: Watch>(&self, facts: Facts, response: Response, watch: W) -> Response {
        rebuild(response, |response| Watched::around(facts, response, watch).map(Body::wrap))
    }

    fn pass<W: Watch>(&self, response: Response) -> Response {
        response
    }
}

impl<C: Clone> Degrade<Request, Response> for Classified<C> {
    type Answer = Response;

    fn parts(&self, request: &Request) -> Parts {
        let mut head = ::http::Request::new(());
        *head.method_mut() = request.method().clone();
        // Any address that reqwest has is one, but for the longest.
        *head.uri_mut() = request.url().as_str().parse().unwrap_or_default();
        head.headers_mut().clone_from(request.headers());
        head.into_parts().0
    }

    fn deliver(&self, response: Response, tape: Option<Tape>) -> Response {
        if tape.is_none() {
            return response;
        }
        rebuild(response, |response| {
            response.map(|body| Body::wrap(FallbackBody::passing(Streamed(body), tape)))
        })
    }

    fn rejection<'a>(&self, response: &'a Response) -> Option<&'a Rejection> {
        response.extensions().get()
    }

    fn mark(&self, response: &mut Response, note: Degraded, header: Option<&'static str>) {
        write_note(response.headers_mut(), &note, header);
        response.extensions_mut().insert(note);
    }
}

impl<C: Clone> Adopt<Response, Request, Response> for Classified<C> {
    fn adopt(&self, answer: Response) -> Response {
        answer
    }
}

/// At no address: nobody was asked.
impl<C, T> Adopt<::http::Response<T>, Request, Response> for Classified<C>
where
    C: Clone,
    T: Into<Body>,
{
    fn adopt(&self, answer: ::http::Response<T>) -> Response {
        answer.into()
    }
}

impl<C: Clone> Replayable<Request, Response> for Classified<C> {
    fn asked(&self, cache: &StaleCache, request: &Request, facts: Facts) -> Option<Asked> {
        let url = request.url();
        let target = Target {
            method: request.method(),
            scheme: url.scheme(),
            authority: url.authority(),
            path: url.path(),
            query: url.query(),
            headers: request.headers(),
            extensions: None,
        };
        cache.asked(&target, facts)
    }

    fn store(
        &self,
        cache: &StaleCache,
        asked: &Asked,
        response: &Response,
        now: Instant,
    ) -> Option<Tape> {
        let empty = response.content_length() == Some(0);
        cache.store(asked, response_head(response), empty, now)
    }

    /// At no address: nobody was asked.
    fn play(&self, stored: &Stored) -> Response {
        stored.head().map(|()| Body::wrap(FallbackBody::<Streamed>::playing(stored))).into()
    }
}

impl Replay for Body {
    type Kept = KeptBody;

    /// What is there as a whole goes out as it is, so that reqwest can send it on to where a
    /// redirect points; what streams is written down.
    fn keep(&mut self, room: Room) -> Result<KeptBody, Stop> {
        if let Some(bytes) = self.as_bytes() {
            if !room.fits(bytes.len() as u64) {
                return Err(Stop::BodyTooLarge);
            }
            let bytes = whole(self);
            *self = bytes.clone().into();
            return Ok(KeptBody::Whole(bytes));
        }
        let mut streamed = Streamed(mem::take(self));
        let kept = streamed.keep(room);
        *self = streamed.0;
        kept.map(KeptBody::Streamed)
    }

    fn check(kept: &KeptBody) -> Result<(), Stop> {
        match kept {
            KeptBody::Whole(_) => Ok(()),
            KeptBody::Streamed(recording) => Streamed::check(recording),
        }
    }

    fn again(kept: &mut KeptBody) -> Result<Self, Stop> {
        match kept {
            KeptBody::Whole(bytes) => Ok(bytes.clone().into()),
            KeptBody::Streamed(recording) => Streamed::again(recording).map(|body| body.0),
        }
    }
}

/// The bytes of a body that is there as a whole: it hands them out as its only frame.
fn whole(body: &mut Body) -> Bytes {
    let cx = &mut Context::from_waker(Waker::noop());
    match http_body::Body::poll_frame(Pin::new(body), cx) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}

/// What is kept of a body of reqwest's.
#[derive(Debug)]
pub enum KeptBody {
    /// One that is there as a whole.
    Whole(Bytes),
    /// One that streams.
    Streamed(Recording<Streamed>),
}

/// A body that streams.
#[derive(Debug, Default)]
pub struct Streamed(Body);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = ::reqwest::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ::reqwest::Error>>> {
        Pin::new(&mut self.get_mut().0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Rebox for Streamed {
    fn rebox(body: Recorded<Self>) -> Self {
        Self(Body::wrap(body))
    }
}

/// A request without its body, and what is kept of that.
#[derive(Debug)]
pub struct KeptRequest {
    head: Request,
    body: Option<KeptBody>,
}

impl Kept for KeptRequest {
    fn check(&self) -> Result<(), Stop> {
        self.body.as_ref().map_or(Ok(()), Body::check)
    }
}

impl<C: Clone> Resend<Request, Response> for Classified<C> {
    type Kept = KeptRequest;
    type Response = Response;

    fn is_keyed(&self, request: &Request) -> bool {
        resend::is_keyed(request.headers())
    }

    fn keep_of(&self, request: &mut Request, limit: usize) -> Result<KeptRequest, Stop> {
        let room = Room { limit, promised: resend::promised(request.headers()) };
        let mut body = request.body_mut().take();
        let kept = body.as_mut().map(|body| body.keep(room)).transpose();
        // Without a body there is always a clone.
        let head = request.try_clone();
        *request.body_mut() = body;
        Ok(KeptRequest { body: kept?, head: head.ok_or(Stop::BodyTooLarge)? })
    }

    fn again(&self, kept: &mut KeptRequest, _: bool) -> Result<Request, Stop> {
        let mut request = kept.head.try_clone().ok_or(Stop::BodyTooLarge)?;
        *request.body_mut() = kept.body.as_mut().map(Body::again).transpose()?;
        Ok(request)
    }

    fn number(&self, request: &mut Request, facts: Facts, previous: u32, header: &'static str) {
        resend::number(request.headers_mut(), facts, previous, header);
    }

    fn previous(&self, request: &Request, facts: Facts, header: &'static str) -> u32 {
        resend::previous(request.headers(), facts, header)
    }

    fn lay_open(&self, response: Response) -> Response {
        response
    }

    /// Only gRPC is looked into, and only what says nothing in its head: then its body is boxed
    /// again, to put back what was seen.
    fn peek(&self, response: &mut Response, cx: &mut Context<'_>) -> Option<Peeked> {
        let nothing = ::http::Response::new(Body::default()).into();
        let mut peeked = None;
        *response = rebuild(mem::replace(response, nothing), |response| {
            let mut response = response.map(Peekable::new);
            peeked = response.body_mut().peek(cx);
            response.map(Body::wrap)
        });
        peeked
    }
}

/// Makes another response of one, which comes from the same address.
fn rebuild(
    response: Response,
    change: impl FnOnce(::http::Response<Body>) -> ::http::Response<Body>,
) -> Response {
    let url = response.url().clone();
    let (mut head, body) = change(response.into()).into_parts();
    // reqwest takes the address from an extension that only it can make.
    let mut of_url = ::http::Response::builder().url(url).body(()).unwrap_or_default();
    head.extensions.extend(mem::take(of_url.extensions_mut()));
    ::http::Response::from_parts(head, body).into()
}

impl Paired for Request {
    type Response = Response;
}

/// Whether the client could not connect.
pub(crate) fn is_unreached(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref().is_some_and(::reqwest::Error::is_connect)
}

fn head(request: &Request) -> RequestHead<'_> {
    RequestHead {
        method: request.method(),
        path: request.url().path(),
        headers: request.headers(),
        extensions: None,
    }
}

fn response_head(response: &Response) -> ResponseHead<'_> {
    ResponseHead {
        status: response.status(),
        headers: response.headers(),
        extensions: response.extensions(),
    }
}
