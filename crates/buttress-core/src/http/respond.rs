use std::{convert::Infallible, fmt::Write};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};

use super::RequestHead;
use crate::{Auto, Facts, Kind, Protocol, Reject, Rejection};

impl Rejection {
    /// The rejection in a response that this suite made, through any layer that leaves
    /// extensions alone.
    #[must_use]
    pub fn of_response<B>(response: &Response<B>) -> Option<&Self> {
        response.extensions().get()
    }

    /// The response that tells a caller of this protocol: for HTTP a status and `Retry-After`,
    /// for gRPC a trailers-only response with `grpc-status` and `grpc-retry-pushback-ms`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use buttress_core::{Kind, Protocol, Rejection};
    ///
    /// let refused = Rejection::new(Kind::RateLimited, "api").with_retry_after(Duration::from_millis(1200));
    /// let response: http::Response<String> = refused.into_response(Protocol::Http);
    ///
    /// assert_eq!(response.status(), 429);
    /// assert_eq!(response.headers()["retry-after"], "2");
    /// ```
    #[must_use]
    pub fn into_response<B: Default>(self, protocol: Protocol) -> Response<B> {
        let mut response = Response::new(B::default());
        match protocol {
            Protocol::Grpc => self.write_grpc(&mut response),
            Protocol::Http | Protocol::Plain => self.write_http(&mut response),
        }
        response.extensions_mut().insert(self);
        response
    }

    pub(super) fn write_http<B>(&self, response: &mut Response<B>) {
        *response.status_mut() =
            StatusCode::from_u16(self.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(seconds) = self.retry_after_seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    pub(super) fn write_grpc<B>(&self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        self.write_grpc_status(headers);
    }

    pub(super) fn write_grpc_status(&self, headers: &mut http::HeaderMap) {
        let code = HeaderValue::from(u16::from(self.grpc_code().number()));
        headers.insert(HeaderName::from_static("grpc-status"), code);
        if let Ok(message) = HeaderValue::try_from(percent_encoded(self.why())) {
            headers.insert(HeaderName::from_static("grpc-message"), message);
        }
        if let Some(millis) = self.pushback_millis() {
            let name = HeaderName::from_static("grpc-retry-pushback-ms");
            headers.insert(name, HeaderValue::from(millis));
        }
    }
}

/// Encodes as gRPC wants it: all but printable ASCII, and the sign itself.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Always a response, whatever the inner service's error is; that one stays as it was.
///
/// Of use to a client that shall not see an error either.
#[derive(Clone, Copy, Debug, Default)]
pub struct Respond;

impl<B, RB: Default, E> Reject<Request<B>, Response<RB>, E> for Respond {
    type Error = E;
    type Context = Protocol;

    #[inline]
    fn context(&self, request: &Request<B>) -> Protocol {
        RequestHead::of(request).facts().protocol
    }

    #[inline]
    fn context_of(&self, _: &Request<B>, facts: Facts) -> Protocol {
        facts.protocol
    }

    fn reject(&self, protocol: Protocol, rejection: Rejection) -> Result<Response<RB>, E> {
        Ok(rejection.into_response(protocol))
    }

    #[inline]
    fn inner(&self, error: E) -> E {
        error
    }
}

/// A server, whose error cannot happen, answers with a response.
impl<B, RB: Default> Reject<Request<B>, Response<RB>, Infallible> for Auto {
    type Error = Infallible;
    type Context = Protocol;

    #[inline]
    fn context(&self, request: &Request<B>) -> Protocol {
        Reject::<_, Response<RB>, Infallible>::context(&Respond, request)
    }

    #[inline]
    fn context_of(&self, _: &Request<B>, facts: Facts) -> Protocol {
        facts.protocol
    }

    fn reject(&self, protocol: Protocol, rejection: Rejection) -> Result<Response<RB>, Infallible> {
        Ok(rejection.into_response(protocol))
    }

    #[inline]
    fn inner(&self, error: Infallible) -> Infallible {
        error
    }
}

impl Kind {
    /// A short title for people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::CircuitOpen => "Circuit open",
            Self::RateLimited => "Rate limited",
            Self::Overloaded => "Overloaded",
            Self::QueueTimedOut => "Timed out in queue",
            Self::Throttled => "Throttled",
            Self::TimedOut => "Timed out",
            Self::Expired => "Deadline expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_in_any_words_reaches_a_grpc_caller() {
        let rejection = Rejection::new(Kind::Overloaded, "b").because("100 % voll, später");

        let response: Response<String> = rejection.into_response(Protocol::Grpc);

        assert_eq!(response.headers()["grpc-message"], "100 %25 voll, sp%C3%A4ter");
    }
}
