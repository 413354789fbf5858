use std::fmt::Write;

use http::{HeaderValue, Request, Response, header};

use super::RequestHead;
use crate::{Protocol, Reject, Rejection};

/// A response that says in JSON what was refused: problem details, RFC 9457.
///
/// For bodies that can be made from a string, such as axum's; the inner error stays as it was.
/// A gRPC caller gets trailers-only, as from [`Respond`](super::Respond). The layer's name is
/// not in it: that is for our eyes.
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use buttress_core::{Kind, Reject, Rejection, http::ProblemDetails};
/// use http::{Request, Response};
///
/// let request = Request::get("/").body(()).unwrap();
/// let strategy: &dyn Fn(Rejection) -> Response<String> = &|rejection| {
///     let context = Reject::<_, Response<String>, Infallible>::context(&ProblemDetails, &request);
///     Reject::<Request<()>, _, Infallible>::reject(&ProblemDetails, context, rejection).unwrap()
/// };
///
/// let refused = Rejection::new(Kind::RateLimited, "api").with_retry_after(Duration::from_secs(3));
/// let response = strategy(refused);
///
/// assert_eq!(response.headers()["content-type"], "application/problem+json");
/// assert_eq!(
///     response.body(),
///     r#"{"title":"Rate limited","status":429,"detail":"rate limit exceeded","retry_after_seconds":3}"#
/// );
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ProblemDetails;

impl<B, RB: From<String>, E> Reject<Request<B>, Response<RB>, E> for ProblemDetails {
    type Error = E;
    type Context = Protocol;

    fn context(&self, request: &Request<B>) -> Protocol {
        RequestHead::of(request).facts().protocol
    }

    fn reject(&self, protocol: Protocol, rejection: Rejection) -> Result<Response<RB>, E> {
        let mut response = match protocol {
            Protocol::Grpc => {
                let mut response = Response::new(String::new().into());
                rejection.write_grpc(&mut response);
                response
            }
            Protocol::Http | Protocol::Plain => {
                let mut response = Response::new(json(&rejection).into());
                rejection.write_http(&mut response);
                let json = HeaderValue::from_static("application/problem+json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
        };
        response.extensions_mut().insert(rejection);
        Ok(response)
    }

    fn inner(&self, error: E) -> E {
        error
    }
}

fn json(rejection: &Rejection) -> String {
    // Titles and reasons are our own words, or a layer author's literal: quotes are escaped all
    // the same, so that no literal can break the document.
    let detail = rejection.why().replace('\\', "\\\\").replace('"', "\\\"");
    let (title, status) = (rejection.kind().title(), rejection.http_status());
    let mut json = format!(r#"{{"title":"{title}","status":{status},"detail":"{detail}""#);
    if let Some(seconds) = rejection.retry_after_seconds() {
        let _ = write!(json, r#","retry_after_seconds":{seconds}"#);
    }
    json.push('}');
    json
}
