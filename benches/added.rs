//! What a layer adds to a call, ours beside its peers, in the same run.
//!
//! `cargo bench --bench added` prints nanoseconds added over the bare service, as a ratio to the
//! first peer of each group, and what two threads on one state make of one thread's throughput;
//! with `-- --instructions` instructions per call too, which do not depend on the machine's mood.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::get};
use buttress::{
    TimeLimit,
    retry::{Budget, Percentage, RetryLayer, Settings as Attempts, Tokens},
    sli::{Record, SliLayer},
    throttle::{Settings as Rule, ThrottleLayer},
    timeout::{Limits, TimeoutLayer},
};
use buttress_benches::{Calls, Case, instructions, nanoseconds, two_threads};
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
use tower_resilience_retry::RetryBudgetBuilder;

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

const LIMIT: Duration = Duration::from_secs(30);
const OURS: TimeLimit = TimeLimit::from_secs(30);

fn main() {
    let options = Options::parse();
    // Timers want a runtime to belong to, though no call here ever waits for one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime without I/O");
    let _entered = runtime.enter();
    // Made one after the other, for the sake of a profiler: a peer may start threads or clocks.
    for group in [timeouts, slis, retries, throttles, routers] {
        let group = group();
        let Some(only) = &options.only else {
            print(&group, &options, &runtime);
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

fn slis() -> Vec<Case> {
    let sink = |record: &Record<'_>| {
        std::hint::black_box(record.judgement);
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
    let resilience = tower_resilience_retry::RetryLayer::<
        Request<()>,
        Response<Full<Bytes>>,
        Infallible,
    >::builder()
    .max_attempts(3)
    .exponential_backoff(Duration::from_millis(50))
    .budget(budget)
    .build();
    let ours = |budget: Budget| RetryLayer::new("r", Attempts::default().budget(budget));
    let share = || Budget::from(Percentage::new(buttress::Ratio::percent(20)));
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

fn throttles() -> Vec<Case> {
    let throttle = ThrottleLayer::new("t", Rule::new());
    vec![
        Case::new("bare", bare(), request),
        Case::new("buttress Throttle", throttle.layer(bare()), request),
    ]
}

fn routers() -> Vec<Case> {
    let router = || Router::new().route("/items/{id}", get(|| async { "hello" }));
    let request = || Request::get("/items/7").body(Body::empty()).expect("a request");
    let (prometheus, _) = axum_prometheus::PrometheusMetricLayer::pair();
    let sli = SliLayer::server("s");
    let both =
        ServiceBuilder::new().layer(SliLayer::server("s")).layer(TimeoutLayer::new("t", OURS));
    vec![
        Case::new("bare Router", router(), request),
        Case::new("axum-prometheus on Router", router().layer(prometheus), request),
        Case::new("buttress Sli on Router", router().layer(sli), request),
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
