use std::{
    mem,
    task::{Context, Poll},
    time::Instant,
};

use buttress_core::{
    Auto, Criticality, Facts, Judge, Reject, Shared, Side,
    bulkhead::{Ask, Entry},
    clock,
};
use tower_service::Service;

use super::{
    Everyone, Findings, Permit, ResponseFuture, Shedding, Triage,
    future::{Call, Stage, Waiting},
    handle::State,
    permit::{Queued, Taken},
};
use crate::clock::read;

/// Limits how many requests are under way at once.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Bulkhead<S, X = Auto, T = Everyone> {
    inner: S,
    state: Shared<State>,
    options: Options,
    triage: T,
    exchange: X,
}

/// What a layer was told that is no state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) until_head: bool,
    pub(super) shedding: Option<Shedding>,
}

impl<S, X, T> Bulkhead<S, X, T> {
    pub(super) fn new(
        inner: S,
        state: Shared<State>,
        options: Options,
        triage: T,
        exchange: X,
    ) -> Self {
        Self { inner, state, options, triage, exchange }
    }

    /// What a request asks for, and whether it takes a place at all.
    #[inline]
    fn ask<Req, Res, Err>(&self, request: &mut Req, facts: Facts) -> (Ask, bool)
    where
        X: Judge<Req, Res, Err>,
        T: Triage<Req>,
    {
        let Findings { bypass, partition, criticality } = self.triage.look(request);
        let mut ask = Ask { partition, ..Ask::default() };
        if let Some(shedding) = &self.options.shedding {
            let read = || self.exchange.criticality(request, facts, shedding.header);
            ask.criticality = criticality.or_else(read).unwrap_or_default();
            ask.share = shedding.share_of(ask.criticality);
            if ask.criticality < Criticality::Critical {
                ask.share = self.state.leave_of(ask.share);
            }
            if shedding.propagate {
                let header = shedding.header;
                self.exchange.set_criticality(request, facts, header, ask.criticality);
            }
        }
        (ask, bypass)
    }
}

impl<S, X, T, Request> Service<Request> for Bulkhead<S, X, T>
where
    S: Service<Request> + Clone,
    T: Triage<Request>,
    X: Judge<Request, S::Response, S::Error>
        + Reject<Request, <X as Judge<Request, S::Response, S::Error>>::Response<Permit>, S::Error>,
{
    type Response = <X as Judge<Request, S::Response, S::Error>>::Response<Permit>;
    type Error = <X as Reject<Request, Self::Response, S::Error>>::Error;
    type Future = ResponseFuture<
        S,
        S::Future,
        X,
        <X as Judge<Request, S::Response, S::Error>>::Case,
        Request,
        <X as Reject<Request, Self::Response, S::Error>>::Context,
    >;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.exchange.inner(error))
    }

    #[inline]
    fn call(&mut self, mut request: Request) -> Self::Future {
        let facts = self.exchange.facts(&request);
        let (ask, bypass) = self.ask::<_, S::Response, S::Error>(&mut request, facts);
        let mut call = Call { facts, until_head: self.options.until_head, nested: None };
        if bypass {
            self.state.bypassed.increment();
            let exchange = self.exchange.clone();
            let stage = Stage::Running { inner: self.inner.call(request) };
            return ResponseFuture { stage, permit: None, case: None, call, exchange };
        }

        // A fixed limit that nobody has to wait for needs no time.
        let mut entered = None;
        let mut now = || -> Instant { entered.get_or_insert_with(|| clock::enter(read)).now() };
        let since = self.state.is_adaptive().then(&mut now);
        match self.state.enter(ask, &mut now) {
            Entry::Admitted(seat) => {
                call.nested = entered.as_ref().map(clock::Entered::is_nested);
                let taken = Taken::new(&self.state.gate, seat);
                let exchange = self.exchange.clone();
                let case = since.map(|_| exchange.open(&request, facts, Side::Client));
                // In one piece: what is put together elsewhere is moved once more.
                ResponseFuture {
                    stage: Stage::Running { inner: self.inner.call(request) },
                    permit: Some(Permit::new(self.state.lease(), taken.keep(), since)),
                    case,
                    call,
                    exchange,
                }
            }
            Entry::Refused(why) => {
                let rejection = self.state.refuse(why, ask.criticality, now());
                let kept = self.exchange.context(&request);
                ResponseFuture::refused(rejection, kept, call, self.exchange.clone())
            }
            Entry::Waiting(place) => {
                let queued = Queued { state: self.state.lease(), place: Some(place) };
                let now = now();
                let deadline = self.exchange.deadline(&request, facts, None);
                let deadline = deadline.and_then(|deadline| deadline.ends(now));
                let due = self.state.due(now, deadline);
                call.nested = entered.as_ref().map(clock::Entered::is_nested);
                let kept = self.exchange.context(&request);
                // The instance that was polled is the one that may be called.
                let clone = self.inner.clone();
                let service = mem::replace(&mut self.inner, clone);
                let waiting = Waiting { service, request, queued, ask, due, deadline, kept };
                ResponseFuture::waiting(waiting, call, self.exchange.clone())
            }
        }
    }
}
