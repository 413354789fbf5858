use std::{
    error::Error,
    fmt,
    io::Write,
    time::{Duration, Instant},
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, header};

use super::{Classified, ResponseHead};
use crate::{
    Auto, Criticality, Deadline, Facts, Judge, Protocol, Rejection, Remaining, SaysCriticality,
    Side, TIMEOUTS, Watch,
    deadline::{grpc_timeout, parse_digits},
    parse_grpc_timeout,
    retry::Wait,
    tonic,
};

/// [`Auto`] judges by convention whatever can be classified.
impl<Req, Res, E> Judge<Req, Res, E> for Auto
where
    Classified: Judge<Req, Res, E>,
{
    type Case = <Classified as Judge<Req, Res, E>>::Case;
    type Response<W: Watch> = <Classified as Judge<Req, Res, E>>::Response<W>;

    #[inline]
    fn facts(&self, request: &Req) -> Facts {
        CONVENTIONAL.facts(request)
    }

    #[inline]
    fn route<'a>(&self, request: &'a Req, facts: Facts) -> Option<&'a str> {
        CONVENTIONAL.route(request, facts)
    }

    #[inline]
    fn deadline(
        &self,
        request: &Req,
        facts: Facts,
        header: Option<&'static str>,
    ) -> Option<Remaining> {
        CONVENTIONAL.deadline(request, facts, header)
    }

    #[inline]
    fn forward(
        &self,
        request: &mut Req,
        facts: Facts,
        header: &'static str,
        deadline: Instant,
        now: Instant,
    ) {
        CONVENTIONAL.forward(request, facts, header, deadline, now);
    }

    #[inline]
    fn criticality(
        &self,
        request: &Req,
        facts: Facts,
        header: &'static str,
    ) -> Option<Criticality> {
        CONVENTIONAL.criticality(request, facts, header)
    }

    fn set_criticality(
        &self,
        request: &mut Req,
        facts: Facts,
        header: &'static str,
        criticality: Criticality,
    ) {
        CONVENTIONAL.set_criticality(request, facts, header, criticality);
    }

    #[inline]
    fn open(&self, request: &Req, facts: Facts, side: Side) -> Self::Case {
        Judge::open(&CONVENTIONAL, request, facts, side)
    }

    #[inline]
    fn head(&self, case: &mut Self::Case, response: &Res) {
        CONVENTIONAL.head(case, response);
    }

    #[inline]
    fn error<'a>(&self, error: &'a E) -> Option<&'a (dyn Error + 'static)> {
        CONVENTIONAL.error(error)
    }

    #[inline]
    fn retry_after(&self, outcome: Result<&Res, &E>) -> Option<Duration> {
        CONVENTIONAL.retry_after(outcome)
    }

    #[inline]
    fn asked(&self, outcome: Result<&Res, &E>) -> Option<Wait> {
        CONVENTIONAL.asked(outcome)
    }

    #[inline]
    fn is_timeout(&self, facts: Facts, outcome: &Result<Res, E>) -> bool {
        CONVENTIONAL.is_timeout(facts, outcome)
    }

    #[inline]
    fn is_degraded(&self, response: &Res) -> bool {
        CONVENTIONAL.is_degraded(response)
    }

    #[inline]
    fn wrap<W: Watch>(&self, facts: Facts, response: Res, watch: W) -> Self::Response<W> {
        CONVENTIONAL.wrap(facts, response, watch)
    }

    #[inline]
    fn pass<W: Watch>(&self, response: Res) -> Self::Response<W> {
        CONVENTIONAL.pass(response)
    }
}

const CONVENTIONAL: Classified = Classified(super::Conventional);

/// Reads what a request says about its deadline: the extension of a layer further out is exact,
/// and so goes before what a header said.
#[inline]
pub(crate) fn deadline(
    headers: &HeaderMap,
    extensions: Option<&Extensions>,
    facts: Facts,
    header: Option<&'static str>,
) -> Option<Remaining> {
    if let Some(Deadline(at)) = extensions.and_then(Extensions::get) {
        return Some(Remaining::Until(*at));
    }
    let remaining = match facts.protocol {
        Protocol::Grpc => parse_grpc_timeout(headers.get(GRPC_TIMEOUT)?.as_bytes()),
        _ => parse_digits(find(headers, header?)?.as_bytes()).map(Duration::from_millis),
    };
    remaining.map(Remaining::For)
}

/// The value of a header that was named in a configuration. To look at a few names costs a
/// fraction of what it takes to make a `HeaderName` of a text, and to hash that.
#[inline]
fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    const FEW: usize = 16;
    if headers.is_empty() {
        return None;
    }
    if headers.len() > FEW {
        return headers.get(name);
    }
    headers.iter().find(|(found, _)| found.as_str() == name).map(|(_, value)| value)
}

/// Writes until when the caller will wait, rounded down.
#[inline]
pub(crate) fn forward(
    headers: &mut HeaderMap,
    facts: Facts,
    header: &'static str,
    deadline: Instant,
    now: Instant,
) {
    let remaining = deadline.saturating_duration_since(now);
    let (name, value) = if facts.protocol == Protocol::Grpc {
        let (count, unit) = grpc_timeout(remaining);
        (GRPC_TIMEOUT, value(format_args!("{count}{unit}")))
    } else {
        // As many digits as are read back, which is more than a day.
        let millis = remaining.as_millis().min(99_999_999);
        (HeaderName::from_static(header), value(format_args!("{millis}")))
    };
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

/// Reads what a request says about its criticality, like its deadline.
#[inline]
pub(crate) fn criticality(
    headers: &HeaderMap,
    extensions: Option<&Extensions>,
    header: &'static str,
) -> Option<Criticality> {
    if let Some(criticality) = extensions.and_then(Extensions::get) {
        return Some(*criticality);
    }
    Criticality::parse(find(headers, header)?.as_bytes())
}

impl<B> SaysCriticality for Request<B> {
    fn criticality(&self, header: &'static str) -> Option<Criticality> {
        criticality(self.headers(), Some(self.extensions()), header)
    }
}

/// Writes how critical a request is.
pub(crate) fn set_criticality(
    headers: &mut HeaderMap,
    header: &'static str,
    criticality: Criticality,
) {
    let value = HeaderValue::from_static(criticality.as_str());
    headers.insert(HeaderName::from_static(header), value);
}

/// A short value, written on the stack: one allocation, of the right size.
fn value(text: fmt::Arguments<'_>) -> Option<HeaderValue> {
    let mut buffer = [0; 16];
    let mut rest = &mut buffer[..];
    rest.write_fmt(text).ok()?;
    let left = rest.len();
    HeaderValue::from_bytes(&buffer[..buffer.len() - left]).ok()
}

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What an answer, or an error, asks its callers to wait.
#[inline]
pub(crate) fn retry_after(
    outcome: Result<ResponseHead<'_>, Option<&(dyn Error + 'static)>>,
) -> Option<Duration> {
    let head = match outcome {
        Ok(head) => head,
        Err(error) => return tonic::retry_after(error?),
    };
    if let Some(rejection) = head.extensions.get::<Rejection>() {
        return rejection.retry_after();
    }
    if let Some(millis) = head.headers.get("grpc-retry-pushback-ms") {
        return parse_digits(millis.as_bytes()).map(Duration::from_millis);
    }
    asked_in(head.headers).filter_map(Result::ok).max()
}

/// As [`retry_after`], and whether it asks them not to come again at all. A date of which nobody
/// can tell how far it is off is further than anybody waits.
#[inline]
pub(crate) fn asked(
    outcome: Result<ResponseHead<'_>, Option<&(dyn Error + 'static)>>,
) -> Option<Wait> {
    let head = match outcome {
        Ok(head) => head,
        Err(error) => return tonic::asked(error?),
    };
    if let Some(rejection) = head.extensions.get::<Rejection>() {
        return rejection.asked();
    }
    pushback(head.headers).or_else(|| {
        let waits = asked_in(head.headers).map(|wait| wait.unwrap_or(Duration::MAX));
        waits.max().map(Wait::After)
    })
}

/// What each `Retry-After` asks for.
fn asked_in(headers: &HeaderMap) -> impl Iterator<Item = Result<Duration, Unmeasured>> {
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    headers.get_all(header::RETRY_AFTER).iter().filter_map(move |value| {
        if let Some(seconds) = seconds(value.as_bytes()) {
            return Some(Ok(Duration::from_secs(seconds)));
        }
        let at = date(value)?;
        // It counts from the date of the answer, so that clocks that differ do no harm.
        let Some(from) = headers.get(header::DATE).and_then(date) else {
            return Some(Err(Unmeasured));
        };
        at.duration_since(from).ok().map(Ok)
    })
}

/// A date without another to count from.
#[derive(Clone, Copy, Debug)]
struct Unmeasured;

/// A number of seconds, of three years at the most: what is longer is just as far away.
fn seconds(digits: &[u8]) -> Option<u64> {
    const MOST: u64 = 99_999_999;
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all_digits.then(|| parse_digits(digits).unwrap_or(MOST))
}

/// What `grpc-retry-pushback-ms` asks for, among headers or trailers.
pub(crate) fn pushback(headers: &HeaderMap) -> Option<Wait> {
    let mut values = headers.get_all("grpc-retry-pushback-ms").iter();
    let first = values.next()?;
    Wait::of_pushback(values.next().is_none().then_some(first.as_bytes()))
}

/// Whether tonic gave up on the deadline that we handed it: as an error of this process, or as
/// the answer of a server. It calls both `Cancelled`, which would blame the caller.
#[inline]
pub(crate) fn is_timeout(
    facts: Facts,
    outcome: Result<ResponseHead<'_>, Option<&(dyn Error + 'static)>>,
) -> bool {
    match outcome {
        Err(error) => {
            error.is_some_and(|error| TIMEOUTS.iter().any(|is_timeout| is_timeout(error)))
        }
        Ok(head) => {
            facts.protocol == Protocol::Grpc
                && head.headers.get("grpc-status").is_some_and(|status| status == "1")
                && head
                    .headers
                    .get("grpc-message")
                    .is_some_and(|message| TIMEOUT_EXPIRED.iter().any(|expired| message == expired))
        }
    }
}

/// What tonic's `TimeoutExpired` says, plain and percent-encoded.
const TIMEOUT_EXPIRED: [&str; 2] = ["Timeout expired", "Timeout%20expired"];
