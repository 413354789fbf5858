use std::task::Context;

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, header,
};
use http_body::Body;

use super::{Classified, Conventional, Peekable, Replay, Room};
use crate::{
    Auto, Facts, Kept, Peeked, Protocol, Resend, hedge::Switch, resend::take, retry::Stop,
};

/// [`Auto`] sends again whatever can be classified.
impl<Req, Res> Resend<Req, Res> for Auto
where
    Classified: Resend<Req, Res>,
{
    type Kept = <Classified as Resend<Req, Res>>::Kept;
    type Response = <Classified as Resend<Req, Res>>::Response;

    fn is_keyed(&self, request: &Req) -> bool {
        CONVENTIONAL.is_keyed(request)
    }

    fn switch(&self, request: &Req) -> Option<Switch> {
        CONVENTIONAL.switch(request)
    }

    #[inline]
    fn keep_of(&self, request: &mut Req, limit: usize) -> Result<Self::Kept, Stop> {
        CONVENTIONAL.keep_of(request, limit)
    }

    fn again(&self, kept: &mut Self::Kept, last: bool) -> Result<Req, Stop> {
        CONVENTIONAL.again(kept, last)
    }

    fn number(&self, request: &mut Req, facts: Facts, previous: u32, header: &'static str) {
        CONVENTIONAL.number(request, facts, previous, header);
    }

    fn previous(&self, request: &Req, facts: Facts, header: &'static str) -> u32 {
        CONVENTIONAL.previous(request, facts, header)
    }

    #[inline]
    fn lay_open(&self, response: Res) -> Self::Response {
        CONVENTIONAL.lay_open(response)
    }

    fn peek(&self, response: &mut Self::Response, cx: &mut Context<'_>) -> Option<Peeked> {
        CONVENTIONAL.peek(response, cx)
    }
}

const CONVENTIONAL: Classified = Classified(Conventional);

/// The head of a request, and what is kept of its body.
#[derive(Debug)]
pub struct KeptRequest<B: Replay> {
    head: Option<Head>,
    body: B::Kept,
}

/// What `http::request::Parts` has, which cannot be copied out of a request that stays in one.
#[derive(Clone, Debug)]
struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    /// `None` for none: to copy and to drop those costs as much as all else here.
    headers: Option<HeaderMap>,
    extensions: Extensions,
}

impl Head {
    #[inline]
    fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: (!headers.is_empty()).then(|| headers.clone()),
            extensions: request.extensions().clone(),
        }
    }

    fn with<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        if let Some(headers) = self.headers {
            *request.headers_mut() = headers;
        }
        *request.extensions_mut() = self.extensions;
        request
    }
}

impl<B: Replay> Kept for KeptRequest<B> {
    fn check(&self) -> Result<(), Stop> {
        // The last attempt took it along. More may have been granted meanwhile: too late.
        self.head.as_ref().map_or(Err(Stop::Attempts), |_| B::check(&self.body))
    }
}

impl<C, B, RB> Resend<Request<B>, Response<RB>> for Classified<C>
where
    C: Clone,
    B: Replay,
    RB: Body + Unpin,
{
    type Kept = KeptRequest<B>;
    type Response = Response<Peekable<RB>>;

    fn is_keyed(&self, request: &Request<B>) -> bool {
        is_keyed(request.headers())
    }

    fn switch(&self, request: &Request<B>) -> Option<Switch> {
        request.extensions().get().copied()
    }

    #[inline]
    fn keep_of(&self, request: &mut Request<B>, limit: usize) -> Result<KeptRequest<B>, Stop> {
        let room = Room { limit, promised: promised(request.headers()) };
        let body = request.body_mut().keep(room)?;
        Ok(KeptRequest { head: Some(Head::of(request)), body })
    }

    fn again(&self, kept: &mut KeptRequest<B>, last: bool) -> Result<Request<B>, Stop> {
        let body = B::again(&mut kept.body)?;
        Ok(take(&mut kept.head, last)?.with(body))
    }

    fn number(&self, request: &mut Request<B>, facts: Facts, previous: u32, header: &'static str) {
        number(request.headers_mut(), facts, previous, header);
    }

    fn previous(&self, request: &Request<B>, facts: Facts, header: &'static str) -> u32 {
        previous(request.headers(), facts, header)
    }

    #[inline]
    fn lay_open(&self, response: Response<RB>) -> Response<Peekable<RB>> {
        response.map(Peekable::new)
    }

    fn peek(&self, response: &mut Self::Response, cx: &mut Context<'_>) -> Option<Peeked> {
        response.body_mut().peek(cx)
    }
}

/// [The Idempotency-Key HTTP Header Field](https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/).
pub(crate) fn is_keyed(headers: &HeaderMap) -> bool {
    headers.contains_key(IDEMPOTENCY_KEY)
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What `Content-Length` promises.
#[inline]
pub(crate) fn promised(headers: &HeaderMap) -> Option<u64> {
    headers.get(&header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Writes how many attempts there were before.
pub(crate) fn number(headers: &mut HeaderMap, facts: Facts, previous: u32, header: &'static str) {
    headers.insert(attempt_header(facts, header), HeaderValue::from(previous));
}

/// How many attempts there were before, as far as the request says.
pub(crate) fn previous(headers: &HeaderMap, facts: Facts, header: &'static str) -> u32 {
    let said = headers.get(attempt_header(facts, header));
    said.and_then(|said| said.to_str().ok()?.parse().ok()).unwrap_or_default()
}

fn attempt_header(facts: Facts, header: &'static str) -> HeaderName {
    HeaderName::from_static(match facts.protocol {
        Protocol::Grpc => "grpc-previous-rpc-attempts",
        Protocol::Http | Protocol::Plain => header,
    })
}
