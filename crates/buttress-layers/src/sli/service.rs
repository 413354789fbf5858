use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress_core::{Auto, End, Judge, OnUnwind, Remaining, Shared, clock};
use tower_service::Service;

use super::{Recording, ResponseFuture, handle::State};
use crate::clock::read;

/// Records what callers got.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Sli<S, X = Auto> {
    inner: S,
    state: Shared<State>,
    late_after: Option<Duration>,
    exchange: X,
}

impl<S, X> Sli<S, X> {
    pub(super) fn new(
        inner: S,
        state: Shared<State>,
        late_after: Option<Duration>,
        exchange: X,
    ) -> Self {
        Self { inner, state, late_after, exchange }
    }

    /// From when on a caller that leaves leaves because we are late.
    #[inline]
    fn late(&self, deadline: Option<Remaining>, now: Instant) -> Option<Instant> {
        let deadline = deadline.and_then(|deadline| match deadline {
            Remaining::For(left) => Remaining::For(left.saturating_sub(slack(left))).ends(now),
            Remaining::Until(at) => Some(at),
        });
        let own = self.late_after.and_then(|after| now.checked_add(after));
        deadline.into_iter().chain(own).min()
    }
}

/// How much earlier than by our reckoning a caller may give up on its deadline.
///
/// It began to count before us, and its request may have been longer on the way than its reset:
/// a tenth of the deadline, no less than a tick of a timer and no more than 50 ms, past which two
/// messages on one connection hardly drift apart.
fn slack(deadline: Duration) -> Duration {
    (deadline / 10).clamp(Duration::from_millis(1), Duration::from_millis(50))
}

impl<S, X, Request> Service<Request> for Sli<S, X>
where
    S: Service<Request>,
    X: Judge<Request, S::Response, S::Error>,
{
    type Response = X::Response<Recording<X::Case>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, X, X::Case, Request>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        let entered = clock::enter(read);
        let now = entered.now();
        let facts = self.exchange.facts(&request);
        let place = self.state.routes.find(self.exchange.route(&request, facts));
        let late = self.late(self.exchange.deadline(&request, facts, None), now);
        let case = self.exchange.open(&request, facts, self.state.side);
        let nested = entered.is_nested();

        let mut recording = Recording::start(case, self.state.lease(), place, now, late);
        let guard = OnUnwind::new(|| recording.end(End::Panicked, read()));
        let inner = self.inner.call(request);
        guard.defuse();
        ResponseFuture::new(inner, recording, nested, self.exchange.clone())
    }
}
