use std::{fmt, hash::Hash, num::NonZeroU32, sync::Arc, sync::atomic::Ordering};

use buttress_core::{Auto, Criticality, Custom, Rate, Shared};
use buttress_layers::rate_limit::{
    Bypass, Cost, Headers, Plan, RateLimit, RateLimitLayer, Reserve, ReserveFor,
};
use tower_layer::Layer;

use crate::{
    By, Fleet, FleetKey, FleetLimitHandle, Many, Settings, Single, Store, Whole, buckets::Buckets,
    core::Core, store::MOST,
};

/// Builds [`RateLimit`] services whose buckets a whole fleet shares.
///
/// See the [crate docs](crate) for an example.
pub struct FleetLimitLayer<St, X = Auto, P = Plan<Fleet<St>>> {
    layer: RateLimitLayer<X, P>,
    store: std::marker::PhantomData<fn() -> St>,
}

/// A layer, spelt out.
type Over<St, X, B, F, C, N> = FleetLimitLayer<St, X, Plan<Fleet<St, B, F>, C, N>>;

impl<St: Store> FleetLimitLayer<St> {
    /// A layer whose name stands in refusals, logs and metrics, and which names the bucket to all
    /// processes of the fleet.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, rate: Rate, settings: Settings, store: St) -> Self {
        Self::several(name, [rate], settings, store)
    }

    /// A layer with several limits, all of which hold: so many a second and so many a day.
    ///
    /// # Panics
    ///
    /// Without a rate, or with more than four.
    #[must_use]
    pub fn several(
        name: impl Into<Arc<str>>,
        rates: impl IntoIterator<Item = Rate>,
        settings: Settings,
        store: St,
    ) -> Self {
        let rates: Vec<_> = rates.into_iter().collect();
        assert!(!rates.is_empty(), "a limit needs a rate");
        assert!(rates.len() <= MOST, "{} limits at once, and {MOST} at the most", rates.len());
        let core = Core::new(name.into(), store, settings, &rates, Single::new);
        Self::of(RateLimitLayer::over(Fleet { core: Shared::new(core), find: Whole }))
    }
}

impl<St: Store, X, C, N> FleetLimitLayer<St, X, Plan<Fleet<St>, C, N>> {
    /// A bucket for each key that is found in a request: an address, an API key, a route, or
    /// anything that is a [`FleetKey`]. The store has one key for each, until its bucket is full
    /// again.
    ///
    /// Nothing is kept of a key in this process, but for what it has leased and for its share while
    /// the store does not answer; what there is not [room](Settings::capacity) for lapses, or
    /// begins anew.
    ///
    /// Take the [`handle`](Self::handle) afterwards: this is another state.
    #[must_use]
    pub fn keyed<Request, K, F>(self, key: F) -> Over<St, X, Many<K>, By<F>, C, N>
    where
        K: Hash + Eq + Clone + FleetKey + Send + Sync + 'static,
        F: Fn(&Request) -> K + Clone,
    {
        FleetLimitLayer::of(self.layer.map_pool(|fleet| fleet.keyed(key)))
    }
}

impl<St: Store, X, B: Buckets, F, C, N> FleetLimitLayer<St, X, Plan<Fleet<St, B, F>, C, N>> {
    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> FleetLimitHandle<St, B> {
        FleetLimitHandle { core: self.layer.pool().core.clone() }
    }

    /// Lets each request cost what `cost` says of it, and not one. What costs more than the burst
    /// can never be admitted, and is told so.
    #[must_use]
    pub fn cost<Request, G>(self, cost: G) -> Over<St, X, B, F, Cost<G>, N>
    where
        G: Fn(&Request) -> NonZeroU32 + Clone,
    {
        FleetLimitLayer::of(self.layer.cost(cost))
    }

    /// Keeps the last of the bucket for requests that are critical: others are admitted only if
    /// that many tokens are left after them. Batches are never taken of it; who is critical asks
    /// for itself where nothing is leased. Said twice, a request leaves the most that it must.
    #[must_use]
    pub fn reserve<Request, G>(
        self,
        tokens: NonZeroU32,
        critical: G,
    ) -> Over<St, X, B, F, Reserve<C, G>, N>
    where
        G: Fn(&Request) -> bool + Clone,
    {
        // Said twice, the greater one holds: what is leased may be had by all.
        self.layer.pool().core.reserve.fetch_max(tokens.get(), Ordering::Relaxed);
        FleetLimitLayer::of(self.layer.reserve(tokens, critical))
    }

    /// Keeps the last of the bucket for requests that are at least so critical, as
    /// [`reserve_for`](RateLimitLayer::reserve_for) of a local limit does. Batches are never taken
    /// of it, as with [`reserve`](Self::reserve).
    #[must_use]
    pub fn reserve_for(
        self,
        tokens: NonZeroU32,
        least: Criticality,
    ) -> Over<St, X, B, F, ReserveFor<C>, N> {
        self.layer.pool().core.reserve.fetch_max(tokens.get(), Ordering::Relaxed);
        FleetLimitLayer::of(self.layer.reserve_for(tokens, least))
    }

    /// Lets requests through that `by` says yes to: they take nothing, ask nobody, and are not
    /// counted. For health checks.
    #[must_use]
    pub fn bypass<Request, G>(self, by: G) -> Over<St, X, B, F, Bypass<C, G>, N>
    where
        G: Fn(&Request) -> bool + Clone,
    {
        FleetLimitLayer::of(self.layer.bypass(by))
    }

    /// Says in every response what the limits are and what is left of them across the fleet, as
    /// far as this process knows: see [`Headers`].
    #[must_use]
    pub fn headers(self) -> Over<St, X, B, F, C, Headers> {
        FleetLimitLayer::of(self.layer.headers())
    }

    /// The same, with a name for each of several limits, in their order.
    #[must_use]
    pub fn headers_named<T: Into<Box<str>>>(
        self,
        names: impl IntoIterator<Item = T>,
    ) -> Over<St, X, B, F, C, Headers> {
        FleetLimitLayer::of(self.layer.headers_named(names))
    }
}

impl<St, X, P> FleetLimitLayer<St, X, P> {
    const fn of(layer: RateLimitLayer<X, P>) -> Self {
        Self { layer, store: std::marker::PhantomData }
    }
}

impl<St, X, K, C, N> FleetLimitLayer<St, X, Plan<K, C, N>> {
    /// Replaces how refusals surface.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> FleetLimitLayer<St, Y, Plan<K, C, N>> {
        FleetLimitLayer::of(self.layer.exchange(exchange))
    }

    /// Replaces how refusals surface.
    #[must_use]
    pub fn on_reject<R>(self, reject: R) -> FleetLimitLayer<St, Custom<X, R>, Plan<K, C, N>> {
        FleetLimitLayer::of(self.layer.on_reject(reject))
    }
}

impl<St, X: Clone, P: Clone> Clone for FleetLimitLayer<St, X, P> {
    fn clone(&self) -> Self {
        Self::of(self.layer.clone())
    }
}

impl<St, X: fmt::Debug, P: fmt::Debug> fmt::Debug for FleetLimitLayer<St, X, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FleetLimitLayer").field(&self.layer).finish()
    }
}

impl<St, S, X: Clone, P: Clone> Layer<S> for FleetLimitLayer<St, X, P> {
    type Service = RateLimit<S, X, P>;

    fn layer(&self, inner: S) -> RateLimit<S, X, P> {
        self.layer.layer(inner)
    }
}
