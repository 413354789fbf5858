use std::{
    marker::PhantomData,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use buttress_core::{
    Auto, Judge, OnUnwind, Resend, Shared, Side, clock,
    hedge::{Race, Settings},
};
use tower_service::Service;

use super::{
    Choose, Extra, ResponseFuture, Several, Unsaid,
    call::{Call, Spare},
    future::Primary,
    handle::{Count, State},
    lanes::Lanes,
    layer::Headers,
};
use crate::{clock::read, retry::attempt::Attempt};

/// Sends a request that takes long a second time.
///
/// See the [module docs](super) for an example.
#[derive(Debug)]
pub struct Hedge<S, X = Auto, T = Unsaid, const N: usize = 1> {
    inner: S,
    state: Shared<State>,
    /// The settings, as of the version that this service has seen.
    settings: Arc<Settings>,
    version: u64,
    headers: Headers,
    exchange: X,
    chooses: T,
}

impl<S, X, T, const N: usize> Hedge<S, X, T, N> {
    pub(super) fn new(
        inner: S,
        state: Shared<State>,
        headers: Headers,
        exchange: X,
        chooses: T,
    ) -> Self {
        let version = state.version.load(Ordering::Acquire);
        let settings = state.settings.load_full();
        Self { inner, state, settings, version, headers, exchange, chooses }
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

impl<S: Clone, X: Clone, T: Clone, const N: usize> Clone for Hedge<S, X, T, N> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            state: self.state.clone(),
            settings: Arc::clone(&self.settings),
            version: self.version,
            headers: self.headers,
            exchange: self.exchange.clone(),
            chooses: self.chooses.clone(),
        }
    }
}

impl<S, X, T, Request, const N: usize> Service<Request> for Hedge<S, X, T, N>
where
    S: Service<Request> + Clone,
    X: Judge<Request, S::Response, S::Error> + Resend<Request, S::Response>,
    T: Choose<Request>,
    Extra<N>: Several,
{
    type Response = <X as Resend<Request, S::Response>>::Response;
    type Error = S::Error;
    type Future = ResponseFuture<
        S,
        S::Future,
        X,
        <X as Judge<Request, S::Response, S::Error>>::Case,
        Request,
        Self::Response,
        S::Error,
        <X as Resend<Request, S::Response>>::Kept,
        <Extra<N> as Several>::Lanes<
            S,
            S::Future,
            <X as Judge<Request, S::Response, S::Error>>::Case,
        >,
    >;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request) -> Self::Future {
        let entered = clock::enter(read);
        let now = entered.now();
        self.refresh();
        let (settings, exchange) = (&*self.settings, &self.exchange);
        let state = self.state.lease();
        state.count(Count::Request);
        let budget = settings.of_budget();
        let is_covered = budget.is_covered();
        let started = budget.begin(now);

        let facts = exchange.facts(&request);
        let told = exchange.deadline(&request, facts, Some(self.headers.deadline));
        let theirs = told.and_then(|remaining| remaining.ends(now));
        let deadline = theirs.into_iter().chain(clock::due().head).min();
        let switch = self.chooses.choose(&request).or_else(|| exchange.switch(&request));
        let keyed = || exchange.is_keyed(&request);
        let allowed = settings.allows(facts, switch, keyed, || exchange.route(&request, facts));
        let most = u32::try_from(N).unwrap_or(Race::MOST);
        let mut race = allowed
            .and_then(|()| settings.of_delay().at(now))
            .and_then(|delay| Race::new(now, delay, most, deadline));
        // Of those that may be hedged, also while it is not known yet which of them take long.
        let learns = allowed.is_ok() && settings.of_delay().learns();
        let mut attempt = Attempt::new(exchange.open(&request, facts, Side::Client), now);

        // Nothing is kept of what will not be sent again, whatever becomes of it.
        let kept = if race.is_ok() && !state.is_shadow() {
            exchange.keep_of(&mut request, settings.of_body()).map(Some)
        } else {
            Ok(None)
        };
        let kept = kept.unwrap_or_else(|stop| {
            race = Err(stop.into());
            None
        });
        let spare = match (&kept, &race) {
            (Some(_), _) => Spare::Kept(Some(self.inner.clone())),
            (None, Ok(_)) => Spare::Shadow,
            (None, Err(_)) => Spare::Not,
        };
        let race = race.unwrap_or_else(|why| {
            state.unhedged(why);
            Race::alone()
        });
        let known = budget.known();
        let covered = known.cover();
        let guard = OnUnwind::new(|| attempt.panicked());
        let inner = self.inner.call(request);
        guard.defuse();
        drop(covered);
        ResponseFuture {
            primary: Primary::Running { inner },
            lanes: Lanes::empty(),
            timer: None,
            kept,
            call: Call {
                state,
                attempt,
                began: now,
                facts,
                race,
                spare,
                waiting: 0,
                deadline,
                is_told: told.is_some(),
                learns,
                tells: budget.is_told(),
                known,
                is_covered,
                owes: false,
                _started: started,
                nested: entered.is_nested(),
                headers: self.headers,
            },
            exchange: self.exchange.clone(),
            request: PhantomData,
        }
    }
}
