use std::{
    marker::PhantomData,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use buttress_core::{
    Auto, Judge, OnUnwind, Protocol, Reject, Resend, Shared, Side, clock,
    retry::{Course, Settings, Stop},
};
use tower_service::Service;

use super::{
    ResponseFuture,
    attempt::{Attempt, Call, Shadow, due, within},
    future::Step,
    handle::{Count, State},
    layer::Headers,
};
use crate::clock::read;

/// Tries failed requests again.
///
/// See the [module docs](super) for an example.
#[derive(Debug)]
pub struct Retry<S, X = Auto> {
    inner: S,
    state: Shared<State>,
    /// The settings, as of the version that this service has seen.
    settings: Arc<Settings>,
    version: u64,
    headers: Headers,
    exchange: X,
}

impl<S, X> Retry<S, X> {
    pub(super) fn new(inner: S, state: Shared<State>, headers: Headers, exchange: X) -> Self {
        let version = state.version.load(Ordering::Acquire);
        let settings = state.settings.load_full();
        Self { inner, state, settings, version, headers, exchange }
    }

    /// Looks whether other settings have been set: one load of a line that hardly ever changes.
    #[inline]
    fn refresh(&mut self) {
        let version = self.state.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.settings = self.state.settings.load_full();
        }
    }
}

impl<S: Clone, X: Clone> Clone for Retry<S, X> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            state: self.state.clone(),
            settings: Arc::clone(&self.settings),
            version: self.version,
            headers: self.headers,
            exchange: self.exchange.clone(),
        }
    }
}

impl<S, X, Request> Service<Request> for Retry<S, X>
where
    S: Service<Request> + Clone,
    X: Judge<Request, S::Response, S::Error>
        + Resend<Request, S::Response>
        + Reject<Request, <X as Resend<Request, S::Response>>::Response, S::Error>,
{
    type Response = <X as Resend<Request, S::Response>>::Response;
    type Error = <X as Reject<Request, Self::Response, S::Error>>::Error;
    type Future = ResponseFuture<
        S,
        S::Future,
        X,
        <X as Judge<Request, S::Response, S::Error>>::Case,
        Request,
        <X as Resend<Request, S::Response>>::Kept,
        <X as Reject<Request, Self::Response, S::Error>>::Context,
    >;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.exchange.inner(error))
    }

    #[inline]
    fn call(&mut self, mut request: Request) -> Self::Future {
        let entered = clock::enter(read);
        let now = entered.now();
        self.refresh();
        let (settings, exchange) = (&*self.settings, &self.exchange);
        let state = self.state.lease();
        state.count(Count::Request);
        let started = settings.of_budget().begin(now);

        let facts = exchange.facts(&request);
        let told = exchange.deadline(&request, facts, Some(self.headers.deadline));
        let theirs = told.and_then(|remaining| remaining.ends(now));
        let deadline = theirs.into_iter().chain(clock::due().head).min();
        // Only time that runs out is ever refused here.
        let can_refuse = settings.of_attempt().is_some() || deadline.is_some();
        let context = can_refuse.then(|| exchange.context(&request));
        // Nothing is kept of what will not be sent again, whatever becomes of it.
        let repeats = match facts.protocol {
            Protocol::Http => settings.repeats(facts.method) || exchange.is_keyed(&request),
            // By the codes that it ends in.
            Protocol::Grpc | Protocol::Plain => true,
        };
        let may_retry = settings.may_retry();
        let shadow =
            if may_retry && repeats && state.is_shadow() { Shadow::On } else { Shadow::Off };
        let keeps = may_retry && repeats && shadow == Shadow::Off;
        // Nothing of it is moved any more once it is here: the copy of the request is large.
        let mut attempt = Attempt::new(exchange.open(&request, facts, Side::Client), now);
        let kept = if keeps {
            exchange.keep_of(&mut request, settings.of_body())
        } else {
            Err(if may_retry { Stop::Method } else { Stop::Attempts })
        };
        let service = kept.is_ok().then(|| self.inner.clone());
        let course = Course::new();
        let is_last = course.is_last(settings) || kept.is_err() && shadow == Shadow::Off;
        let due = due(settings, facts.protocol, now, is_last, deadline.is_some(), can_refuse);
        let known = settings.of_budget().known();
        let scopes = (within(due, shadow), known.cover());
        let guard = OnUnwind::new(|| attempt.panicked());
        let inner = self.inner.call(request);
        guard.defuse();
        drop(scopes);
        ResponseFuture {
            step: Step::Running { inner },
            timer: None,
            kept,
            call: Call {
                state,
                attempt,
                facts,
                course,
                service,
                shadow,
                deadline,
                is_told: told.is_some(),
                due,
                tells: settings.of_budget().is_told(),
                known,
                _started: started,
                spent: None,
                nested: entered.is_nested(),
                headers: self.headers,
            },
            context,
            exchange: self.exchange.clone(),
            request: PhantomData,
        }
    }
}
