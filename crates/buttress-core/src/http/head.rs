use http::{Extensions, HeaderMap, HeaderValue, Method as HttpMethod, StatusCode, header};

use crate::{Code, Facts, Method, Protocol, Route, axum::matched_path};

/// What a classifier sees of a request, whichever crate's request it is.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a HttpMethod,
    /// The path, as the caller sent it. Never a label: there is no end to them.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The extensions; `None` where the client keeps them to itself, as reqwest does.
    pub extensions: Option<&'a Extensions>,
}

impl<'a> RequestHead<'a> {
    #[inline]
    pub(crate) fn of<B>(request: &'a http::Request<B>) -> Self {
        Self {
            method: request.method(),
            path: request.uri().path(),
            headers: request.headers(),
            extensions: Some(request.extensions()),
        }
    }

    #[inline]
    pub(crate) fn facts(&self) -> Facts {
        let protocol = match content_type(self.headers) {
            Some(value) => Protocol::of_content_type(value.as_bytes()),
            None => Protocol::Http,
        };
        Facts { protocol, method: method(self.method), status: None, code: None }
    }

    /// The route template: a [`Route`] in the extensions, axum's `MatchedPath`, or for gRPC the
    /// path, which is the method's name, where no template says more than a prefix.
    #[must_use]
    #[inline]
    pub fn route(&self, protocol: Protocol) -> Option<&'a str> {
        let of_extensions = self.extensions.and_then(|extensions| {
            extensions.get().map(Route::as_str).or_else(|| matched_path(extensions))
        });
        match protocol {
            // The path names the method; axum, where it carries gRPC, matches by prefix only. A
            // route that is more than that is no gRPC service, whatever its caller calls itself.
            Protocol::Grpc => {
                of_extensions.filter(|route| !route.contains("{*")).or(Some(self.path))
            }
            _ => of_extensions,
        }
    }
}

/// Every layer asks, and most requests without a body have few headers or none.
#[inline]
fn content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    if headers.is_empty() { None } else { headers.get(&header::CONTENT_TYPE) }
}

#[inline]
fn method(method: &HttpMethod) -> Method {
    match *method {
        HttpMethod::GET => Method::Get,
        HttpMethod::POST => Method::Post,
        HttpMethod::PUT => Method::Put,
        HttpMethod::DELETE => Method::Delete,
        HttpMethod::HEAD => Method::Head,
        HttpMethod::OPTIONS => Method::Options,
        HttpMethod::PATCH => Method::Patch,
        HttpMethod::CONNECT => Method::Connect,
        HttpMethod::TRACE => Method::Trace,
        _ => Method::Other,
    }
}

/// What a classifier sees of a response's head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The extensions.
    pub extensions: &'a Extensions,
}

impl<'a> ResponseHead<'a> {
    #[inline]
    pub(crate) fn of<B>(response: &'a http::Response<B>) -> Self {
        Self {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
        }
    }

    /// Whether it is the answer of a gRPC service.
    #[inline]
    pub(crate) fn is_grpc(&self) -> bool {
        content_type(self.headers)
            .is_some_and(|value| Protocol::of_content_type(value.as_bytes()) == Protocol::Grpc)
            || self.headers.contains_key("grpc-status")
    }

    /// The gRPC code that is certain from the head alone: of a response without trailers, or of
    /// a proxy that answered in HTTP.
    #[inline]
    pub(crate) fn grpc_code(&self) -> Option<Code> {
        grpc_status(self.headers).or_else(|| {
            (self.status != StatusCode::OK).then(|| Code::from_http_status(self.status.as_u16()))
        })
    }
}

/// The `grpc-status` among headers or trailers. One that is no number is `UNKNOWN`.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get("grpc-status")?.to_str().ok();
    let number = value.and_then(|value| value.parse().ok());
    Some(number.map_or(Code::Unknown, Code::from_number))
}

/// Whether no body will be polled behind this head: RFC 9110, sections 6.4.1 and 9.3.6. Answers
/// that are informational, 204 and 304 have none.
#[inline]
pub(crate) fn is_bodyless(method: Method, status: StatusCode) -> bool {
    let by_method = match method {
        Method::Head => true,
        Method::Connect => status.is_success(),
        _ => false,
    };
    by_method || matches!(status.as_u16(), 100..=199 | 204 | 304)
}
