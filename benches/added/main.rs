//! What a layer adds to a call, ours beside its peers, in the same run.
//!
//! `cargo bench --bench added` prints nanoseconds added over the bare service, as a ratio to the
//! first peer of each group, and what two threads on one state make of one thread's throughput;
//! with `-- --instructions` instructions per call too, which do not depend on the machine's mood.

mod again;
mod objectives;

use std::{
    convert::Infallible, future::ready, hint::black_box, num::NonZeroU32, sync::Arc, time::Duration,
};

use self::{
    again::{TowerPolicy, fallbacks, hedges, retries},
    objectives::{objectives, print_tracker, slos},
};
use axum::{Router, body::Body, routing::get};
use buttress::{
    Rate, Ratio, TimeLimit,
    breaker::{BreakerLayer, Settings, Trip, Window},
    bulkhead::{Adaptive, BulkheadLayer, Partitions, Shedding},
    http::key,
    rate_limit::RateLimitLayer,
    retry::{RetryLayer, Settings as Attempts},
    sli::{Record, SliLayer},
    slo::{SloLayer, SloTracker},
    throttle::{Settings as Rule, ThrottleLayer},
    timeout::{Limits, TimeoutLayer},
};
use buttress_benches::{Calls, Case, Options, only, print};
use buttress_redis::{self as fleet, Lease};
use bytes::Bytes;
use clap::Parser;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceBuilder, retry::budget::TpsBudget, service_fn};

/// Layers of one kind and their peers, after the bare service.
type Group = fn() -> Vec<Case>;

const LIMIT: Duration = Duration::from_secs(30);
const OURS: TimeLimit = TimeLimit::from_secs(30);

fn main() {
    let options = Options::parse();
    // Timers want a runtime to belong to, though no call here ever waits for one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime without I/O");
    let _entered = runtime.enter();
    let on_thread = |case: &Case| -> Calls {
        let (handle, mut calls) = (runtime.handle().clone(), (case.ready)());
        Box::new(move |count| {
            let _entered = handle.enter();
            calls(count);
        })
    };
    // Made one after the other, for the sake of a profiler: a peer may start threads or clocks.
    let groups: [(&str, Group); 12] = [
        ("timeouts", timeouts),
        ("breakers", breakers),
        ("bulkheads", bulkheads),
        ("slis", slis),
        ("retries", retries),
        ("hedges", hedges),
        ("throttles", throttles),
        ("fallbacks", fallbacks),
        ("stacks", stacks),
        ("slos", slos),
        ("fleets", fleets),
        ("routers", routers),
    ];
    for (name, group) in groups {
        if options.group.as_ref().is_some_and(|wanted| !name.contains(&**wanted)) {
            continue;
        }
        let group = group();
        let Some(wanted) = &options.only else {
            print("added to a call", &group, &options, on_thread);
            if name == "slos" {
                print_tracker(&options);
            }
            continue;
        };
        if let Some(case) = group.iter().find(|case| case.name == wanted) {
            let make = if options.mode == "ready" { &case.ready } else { &case.oneshot };
            return only(&mut make(), options.calls);
        }
    }
}

/// A service that is always ready and answers at once.
fn bare()
-> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(Full::from(Bytes::from_static(b"hello")))))
    })
}

fn request() -> Request<()> {
    Request::new(())
}

fn timeouts() -> Vec<Case> {
    let tower = ServiceBuilder::new().timeout(LIMIT).service(bare());
    let layer =
        tower_http::timeout::TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, LIMIT);
    let head = Limits::streaming(OURS, OURS);
    vec![
        Case::new("bare", bare(), request),
        Case::new("tower Timeout", tower, request),
        Case::new("tower-http Timeout", layer.layer(bare()), request),
        Case::new("buttress Timeout", TimeoutLayer::new("t", OURS).layer(bare()), request),
        Case::new(
            "buttress Timeout head+idle",
            TimeoutLayer::new("t", head).layer(bare()),
            request,
        ),
        Case::new(
            "buttress Timeout propagating",
            TimeoutLayer::new("t", OURS).propagate().layer(bare()),
            request,
        ),
    ]
}

fn breakers() -> Vec<Case> {
    // Neither of these two is a layer: what they need to be one is the least there is.
    let recloser = Arc::new(recloser::AsyncRecloser::from(recloser::Recloser::default()));
    let recloser = service_fn(move |request| {
        let (recloser, mut inner) = (Arc::clone(&recloser), bare());
        async move { recloser::AsyncRecloser::call(&recloser, inner.call(request)).await }
    });
    let backoff = failsafe::backoff::constant(LIMIT);
    let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
    let consecutive = failsafe(failsafe::Config::new().failure_policy(policy).build());
    let incumbent = || tower_resilience::circuitbreaker::CircuitBreakerLayer::builder();
    let count = incumbent().build().expect("its defaults").layer(bare());
    let breaker = |settings| BreakerLayer::new("b", settings).layer(bare());
    let slow = Trip::slow_rate(Ratio::percent(50), OURS);
    let calls = Trip::failure_rate(Ratio::percent(50)).over(Window::calls(100));
    let keyed = BreakerLayer::new("b", Settings::rate()).keyed(key::route::<()>);
    vec![
        Case::new("bare", bare(), request),
        Case::new("recloser", recloser, request),
        Case::new("failsafe consecutive", consecutive, request),
        Case::new("failsafe default", failsafe(failsafe::Config::new().build()), request),
        Case::new("tower-resilience breaker", count, request),
        Case::new("buttress Breaker", breaker(Settings::rate()), request),
        Case::new("buttress Breaker rate+slow", breaker(Settings::rate().or(slow)), request),
        Case::new("buttress Breaker 100 calls", breaker(Settings::new(calls)), request),
        Case::new("buttress Breaker in a row", breaker(Settings::consecutive(5)), request),
        Case::new("buttress Breaker keyed", keyed.layer(bare()), request),
    ]
}

fn failsafe<B>(
    breaker: B,
) -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Future: Send> + Clone + Send + 'static
where
    B: failsafe::futures::CircuitBreaker + Clone + Send + 'static,
{
    service_fn(move |request| breaker.call(bare().call(request)))
}

fn bulkheads() -> Vec<Case> {
    let tower = ServiceBuilder::new().concurrency_limit(64).service(bare());
    let layer = || BulkheadLayer::new("b", 64.try_into().expect("it is not 0"));
    let incumbent = tower_resilience::bulkhead::BulkheadLayer::builder();
    let incumbent = incumbent.max_concurrent_calls(64).reject_when_full().build().expect("64");
    let shares = Partitions::new().share("live", Ratio::percent(70));
    vec![
        Case::new("bare", bare(), request),
        Case::new("tower ConcurrencyLimit", tower, request),
        Case::new("tower-resilience bulkhead", incumbent.layer(bare()), request),
        Case::new("buttress Bulkhead", layer().layer(bare()), request),
        Case::new("buttress Bulkhead queue", layer().queue(64).layer(bare()), request),
        Case::new("buttress Bulkhead until head", layer().until_head().layer(bare()), request),
        Case::new(
            "buttress Bulkhead criticality",
            layer().criticality(Shedding::new()).layer(bare()),
            request,
        ),
        Case::new(
            "buttress Bulkhead partitions",
            layer().partitions(shares, |_: &Request<()>| "live").layer(bare()),
            request,
        ),
        Case::new(
            "buttress Bulkhead Gradient2",
            layer().adaptive(Adaptive::gradient2()).layer(bare()),
            request,
        ),
    ]
}

fn slis() -> Vec<Case> {
    let sink = |record: &Record<'_>| {
        black_box(record.judgement);
    };
    let sli = || SliLayer::server("s").sink(sink);
    let both =
        ServiceBuilder::new().layer(sli()).layer(TimeoutLayer::new("t", OURS)).service(bare());
    vec![
        Case::new("bare", bare(), request),
        Case::new("buttress Sli, one sink", sli().layer(bare()), request),
        Case::new("buttress Sli over Timeout", both, request),
    ]
}

fn throttles() -> Vec<Case> {
    let throttle = ThrottleLayer::new("t", Rule::new());
    vec![
        Case::new("bare", bare(), request),
        Case::new("buttress Throttle", throttle.layer(bare()), request),
    ]
}

/// Several layers as somebody writes them down, one `.layer()` after the other.
fn stacks() -> Vec<Case> {
    let policy = TowerPolicy(Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2)));
    let tower = ServiceBuilder::new().timeout(LIMIT).load_shed().concurrency_limit(64);
    let tower = tower.retry(policy).service(bare());
    let retry = tower_resilience::retry::RetryLayer::<
        Request<()>,
        Response<Full<Bytes>>,
        Infallible,
    >::builder();
    let breaker = tower_resilience::circuitbreaker::CircuitBreakerLayer::builder();
    let bulkhead = tower_resilience::bulkhead::BulkheadLayer::builder();
    let limiter = tower_resilience::ratelimiter::RateLimiterLayer::builder();
    let incumbent = ServiceBuilder::new()
        .layer(limiter.limit_for_period(usize::MAX / 2).build().expect("there is a limit"))
        .layer(bulkhead.max_concurrent_calls(64).reject_when_full().build().expect("64"))
        .layer(breaker.build().expect("its defaults"))
        .layer(retry.max_attempts(3).build())
        .service(bare());
    let bulkhead = || BulkheadLayer::new("b", 64.try_into().expect("it is not 0"));
    let timeout = || TimeoutLayer::new("t", OURS);
    let breaker = || BreakerLayer::new("b", Settings::rate());
    let retry = || RetryLayer::new("r", Attempts::default());
    let rate = Rate::per_second(NonZeroU32::MAX);
    let four = ServiceBuilder::new().layer(timeout()).layer(bulkhead()).layer(breaker());
    let eight = ServiceBuilder::new()
        .layer(SliLayer::server("s"))
        .layer(timeout())
        .layer(RateLimitLayer::new("r", rate))
        .layer(bulkhead())
        .layer(retry())
        .layer(ThrottleLayer::new("t", Rule::new()))
        .layer(breaker())
        .layer(timeout());
    vec![
        Case::new("bare", bare(), request),
        Case::new("tower timeout, shed, limit, retry", tower, request),
        Case::new("tower-resilience, four", incumbent, request),
        Case::new("buttress, four", four.layer(retry()).service(bare()), request),
        Case::new("buttress, eight", eight.service(bare()), request),
    ]
}

/// A lease that holds; what a round trip takes, `redis_clients` measures.
fn fleets() -> Vec<Case> {
    let million = 1_000_000_000.try_into().expect("more than none");
    let rate = Rate::per_second(million);
    let lease = Lease::new(1_000_000.try_into().expect("more than none"));
    let local = RateLimitLayer::new("r", rate);
    let limit = || {
        let (settings, store) = (fleet::Settings::leased(lease), fleet::MemoryStore::new());
        fleet::FleetLimitLayer::new("f", rate, settings, store)
    };
    let keyed = limit().keyed(|_: &Request<()>| 7_u64);
    let strict = fleet::FleetLimitLayer::new(
        "f",
        rate,
        fleet::Settings::strict(),
        fleet::MemoryStore::new(),
    );
    vec![
        Case::new("bare", bare(), request),
        Case::new("buttress RateLimit, local", local.layer(bare()), request),
        Case::new("buttress FleetLimit, leased", limit().layer(bare()), request),
        Case::new("buttress FleetLimit, leased, keyed", keyed.layer(bare()), request),
        Case::new("buttress FleetLimit, strict, memory", strict.layer(bare()), request),
    ]
}

fn routers() -> Vec<Case> {
    let router = || Router::new().route("/items/{id}", get(|| async { "hello" }));
    let request = || Request::get("/items/7").body(Body::empty()).expect("a request");
    let (prometheus, _) = axum_prometheus::PrometheusMetricLayer::pair();
    let sli = SliLayer::server("s");
    let tracker = SloTracker::new("shop".parse().expect("a name"), objectives()).expect("names");
    let both =
        ServiceBuilder::new().layer(SliLayer::server("s")).layer(TimeoutLayer::new("t", OURS));
    vec![
        Case::new("bare Router", router(), request),
        Case::new("axum-prometheus on Router", router().layer(prometheus), request),
        Case::new("buttress Sli on Router", router().layer(sli), request),
        Case::new(
            "buttress Slo, three, on Router",
            router().layer(SloLayer::server("s", &tracker)),
            request,
        ),
        Case::new("buttress Sli over Timeout on Router", router().layer(both), request),
    ]
}
