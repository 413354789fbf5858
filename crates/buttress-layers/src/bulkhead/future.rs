use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
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
    permit::{Ending, Queued, Taken},
};
use crate::clock::read;

/// The response of a [`Bulkhead`](super::Bulkhead) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S, F, X, C, Request, Kept> {
    /// Dropped before the permit is: who is let in for it must find it gone.
    #[pin]
    pub(super) stage: Stage<S, F, Request, Kept>,
    /// Of a call that is under way; `None` if it takes no place.
    pub(super) permit: Option<Permit>,
    /// How the call is judged, where that moves the limit.
    pub(super) case: Option<C>,
    pub(super) call: Call,
    pub(super) exchange: X,
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
pub(super) enum Stage<S, F, Request, Kept> {
    Running {
        #[pin]
        inner: F,
    },
    Waiting {
        waiting: Option<Waiting<S, Request, Kept>>,
        #[pin]
        timer: Option<Sleep>,
    },
    Refused(Option<(Rejection, Kept)>),
    Over,
}

/// Tells the permit how the call went, where that moves the limit.
#[inline(never)]
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
    pub(super) fn waiting(waiting: Waiting<S, Request, Kept>, call: Call, exchange: X) -> Self {
        let stage = Stage::Waiting { waiting: Some(waiting), timer: None };
        Self { stage, permit: None, case: None, call, exchange }
    }

    pub(super) fn refused(rejection: Rejection, kept: Kept, call: Call, exchange: X) -> Self {
        let stage = Stage::Refused(Some((rejection, kept)));
        Self { stage, permit: None, case: None, call, exchange }
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
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _scope = self.call.nested.map(clock::poll);
        if !matches!(self.stage, Stage::Running { .. })
            && let Some(refused) = ready!(self.as_mut().wait(cx))
        {
            return Poll::Ready(refused);
        }
        let this = self.project();
        let mut tidy = Tidy { stage: this.stage, permit: this.permit };
        let outcome = match tidy.stage.as_mut().project() {
            StageProj::Running { inner } => inner.poll(cx),
            _ => unreachable!("it has been started, and was not refused"),
        };
        let Poll::Ready(outcome) = outcome else {
            mem::forget(tidy);
            return Poll::Pending;
        };
        if let (Some(permit), Some(case)) = (&mut *tidy.permit, this.case.take()) {
            judge(permit, case, this.call.facts, &outcome, this.exchange);
        }
        // What is inside is gone before its place is given back.
        tidy.stage.set(Stage::Over);
        let permit = tidy.permit.take();
        mem::forget(tidy);
        match (outcome, permit) {
            (Ok(response), Some(permit)) if !this.call.until_head => {
                Poll::Ready(Ok(this.exchange.wrap(this.call.facts, response, permit)))
            }
            (Ok(response), permit) => {
                settle(permit, Ending::Answered);
                Poll::Ready(Ok(this.exchange.pass::<Permit>(response)))
            }
            (Err(error), permit) => {
                settle(permit, Ending::Unmeasured);
                Poll::Ready(Err(this.exchange.inner(error)))
            }
        }
    }
}

impl<S, X, Request, Kept> ResponseFuture<S, S::Future, X, X::Case, Request, Kept>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error>,
{
    /// Waits for its turn, and calls; or is refused.
    #[cold]
    fn wait<Response, Error>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Response, Error>>>
    where
        X: Reject<Request, Response, S::Error, Error = Error, Context = Kept>,
    {
        let mut this = self.project();
        let (rejection, kept) = match this.stage.as_mut().project() {
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
                    Ok((inner, permit, case)) => {
                        this.stage.set(Stage::Running { inner });
                        (*this.permit, *this.case) = (Some(permit), case);
                        return Poll::Ready(None);
                    }
                    Err(refused) => refused,
                }
            }
            StageProj::Refused(refused) => refused.take().expect("polled after completion"),
            _ => panic!("polled after completion"),
        };
        this.stage.set(Stage::Over);
        Poll::Ready(Some(this.exchange.reject(kept, rejection)))
    }
}

/// Ends a call when it is dropped: what is inside goes first, and then its place is given back,
/// also when the poll of it unwinds.
struct Tidy<'a, S, F, Request, Kept> {
    stage: Pin<&'a mut Stage<S, F, Request, Kept>>,
    permit: &'a mut Option<Permit>,
}

impl<S, F, Request, Kept> Drop for Tidy<'_, S, F, Request, Kept> {
    #[cold]
    fn drop(&mut self) {
        self.stage.set(Stage::Over);
        settle(self.permit.take(), Ending::Unmeasured);
    }
}

/// Gives the place back, if there is one.
#[inline]
fn settle(permit: Option<Permit>, ending: Ending) {
    if let Some(mut permit) = permit {
        permit.settle(ending);
    }
}

/// A call that has begun, the place that it has, and what is judged of it.
type Started<F, C> = (F, Permit, Option<C>);

impl<S, Request, Kept> Waiting<S, Request, Kept> {
    /// Starts, or refuses, a call that waits no more.
    fn go_on<X>(
        self,
        outcome: Outcome,
        facts: Facts,
        exchange: &X,
    ) -> Result<Started<S::Future, X::Case>, (Rejection, Kept)>
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
                let taken = Taken::new(&state.gate, seat);
                let case = since.map(|_| exchange.open(&request, facts, Side::Client));
                let inner = service.call(request);
                let seat = taken.keep();
                return Ok((inner, Permit::new(state, seat, since), case));
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
