use std::{num::NonZeroU32, sync::Arc};

use buttress_core::{Auto, Custom, Rate, Shared, TimeLimit, rate_limit::Limiter};
use tower_layer::Layer;

use super::{Cost, Each, One, RateLimit, RateLimitHandle, common::Common, pool::Bucket};

/// Builds [`RateLimit`] services.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct RateLimitLayer<X = Auto, P = Plan> {
    plan: P,
    exchange: X,
}

/// What a layer limits: which requests together, and by what they cost.
#[derive(Clone, Copy, Debug)]
pub struct Plan<K = One, C = Each> {
    pub(super) pool: K,
    pub(super) cost: C,
}

impl RateLimitLayer {
    /// A layer whose name stands in refusals, logs and metrics.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, rate: Rate) -> Self {
        Self::several(name, [rate])
    }

    /// A layer with several limits, all of which hold: so many a second and so many a day.
    ///
    /// A request is admitted by all or takes from none, and the one that lets it wait longest says
    /// when to come again.
    ///
    /// # Panics
    ///
    /// Without a rate.
    #[must_use]
    pub fn several(name: impl Into<Arc<str>>, rates: impl IntoIterator<Item = Rate>) -> Self {
        let bucket = Bucket { common: Common::new(name.into()), limiter: Limiter::new(rates) };
        Self { plan: Plan { pool: One(Shared::new(bucket)), cost: Each }, exchange: Auto }
    }
}

impl<X, C> RateLimitLayer<X, Plan<One, C>> {
    /// Lets requests wait for their turn, for so long at the most. Who would have to wait for
    /// longer is refused at once. It becomes part of the layer's state, and so of its clones.
    #[must_use]
    pub fn wait(self, limit: TimeLimit) -> Self {
        self.plan.pool.0.common.set_patience(Some(limit));
        self
    }

    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> RateLimitHandle {
        RateLimitHandle { bucket: self.plan.pool.0.clone() }
    }
}

impl<X, K, C> RateLimitLayer<X, Plan<K, C>> {
    /// Lets each request cost what `cost` says of it, and not one. What costs more than the burst
    /// can never be admitted, and is told so.
    #[must_use]
    pub fn cost<Request, F>(self, cost: F) -> RateLimitLayer<X, Plan<K, Cost<F>>>
    where
        F: Fn(&Request) -> NonZeroU32 + Clone,
    {
        let Self { plan: Plan { pool, .. }, exchange } = self;
        RateLimitLayer { plan: Plan { pool, cost: Cost(cost) }, exchange }
    }
}

impl<X, P> RateLimitLayer<X, P> {
    /// Replaces how refusals surface.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> RateLimitLayer<Y, P> {
        RateLimitLayer { plan: self.plan, exchange }
    }

    /// Replaces how refusals surface.
    #[must_use]
    pub fn on_reject<R>(self, reject: R) -> RateLimitLayer<Custom<X, R>, P> {
        let Self { plan, exchange } = self;
        RateLimitLayer { plan, exchange: Custom { judge: exchange, reject } }
    }
}

impl<S, X: Clone, P: Clone> Layer<S> for RateLimitLayer<X, P> {
    type Service = RateLimit<S, X, P>;

    fn layer(&self, inner: S) -> RateLimit<S, X, P> {
        RateLimit::new(inner, self.plan.clone(), self.exchange.clone())
    }
}
