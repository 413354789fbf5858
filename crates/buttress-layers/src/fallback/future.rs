use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use buttress_core::{Case, Facts, Judge, Lease, Verdict, clock, fallback::Why, http::Degrade};
use pin_project::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::{
    Ladder,
    ladder::Guide,
    layer::Inner,
    look::{self, Ended, Look},
};

/// The response of a [`Fallback`](super::Fallback) service.
///
/// The bounds stand here, against the rule, because without them the type would have nine
/// parameters in place of four.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S, L, X, Request>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error> + Degrade<Request, S::Response>,
    L: Ladder<Request, S::Response, S::Error, X>,
{
    #[pin]
    pub(super) stage: Stage<S::Future, L::Climb, X::Answer, S::Error>,
    pub(super) look: Look<X::Case>,
    /// `None` in shadow mode.
    pub(super) kept: Option<L::Kept>,
    pub(super) shared: Lease<Inner<L>>,
    pub(super) exchange: X,
}

#[pin_project(project = StageProj)]
pub(super) enum Stage<F, C, Response, Error> {
    /// The service is asked.
    Asking {
        #[pin]
        inner: F,
    },
    /// It has failed, and the rungs are asked. In a box, so that calls which do not fail need not
    /// move about what only those need that do.
    Climbing(Pin<Box<Climbing<C, Response, Error>>>),
    /// Nobody was asked, because another call asks for all.
    Given {
        answer: Option<Box<Response>>,
    },
    Over,
}

/// The way down the ladder.
#[pin_project]
pub(super) struct Climbing<C, Response, Error> {
    #[pin]
    climb: C,
    #[pin]
    timer: Option<Sleep>,
    due: Option<Instant>,
    why: Why,
    facts: Facts,
    /// What the caller gets if nobody has an answer.
    failure: Option<Result<Response, Error>>,
}

impl<S, L, X, Request> ResponseFuture<S, L, X, Request>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error> + Degrade<Request, S::Response>,
    L: Ladder<Request, S::Response, S::Error, X>,
{
    #[cold]
    pub(super) fn given(
        answer: X::Answer,
        look: Look<X::Case>,
        shared: Lease<Inner<L>>,
        exchange: X,
    ) -> Self {
        let stage = Stage::Given { answer: Some(Box::new(answer)) };
        Self { stage, look, kept: None, shared, exchange }
    }
}

impl<S, L, X, Request> Future for ResponseFuture<S, L, X, Request>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error> + Degrade<Request, S::Response>,
    L: Ladder<Request, S::Response, S::Error, X>,
{
    type Output = Result<X::Answer, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StageProj::Asking { inner } = this.stage.as_mut().project() {
            let exchange = &*this.exchange;
            let outcome = match ready!(inner.poll(cx)) {
                Ok(response) => {
                    exchange.head(&mut this.look.case, &response);
                    let judged = this.look.case.judged();
                    if judged.is_some_and(|judged| judged.verdict == Verdict::Good) {
                        this.look.hand_out();
                        let kept = this.kept.as_mut();
                        let tape = kept.and_then(|kept| {
                            this.shared.ladder.went_well(kept, exchange, &response)
                        });
                        return Poll::Ready(Ok(exchange.deliver(response, tape)));
                    }
                    Ok(response)
                }
                Err(error) => Err(error),
            };
            // What is inside goes now, with what it holds on to.
            this.stage.set(Stage::Over);
            let shared = &**this.shared;
            match fell::<S, L, X, Request>(outcome, this.look, this.kept, shared, exchange) {
                ControlFlow::Break(outcome) => return Poll::Ready(outcome),
                ControlFlow::Continue(stage) => this.stage.set(stage),
            }
        }
        match this.stage.as_mut().project() {
            StageProj::Climbing(climbing) => {
                // A rung is asked later than the call that is waiting further up the stack.
                let _scope = clock::poll(false);
                let climbing = climbing.as_mut().project();
                let mut guide = Guide {
                    exchange: this.exchange,
                    why: climbing.why,
                    facts: *climbing.facts,
                    state: &this.shared.state,
                    timer: climbing.timer,
                    due: climbing.due,
                };
                let kept = this.kept.as_mut().expect("nobody sets out with nothing");
                let answer = ready!(this.shared.ladder.poll(climbing.climb, kept, &mut guide, cx));
                let failure = climbing.failure.take().expect("polled after completion");
                this.stage.set(Stage::Over);
                Poll::Ready(answer.map_or_else(
                    || {
                        this.shared.state.unanswered();
                        failure
                    },
                    Ok,
                ))
            }
            StageProj::Given { answer } => {
                Poll::Ready(Ok(*answer.take().expect("polled after completion")))
            }
            StageProj::Asking { .. } | StageProj::Over => panic!("polled after completion"),
        }
    }
}

type Answer<S, X, Request> = <X as Degrade<Request, <S as Service<Request>>::Response>>::Answer;
type Failed<S, X, Request> = Result<Answer<S, X, Request>, <S as Service<Request>>::Error>;
type Next<S, L, X, Request> =
    Stage<
        <S as Service<Request>>::Future,
        <L as Ladder<
            Request,
            <S as Service<Request>>::Response,
            <S as Service<Request>>::Error,
            X,
        >>::Climb,
        Answer<S, X, Request>,
        <S as Service<Request>>::Error,
    >;

type Fate<S, L, X, Request> = ControlFlow<Failed<S, X, Request>, Next<S, L, X, Request>>;

/// What comes of a call that did not end well by its head: the way down the ladder, or the outcome
/// as it is.
#[cold]
fn fell<S, L, X, Request>(
    outcome: Result<S::Response, S::Error>,
    look: &mut Look<X::Case>,
    kept: &mut Option<L::Kept>,
    shared: &Inner<L>,
    exchange: &X,
) -> Fate<S, L, X, Request>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error> + Degrade<Request, S::Response>,
    L: Ladder<Request, S::Response, S::Error, X>,
{
    let (ladder, state) = (&*shared.ladder, &*shared.state);
    let (failure, ended) = match outcome {
        Ok(response) => {
            let only_the_end_tells = look.case.judged().is_none();
            let pass = |response| {
                let tape = kept.as_mut().filter(|_| only_the_end_tells);
                let tape = tape.and_then(|kept| ladder.went_well(kept, exchange, &response));
                exchange.deliver(response, tape)
            };
            let (response, ended) =
                look::response::<Request, _, S::Error, X, _>(look, exchange, response, pass);
            (Ok(response), ended)
        }
        Err(error) => {
            let (error, ended) = look::error::<Request, S::Response, _, X>(look, exchange, error);
            (Err(error), Some(ended))
        }
    };
    let fires =
        |ended: &Ended| state.triggers().fire(ended.judgement, ended.facts, failure.is_err());
    let Some(ended) = ended.filter(fires) else {
        if let Some(kept) = kept {
            ladder.settle(kept, false);
        }
        return ControlFlow::Break(failure);
    };
    let Some(kept) = kept.as_mut().filter(|_| !state.is_shadow()) else {
        state.would_trigger();
        return ControlFlow::Break(failure);
    };
    let why = ended.why();
    state.triggered(&why);
    ladder.settle(kept, true);
    ControlFlow::Continue(Stage::Climbing(Box::pin(Climbing {
        climb: ladder.set_out(),
        timer: None,
        due: None,
        why,
        facts: ended.facts,
        failure: Some(failure),
    })))
}

impl<S, L, X, Request> fmt::Debug for ResponseFuture<S, L, X, Request>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error> + Degrade<Request, S::Response> + fmt::Debug,
    L: Ladder<Request, S::Response, S::Error, X>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}
