use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use buttress_core::{
    Case, End, Facts, Judge, Judgement, Reason, Reject, Rejection, Side, Timing, Verdict,
    bulkhead::{Ask, Outcome, Refusal},
    clock,
};
use pin_project::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::{
    Permit,
    permit::{Ending, Queued},
};
use crate::clock::read;

/// The response of a [`Bulkhead`](super::Bulkhead) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S, F, X, C, Request, Kept> {
    #[pin]
    stage: Stage<S, F, C, Request, Kept>,
    call: Call,
    exchange: X,
}

/// What the service decided for one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) facts: Facts,
    pub(super) until_head: bool,
    /// Whether a layer around us shares our readings of the clock; `None` where we have none.
    pub(super) nested: Option<bool>,
}

#[pin_project(project = StageProj)]
enum Stage<S, F, C, Request, Kept> {
    Running(#[pin] Running<F, C>),
    Waiting {
        waiting: Option<Waiting<S, Request, Kept>>,
        #[pin]
        timer: Option<Sleep>,
    },
    Refused(Option<(Rejection, Kept)>),
    Over,
}

/// A call that is under way.
#[pin_project]
pub(super) struct Running<F, C> {
    /// Dropped before the permit is: who is let in for it must find it gone.
    #[pin]
    inner: F,
    /// `None` if it takes no place.
    permit: Option<Permit>,
    /// How the call is judged, where that moves the limit.
    case: Option<C>,
}

impl<F, C> Running<F, C> {
    /// Calls without taking a place.
    pub(super) fn free(inner: F) -> Self {
        Self { inner, permit: None, case: None }
    }

    /// Calls with a place. Should that panic, the place is given back.
    #[inline]
    pub(super) fn start<S, X, Request>(
        service: &mut S,
        request: Request,
        mut permit: Permit,
        facts: Facts,
        exchange: &X,
    ) -> Self
    where
        S: Service<Request, Future = F>,
        X: Judge<Request, S::Response, S::Error, Case = C>,
    {
        let case = permit.is_measured().then(|| exchange.open(&request, facts, Side::Client));
        // A panic drops the permit. To guard the call by a closure would move what it returns.
        permit.presume(Some(Ending::Unmeasured));
        let inner = service.call(request);
        permit.presume(None);
        Self { inner, permit: Some(permit), case }
    }
}

/// Tells the permit how the call went, where that moves the limit.
#[cold]
fn judge<C, X, Request, Response, Error>(
    permit: &mut Permit,
    mut case: C,
    facts: Facts,
    outcome: &Result<Response, Error>,
    exchange: &X,
) where
    X: Judge<Request, Response, Error, Case = C>,
    C: Case,
{
    permit.judge(|took| match outcome {
        Ok(response) => {
            exchange.head(&mut case, response);
            (case.judged(), case.facts())
        }
        Err(_) if exchange.is_timeout(facts, outcome) => {
            (Some(Judgement::new(Verdict::Bad, Reason::Deadline)), case.facts())
        }
        Err(error) => {
            let timing = Timing { to_head: None, total: took };
            let judged = case.end(End::Failed(exchange.error(error)), timing);
            (Some(judged), case.facts())
        }
    });
}

/// A call that waits for its turn.
pub(super) struct Waiting<S, Request, Kept> {
    /// The instance that was ready.
    pub(super) service: S,
    pub(super) request: Request,
    /// Dropped after them.
    pub(super) queued: Queued,
    pub(super) ask: Ask,
    /// Until when it waits.
    pub(super) due: Instant,
    /// By when its caller wants the answer.
    pub(super) deadline: Option<Instant>,
    pub(super) kept: Kept,
}

impl<S, F, X, C, Request, Kept> ResponseFuture<S, F, X, C, Request, Kept> {
    #[inline]
    pub(super) fn running(running: Running<F, C>, call: Call, exchange: X) -> Self {
        Self { stage: Stage::Running(running), call, exchange }
    }

    pub(super) fn waiting(waiting: Waiting<S, Request, Kept>, call: Call, exchange: X) -> Self {
        Self { stage: Stage::Waiting { waiting: Some(waiting), timer: None }, call, exchange }
    }

    pub(super) fn refused(rejection: Rejection, kept: Kept, call: Call, exchange: X) -> Self {
        Self { stage: Stage::Refused(Some((rejection, kept))), call, exchange }
    }
}

impl<S, X, Request, Response, Error, Kept> Future
    for ResponseFuture<S, S::Future, X, X::Case, Request, Kept>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error, Response<Permit> = Response>
        + Reject<Request, Response, S::Error, Error = Error, Context = Kept>,
{
    type Output = Result<Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let _scope = this.call.nested.map(clock::poll);
        loop {
            match this.stage.as_mut().project() {
                StageProj::Running(_) => {
                    let mut tidy = Tidy(this.stage.as_mut());
                    let running = tidy.running().project();
                    let outcome = running.inner.poll(cx);
                    if let Poll::Ready(outcome) = &outcome
                        && let (Some(permit), Some(case)) =
                            (&mut *running.permit, running.case.take())
                    {
                        judge(permit, case, this.call.facts, outcome, this.exchange);
                    }
                    let ready = outcome.is_ready().then(|| running.permit.take());
                    std::mem::forget(tidy);
                    let Some(permit) = ready else { return Poll::Pending };
                    // What is inside is gone before its place is given back.
                    this.stage.set(Stage::Over);
                    return match outcome {
                        Poll::Ready(Ok(response)) => Poll::Ready(Ok(match permit {
                            Some(permit) if !this.call.until_head => {
                                this.exchange.wrap(this.call.facts, response, permit)
                            }
                            permit => {
                                settle(permit, Ending::Answered);
                                this.exchange.pass::<Permit>(response)
                            }
                        })),
                        Poll::Ready(Err(error)) => {
                            settle(permit, Ending::Unmeasured);
                            Poll::Ready(Err(this.exchange.inner(error)))
                        }
                        Poll::Pending => unreachable!("that has returned"),
                    };
                }
                StageProj::Waiting { waiting, mut timer } => {
                    // Before anything that may use up the task's budget: a timer without any would
                    // be pending for ever. What it says counts only if the turn has not come.
                    let rang =
                        timer.as_mut().as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready());
                    let still = waiting.as_mut().expect("it waits");
                    let outcome = match still.queued.poll(cx) {
                        Poll::Ready(outcome) => outcome,
                        Poll::Pending => {
                            if timer.is_none() {
                                timer.set(Some(sleep_until(still.due.into())));
                            }
                            let timer = timer.as_pin_mut().expect("made above");
                            if !rang && timer.poll(cx).is_pending() {
                                return Poll::Pending;
                            }
                            // Its turn may come at the last moment.
                            let outcome = still.queued.give_up();
                            outcome.unwrap_or(Outcome::Refused(Refusal::WaitedTooLong))
                        }
                    };
                    let waiting = waiting.take().expect("it waits");
                    match waiting.go_on(outcome, this.call.facts, this.exchange) {
                        Ok(running) => this.stage.set(Stage::Running(running)),
                        Err(refused) => this.stage.set(Stage::Refused(Some(refused))),
                    }
                }
                StageProj::Refused(refused) => {
                    let (rejection, kept) = refused.take().expect("polled after completion");
                    this.stage.set(Stage::Over);
                    return Poll::Ready(this.exchange.reject(kept, rejection));
                }
                StageProj::Over => panic!("polled after completion"),
            }
        }
    }
}

/// Ends a stage when it is dropped: what is inside goes first, and then its place is given back,
/// also when the poll of it unwinds.
struct Tidy<'a, S, F, C, Request, Kept>(Pin<&'a mut Stage<S, F, C, Request, Kept>>);

impl<S, F, C, Request, Kept> Tidy<'_, S, F, C, Request, Kept> {
    #[inline]
    fn running(&mut self) -> Pin<&mut Running<F, C>> {
        match self.0.as_mut().project() {
            StageProj::Running(running) => running,
            _ => unreachable!("it was running"),
        }
    }
}

impl<S, F, C, Request, Kept> Drop for Tidy<'_, S, F, C, Request, Kept> {
    #[inline]
    fn drop(&mut self) {
        let permit = self.running().project().permit.take();
        self.0.set(Stage::Over);
        settle(permit, Ending::Unmeasured);
    }
}

/// Gives the place back, if there is one.
#[inline]
fn settle(permit: Option<Permit>, ending: Ending) {
    if let Some(mut permit) = permit {
        permit.settle(ending);
    }
}

impl<S, Request, Kept> Waiting<S, Request, Kept> {
    /// Starts, or refuses, a call that waits no more.
    fn go_on<X>(
        self,
        outcome: Outcome,
        facts: Facts,
        exchange: &X,
    ) -> Result<Running<S::Future, X::Case>, (Rejection, Kept)>
    where
        S: Service<Request>,
        X: Judge<Request, S::Response, S::Error>,
    {
        let Self { mut service, request, queued, ask, deadline, kept, .. } = self;
        let state = queued.state.clone();
        let entered = clock::enter(read);
        let now = entered.now();
        let refused = match outcome {
            Outcome::Refused(why) => why,
            Outcome::Admitted(seat) if deadline.is_some_and(|at| at <= now) => {
                // Nobody waits for it any more.
                state.gate.leave(seat);
                Refusal::WaitedTooLong
            }
            Outcome::Admitted(seat) => {
                state.admitted.increment();
                let since = state.is_adaptive().then_some(now);
                let permit = Permit::new(state, seat, since);
                return Ok(Running::start(&mut service, request, permit, facts, exchange));
            }
        };
        Err((state.refuse(refused, ask.criticality, now), kept))
    }
}

impl<S, F, X: fmt::Debug, C, Request, Kept> fmt::Debug
    for ResponseFuture<S, F, X, C, Request, Kept>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("call", &self.call)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
