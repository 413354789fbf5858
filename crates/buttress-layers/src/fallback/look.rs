use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Instant,
};

use buttress_core::{
    Case, End, Facts, Judge, Judgement, Kind, Protocol, Reason, Rejection, Side, Stage, Timing,
    Verdict, fallback::Why, http::Degrade,
};

use crate::clock::read;

/// One call, judged exactly once.
#[derive(Debug)]
pub(super) struct Look<C: Case> {
    pub(super) case: C,
    /// When it began, for a classifier that asks how long it took.
    started: Option<Instant>,
    ended: bool,
}

impl<C: Case> Look<C> {
    #[inline]
    pub(super) fn new(case: C, started: Option<Instant>) -> Self {
        Self { case, started, ended: false }
    }

    #[inline]
    pub(super) fn end(&mut self, end: End<'_>, to_head: bool) -> Judgement {
        self.ended = true;
        let total = self.started.map(|started| read().saturating_duration_since(started));
        let total = total.unwrap_or_default();
        self.case.end(end, Timing { to_head: to_head.then_some(total), total })
    }

    /// The response is handed out: what becomes of its body is not ours to see.
    #[inline]
    pub(super) fn hand_out(&mut self) {
        if !C::HEARS_END {
            return;
        }
        self.end(End::Dropped { stage: Stage::InBody, side: Side::Client, late: false }, true);
    }
}

impl<C: Case> Drop for Look<C> {
    #[inline]
    fn drop(&mut self) {
        if self.ended || !C::HEARS_END {
            return;
        }
        let end = if thread::panicking() {
            End::Panicked
        } else {
            End::Dropped { stage: Stage::BeforeHead, side: Side::Client, late: false }
        };
        // A classifier that panics must not turn a panic that unwinds already into an abort.
        let _ = catch_unwind(AssertUnwindSafe(|| self.end(end, false)));
    }
}

/// How a call ended that may have to be answered for.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) judgement: Judgement,
    pub(super) facts: Facts,
    pub(super) rejection: Option<Rejection>,
}

impl Ended {
    pub(super) fn why(&self) -> Why {
        Why::new(self.judgement.reason, self.facts).refused(self.rejection.clone())
    }
}

/// Looks at a response that its head does not call good. With `None` it is to be handed out as it is:
/// a gRPC response whose trailers have yet to tell.
pub(super) fn response<Request, Response, Error, X, A>(
    look: &mut Look<X::Case>,
    exchange: &X,
    response: Response,
    pass: impl FnOnce(Response) -> A,
) -> (A, Option<Ended>)
where
    X: Judge<Request, Response, Error> + Degrade<Request, Response>,
{
    let (judged, mut facts) = (look.case.judged(), look.case.facts());
    if let Some(judged) = judged {
        look.hand_out();
        let rejection = exchange.rejection(&response).cloned();
        let outcome = Ok(response);
        let judgement =
            unless_timed_out::<Request, Response, Error, X>(exchange, facts, &outcome, judged);
        let Ok(response) = outcome else { unreachable!("it is a response") };
        return (pass(response), Some(Ended { judgement, facts, rejection }));
    }
    let over = facts.protocol == Protocol::Grpc && exchange.is_over(&response);
    let response = pass(response);
    if !over {
        // A message has come, or it may: whatever follows, the caller is to see it.
        look.hand_out();
        return (response, None);
    }
    facts.code = None;
    let judgement = look.end(End::Complete { code: None }, true);
    (response, Some(Ended { judgement, facts, rejection: None }))
}

/// Looks at an error.
pub(super) fn error<Request, Response, Error, X>(
    look: &mut Look<X::Case>,
    exchange: &X,
    error: Error,
) -> (Error, Ended)
where
    X: Judge<Request, Response, Error>,
{
    let source = exchange.error(&error);
    let rejection = source.and_then(Rejection::find).cloned();
    let judged = look.end(End::Failed(source), false);
    let facts = look.case.facts();
    let outcome = Err(error);
    let judgement =
        unless_timed_out::<Request, Response, Error, X>(exchange, facts, &outcome, judged);
    let Err(error) = outcome else { unreachable!("it is an error") };
    (error, Ended { judgement, facts, rejection })
}

/// The inner service's own timeouts, in other words than ours.
fn unless_timed_out<Request, Response, Error, X>(
    exchange: &X,
    facts: Facts,
    outcome: &Result<Response, Error>,
    judged: Judgement,
) -> Judgement
where
    X: Judge<Request, Response, Error>,
{
    if matches!(judged.reason, Reason::Refused(_)) || !exchange.is_timeout(facts, outcome) {
        return judged;
    }
    Judgement::new(Verdict::Bad, Reason::Refused(Kind::TimedOut))
}
