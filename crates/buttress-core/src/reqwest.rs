//! reqwest's native request, response and error.
//!
//! reqwest keeps its body type to itself, so a watched body is boxed: one allocation of ours and
//! one of reqwest's for each response. It keeps the extensions of a request to itself as well, so a
//! deadline travels in its header alone: what is sent again has to be told its deadline again.
//! The `http` adapter of `buttress-layers` costs one less.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use ::reqwest::{Body, Request, Response, ResponseBuilderExt};

use crate::{
    ClientError, Criticality, Facts, Judge, Remaining, Side, Watch, as_error,
    http::{
        Classified, Classify, HttpCase, RequestHead, ResponseHead, Watched,
        judge::{criticality, deadline, forward, is_timeout, retry_after, set_criticality},
    },
};

impl ClientError for ::reqwest::Error {}

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
        criticality(request.headers(), None, header)
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

    fn is_timeout(&self, facts: Facts, outcome: &Result<Response, E>) -> bool {
        is_timeout(facts, outcome.as_ref().map(response_head).map_err(as_error))
    }

    fn wrap<W: Watch>(&self, facts: Facts, response: Response, watch: W) -> Response {
        let url = response.url().clone();
        let response: ::http::Response<Body> = response.into();
        let response = Watched::around(facts, response, watch).map(Body::wrap);
        // reqwest takes the address of the response from an extension that only it can make.
        let mut of_url = ::http::Response::builder().url(url).body(()).unwrap_or_default();
        let (mut head, body) = response.into_parts();
        head.extensions.extend(std::mem::take(of_url.extensions_mut()));
        ::http::Response::from_parts(head, body).into()
    }

    fn pass<W: Watch>(&self, response: Response) -> Response {
        response
    }
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
