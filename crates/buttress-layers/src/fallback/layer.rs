use std::{fmt, future::Future, sync::Arc};

use buttress_core::{
    Auto, Custom, Shared, TimeLimit,
    fallback::{Triggers, Why},
    http::{Classified, Outline, StaleCache, Stored},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header as names};
use tower_layer::Layer;

use super::{
    Fallback, FallbackHandle,
    handle::{Plan, State},
    ladder::{Nothing, Then},
    rungs::{Backup, Fixed, Function, Immediate, OfHead, OfRequest, Stale, Value},
};
use crate::header;

/// Builds [`Fallback`] services.
///
/// See the [module docs](super) for an example.
pub struct FallbackLayer<L = Nothing, X = Auto> {
    shared: Shared<Inner<L>>,
    plan: Plan,
    exchange: X,
}

/// What one layer shares with all that it builds: its rungs, and the state, which a handle has
/// as well.
#[derive(Debug)]
pub(super) struct Inner<L> {
    pub(super) ladder: Arc<L>,
    pub(super) state: Arc<State>,
}

impl FallbackLayer {
    /// A layer without a rung. Its name stands in its answers, in logs and metrics.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let plan = Plan {
            name: name.into(),
            header: Some(Self::HEADER),
            body: 64 * 1024,
            triggers: Triggers::new(),
            tells_all: false,
            rungs: Vec::new(),
            caches: Vec::new(),
        };
        Self::build(plan, Arc::new(Nothing), Auto)
    }

    /// The header by which an answer in the service's stead says so: the layer, the rung, and
    /// the age of what is stored.
    pub const HEADER: &'static str = "x-degraded";
}

impl<X> FallbackLayer<Nothing, X> {
    /// Replaces how calls are judged and answers made. Comes before the rungs, which are made
    /// for it.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> FallbackLayer<Nothing, Y> {
        FallbackLayer::build(self.plan, Arc::new(Nothing), exchange)
    }

    /// Replaces what counts as a failure: a [`StatusRules`](buttress_core::http::StatusRules), or
    /// a classifier of your own, which the breaker and the SLI may share.
    #[must_use]
    pub fn judge<C>(self, classifier: C) -> FallbackLayer<Nothing, Custom<Classified<C>, X>> {
        let exchange = Custom { judge: Classified(classifier), reject: self.exchange };
        FallbackLayer::build(self.plan, Arc::new(Nothing), exchange)
    }
}

impl<L, X> FallbackLayer<L, X> {
    fn build(plan: Plan, ladder: Arc<L>, exchange: X) -> Self {
        let state = Arc::new(State::new(&plan));
        Self { shared: Shared::new(Inner { ladder, state }), plan, exchange }
    }

    /// With other words about it, and the same rungs.
    fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        let ladder = Arc::clone(&self.shared.ladder);
        Self::build(self.plan, ladder, self.exchange)
    }

    fn then<R>(mut self, name: &str, rung: R) -> FallbackLayer<Then<L, R>, X> {
        let taken = |name: &str| self.plan.rungs.iter().any(|(known, _)| &**known == name);
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        let name = names.find(|name| !taken(name)).unwrap_or_default();
        self.plan.rungs.push((name.into(), None));
        let before = Arc::clone(&self.shared.ladder);
        FallbackLayer::build(self.plan, Arc::new(Then { before, rung }), self.exchange)
    }

    /// A rung that asks another service, on a clone of its own. Its request is made again from what was
    /// kept of it, as a [retry](crate::retry) does; where that is impossible, the rung is
    /// skipped. What it answers is judged as the service's own answers are.
    #[must_use]
    pub fn service<V>(self, service: V) -> FallbackLayer<Then<L, Backup<V>>, X> {
        self.then("service", Backup(service))
    }

    /// A rung with the last good response to the same request, which is stored while it streams
    /// to its caller.
    #[must_use]
    pub fn stale(mut self, cache: StaleCache) -> FallbackLayer<Then<L, Stale>, X> {
        self.plan.caches.push(cache.clone());
        self.then("stale", Stale(cache))
    }

    /// A rung that asks an async function of the request without its body, and why: it answers
    /// with an `Option` or a `Result`. The head of every request is copied for it; a function
    /// that needs less of it is [`function_of`](Self::function_of).
    #[must_use]
    pub fn function<F, Fut>(self, function: F) -> FallbackLayer<Then<L, Function<F>>, X>
    where
        X: Outline,
        F: Fn(X::Parts, Why) -> Fut,
        Fut: Future,
    {
        self.then("function", Function { function, keep: OfHead })
    }

    /// A rung that asks an async function of what `keep` takes from each request.
    #[must_use]
    pub fn function_of<G, F, Request, K, Fut>(
        self,
        keep: G,
        function: F,
    ) -> FallbackLayer<Then<L, Function<F, OfRequest<G>>>, X>
    where
        G: Fn(&Request) -> K,
        F: Fn(K, Why) -> Fut,
        Fut: Future,
    {
        self.then("function", Function { function, keep: OfRequest(keep) })
    }

    /// As [`function`](Self::function), of one that does not wait.
    #[must_use]
    pub fn function_sync<F, R>(self, function: F) -> FallbackLayer<Then<L, Immediate<F>>, X>
    where
        X: Outline,
        F: Fn(X::Parts, Why) -> R,
    {
        self.then("function", Immediate { function, keep: OfHead })
    }

    /// As [`function_of`](Self::function_of), of one that does not wait.
    #[must_use]
    pub fn function_sync_of<G, F, Request, K, R>(
        self,
        keep: G,
        function: F,
    ) -> FallbackLayer<Then<L, Immediate<F, OfRequest<G>>>, X>
    where
        G: Fn(&Request) -> K,
        F: Fn(K, Why) -> R,
    {
        self.then("function", Immediate { function, keep: OfRequest(keep) })
    }

    /// A rung with a value that a closure makes, each time anew.
    #[must_use]
    pub fn value<F, R>(self, value: F) -> FallbackLayer<Then<L, Value<F>>, X>
    where
        F: Fn() -> R,
    {
        self.then("value", Value(value))
    }

    /// A rung with an HTTP response of this status, type and body. A gRPC call is not answered by
    /// it: its caller would take a page for a broken answer.
    ///
    /// # Panics
    ///
    /// If `content_type` is no value of a header.
    #[must_use]
    pub fn respond(
        self,
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> FallbackLayer<Then<L, Fixed>, X> {
        let mut headers = HeaderMap::with_capacity(1);
        headers.insert(names::CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.then("value", Fixed(Stored::new(status, headers, body.into())))
    }

    /// What makes the layer answer.
    #[must_use]
    pub fn triggers(self, triggers: Triggers) -> Self {
        self.with(|plan| plan.triggers = triggers)
    }

    /// How many bytes of a request's body are kept for another service: 64 KiB unless told
    /// otherwise. For a longer one it is not asked.
    #[must_use]
    pub fn body_limit(self, bytes: usize) -> Self {
        self.with(|plan| plan.body = bytes)
    }

    /// Says in another header than [`FallbackLayer::HEADER`] that an answer is degraded.
    ///
    /// # Panics
    ///
    /// If `header` is no header name in lower case.
    #[must_use]
    pub fn header(self, header: &'static str) -> Self {
        let header = header::checked(header);
        self.with(|plan| plan.header = Some(header))
    }

    /// Says so in no header. The extension is still there.
    #[must_use]
    pub fn without_header(self) -> Self {
        self.with(|plan| plan.header = None)
    }

    /// Tells observers, and so the log, of each failure and each answer. Without it the same is
    /// told again only when it has not happened for a minute.
    #[must_use]
    pub fn tell_all(self) -> Self {
        self.with(|plan| plan.tells_all = true)
    }

    /// Reads and moves the state while the layer works. Of a layer that is complete: what is added
    /// to it makes another one, with a state of its own.
    #[must_use]
    pub fn handle(&self) -> FallbackHandle {
        FallbackHandle { state: Arc::clone(&self.shared.state) }
    }
}

impl<L, R, X> FallbackLayer<Then<L, R>, X> {
    /// Names the last rung, for its answers, logs and metrics.
    ///
    /// # Panics
    ///
    /// If another rung has that name.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.with(|plan| {
            let (last, others) = plan.rungs.split_last_mut().expect("there is one");
            assert!(
                others.iter().all(|(known, _)| *known != name),
                "there is a rung {name:?} already; name each one differently"
            );
            last.0 = name;
        })
    }

    /// How long the last rung may take to its answer, its wait for a ready service included.
    #[must_use]
    pub fn within(self, limit: TimeLimit) -> Self {
        self.with(|plan| plan.rungs.last_mut().expect("there is one").1 = Some(limit))
    }
}

impl<L, X: Clone> Clone for FallbackLayer<L, X> {
    fn clone(&self) -> Self {
        let Self { shared, plan, exchange } = self;
        Self { shared: shared.clone(), plan: plan.clone(), exchange: exchange.clone() }
    }
}

impl<L, X: fmt::Debug> fmt::Debug for FallbackLayer<L, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer")
            .field("state", &self.shared.state)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}

impl<S, L, X: Clone> Layer<S> for FallbackLayer<L, X> {
    type Service = Fallback<S, L, X>;

    fn layer(&self, inner: S) -> Fallback<S, L, X> {
        Fallback::new(inner, self.shared.clone(), self.exchange.clone())
    }
}
