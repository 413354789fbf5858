//! `tonic::Status`: as the source of every rejection, as an error, and as what a unary service
//! of tonic's own types ends in.

use std::{
    error::Error,
    pin::pin,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use ::http::request::Parts;
use ::tonic::{
    Request, Response, Status, TimeoutExpired,
    body::Body,
    metadata::{MetadataMap, MetadataValue},
};

use crate::{
    Auto, Case, Code, Criticality, End, Facts, Finish, Judge, Judgement, Kept, Method, Protocol,
    Reject, Rejection, Remaining, Resend, SaysCriticality, Side, Timing, Watch,
    errors::chain,
    fallback::Degraded,
    hedge::Switch,
    http::{
        Adopt, Classified, Degrade, Rebox, Recorded, StatusRules, Tape,
        degrade::{Paired, has_note, write_note},
    },
    resend::take,
    retry::{Stop, Wait},
};

impl<T> SaysCriticality for Request<T> {
    fn criticality(&self, header: &'static str) -> Option<Criticality> {
        if let Some(criticality) = self.extensions().get() {
            return Some(*criticality);
        }
        Criticality::parse(self.metadata().get(header)?.as_encoded_bytes())
    }
}

/// A rejection's `Status`, made when somebody first looks for it.
///
/// tonic gives an error the code of the first `Status` in its chain, and `Unknown` without one.
#[derive(Debug, Default)]
pub(crate) struct StatusSlot(OnceLock<Status>);

impl StatusSlot {
    #[expect(clippy::unnecessary_wraps, reason = "without tonic there is none")]
    pub(crate) fn source(&self, rejection: &Rejection) -> Option<&(dyn Error + 'static)> {
        Some(self.0.get_or_init(|| status(rejection)))
    }
}

fn status(rejection: &Rejection) -> Status {
    let code = ::tonic::Code::from(i32::from(rejection.grpc_code().number()));
    // Without the layer's name: that is for our eyes.
    let mut status = Status::new(code, rejection.why());
    if let Some(millis) = rejection.pushback_millis() {
        status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(millis));
    }
    status
}

/// Whether tonic gave up on a deadline. It calls that `Cancelled`.
pub(crate) fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(<dyn Error>::is::<TimeoutExpired>)
}

/// Whether a channel could not connect.
pub(crate) fn is_unreached(error: &(dyn Error + 'static)) -> bool {
    error.is::<::tonic::ConnectError>()
}

/// What an error asks its callers to wait: as a rejection of ours, or in the metadata of a status.
pub(crate) fn retry_after(error: &(dyn Error + 'static)) -> Option<Duration> {
    if let Some(rejection) = Rejection::find(error) {
        return rejection.retry_after();
    }
    let status = chain(error).find_map(|error| error.downcast_ref::<Status>())?;
    let millis = status.metadata().get("grpc-retry-pushback-ms")?.as_encoded_bytes();
    crate::deadline::parse_digits(millis).map(Duration::from_millis)
}

/// As [`retry_after`], and whether it asks them not to come again at all.
pub(crate) fn asked(error: &(dyn Error + 'static)) -> Option<Wait> {
    if let Some(rejection) = Rejection::find(error) {
        return rejection.asked();
    }
    let status = chain(error).find_map(|error| error.downcast_ref::<Status>())?;
    let mut values = status.metadata().get_all("grpc-retry-pushback-ms").iter();
    let first = values.next()?;
    Wait::of_pushback(values.next().is_none().then_some(first.as_encoded_bytes()))
}

/// A service whose error is a `Status` keeps it.
impl<Req, Res> Reject<Req, Res, Status> for Auto {
    type Error = Status;
    type Context = ();

    fn context(&self, _: &Req) {}

    fn reject(&self, (): (), rejection: Rejection) -> Result<Res, Status> {
        let mut refused = status(&rejection);
        refused.set_source(Arc::new(rejection));
        Err(refused)
    }

    fn inner(&self, error: Status) -> Status {
        error
    }
}

impl<T, U> Judge<Request<T>, Response<U>, Status> for Classified {
    type Case = StatusCase;
    type Response<W: Watch> = Response<U>;

    fn facts(&self, _: &Request<T>) -> Facts {
        Facts { protocol: Protocol::Grpc, method: Method::Post, status: None, code: None }
    }

    fn route<'a>(&self, request: &'a Request<T>, _: Facts) -> Option<&'a str> {
        request.extensions().get().map(crate::Route::as_str)
    }

    fn deadline(
        &self,
        request: &Request<T>,
        _: Facts,
        header: Option<&'static str>,
    ) -> Option<Remaining> {
        let _ = header;
        if let Some(crate::Deadline(at)) = request.extensions().get() {
            return Some(Remaining::Until(*at));
        }
        let value = request.metadata().get("grpc-timeout")?;
        crate::parse_grpc_timeout(value.as_encoded_bytes()).map(Remaining::For)
    }

    fn forward(
        &self,
        request: &mut Request<T>,
        _: Facts,
        _: &'static str,
        deadline: Instant,
        now: Instant,
    ) {
        request.set_timeout(deadline.saturating_duration_since(now));
        request.extensions_mut().insert(crate::Deadline(deadline));
    }

    fn criticality(
        &self,
        request: &Request<T>,
        _: Facts,
        header: &'static str,
    ) -> Option<Criticality> {
        request.criticality(header)
    }

    fn set_criticality(
        &self,
        request: &mut Request<T>,
        _: Facts,
        header: &'static str,
        criticality: Criticality,
    ) {
        let value = MetadataValue::from_static(criticality.as_str());
        request.metadata_mut().insert(header, value);
        request.extensions_mut().insert(criticality);
    }

    fn open(&self, _: &Request<T>, facts: Facts, _: Side) -> StatusCase {
        StatusCase(facts)
    }

    fn head(&self, case: &mut StatusCase, _: &Response<U>) {
        case.0.code = Some(Code::Ok);
    }

    fn error<'a>(&self, error: &'a Status) -> Option<&'a (dyn Error + 'static)> {
        Some(error)
    }

    fn retry_after(&self, outcome: Result<&Response<U>, &Status>) -> Option<Duration> {
        retry_after(outcome.err()?)
    }

    fn asked(&self, outcome: Result<&Response<U>, &Status>) -> Option<Wait> {
        asked(outcome.err()?)
    }

    fn is_timeout(&self, _: Facts, outcome: &Result<Response<U>, Status>) -> bool {
        outcome.as_ref().is_err_and(|status| is_timeout(status))
    }

    fn is_degraded(&self, response: &Response<U>) -> bool {
        has_note(response.extensions())
    }

    fn wrap<W: Watch>(&self, _: Facts, response: Response<U>, watch: W) -> Response<U> {
        pin!(watch).end(Finish::Complete { code: Some(Code::Ok) });
        response
    }

    fn pass<W: Watch>(&self, response: Response<U>) -> Response<U> {
        response
    }
}

/// A function is told the metadata, as headers, and the extensions.
impl<C: Clone, T, U> Degrade<Request<T>, Response<U>> for Classified<C> {
    type Answer = Response<U>;

    fn parts(&self, request: &Request<T>) -> Parts {
        let mut head = ::http::Request::new(());
        *head.method_mut() = ::http::Method::POST;
        *head.headers_mut() = request.metadata().clone().into_headers();
        head.extensions_mut().clone_from(request.extensions());
        head.into_parts().0
    }

    fn deliver(&self, response: Response<U>, _: Option<Tape>) -> Response<U> {
        response
    }

    fn mark(&self, response: &mut Response<U>, note: Degraded, header: Option<&'static str>) {
        let mut headers = response.metadata().clone().into_headers();
        write_note(&mut headers, &note, header);
        *response.metadata_mut() = MetadataMap::from_headers(headers);
        response.extensions_mut().insert(note);
    }
}

impl<C: Clone, T, U> Adopt<Response<U>, Request<T>, Response<U>> for Classified<C> {
    fn adopt(&self, answer: Response<U>) -> Response<U> {
        answer
    }
}

impl Rebox for Body {
    fn rebox(body: Recorded<Self>) -> Self {
        Self::new(body)
    }
}

/// A message of tonic's own `Request`, with all that goes with it.
#[derive(Debug)]
pub struct KeptMessage<T>(Option<(MetadataMap, ::http::Extensions, T)>);

impl<T> Kept for KeptMessage<T> {
    fn check(&self) -> Result<(), Stop> {
        // The last attempt took it along.
        if self.0.is_some() { Ok(()) } else { Err(Stop::Attempts) }
    }
}

const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

impl<T: Clone, U> Resend<Request<T>, Response<U>> for Classified {
    type Kept = KeptMessage<T>;
    type Response = Response<U>;

    fn is_keyed(&self, _: &Request<T>) -> bool {
        false
    }

    fn switch(&self, request: &Request<T>) -> Option<Switch> {
        request.extensions().get().copied()
    }

    fn keep_of(&self, request: &mut Request<T>, _: usize) -> Result<KeptMessage<T>, Stop> {
        let (metadata, extensions) = (request.metadata().clone(), request.extensions().clone());
        Ok(KeptMessage(Some((metadata, extensions, request.get_ref().clone()))))
    }

    fn again(&self, kept: &mut KeptMessage<T>, last: bool) -> Result<Request<T>, Stop> {
        let (metadata, extensions, message) = take(&mut kept.0, last)?;
        Ok(Request::from_parts(metadata, extensions, message))
    }

    fn number(&self, request: &mut Request<T>, _: Facts, previous: u32, _: &'static str) {
        request.metadata_mut().insert(PREVIOUS_ATTEMPTS, previous.into());
    }

    fn previous(&self, request: &Request<T>, _: Facts, _: &'static str) -> u32 {
        let said = request.metadata().get(PREVIOUS_ATTEMPTS);
        said.and_then(|said| said.to_str().ok()?.parse().ok()).unwrap_or_default()
    }

    fn lay_open(&self, response: Response<U>) -> Response<U> {
        response
    }
}

impl<T> Paired for Request<T> {
    type Response = Response<()>;
}

/// A call that ends in a `Status` or in tonic's `Response`.
#[derive(Clone, Copy, Debug)]
pub struct StatusCase(Facts);

impl Case for StatusCase {
    const TIMED: bool = false;
    const HEARS_END: bool = false;

    fn facts(&self) -> Facts {
        self.0
    }

    fn judged(&self) -> Option<Judgement> {
        self.0.code.map(|code| StatusRules::DEFAULT.of_code(Some(code)))
    }

    fn end(&mut self, end: End<'_>, _: Timing) -> Judgement {
        if let End::Failed(Some(error)) = end {
            if let Some(rejection) = Rejection::find(error) {
                self.0.code = Some(rejection.grpc_code());
            } else if let Some(status) = error.downcast_ref::<Status>() {
                let number = u32::try_from(i32::from(status.code())).unwrap_or(2);
                self.0.code = Some(Code::from_number(number));
                return StatusRules::DEFAULT.of_code(self.0.code);
            }
        }
        StatusRules::DEFAULT.judge(self.0, None, end)
    }
}
