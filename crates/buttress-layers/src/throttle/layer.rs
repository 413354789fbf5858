use std::sync::Arc;

use buttress_core::{Auto, Custom, Shared, http::Classified, throttle::Settings};
use tower_layer::Layer;

use super::{Throttle, ThrottleHandle, handle::State};

/// Builds [`Throttle`] services.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct ThrottleLayer<X = Auto> {
    state: Shared<State>,
    exchange: X,
}

impl ThrottleLayer {
    /// A layer whose name stands in refusals, logs and metrics.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, settings: Settings) -> Self {
        Self { state: Shared::new(State::new(name.into(), settings)), exchange: Auto }
    }
}

impl<X> ThrottleLayer<X> {
    /// Replaces how calls are judged and refusals surface.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> ThrottleLayer<Y> {
        ThrottleLayer { state: self.state, exchange }
    }

    /// Replaces how refusals surface.
    #[must_use]
    pub fn on_reject<R>(self, reject: R) -> ThrottleLayer<Custom<X, R>> {
        let Self { state, exchange } = self;
        ThrottleLayer { state, exchange: Custom { judge: exchange, reject } }
    }

    /// Replaces what counts as accepted: a [`StatusRules`](buttress_core::http::StatusRules), or a
    /// classifier of your own. What it calls bad is not.
    #[must_use]
    pub fn judge<C>(self, classifier: C) -> ThrottleLayer<Custom<Classified<C>, X>> {
        let Self { state, exchange } = self;
        ThrottleLayer {
            state,
            exchange: Custom { judge: Classified(classifier), reject: exchange },
        }
    }

    /// Reads and moves the state while the layer works.
    #[must_use]
    pub fn handle(&self) -> ThrottleHandle {
        ThrottleHandle { state: self.state.clone() }
    }
}

impl<S, X: Clone> Layer<S> for ThrottleLayer<X> {
    type Service = Throttle<S, X>;

    fn layer(&self, inner: S) -> Throttle<S, X> {
        Throttle::new(inner, self.state.clone(), self.exchange.clone())
    }
}
