use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress_core::{Auto, End, Judge, Remaining, Shared, clock, guarded};
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
            // Whoever keeps this deadline, a layer outside or the caller itself, began to count
            // before us and rounds to its timer's tick.
            Remaining::For(left) => Remaining::For(left.saturating_sub(A_TICK)).ends(now),
            Remaining::Until(at) => Some(at),
        });
        let own = self.late_after.and_then(|after| now.checked_add(after));
        deadline.into_iter().chain(own).min()
    }
}

const A_TICK: Duration = Duration::from_millis(1);

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
        let case = self.exchange.open(&request, facts);
        let nested = entered.is_nested();

        let mut recording = Recording::start(case, self.state.lease(), place, now, late, nested);
        let inner = guarded(|| self.inner.call(request), || recording.end(End::Panicked, read()));
        ResponseFuture::new(inner, recording, self.exchange.clone())
    }
}
