use std::{
    error::Error,
    pin::pin,
    time::{Duration, Instant},
};

use crate::{
    BoxError, Case, Criticality, End, Facts, Finish, Judge, Judgement, Method, Protocol, Reason,
    Reject, Rejection, Remaining, Side, Stage, Timing, Verdict, Watch, as_error, retry::Wait,
    tonic,
};

/// The exchange of a service that speaks neither HTTP nor gRPC.
///
/// `Ok` is good, `Err` is bad, a refusal is a `BoxError`; a response has ended as soon as it is
/// there. Say `.exchange(Plain)` for a service of your own types, or for a connector.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl<Req, Res, E: Into<BoxError>> Reject<Req, Res, E> for Plain {
    type Error = BoxError;
    type Context = ();

    #[inline]
    fn context(&self, _: &Req) {}

    #[inline]
    fn reject(&self, (): (), rejection: Rejection) -> Result<Res, BoxError> {
        Err(rejection.into())
    }

    #[inline]
    fn inner(&self, error: E) -> BoxError {
        error.into()
    }
}

impl<Req, Res, E: 'static> Judge<Req, Res, E> for Plain {
    type Case = PlainCase;
    type Response<W: Watch> = Res;

    #[inline]
    fn facts(&self, _: &Req) -> Facts {
        FACTS
    }

    #[inline]
    fn route<'a>(&self, _: &'a Req, _: Facts) -> Option<&'a str> {
        None
    }

    #[inline]
    fn deadline(&self, _: &Req, _: Facts, _: Option<&'static str>) -> Option<Remaining> {
        None
    }

    #[inline]
    fn forward(&self, _: &mut Req, _: Facts, _: &'static str, _: Instant, _: Instant) {}

    #[inline]
    fn criticality(&self, _: &Req, _: Facts, _: &'static str) -> Option<Criticality> {
        None
    }

    #[inline]
    fn set_criticality(&self, _: &mut Req, _: Facts, _: &'static str, _: Criticality) {}

    #[inline]
    fn open(&self, _: &Req, _: Facts, _: Side) -> PlainCase {
        PlainCase
    }

    #[inline]
    fn head(&self, _: &mut PlainCase, _: &Res) {}

    #[inline]
    fn error<'a>(&self, error: &'a E) -> Option<&'a (dyn Error + 'static)> {
        as_error(error)
    }

    #[inline]
    fn retry_after(&self, outcome: Result<&Res, &E>) -> Option<Duration> {
        tonic::retry_after(as_error(outcome.err()?)?)
    }

    #[inline]
    fn asked(&self, outcome: Result<&Res, &E>) -> Option<Wait> {
        tonic::asked(as_error(outcome.err()?)?)
    }

    #[inline]
    fn is_timeout(&self, _: Facts, _: &Result<Res, E>) -> bool {
        false
    }

    #[inline]
    fn wrap<W: Watch>(&self, _: Facts, response: Res, watch: W) -> Res {
        pin!(watch).end(Finish::Complete { code: None });
        response
    }

    #[inline]
    fn pass<W: Watch>(&self, response: Res) -> Res {
        response
    }
}

/// A call of a [`Plain`] service.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainCase;

const FACTS: Facts =
    Facts { protocol: Protocol::Plain, method: Method::Other, status: None, code: None };

pub(crate) const GOOD: Judgement = Judgement::new(Verdict::Good, Reason::Status);

impl Case for PlainCase {
    const TIMED: bool = false;
    const HEARS_END: bool = false;

    #[inline]
    fn facts(&self) -> Facts {
        FACTS
    }

    /// A response that is there is good.
    #[inline]
    fn judged(&self) -> Option<Judgement> {
        Some(GOOD)
    }

    #[inline]
    fn end(&mut self, end: End<'_>, _: Timing) -> Judgement {
        match end {
            End::Failed(error) => failed(error, |_| Verdict::Bad),
            other => unjudged(other, GOOD),
        }
    }
}

/// Judges a call that failed before its head. A refusal is what `refused` makes of it.
#[inline]
pub(crate) fn failed(
    error: Option<&(dyn Error + 'static)>,
    refused: impl FnOnce(&Rejection) -> Verdict,
) -> Judgement {
    match error.and_then(Rejection::find) {
        Some(rejection) => Judgement::new(refused(rejection), Reason::Refused(rejection.kind())),
        None => Judgement::new(Verdict::Bad, Reason::Failed),
    }
}

/// Judges the ends at which no status is looked at. `head` is what the head said.
#[inline]
pub(crate) fn unjudged(end: End<'_>, head: Judgement) -> Judgement {
    let bad = |reason| Judgement::new(Verdict::Bad, reason);
    match end {
        End::Failed(_) => bad(Reason::Failed),
        End::Panicked => bad(Reason::Panicked),
        End::Broken(error) => match Rejection::find(error) {
            Some(rejection) => bad(Reason::Refused(rejection.kind())),
            None => bad(Reason::Broken),
        },
        // A head that is bad or excluded by itself stays so, however its reader leaves.
        End::Dropped { .. } if head.verdict != Verdict::Good => head,
        End::Dropped { late: true, .. } => bad(Reason::Deadline),
        End::Complete { .. } | End::Dropped { stage: Stage::InBody, side: Side::Client, .. } => {
            head
        }
        End::Dropped { .. } => Judgement::new(Verdict::Excluded, Reason::Left),
    }
}
