use std::{
    hash::Hash,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
};

use buttress_core::{Auto, Criticality, Custom, Rate, TimeLimit, rate_limit::Limiter};
use tower_layer::Layer;

use super::{
    Bypass, Cost, Each, Headers, Keyed, KeyedRateLimitHandle, One, RateLimit, RateLimitHandle,
    Reserve, ReserveFor, Silent, WhenFull, common::Common, keys::Keys, pool::Bucket, words::MOST,
};

/// Builds [`RateLimit`] services.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct RateLimitLayer<X = Auto, P = Plan> {
    plan: P,
    exchange: X,
}

/// What a layer limits: which requests together, by what they cost, and what it tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan<K = One, C = Each, N = Silent> {
    pub(super) pool: K,
    pub(super) cost: C,
    pub(super) announce: N,
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
    /// Without a rate, or with more than four.
    #[must_use]
    pub fn several(name: impl Into<Arc<str>>, rates: impl IntoIterator<Item = Rate>) -> Self {
        let bucket = Bucket { common: Common::new(name.into()), limiter: limiter(rates) };
        let plan = Plan { pool: One(Arc::new(bucket)), cost: Each, announce: Silent };
        Self { plan, exchange: Auto }
    }
}

impl<X, C, N> RateLimitLayer<X, Plan<One, C, N>> {
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
        RateLimitHandle { bucket: Arc::clone(&self.plan.pool.0) }
    }
}

impl<X, C, N> RateLimitLayer<X, Plan<One, C, N>> {
    /// A bucket for each key that is found in a request: an address, an API key, a route, or
    /// anything. There is room for 65,536 keys.
    ///
    /// A key whose bucket is full is forgotten before long, since it is as good as new. When there
    /// is room for no more, the one with the fullest bucket among a few is pushed out, and
    /// forgotten too: see [`when_full`](Self::when_full).
    ///
    /// Let keys be what somebody has checked: an account that has logged in, a route that exists, an
    /// address that has connected. Who can write what it likes into a header has as many buckets.
    ///
    /// A key costs a little over twice its own size and 9 bytes at the most, and half as much at
    /// the least: 3.4 MB for 65,536 addresses, and what the keys themselves have on the heap. With
    /// several limits it costs 8 bytes more for each, and up to twice that while their number grows.
    ///
    /// Take the [`handle`](Self::handle) afterwards: this is another state.
    ///
    /// A key outlives its request, so what borrows from that has to be made its own, as
    /// [`key::route`](buttress_core::http::key::route) does:
    ///
    /// ```
    /// use buttress_core::{Rate, http::key};
    /// use buttress_layers::rate_limit::RateLimitLayer;
    /// use http::Request;
    ///
    /// let per_route = RateLimitLayer::new("routes", Rate::per_second(100.try_into().unwrap()))
    ///     .keyed(|request: &Request<String>| key::route(request).into_owned());
    ///
    /// let per_account = RateLimitLayer::new("api", Rate::per_minute(100.try_into().unwrap()))
    ///     .keyed(|request: &Request<String>| request.extensions().get::<u64>().copied());
    ///
    /// assert_eq!((per_account.handle().known(), per_route.handle().known()), (0, 0));
    /// ```
    #[must_use]
    pub fn keyed<Request, K, F>(self, key: F) -> RateLimitLayer<X, Plan<Keyed<K, F>, C, N>>
    where
        K: Hash + Eq + Clone,
        F: Fn(&Request) -> K + Clone,
    {
        let Self { plan: Plan { pool: One(bucket), cost, announce }, exchange } = self;
        let Bucket { common, limiter } = &*bucket;
        let keys = Arc::new(Keys::new(common.anew(), limiter.rates()));
        RateLimitLayer { plan: Plan { pool: Keyed { keys, key }, cost, announce }, exchange }
    }
}

impl<X, C, N, K: Hash + Eq + Clone, F> RateLimitLayer<X, Plan<Keyed<K, F>, C, N>> {
    /// Lets requests wait for their turn, each for its key, for so long at the most. Who would have
    /// to wait for longer is refused at once. It becomes part of the layer's state, and so of its
    /// clones.
    #[must_use]
    pub fn wait(self, limit: TimeLimit) -> Self {
        self.plan.pool.keys.common.set_patience(Some(limit));
        self
    }

    /// Makes room for so many keys. It becomes part of the layer's state, and so of its clones.
    #[must_use]
    pub fn capacity(self, keys: NonZeroUsize) -> Self {
        self.plan.pool.keys.set_capacity(keys.get());
        self
    }

    /// Says what becomes of keys that are pushed out: they are [forgotten](WhenFull::Forget), unless
    /// this says otherwise. It becomes part of the layer's state, and so of its clones.
    ///
    /// ```
    /// use buttress_core::Rate;
    /// use buttress_layers::rate_limit::{RateLimitLayer, WhenFull};
    ///
    /// // A quota that accounts pay for, and room for all accounts.
    /// let quota = RateLimitLayer::new("quota", Rate::per_day(10_000.try_into().unwrap()))
    ///     .keyed(|account: &u64| *account)
    ///     .capacity(1_000_000.try_into().unwrap())
    ///     .when_full(WhenFull::Strict);
    /// # let _ = quota;
    /// ```
    #[must_use]
    pub fn when_full(self, when_full: WhenFull) -> Self {
        self.plan.pool.keys.set_when_full(when_full);
        self
    }

    /// Limits all keys together as well. A request is admitted by the limits of its key and by
    /// these, or takes from none of them, and the one that lets it wait longest says when to come
    /// again. It becomes part of the layer's state, and so of its clones.
    ///
    /// ```
    /// use buttress_core::Rate;
    /// use buttress_layers::rate_limit::RateLimitLayer;
    /// use http::Request;
    ///
    /// let each = [Rate::per_second(10.try_into().unwrap()), Rate::per_day(5_000.try_into().unwrap())];
    /// let all = Rate::per_second(1_000.try_into().unwrap());
    /// let limit = RateLimitLayer::several("api", each)
    ///     .keyed(|request: &Request<String>| request.extensions().get::<u64>().copied())
    ///     .within([all]);
    ///
    /// assert_eq!(limit.handle().rates(), [each[0], each[1], all]);
    /// ```
    ///
    /// # Panics
    ///
    /// Without a rate, with more than four, or if it has been said before.
    #[must_use]
    pub fn within(self, rates: impl IntoIterator<Item = Rate>) -> Self {
        let first = self.plan.pool.keys.set_together(limiter(rates));
        assert!(first, "what all keys have together is limited already; name all rates at once");
        self
    }

    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> KeyedRateLimitHandle<K> {
        KeyedRateLimitHandle { keys: Arc::clone(&self.plan.pool.keys) }
    }
}

impl<K> RateLimitLayer<Auto, Plan<K>> {
    /// A layer over buckets that are kept elsewhere, such as those of a fleet: see
    /// [`Pool`](super::Pool).
    #[must_use]
    pub fn over(pool: K) -> Self {
        Self { plan: Plan { pool, cost: Each, announce: Silent }, exchange: Auto }
    }
}

impl<X, K, C, N> RateLimitLayer<X, Plan<K, C, N>> {
    /// Where its buckets are kept.
    #[must_use]
    pub fn pool(&self) -> &K {
        &self.plan.pool
    }

    /// The same over other buckets.
    #[must_use]
    pub fn map_pool<Q>(self, map: impl FnOnce(K) -> Q) -> RateLimitLayer<X, Plan<Q, C, N>> {
        let Self { plan: Plan { pool, cost, announce }, exchange } = self;
        RateLimitLayer { plan: Plan { pool: map(pool), cost, announce }, exchange }
    }

    /// Lets each request cost what `cost` says of it, and not one. What costs more than the burst
    /// can never be admitted, and is told so.
    #[must_use]
    pub fn cost<Request, F>(self, cost: F) -> RateLimitLayer<X, Plan<K, Cost<F>, N>>
    where
        F: Fn(&Request) -> NonZeroU32 + Clone,
    {
        let Self { plan: Plan { pool, announce, .. }, exchange } = self;
        RateLimitLayer { plan: Plan { pool, cost: Cost(cost), announce }, exchange }
    }

    /// Keeps the last of the bucket for requests that are critical: others are admitted only if
    /// that many tokens are left after them. Who is critical passes others who wait. Said twice, a
    /// request leaves the most that it must.
    ///
    /// A request that costs more than the burst less the reserve is refused for good, as one that
    /// costs more than the burst: keep less than a burst.
    ///
    /// ```
    /// use buttress_core::Rate;
    /// use buttress_layers::rate_limit::RateLimitLayer;
    /// use http::Request;
    ///
    /// let limit = RateLimitLayer::new("api", Rate::per_second(100.try_into().unwrap()))
    ///     .reserve(20.try_into().unwrap(), |request: &Request<String>| {
    ///         request.uri().path() == "/checkout"
    ///     });
    /// # let _ = limit;
    /// ```
    #[must_use]
    pub fn reserve<Request, F>(
        self,
        tokens: NonZeroU32,
        critical: F,
    ) -> RateLimitLayer<X, Plan<K, Reserve<C, F>, N>>
    where
        F: Fn(&Request) -> bool + Clone,
    {
        let Self { plan: Plan { pool, cost, announce }, exchange } = self;
        let cost = Reserve { cost, kept: tokens.get(), critical };
        RateLimitLayer { plan: Plan { pool, cost, announce }, exchange }
    }

    /// Keeps the last of the bucket for requests that are at least so critical, by the
    /// [`Criticality`] that a layer further out has put into their extensions, such as a
    /// [bulkhead](crate::bulkhead) that propagates it, or else by their `x-criticality` header.
    /// What says nothing of itself is [`Critical`](Criticality::Critical).
    ///
    /// The header is believed, whoever sends it: have your edge strip it.
    ///
    /// ```
    /// use buttress_core::{Criticality, Rate};
    /// use buttress_layers::rate_limit::RateLimitLayer;
    ///
    /// // Batch work leaves half of the bucket, and all but what matters most leaves a tenth.
    /// let limit = RateLimitLayer::new("api", Rate::per_second(100.try_into().unwrap()))
    ///     .reserve_for(50.try_into().unwrap(), Criticality::Critical)
    ///     .reserve_for(10.try_into().unwrap(), Criticality::CriticalPlus);
    /// # let _ = limit;
    /// ```
    #[must_use]
    pub fn reserve_for(
        self,
        tokens: NonZeroU32,
        least: Criticality,
    ) -> RateLimitLayer<X, Plan<K, ReserveFor<C>, N>> {
        let Self { plan: Plan { pool, cost, announce }, exchange } = self;
        let cost = ReserveFor { cost, kept: tokens.get(), least };
        RateLimitLayer { plan: Plan { pool, cost, announce }, exchange }
    }

    /// Lets requests through that `by` says yes to: they take nothing, wait for nobody, are told
    /// nothing, and are not counted. For health checks.
    ///
    /// ```
    /// use buttress_core::Rate;
    /// use buttress_layers::rate_limit::RateLimitLayer;
    /// use http::Request;
    ///
    /// let limit = RateLimitLayer::new("api", Rate::per_second(100.try_into().unwrap()))
    ///     .bypass(|request: &Request<String>| request.uri().path() == "/healthz");
    /// # let _ = limit;
    /// ```
    #[must_use]
    pub fn bypass<Request, F>(self, by: F) -> RateLimitLayer<X, Plan<K, Bypass<C, F>, N>>
    where
        F: Fn(&Request) -> bool + Clone,
    {
        let Self { plan: Plan { pool, cost, announce }, exchange } = self;
        RateLimitLayer { plan: Plan { pool, cost: Bypass { cost, by }, announce }, exchange }
    }

    /// Says in every response what the limits are and what is left of them: see [`Headers`].
    #[must_use]
    pub fn headers(self) -> RateLimitLayer<X, Plan<K, C, Headers>> {
        self.announcing(Headers::default())
    }

    /// The same, with a name for each of [several](RateLimitLayer::several) limits, in their order.
    /// Without, they are called like the layer, with a number from the second on.
    ///
    /// ```
    /// use buttress_core::Rate;
    /// use buttress_layers::rate_limit::RateLimitLayer;
    ///
    /// let rates = [Rate::per_second(5.try_into().unwrap()), Rate::per_day(1_000.try_into().unwrap())];
    /// let limit = RateLimitLayer::several("api", rates).headers_named(["burst", "daily"]);
    /// # let _ = limit;
    /// ```
    #[must_use]
    pub fn headers_named<T: Into<Box<str>>>(
        self,
        names: impl IntoIterator<Item = T>,
    ) -> RateLimitLayer<X, Plan<K, C, Headers>> {
        self.announcing(Headers::named(names))
    }

    fn announcing(self, headers: Headers) -> RateLimitLayer<X, Plan<K, C, Headers>> {
        let Self { plan: Plan { pool, cost, .. }, exchange } = self;
        RateLimitLayer { plan: Plan { pool, cost, announce: headers }, exchange }
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

fn limiter(rates: impl IntoIterator<Item = Rate>) -> Limiter {
    let rates: Vec<_> = rates.into_iter().collect();
    assert!(rates.len() <= MOST, "{} limits at once, and {MOST} at the most", rates.len());
    Limiter::new(rates)
}

impl<S, X: Clone, P: Clone> Layer<S> for RateLimitLayer<X, P> {
    type Service = RateLimit<S, X, P>;

    fn layer(&self, inner: S) -> RateLimit<S, X, P> {
        RateLimit::new(inner, self.plan.clone(), self.exchange.clone())
    }
}
