use std::{borrow::Cow, num::NonZeroUsize, sync::Arc};

use buttress_core::{Auto, Custom, Shared, breaker::Settings, http::Classified};
use tower_layer::Layer;

use super::{
    Breaker, BreakerHandle, Isolation, Keyed, KeyedBreakerHandle, One,
    circuit::{Circuit, Common},
    registry::Registry,
};

/// Builds [`Breaker`] services.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct BreakerLayer<X = Auto, K = One> {
    common: Arc<Common>,
    circuits: K,
    exchange: X,
}

impl BreakerLayer {
    /// A layer whose name stands in refusals, logs and metrics.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, settings: Settings) -> Self {
        let common = Common::new(name.into());
        let circuit = Circuit::new(Arc::clone(&common), None, settings);
        Self { common, circuits: One(Shared::new(circuit)), exchange: Auto }
    }
}

impl<X> BreakerLayer<X> {
    /// A breaker for each key that is found in a request: a route template, a gRPC method, an
    /// authority, or anything. There is room for 1,024 keys; the least recently used makes room,
    /// an open one after all closed ones. To be said before a handle is taken: one of before
    /// belongs to a breaker that no request meets.
    ///
    /// ```
    /// use buttress_core::{breaker::Settings, http::key};
    /// use buttress_layers::breaker::BreakerLayer;
    /// use http::Request;
    ///
    /// let per_host = BreakerLayer::new("partners", Settings::rate())
    ///     .keyed(|request: &Request<String>| key::authority(request));
    ///
    /// assert_eq!(per_host.handle().keys().len(), 0);
    /// ```
    #[must_use]
    pub fn keyed<Request, F>(self, key: F) -> BreakerLayer<X, Keyed<F>>
    where
        F: Fn(&Request) -> Cow<'_, str> + Clone,
    {
        let Self { common, circuits: One(circuit), exchange } = self;
        let settings = circuit.rules().settings().clone();
        let registry = Registry::new(Arc::clone(&common), settings, circuit.is_shadow());
        BreakerLayer { common, circuits: Keyed { registry: Shared::new(registry), key }, exchange }
    }

    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle { circuit: self.circuits.0.clone() }
    }
}

impl<X, F> BreakerLayer<X, Keyed<F>> {
    /// Makes room for so many keys. It becomes part of the layer's state, and so of its clones.
    #[must_use]
    pub fn capacity(self, keys: NonZeroUsize) -> Self {
        self.circuits.registry.set_capacity(keys.get());
        self
    }

    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> KeyedBreakerHandle {
        KeyedBreakerHandle { registry: self.circuits.registry.clone() }
    }
}

impl<X, K> BreakerLayer<X, K> {
    /// Obeys a switch that other breakers may obey too. It becomes part of the layer's state, and
    /// so of its clones.
    ///
    /// # Panics
    ///
    /// If it obeys a switch already.
    #[must_use]
    pub fn isolated_by(self, switch: &Isolation) -> Self {
        assert!(
            self.common.switch.set(switch.clone()).is_ok(),
            "the breaker {} obeys a switch already; one is enough for any number of breakers",
            self.common.name
        );
        switch.join(&self.common);
        self
    }

    /// Replaces how calls are judged and refusals surface.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> BreakerLayer<Y, K> {
        BreakerLayer { common: self.common, circuits: self.circuits, exchange }
    }

    /// Replaces how refusals surface.
    #[must_use]
    pub fn on_reject<R>(self, reject: R) -> BreakerLayer<Custom<X, R>, K> {
        let Self { common, circuits, exchange } = self;
        BreakerLayer { common, circuits, exchange: Custom { judge: exchange, reject } }
    }

    /// Replaces what counts as a success, a failure and neither: a
    /// [`StatusRules`](buttress_core::http::StatusRules), or a classifier of your own.
    #[must_use]
    pub fn judge<C>(self, classifier: C) -> BreakerLayer<Custom<Classified<C>, X>, K> {
        let Self { common, circuits, exchange } = self;
        let exchange = Custom { judge: Classified(classifier), reject: exchange };
        BreakerLayer { common, circuits, exchange }
    }
}

impl<S, X: Clone, K: Clone> Layer<S> for BreakerLayer<X, K> {
    type Service = Breaker<S, X, K>;

    fn layer(&self, inner: S) -> Breaker<S, X, K> {
        Breaker::new(inner, self.circuits.clone(), self.exchange.clone())
    }
}
