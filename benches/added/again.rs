//! What asks again, or answers in a service's stead.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use buttress::{
    Ratio,
    fallback::{FallbackLayer, StaleCache, StaleSettings},
    hedge::{Delay, HedgeLayer, Quantile, Settings as Hedges},
    retry::{Budget, Percentage, RetryLayer, Settings as Attempts, Tokens},
};
use buttress_benches::Case;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{
    Layer, ServiceBuilder,
    retry::{
        Policy,
        budget::{Budget as _, TpsBudget},
    },
};
use tower_resilience::retry::RetryBudgetBuilder;

use super::{LIMIT, bare, request};

/// Retries what fails, as long as tower's budget allows: nothing here does.
#[derive(Clone)]
pub(super) struct TowerPolicy(pub(super) Arc<TpsBudget>);

impl<E> Policy<Request<()>, Response<Full<Bytes>>, E> for TowerPolicy {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<()>,
        result: &mut Result<Response<Full<Bytes>>, E>,
    ) -> Option<Self::Future> {
        if result.as_ref().is_ok_and(|response| response.status().is_success()) {
            self.0.deposit();
            return None;
        }
        self.0.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<()>) -> Option<Request<()>> {
        Some(request.clone())
    }
}

/// The first try is good, with a budget that has to hear of it.
pub(super) fn retries() -> Vec<Case> {
    let tower = TowerPolicy(Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2)));
    let tower = ServiceBuilder::new().retry(tower).service(bare());
    let budget = RetryBudgetBuilder::new().token_bucket().build().expect("its defaults");
    let resilience = tower_resilience::retry::RetryLayer::<
        Request<()>,
        Response<Full<Bytes>>,
        Infallible,
    >::builder()
    .max_attempts(3)
    .exponential_backoff(Duration::from_millis(50))
    .budget(budget)
    .build();
    let ours = |budget: Budget| RetryLayer::new("r", Attempts::default().budget(budget));
    let share = || Budget::from(Percentage::new(Ratio::percent(20)));
    let post = || Request::post("/").body(()).expect("a request");
    let furnished = || {
        let request = Request::get("/items/7").header("accept", "*/*").header("host", "stock");
        let request = request.header("user-agent", "bench").header("accept-encoding", "gzip");
        request.header("x-request-id", "7f3a").header("x-tenant", "a").body(()).expect("a request")
    };
    vec![
        Case::new("bare", bare(), request),
        Case::new("tower Retry, TpsBudget", tower.clone(), request),
        Case::new("tower-resilience retry, tokens", resilience.layer(bare()), request),
        Case::new("buttress Retry, 20 %", ours(share()).layer(bare()), request),
        Case::new("buttress Retry, tokens", ours(Tokens::new(10).into()).layer(bare()), request),
        Case::new("buttress Retry, 20 %, a POST", ours(share()).layer(bare()), post),
        Case::new("bare, six headers", bare(), furnished),
        Case::new("tower Retry, six headers", tower, furnished),
        Case::new("buttress Retry, six headers", ours(share()).layer(bare()), furnished),
    ]
}

/// Hedges whatever it is asked for.
#[derive(Clone)]
struct TowerHedges;

impl tower::hedge::Policy<Request<()>> for TowerHedges {
    fn clone_request(&self, request: &Request<()>) -> Option<Request<()>> {
        Some(request.clone())
    }

    fn can_retry(&self, _: &Request<()>) -> bool {
        true
    }
}

/// The first answer comes at once, so that no second attempt is made.
pub(super) fn hedges() -> Vec<Case> {
    let tower = || tower::hedge::Hedge::new(bare(), TowerHedges, 100, 0.95, LIMIT);
    let resilience = tower_resilience::hedge::HedgeLayer::builder();
    let resilience = resilience.delay(LIMIT).max_hedged_attempts(2).build();
    let ours = |settings: Hedges| HedgeLayer::new("h", settings);
    let later = || ours(Hedges::new(Delay::fixed(LIMIT)));
    // A second attempt would be a matter of microseconds.
    let learned = || ours(Hedges::new(Quantile::new(Ratio::percent(95)).floor(LIMIT)));
    let post = || Request::post("/").body(()).expect("a request");
    vec![
        Case::new("bare", bare(), request),
        Case::unclonable("tower Hedge, p95 (no Clone)", tower, request),
        Case::new("tower-resilience hedge, a delay", resilience.layer(bare()), request),
        Case::new("buttress Hedge, a delay", later().layer(bare()), request),
        Case::new("buttress Hedge, p95", learned().layer(bare()), request),
        Case::new("buttress Hedge, p95, room for 4", learned().extra::<4>().layer(bare()), request),
        Case::new("buttress Hedge, p95, a POST", learned().layer(bare()), post),
    ]
}

/// What does not fail, with something to answer if it did.
pub(super) fn fallbacks() -> Vec<Case> {
    let resilience = tower_resilience::fallback::FallbackLayer::<
        Request<()>,
        Response<Full<Bytes>>,
        Infallible,
    >::value(Response::new(Full::default()));
    let empty = || Response::new(Full::<Bytes>::default());
    let layer = || FallbackLayer::new("f");
    let function = layer().function(|_, _| ready(None::<Response<Full<Bytes>>>));
    let of_path = layer().function_of(
        |request: &Request<()>| request.method().is_safe(),
        |_, _| ready(None::<Response<Full<Bytes>>>),
    );
    let stale = layer().stale(StaleCache::new(StaleSettings::new()));
    let post = || Request::post("/").body(()).expect("a request");
    vec![
        Case::new("bare", bare(), request),
        Case::new("tower-resilience fallback, value", resilience.layer(bare()), request),
        Case::new("buttress Fallback, value", layer().value(empty).layer(bare()), request),
        Case::new("buttress Fallback, function of a part", of_path.layer(bare()), request),
        Case::new("buttress Fallback, function", function.layer(bare()), request),
        Case::new("buttress Fallback, service", layer().service(bare()).layer(bare()), request),
        Case::new("bare, a POST", bare(), post),
        Case::new("buttress Fallback, stale, a POST", stale.layer(bare()), post),
        Case::new("buttress Fallback, stale, storing", stale.layer(bare()), request),
    ]
}
