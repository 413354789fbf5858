use std::{
    error::Error,
    time::{Duration, Instant},
};

use http::{Request, Response};

use super::{
    Conventional, RequestHead, ResponseHead, Watched,
    degrade::has_note,
    judge::{self, criticality, deadline, forward, set_criticality},
};
use crate::{
    Case, Criticality, End, Facts, Judge, Judgement, Protocol, Rejection, Remaining, Side, Timing,
    Watch, as_error, retry::Wait,
};

/// A rule that turns HTTP and gRPC calls into verdicts.
///
/// [`StatusRules`](super::StatusRules) is one that most need no more than. Implement your own
/// where the status does not tell, and hand it to a layer with `.judge(..)`.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::{
///     End, Facts, Judgement, Reason, Timing, Verdict,
///     http::{Classify, RequestHead, ResponseHead, StatusRules},
/// };
///
/// /// Good is a good status within half a second; probes of the load balancer do not count.
/// #[derive(Clone)]
/// struct Promise;
///
/// impl Classify for Promise {
///     type Note = bool;
///
///     fn begin(&self, request: RequestHead<'_>) -> bool {
///         request.path == "/healthz"
///     }
///
///     fn head(&self, _: &mut bool, facts: Facts, response: ResponseHead<'_>) -> Option<Judgement> {
///         StatusRules::DEFAULT.head(facts, response)
///     }
///
///     fn end(
///         &self,
///         is_probe: &mut bool,
///         facts: Facts,
///         head: Option<Judgement>,
///         end: End<'_>,
///         timing: Timing,
///     ) -> Judgement {
///         let judgement = StatusRules::DEFAULT.judge(facts, head, end);
///         match judgement.verdict {
///             _ if *is_probe => Judgement::new(Verdict::Excluded, Reason::Application),
///             Verdict::Good if timing.total > Duration::from_millis(500) => {
///                 Judgement::new(Verdict::Bad, Reason::Deadline)
///             }
///             _ => judgement,
///         }
///     }
/// }
/// ```
pub trait Classify: Clone + Send + Sync + 'static {
    /// Whether [`Classify::end`] looks at its [`Timing`]. Without, a layer that has no other use
    /// for the time saves readings of the clock, and hands over zero.
    const TIMED: bool = true;

    /// Whether [`Classify::end`] does anything but judge: counts, or notes. Without, a layer that has its
    /// judgement already, from the head, saves the call.
    const HEARS_END: bool = true;

    /// What is kept of the request until the end.
    type Note: Send + Sync + 'static;

    /// Looks at the request before it is sent on.
    fn begin(&self, request: RequestHead<'_>) -> Self::Note;

    /// Looks at the head of the response; `None` while only the end can tell.
    fn head(
        &self,
        note: &mut Self::Note,
        facts: Facts,
        response: ResponseHead<'_>,
    ) -> Option<Judgement>;

    /// Judges the call. Called exactly once for each [`Classify::begin`], whatever happens, unless
    /// [`Classify::HEARS_END`] says that this is not needed.
    fn end(
        &self,
        note: &mut Self::Note,
        facts: Facts,
        head: Option<Judgement>,
        end: End<'_>,
        timing: Timing,
    ) -> Judgement;

    /// The template of the request's route. Never a raw path: see [`RequestHead::route`].
    #[inline]
    fn route<'a>(&self, request: RequestHead<'a>, facts: Facts) -> Option<&'a str> {
        request.route(facts.protocol)
    }
}

/// An exchange's judging part, made of a [`Classify`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Classified<C = Conventional>(pub C);

impl<C: Classify> Classified<C> {
    #[inline]
    pub(crate) fn open(&self, request: RequestHead<'_>, facts: Facts, side: Side) -> HttpCase<C> {
        let note = self.0.begin(request);
        HttpCase { facts, side, classifier: self.0.clone(), note, head: None }
    }
}

impl<C, B, RB, E> Judge<Request<B>, Response<RB>, E> for Classified<C>
where
    C: Classify,
    E: 'static,
    RB: http_body::Body,
{
    type Case = HttpCase<C>;
    type Response<W: Watch> = Response<Watched<RB, W>>;

    #[inline]
    fn facts(&self, request: &Request<B>) -> Facts {
        RequestHead::of(request).facts()
    }

    #[inline]
    fn route<'a>(&self, request: &'a Request<B>, facts: Facts) -> Option<&'a str> {
        self.0.route(RequestHead::of(request), facts)
    }

    #[inline]
    fn deadline(
        &self,
        request: &Request<B>,
        facts: Facts,
        header: Option<&'static str>,
    ) -> Option<Remaining> {
        deadline(request.headers(), Some(request.extensions()), facts, header)
    }

    #[inline]
    fn forward(
        &self,
        request: &mut Request<B>,
        facts: Facts,
        header: &'static str,
        at: Instant,
        now: Instant,
    ) {
        forward(request.headers_mut(), facts, header, at, now);
        request.extensions_mut().insert(crate::Deadline(at));
    }

    #[inline]
    fn criticality(
        &self,
        request: &Request<B>,
        _: Facts,
        header: &'static str,
    ) -> Option<Criticality> {
        criticality(request.headers(), Some(request.extensions()), header)
    }

    #[inline]
    fn set_criticality(
        &self,
        request: &mut Request<B>,
        _: Facts,
        header: &'static str,
        criticality: Criticality,
    ) {
        set_criticality(request.headers_mut(), header, criticality);
        request.extensions_mut().insert(criticality);
    }

    #[inline]
    fn open(&self, request: &Request<B>, facts: Facts, side: Side) -> HttpCase<C> {
        self.open(RequestHead::of(request), facts, side)
    }

    #[inline]
    fn head(&self, case: &mut HttpCase<C>, response: &Response<RB>) {
        case.head(ResponseHead::of(response));
    }

    #[inline]
    fn error<'a>(&self, error: &'a E) -> Option<&'a (dyn Error + 'static)> {
        as_error(error)
    }

    #[inline]
    fn retry_after(&self, outcome: Result<&Response<RB>, &E>) -> Option<Duration> {
        judge::retry_after(outcome.map(ResponseHead::of).map_err(as_error))
    }

    #[inline]
    fn asked(&self, outcome: Result<&Response<RB>, &E>) -> Option<Wait> {
        judge::asked(outcome.map(ResponseHead::of).map_err(as_error))
    }

    #[inline]
    fn is_timeout(&self, facts: Facts, outcome: &Result<Response<RB>, E>) -> bool {
        judge::is_timeout(facts, outcome.as_ref().map(ResponseHead::of).map_err(as_error))
    }

    #[inline]
    fn is_degraded(&self, response: &Response<RB>) -> bool {
        has_note(response.extensions())
    }

    #[inline]
    fn wrap<W: Watch>(
        &self,
        facts: Facts,
        response: Response<RB>,
        watch: W,
    ) -> Response<Watched<RB, W>> {
        Watched::around(facts, response, watch)
    }

    #[inline]
    fn pass<W: Watch>(&self, response: Response<RB>) -> Response<Watched<RB, W>> {
        response.map(Watched::passing)
    }
}

/// One HTTP or gRPC call on its way to a judgement.
#[derive(Clone, Debug)]
pub struct HttpCase<C: Classify = Conventional> {
    facts: Facts,
    side: Side,
    classifier: C,
    note: C::Note,
    head: Option<Judgement>,
}

impl<C: Classify> HttpCase<C> {
    #[inline]
    pub(crate) fn head(&mut self, response: ResponseHead<'_>) {
        self.facts.status = Some(response.status.as_u16());
        if self.facts.protocol == Protocol::Grpc {
            if self.side == Side::Server && !response.is_grpc() {
                // A caller may call anything gRPC. A route that answers it in plain HTTP is not
                // to blame for the status that gRPC would have had.
                self.facts.protocol = Protocol::Http;
            } else {
                self.facts.code = response.grpc_code();
            }
        }
        self.head = self.classifier.head(&mut self.note, self.facts, response);
    }
}

impl<C: Classify> Case for HttpCase<C> {
    const TIMED: bool = C::TIMED;
    const HEARS_END: bool = C::HEARS_END;

    #[inline]
    fn facts(&self) -> Facts {
        self.facts
    }

    #[inline]
    fn judged(&self) -> Option<Judgement> {
        self.head
    }

    #[inline]
    fn end(&mut self, end: End<'_>, timing: Timing) -> Judgement {
        // With the code of the head, if that had one; the end brings its own.
        let judged = self.classifier.end(&mut self.note, self.facts, self.head, end, timing);
        match end {
            End::Complete { code: Some(code) } => self.facts.code = Some(code),
            // The caller is told the status of a refusal, be it an error or a response.
            End::Failed(Some(error)) => {
                if let Some(rejection) = Rejection::find(error) {
                    self.facts.status = Some(rejection.http_status());
                    self.facts.code = Some(rejection.grpc_code());
                }
            }
            _ => {}
        }
        judged
    }
}
