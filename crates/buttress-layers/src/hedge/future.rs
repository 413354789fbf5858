use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{Case, Judge, Kept, OnUnwind, Resend, Side, clock, hedge::Next};
use pin_project::pin_project;
use tokio::time::{Instant as TimerInstant, Sleep};
use tower_service::Service;

use super::{
    call::{Call, Spare, fate},
    handle::Fate,
    judge::{Answered, Judged, in_doubt, judge},
    lanes::{Lane, Lanes},
};
use crate::{
    clock::{read, sleep},
    retry::attempt::Attempt,
};

/// The response of a [`Hedge`](super::Hedge) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S, F, X, C: Case, Request, Response, Error, K, L> {
    /// The first attempt.
    #[pin]
    pub(super) primary: Primary<F, Response, Error>,
    /// Those that were sent after it.
    #[pin]
    pub(super) lanes: L,
    /// Rings when the next of them is due. Made when the first attempt is found pending: most
    /// never are.
    #[pin]
    pub(super) timer: Option<Sleep>,
    /// What was kept of the request. Beside the call and not in it, for it is large to move.
    pub(super) kept: Option<K>,
    pub(super) call: Call<S, C>,
    pub(super) exchange: X,
    pub(super) request: PhantomData<fn(Request)>,
}

#[pin_project(project = PrimaryProj, project_replace = PrimaryTaken)]
pub(super) enum Primary<F, Response, Error> {
    Running {
        #[pin]
        inner: F,
    },
    /// How it failed, which is passed on if nobody does better.
    Failed {
        outcome: Result<Response, Error>,
    },
    Over,
}

impl<S, X, Request, Response, C, K, L> Future
    for ResponseFuture<S, S::Future, X, C, Request, Response, S::Error, K, L>
where
    S: Service<Request> + Clone,
    C: Case,
    K: Kept,
    X: Judge<Request, S::Response, S::Error, Case = C>
        + Resend<Request, S::Response, Kept = K, Response = Response>,
    L: Lanes<S, S::Future, C>,
{
    type Output = Result<Response, S::Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        let (call, exchange) = (this.call, &*this.exchange);
        // What is inside may wait in its future, and call on from there.
        let _scopes = (clock::poll(call.nested), call.known.cover());
        // The timer before the work, so that a busy task hears it ring.
        let mut rang = None;
        if let Some(mut timer) = this.timer.as_mut().as_pin_mut()
            && timer.as_mut().poll(cx).is_ready()
        {
            rang = Some(timer.deadline());
        }
        let mut polled = Poll::Pending;
        match this.primary.as_mut().project() {
            PrimaryProj::Running { inner } => {
                let guard = OnUnwind::new(|| call.attempt.panicked());
                polled = inner.poll(cx);
                guard.defuse();
            }
            PrimaryProj::Failed { .. } => {}
            PrimaryProj::Over => panic!("polled after completion"),
        }
        if let Poll::Ready(outcome) = polled {
            // What is inside goes now: the body that it sends has then said how far it came.
            this.primary.set(Primary::Over);
            let outcome = match outcome {
                Ok(response) if call.is_good::<X, Request, _, S::Error>(exchange, &response) => {
                    drop_others(this.lanes, call);
                    this.timer.set(None);
                    call.tell_answered(Answered::Well);
                    return Poll::Ready(Ok(exchange.lay_open(response)));
                }
                outcome => outcome,
            };
            let (attempt, state) = (&mut call.attempt, &call.state);
            let settings = || state.settings.load();
            let judged =
                in_doubt::<_, X, Request, _, _, _>(attempt, exchange, outcome, settings, cx);
            match judged {
                Judged::Answer(answer, answered) => {
                    if call.learns {
                        call.learn(true, clock::ready(read));
                    }
                    drop_others(this.lanes, call);
                    this.timer.set(None);
                    call.tell_answered(answered);
                    return Poll::Ready(answer);
                }
                Judged::Failed(outcome, failure) => {
                    let now = clock::ready(read);
                    call.learn(false, now);
                    if call.failed(0, &failure, now) == Next::PassOn {
                        call.tell_failed(&failure, true);
                        return Poll::Ready(outcome);
                    }
                    call.first_failed(&failure);
                    this.primary.set(Primary::Failed { outcome });
                }
            }
        }
        self.poll_others(rang, cx)
    }
}

impl<S, X, Request, Response, C, K, L>
    ResponseFuture<S, S::Future, X, C, Request, Response, S::Error, K, L>
where
    S: Service<Request> + Clone,
    C: Case,
    K: Kept,
    X: Judge<Request, S::Response, S::Error, Case = C>
        + Resend<Request, S::Response, Kept = K, Response = Response>,
    L: Lanes<S, S::Future, C>,
{
    /// Polls the attempts after the first, and sends the next ones when they are due. `rang` says
    /// for when the timer was set that has just rung.
    fn poll_others(
        self: Pin<&mut Self>,
        rang: Option<TimerInstant>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, S::Error>> {
        let mut this = self.project();
        let (call, exchange) = (this.call, &*this.exchange);
        let (mut first, mut latest) = (0, call.began);
        loop {
            for number in first..call.race.fired() {
                let Some(mut lane) = this.lanes.as_mut().lane(number) else { break };
                let polled = poll_lane::<_, X, Request, _, _, _>(
                    lane.as_mut(),
                    call,
                    this.kept,
                    exchange,
                    cx,
                );
                let Poll::Ready(judged) = polled else { continue };
                let now = clock::ready(read);
                match judged {
                    Some(Judged::Answer(answer, answered)) => {
                        lane.clear(Fate::Won);
                        let was_running = matches!(*this.primary, Primary::Running { .. });
                        this.primary.set(Primary::Over);
                        if was_running {
                            call.give_up(now);
                        }
                        call.settle();
                        drop_others(this.lanes, call);
                        this.timer.set(None);
                        call.tell_answered(answered);
                        return Poll::Ready(answer);
                    }
                    Some(Judged::Failed(outcome, failure)) => {
                        // The caller sees what the first attempt ended in, if all fail.
                        drop(outcome);
                        lane.clear(fate(&failure));
                        call.tell_failed(&failure, false);
                        if call.failed(number + 1, &failure, now) == Next::Wait {
                            continue;
                        }
                    }
                    None => {
                        lane.clear(Fate::Failed);
                        if call.race.failed(number + 1, None, now).0 == Next::Wait {
                            continue;
                        }
                    }
                }
                let PrimaryTaken::Failed { outcome } =
                    this.primary.as_mut().project_replace(Primary::Over)
                else {
                    unreachable!("none is under way, and the first one was")
                };
                call.owes = false;
                return Poll::Ready(outcome);
            }
            first = call.race.fired();
            let Some(due) = call.race.due() else { return Poll::Pending };
            // At once is before any timer could ring.
            if due > latest && rang != Some(due.into()) {
                ready!(sleep(this.timer.as_mut(), due).poll(cx));
            }
            this.timer.set(None);
            latest = clock::ready(read);
            if let Some(sent) = call.fire(this.kept, latest) {
                let lane = this.lanes.as_mut().lane(sent.number - 1);
                lane.expect("no more are sent than there is room for").send(sent);
            }
        }
    }
}

/// Polls an attempt after the first, once its service has become ready; `None` if that failed
/// before it was, or was ready when the caller had gone, and `Pending` also of one that has ended.
fn poll_lane<S, X, Request, Response, C, K>(
    lane: Pin<&mut Lane<S, S::Future, C>>,
    call: &mut Call<S, C>,
    kept: &mut Option<K>,
    exchange: &X,
    cx: &mut Context<'_>,
) -> Poll<Option<Judged<Response, S::Error>>>
where
    S: Service<Request>,
    C: Case,
    X: Judge<Request, S::Response, S::Error, Case = C>
        + Resend<Request, S::Response, Kept = K, Response = Response>,
{
    let mut lane = lane.project();
    let Some(sent) = lane.hedge else { return Poll::Pending };
    if let Some(service) = &mut sent.service {
        let ready = ready!(service.poll_ready(cx));
        call.waiting = call.waiting.saturating_sub(1);
        let entered = clock::enter(read);
        let (now, facts) = (entered.now(), call.facts);
        if ready.is_err() || call.deadline.is_some_and(|deadline| deadline <= now) {
            return Poll::Ready(None);
        }
        let (Spare::Kept(spare), Some(kept)) = (&call.spare, kept) else {
            unreachable!("only what was kept is sent again")
        };
        // No service is left for another, and none waits to be called.
        let last = spare.is_none() && call.waiting == 0;
        let Ok(mut request) = exchange.again(kept, last) else { return Poll::Ready(None) };
        // Those of a retry around this layer, and our own.
        let header = call.headers.attempt;
        let previous = exchange.previous(&request, facts, header).saturating_add(sent.number);
        exchange.number(&mut request, facts, previous, header);
        if let Some(deadline) = call.deadline.filter(|_| call.is_told) {
            exchange.forward(&mut request, facts, call.headers.deadline, deadline, now);
        }
        let case = exchange.open(&request, facts, Side::Client);
        let attempt = sent.attempt.insert(Attempt::new(case, now));
        let inner = attempt.guard(|| service.call(request));
        lane.inner.set(Some(inner));
        sent.service = None;
    }
    let (Some(inner), Some(attempt)) = (lane.inner.as_mut().as_pin_mut(), &mut sent.attempt) else {
        return Poll::Pending;
    };
    let outcome = ready!(attempt.guard(|| inner.poll(cx)));
    lane.inner.set(None);
    let state = &call.state;
    let judged = judge::<_, X, Request, S::Response, _, _>(
        attempt,
        exchange,
        outcome,
        || state.settings.load(),
        cx,
    );
    Poll::Ready(Some(judged))
}

/// Drops the attempts that are still under way after the first.
#[inline]
fn drop_others<S, F, C: Case, L: Lanes<S, F, C>>(mut lanes: Pin<&mut L>, call: &Call<S, C>) {
    for number in 0..call.race.fired() {
        if let Some(lane) = lanes.as_mut().lane(number) {
            lane.clear(Fate::Lost);
        }
    }
}

impl<S, F, X: fmt::Debug, C: Case, Request, Response, Error, K, L> fmt::Debug
    for ResponseFuture<S, F, X, C, Request, Response, Error, K, L>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("race", &self.call.race)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
