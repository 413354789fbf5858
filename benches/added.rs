//! What a layer adds to a call, ours beside its peers, in the same run.
//!
//! `cargo bench --bench added` prints nanoseconds added over the bare service, as a ratio to the
//! first peer of each group, and what two threads on one state make of one thread's throughput;
//! with `-- --instructions` instructions per call too, which do not depend on the machine's mood.

use std::{
    convert::Infallible,
    future::ready,
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{Router, body::Body, routing::get};
use buttress::{
    Judgement, Rate, Ratio, Reason, TimeLimit, Timing, Verdict,
    breaker::{BreakerLayer, Settings, Trip, Window},
    bulkhead::{Adaptive, BulkheadLayer, Partitions, Shedding},
    fallback::{FallbackLayer, StaleCache, StaleSettings},
    hedge::{Delay, HedgeLayer, Quantile, Settings as Hedges},
    http::key,
    rate_limit::RateLimitLayer,
    retry::{Budget, Percentage, RetryLayer, Settings as Attempts, Tokens},
    sli::{Record, SliLayer},
    slo::{self, Call, Clocks, Counts, Objective, Part, SloLayer, SloTracker, Tracker},
    throttle::{Settings as Rule, ThrottleLayer},
    timeout::{Limits, TimeoutLayer},
};
use buttress_benches::{Calls, Case, instructions, nanoseconds, two_threads};
use buttress_redis::{self as fleet, Lease};
use bytes::Bytes;
use clap::Parser;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{
    Layer, Service, ServiceBuilder,
    retry::{
        Policy,
        budget::{Budget as _, TpsBudget},
    },
    service_fn,
};
use tower_resilience::retry::RetryBudgetBuilder;

/// What a layer adds to a call.
#[derive(Debug, Parser)]
struct Options {
    /// Count instructions as well (needs valgrind).
    #[arg(long)]
    instructions: bool,
    /// Rounds of which the median is taken.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Calls in a round.
    #[arg(long, default_value_t = 100_000)]
    calls: u64,
    /// Only this group: timeouts, breakers, bulkheads, slis, retries, hedges, throttles, fallbacks,
    /// stacks, slos, fleets or routers.
    #[arg(long)]
    group: Option<String>,
    /// Make the calls of one case and nothing else: for a profiler.
    #[arg(long)]
    only: Option<String>,
    /// With `--only`: `ready` or `oneshot`.
    #[arg(long, default_value = "oneshot")]
    mode: String,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

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
        if options.group.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let group = group();
        let Some(only) = &options.only else {
            print(&group, &options, &runtime);
            if name == "slos" {
                print_tracker(&options);
            }
            continue;
        };
        if let Some(case) = group.iter().find(|case| case.name == only) {
            let make = if options.mode == "ready" { &case.ready } else { &case.oneshot };
            return make()(options.calls);
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

/// Retries what fails, as long as tower's budget allows: nothing here does.
#[derive(Clone)]
struct TowerPolicy(Arc<TpsBudget>);

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
fn retries() -> Vec<Case> {
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
fn hedges() -> Vec<Case> {
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
fn fallbacks() -> Vec<Case> {
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

/// Counting alone, without a call around it: after an empty loop a handle of the `metrics` crate
/// that is kept, whose exporter is Prometheus's.
fn slos() -> Vec<Case> {
    let recorder =
        axum_prometheus::metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let counter = axum_prometheus::metrics::with_local_recorder(&recorder, || {
        axum_prometheus::metrics::counter!("cached")
    });
    let tracker = SloTracker::new("shop".parse().expect("a name"), objectives()).expect("names");
    let recorders: Vec<_> = tracker.recorders().collect();
    let judgement = Judgement::new(Verdict::Good, Reason::Status);
    let timing = Timing { to_head: None, total: LIMIT };
    let call = Call { judgement, route: Some("/items/{id}"), timing };
    let (one, all) = (Arc::clone(&recorders[0]), recorders);
    vec![
        counting("empty loop", || ()),
        counting("metrics counter, cached", move || counter.increment(1)),
        counting("buttress objective", move || {
            black_box(one.record(black_box(&call)));
        }),
        counting("buttress, three objectives", move || {
            for recorder in &all {
                black_box(recorder.record(black_box(&call)));
            }
        }),
    ]
}

fn objectives() -> [Objective; 3] {
    let named = |name: &str, sli| {
        Objective::new(name.parse().expect("a name"), sli, "99.9%".parse().expect("a target"))
    };
    [
        named("up", slo::Sli::Availability),
        named("fast", slo::Sli::Latency { within: OURS, part: Part::Total }),
        named("right", slo::Sli::Correctness { unsaid: Verdict::Good }),
    ]
}

fn counting(name: &'static str, count: impl Fn() + Clone + Send + Sync + 'static) -> Case {
    let make = move || -> Calls {
        let count = count.clone();
        Box::new(move |calls| (0..calls).for_each(|call| black_box((call, count())).1))
    };
    Case { name, ready: Box::new(make.clone()), oneshot: Box::new(make) }
}

/// What an objective takes, and a tick of it: four pairs of alerts are looked at, and the policy.
#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
fn print_tracker(options: &Options) {
    let mut clocks = Clocks { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH, boot: None };
    let [up, ..] = objectives();
    let tracker = Tracker::new("shop".parse().expect("a name"), [up], clocks);
    let mut tracker = tracker.expect("one name");
    let recorder = tracker.recorder("up").expect("it is there");
    let bytes = tracker.bytes("up").expect("it is there");
    let tick: Calls = Box::new(move |calls| {
        for _ in 0..calls {
            recorder.add(Counts { good: 1, bad: 0 });
            clocks.monotonic += Duration::from_secs(1);
            clocks.wall += Duration::from_secs(1);
            black_box(tracker.tick(clocks));
        }
    });
    let nanos = nanoseconds(&mut [tick], options.rounds, options.calls)[0];
    println!(
        "\nan objective of 30 days takes {bytes} bytes, and a tick {nanos:.0} ns: its counts, the"
    );
    println!("rings, eight windows for four pairs of alerts, the budget and the policy");
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

/// Prints a group: its first case is what the others add to, its second what they are a ratio of.
fn print(group: &[Case], options: &Options, runtime: &tokio::runtime::Runtime) {
    let timed = |make: &dyn Fn(&Case) -> Calls| {
        let mut calls: Vec<_> = group.iter().map(make).collect();
        nanoseconds(&mut calls, options.rounds, options.calls)
    };
    let (ready, oneshot) = (timed(&|case| (case.ready)()), timed(&|case| (case.oneshot)()));
    println!(
        "\n{:<38}{:>9}{:>8}{:>12}{:>8}{:>13}{:>16}",
        "added to a call",
        "ready ns",
        "ratio",
        "oneshot ns",
        "ratio",
        "2 threads x",
        "instructions"
    );
    for (index, case) in group.iter().enumerate() {
        let added = |times: &[f64]| if index == 0 { times[0] } else { times[index] - times[0] };
        let ratio = |times: &[f64]| match index {
            0 => "(bare)".to_owned(),
            _ => format!("{:.2}", (times[index] - times[0]) / (times[1] - times[0])),
        };
        let threads = {
            let handle = runtime.handle().clone();
            let make = move || -> Calls {
                let (handle, mut calls) = (handle.clone(), (case.ready)());
                Box::new(move |count| {
                    let _entered = handle.enter();
                    calls(count);
                })
            };
            two_threads(&make, options.rounds, options.calls)
        };
        let instructions = if options.instructions {
            match (instructions(case.name, "ready"), instructions(case.name, "oneshot")) {
                (Some(ready), Some(oneshot)) => format!("{ready} / {oneshot}"),
                _ => "no valgrind".to_owned(),
            }
        } else {
            String::new()
        };
        println!(
            "{:<38}{:>9.1}{:>8}{:>12.1}{:>8}{:>13.2}{:>16}",
            case.name,
            added(&ready),
            ratio(&ready),
            added(&oneshot),
            ratio(&oneshot),
            threads,
            instructions
        );
    }
}
