use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{
    Case, Judge, Kept, OnUnwind, Reject, Resend, Side, Verdict, clock,
    retry::{Again, Stop},
};
use pin_project::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::attempt::{Attempt, Call, doubt, failure};
use crate::clock::{read, sleep};

/// The response of a [`Retry`](super::Retry) service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<S, F, X, C: Case, Request, K, Context> {
    #[pin]
    pub(super) step: Step<F>,
    /// Rings at the end of a wait, or when an attempt has taken too long. Made when something is
    /// first found pending: most never are.
    #[pin]
    pub(super) timer: Option<Sleep>,
    /// What was kept of the request, or why nothing was. Beside the call and not in it, for it is
    /// large to move.
    pub(super) kept: Result<K, Stop>,
    pub(super) call: Call<S, C>,
    /// `None` where nothing is ever refused.
    pub(super) context: Option<Context>,
    pub(super) exchange: X,
    pub(super) request: PhantomData<fn(Request)>,
}

#[pin_project(project = StepProj)]
pub(super) enum Step<F> {
    /// An attempt is under way.
    Running {
        #[pin]
        inner: F,
    },
    /// Until the next attempt.
    Waiting,
    /// Until the service is ready for it.
    Readying,
    Over,
}

/// Why an attempt was not made for which there was leave.
enum Unmade<Error> {
    /// The service failed before it was ready.
    Unready(Error),
    /// The service was ready when the caller had gone.
    Late,
}

impl<S, X, Request, Response, Error, C, K, Context_> Future
    for ResponseFuture<S, S::Future, X, C, Request, K, Context_>
where
    S: Service<Request>,
    C: Case,
    K: Kept,
    X: Judge<Request, S::Response, S::Error, Case = C>
        + Resend<Request, S::Response, Kept = K, Response = Response>
        + Reject<Request, Response, S::Error, Error = Error, Context = Context_>,
{
    type Output = Result<Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (call, exchange) = (this.call, this.exchange);
        // What is inside may wait in its future, and call on from there.
        let _scopes = (clock::poll(call.nested), call.known.cover());
        loop {
            // The timer before the work, so that a busy task hears it ring.
            let rang = match this.timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(cx).is_ready(),
                None => false,
            };
            if matches!(*this.step, Step::Waiting) {
                if !rang && this.timer.is_some() {
                    return Poll::Pending;
                }
                this.timer.set(None);
                call.begin_next(clock::ready(read), this.context.is_some());
                this.step.set(Step::Readying);
                continue;
            }
            let polled = match start(this.step.as_mut(), call, this.kept, exchange, cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) => {
                    let StepProj::Running { inner } = this.step.as_mut().project() else {
                        panic!("polled after completion")
                    };
                    let _within = call.within();
                    let guard = OnUnwind::new(|| call.attempt.panicked());
                    let polled = inner.poll(cx);
                    guard.defuse();
                    polled
                }
                Poll::Ready(Err(unmade)) => {
                    this.step.set(Step::Over);
                    return Poll::Ready(refuse::<X, Request, _, _, _, _>(
                        unmade,
                        call,
                        exchange,
                        this.context,
                    ));
                }
            };
            if polled.is_pending() {
                let Some(due) = call.due else { return Poll::Pending };
                if !rang {
                    ready!(sleep(this.timer.as_mut(), due).poll(cx));
                }
                if call.decide_in_shadow(clock::ready(read)) {
                    // It goes on, and nothing else is decided of it.
                    this.timer.set(None);
                    continue;
                }
            }
            // What is inside goes now: the body that it sends has then said how far it came.
            this.step.set(Step::Over);
            this.timer.set(None);
            let again = match polled {
                Poll::Ready(Ok(response)) => {
                    // Most are good, and then nobody asks what time it is.
                    let ended = call.attempt.ends(|| clock::ready(read));
                    exchange.head(&mut call.attempt.case, &response);
                    if call.is_good(ended) {
                        return Poll::Ready(Ok(exchange.lay_open(response)));
                    }
                    let (response, again) = doubted::<_, X, Request, _, S::Error, _, _>(
                        call, this.kept, exchange, response, cx,
                    );
                    let Some(again) = again else { return Poll::Ready(Ok(response)) };
                    // Not kept through the wait: it holds a connection, or somebody's permit.
                    drop(response);
                    again
                }
                Poll::Ready(Err(error)) => {
                    let again = failed::<_, X, Request, S::Response, _, _, _>(
                        call, this.kept, exchange, &error,
                    );
                    let Some(again) = again else {
                        return Poll::Ready(Err(exchange.inner(error)));
                    };
                    drop(error);
                    again
                }
                // It took too long.
                Poll::Pending => {
                    let now = clock::ready(read);
                    call.attempt.time_out(now);
                    let Some(again) = call.again_after_cut(check(this.kept), now) else {
                        let rejection = call.timed_out("timed out waiting for an attempt");
                        let context = this.context.take().expect("kept where time is limited");
                        return Poll::Ready(exchange.reject(context, rejection));
                    };
                    again
                }
            };
            call.due = None;
            this.step.set(Step::Waiting);
            if !again.wait.is_zero() {
                let now = clock::ready(read);
                this.timer.set(Some(sleep_until((now + again.wait).into())));
            } else if !again.transparent {
                // Others have their turn too, should it fail again and again.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

/// Makes the next attempt, if it is time for one, once the service has become ready for it.
#[inline]
fn start<S, X, Request>(
    mut step: Pin<&mut Step<S::Future>>,
    call: &mut Call<S, X::Case>,
    kept: &mut Result<<X as Resend<Request, S::Response>>::Kept, Stop>,
    exchange: &X,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Unmade<S::Error>>>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error> + Resend<Request, S::Response>,
{
    if !matches!(*step, Step::Readying) {
        return Poll::Ready(Ok(()));
    }
    let _within = call.within();
    let (Some(service), Ok(kept)) = (&mut call.service, kept) else {
        unreachable!("only what was kept is tried again")
    };
    if let Err(error) = ready!(service.poll_ready(cx)) {
        return Poll::Ready(Err(Unmade::Unready(error)));
    }
    let entered = clock::enter(read);
    let (now, facts) = (entered.now(), call.facts);
    if call.deadline.is_some_and(|deadline| deadline <= now) {
        return Poll::Ready(Err(Unmade::Late));
    }
    let settings = call.state.settings.load();
    let last = call.course.is_final(&settings);
    let mut request = exchange.again(kept, last).expect("it was checked before the wait");
    let previous = call.course.previous();
    if previous > 0 {
        exchange.number(&mut request, facts, previous, call.headers.attempt);
    }
    if let Some(deadline) = call.deadline.filter(|_| call.is_told) {
        exchange.forward(&mut request, facts, call.headers.deadline, deadline, now);
    }
    call.attempt = Attempt::new(exchange.open(&request, facts, Side::Client), now);
    // The settings may be others than when the request came.
    call.known = settings.of_budget().known();
    let _covered = call.known.cover();
    let inner = call.attempt.guard(|| service.call(request));
    step.set(Step::Running { inner });
    Poll::Ready(Ok(()))
}

/// What is to be done about a response that is not good by its head alone.
fn doubted<S, X, Request, Response, Error, C: Case, K: Kept>(
    call: &mut Call<S, C>,
    kept: &Result<K, Stop>,
    exchange: &X,
    response: Response,
    cx: &mut Context<'_>,
) -> (<X as Resend<Request, Response>>::Response, Option<Again>)
where
    X: Judge<Request, Response, Error, Case = C> + Resend<Request, Response>,
{
    let attempt = &mut call.attempt;
    // Most are good, or their caller's own fault, and then nobody asks what time it is.
    let now = attempt.ends(|| clock::ready(read));
    let (response, doubted) =
        doubt::<X, Request, _, Error, _>(attempt, exchange, response, now, cx);
    if doubted.as_ref().is_none_or(|it| it.judgement.verdict == Verdict::Good) {
        call.succeeded();
    }
    let failure = doubted.and_then(|doubted| doubted.failure(&call.state.settings.load()));
    (response, failure.and_then(|failure| call.again(failure, check(kept), clock::ready(read))))
}

/// What is to be done about an error.
fn failed<S, X, Request, Response, Error, C: Case, K: Kept>(
    call: &mut Call<S, C>,
    kept: &Result<K, Stop>,
    exchange: &X,
    error: &Error,
) -> Option<Again>
where
    X: Judge<Request, Response, Error, Case = C>,
{
    let (attempt, now) = (&mut call.attempt, clock::ready(read));
    let settings = call.state.settings.load();
    let (_, failure) =
        failure::<X, Request, Response, _, _>(attempt, exchange, error, now, &settings);
    drop(settings);
    call.again(failure?, check(kept), now)
}

/// Whether the request can be made again by now.
fn check<K: Kept>(kept: &Result<K, Stop>) -> Result<(), Stop> {
    kept.as_ref().map_err(|stop| *stop)?.check()
}

/// What a caller gets whose next attempt was not made.
fn refuse<X, Request, Response, Failed, S, C: Case>(
    unmade: Unmade<Failed>,
    call: &Call<S, C>,
    exchange: &X,
    context: &mut Option<X::Context>,
) -> Result<Response, X::Error>
where
    X: Reject<Request, Response, Failed>,
{
    match unmade {
        Unmade::Unready(error) => {
            call.state.stopped(Stop::Unready);
            Err(exchange.inner(error))
        }
        Unmade::Late => {
            call.state.stopped(Stop::Deadline);
            let rejection = call.timed_out("timed out waiting for a ready service");
            exchange.reject(context.take().expect("kept where time is limited"), rejection)
        }
    }
}

impl<S, F, X: fmt::Debug, C: Case, Request, K, Kept> fmt::Debug
    for ResponseFuture<S, F, X, C, Request, K, Kept>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("course", &self.call.course)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
