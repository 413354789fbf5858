//! From a layer to what a scraper reads.

use std::{
    convert::Infallible,
    future::{pending, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{Change, Event, Observe, Rate, Ratio, TimeLimit, hedge, retry, throttle};
use buttress_layers::{
    bulkhead::{BulkheadLayer, Partitions},
    hedge::HedgeLayer,
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
    sli::SliLayer,
    throttle::ThrottleLayer,
    timeout::{Limits, TimeoutLayer},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use metrics::{set_default_local_recorder, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;

mod breaker;
mod fallback;
mod slo;

fn exporter() -> PrometheusRecorder {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &BUCKET_BOUNDS)
        .expect("there are buckets")
        .build_recorder()
}

/// What a scraper reads after one more tick.
fn scrape(telemetry: &Telemetry, exporter: &PrometheusRecorder) -> String {
    with_local_recorder(exporter, || telemetry.tick());
    exporter.handle().render()
}

/// The value of a series, written as the page writes it.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

/// Answers through `layer` after `millis`, as long as a body takes.
async fn answer(layer: &SliLayer, request: Request<()>, status: u16, millis: u64) {
    let service = service_fn(move |_: Request<()>| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        let body = Full::new(Bytes::from_static(b"body"));
        Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
    });
    let response = layer.layer(service).oneshot(request).await.unwrap();
    response.into_body().collect().await.unwrap();
}

#[test]
fn every_series_of_a_layer_is_there_at_zero_from_the_moment_it_is_watched() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());

    with_local_recorder(&exporter, || {
        telemetry.watch(SliLayer::server("shop").routes(["/a"]).handle());
        telemetry.watch(TimeoutLayer::new("shop", TimeLimit::from_secs(2)).handle());
    });

    let page = exporter.handle().render();
    for outcome in ["good", "bad", "excluded"] {
        let all = format!(
            r#"buttress_sli_requests_total{{sli="shop",side="server",outcome="{outcome}"}}"#
        );
        let route = format!(
            r#"buttress_sli_route_requests_total{{sli="shop",side="server",route="/a",outcome="{outcome}"}}"#
        );
        assert_eq!(value(&page, &all), Some(0.0), "{page}");
        assert_eq!(value(&page, &route), Some(0.0), "{page}");
    }
    for clock in ["head", "total", "idle", "deadline"] {
        let expired =
            format!(r#"buttress_timeout_expired_requests_total{{timeout="shop",clock="{clock}"}}"#);
        assert_eq!(value(&page, &expired), Some(0.0), "{page}");
    }
    let limit =
        |clock| format!(r#"buttress_timeout_limit_seconds{{timeout="shop",clock="{clock}"}}"#);
    assert_eq!(value(&page, &limit("total")), Some(2.0));
    assert_eq!(value(&page, &limit("head")), Some(f64::INFINITY));
    let left =
        r#"buttress_sli_reasons_total{sli="shop",side="server",outcome="excluded",reason="left"}"#;
    assert_eq!(value(&page, left), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn durations_arrive_in_their_buckets_with_an_exact_sum() {
    let (exporter, telemetry, layer) = (exporter(), Telemetry::new(), SliLayer::server("shop"));
    telemetry.watch(layer.handle());

    for millis in [3, 5, 6, 300, 11_000] {
        answer(&layer, get("/"), 200, millis).await;
        scrape(&telemetry, &exporter);
    }
    answer(&layer, get("/"), 503, 20).await;
    let page = scrape(&telemetry, &exporter);

    let labels = r#"sli="shop",http_route="",http_request_method="GET",http_response_status_code="200",error_type="""#;
    let of = |suffix: &str| value(&page, &format!("http_server_request_duration_seconds{suffix}"));
    assert_eq!(of(&format!("_bucket{{{labels},le=\"0.005\"}}")), Some(2.0), "{page}");
    assert_eq!(of(&format!("_bucket{{{labels},le=\"0.01\"}}")), Some(3.0));
    assert_eq!(of(&format!("_bucket{{{labels},le=\"0.25\"}}")), Some(3.0));
    assert_eq!(of(&format!("_bucket{{{labels},le=\"0.5\"}}")), Some(4.0));
    assert_eq!(of(&format!("_bucket{{{labels},le=\"10\"}}")), Some(4.0));
    assert_eq!(of(&format!("_bucket{{{labels},le=\"+Inf\"}}")), Some(5.0));
    let sum = of(&format!("_sum{{{labels}}}")).unwrap();
    assert!((sum - 11.314).abs() < 1e-9, "exact but for a float's last digits: {sum}");
    assert!(page.contains(r#"http_response_status_code="503",error_type="503""#));
}

#[tokio::test(start_paused = true)]
async fn a_series_that_an_exporter_dropped_comes_back_whole() {
    let (telemetry, layer) = (Telemetry::new(), SliLayer::server("shop"));
    telemetry.watch(layer.handle());
    let good = r#"buttress_sli_requests_total{sli="shop",side="server",outcome="good"}"#;

    answer(&layer, get("/"), 200, 1).await;
    assert_eq!(value(&scrape(&telemetry, &exporter()), good), Some(1.0));
    answer(&layer, get("/"), 200, 1).await;
    // An exporter that knows nothing of the series is one that has dropped it.
    assert_eq!(value(&scrape(&telemetry, &exporter()), good), Some(2.0));
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_before_there_was_an_exporter_is_not_lost() {
    let (telemetry, layer) = (Telemetry::new(), SliLayer::server("shop"));
    telemetry.watch(layer.handle());
    answer(&layer, get("/"), 200, 1).await;
    telemetry.tick();

    let page = scrape(&telemetry, &exporter());

    let count = r#"http_server_request_duration_seconds_count{sli="shop",http_route="",http_request_method="GET",http_response_status_code="200",error_type=""}"#;
    assert_eq!(value(&page, count), Some(1.0), "{page}");
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_counted_that_was_built_anew_is_kept_and_added() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let good = r#"buttress_sli_requests_total{sli="shop",side="server",outcome="good"}"#;
    let count = r#"http_server_request_duration_seconds_count{sli="shop",http_route="",http_request_method="GET",http_response_status_code="200",error_type=""}"#;

    for calls in 1..=3 {
        let layer = SliLayer::server("shop");
        telemetry.watch(layer.handle());
        for _ in 0..10 {
            answer(&layer, get("/"), 200, 1).await;
        }
        if calls == 2 {
            scrape(&telemetry, &exporter);
        }
    }
    let page = scrape(&telemetry, &exporter);

    assert_eq!(value(&page, good), Some(30.0));
    assert_eq!(value(&page, count), Some(30.0));
    assert_eq!(value(&scrape(&telemetry, &exporter), good), Some(30.0));
    assert!(format!("{telemetry:?}").contains("sources: 0"), "{telemetry:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_show_and_are_gone_when_cancelled() {
    let (exporter, telemetry, layer) = (exporter(), Telemetry::new(), SliLayer::server("shop"));
    telemetry.watch(layer.handle());
    let in_flight = r#"buttress_sli_in_flight_requests{sli="shop",side="server"}"#;
    let hanging = layer
        .layer(service_fn(|_: Request<()>| pending::<Result<Response<Full<Bytes>>, Infallible>>()));

    let calls: Vec<_> = (0..5).map(|_| hanging.clone().oneshot(get("/"))).map(Box::pin).collect();
    let mut calls: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    tokio::task::yield_now().await;
    assert_eq!(value(&scrape(&telemetry, &exporter), in_flight), Some(5.0));
    for call in calls.drain(..) {
        call.abort();
        assert!(call.await.is_err());
    }

    let page = scrape(&telemetry, &exporter);
    assert_eq!(value(&page, in_flight), Some(0.0));
    let left =
        r#"buttress_sli_reasons_total{sli="shop",side="server",outcome="excluded",reason="left"}"#;
    assert_eq!(value(&page, left), Some(5.0));
}

#[test]
fn settings_of_two_layers_of_one_name_do_not_add_up() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let (two, three) = (handle("shop"), handle("shop"));
    three.set_limits(Limits::total(TimeLimit::from_secs(3)));
    for handle in [&two, &three] {
        handle.set_shadow(true);
        telemetry.watch(handle.clone());
    }

    let page = scrape(&telemetry, &exporter);

    let limit = r#"buttress_timeout_limit_seconds{timeout="shop",clock="total"}"#;
    assert_eq!(value(&page, limit), Some(2.0));
    assert_eq!(value(&page, r#"buttress_timeout_shadow{timeout="shop"}"#), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn watching_twice_counts_once() {
    let (exporter, telemetry, layer) = (exporter(), Telemetry::new(), SliLayer::client("shop"));
    telemetry.watch(layer.handle());
    telemetry.clone().watch(layer.handle());

    answer(&layer, get("/"), 200, 1).await;

    let good = r#"buttress_sli_requests_total{sli="shop",side="client",outcome="good"}"#;
    assert_eq!(value(&scrape(&telemetry, &exporter), good), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_telemetry_that_runs_ticks_once_a_second() {
    let exporter = exporter();
    let _local = set_default_local_recorder(&exporter);
    let (telemetry, layer) = (Telemetry::new(), SliLayer::server("shop"));
    telemetry.watch(layer.handle());
    let running = tokio::spawn(telemetry.run());
    let good = r#"buttress_sli_requests_total{sli="shop",side="server",outcome="good"}"#;
    tokio::time::sleep(Duration::from_millis(10)).await;

    answer(&layer, get("/"), 200, 1).await;
    assert_eq!(value(&exporter.handle().render(), good), Some(0.0));
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(value(&exporter.handle().render(), good), Some(1.0));
    running.abort();
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Observe for Heard {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{} {}", event.name, event.change));
    }
}

#[test]
fn changes_reach_subscribers_and_the_journal_once() {
    let (telemetry, heard) = (Telemetry::new(), Heard::default());
    let (early, late) = (handle("early"), handle("late"));
    telemetry.watch(early.clone());
    telemetry.subscribe(heard.clone());
    telemetry.watch(late.clone());

    early.set_limits(Limits::total(TimeLimit::from_secs(1)));
    late.set_shadow(true);
    late.set_shadow(true);

    let expected =
        ["early time limits set: total 1s", "late shadow mode on: counts, refuses nothing"];
    assert_eq!(*heard.0.lock().unwrap(), expected);
    let changes: Vec<_> = telemetry.journal().entries().iter().map(|entry| entry.change).collect();
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[1], Change::Shadow(true));
}

fn handle(name: &str) -> buttress_layers::timeout::TimeoutHandle {
    TimeoutLayer::new(name, TimeLimit::from_secs(2)).handle()
}

#[tokio::test(start_paused = true)]
async fn grpc_calls_have_names_of_their_own_and_the_label_can_be_chosen() {
    let layer = SliLayer::server("shop").routes(["/shop.Shop/Buy"]);
    let exporter = exporter();
    let telemetry = Telemetry::new().rpc_status_label("rpc_status_code");
    telemetry.watch(layer.handle());
    let service = layer.layer(service_fn(|_: Request<()>| {
        let body = Full::new(Bytes::new());
        ready(Ok::<_, Infallible>(
            Response::builder().header("grpc-status", "14").body(body).unwrap(),
        ))
    }));
    let request = Request::post("/shop.Shop/Buy").header("content-type", "application/grpc");

    service.oneshot(request.body(()).unwrap()).await.unwrap();

    let count = r#"rpc_server_call_duration_seconds_count{sli="shop",rpc_system_name="grpc",rpc_method="shop.Shop/Buy",rpc_status_code="UNAVAILABLE",error_type="UNAVAILABLE"}"#;
    let page = scrape(&telemetry, &exporter);
    assert_eq!(value(&page, count), Some(1.0), "{page}");
}

/// X11: after calls that were cancelled, waiting or not, the gauges are back at 0.
#[tokio::test(start_paused = true)]
async fn the_gauges_of_a_bulkhead_tell_the_truth_after_cancelled_calls() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let layer = BulkheadLayer::new("shop", 5.try_into().unwrap()).queue(1);
    with_local_recorder(&exporter, || telemetry.watch(layer.handle()));
    let never = || pending::<Result<Response<Full<Bytes>>, Infallible>>();
    let mut service = layer.layer(service_fn(move |_: Request<()>| never()));
    let series = |what: &str| format!(r#"buttress_bulkhead_{what}{{bulkhead="shop"}}"#);
    let refused = |why: &str| {
        format!(r#"buttress_bulkhead_refused_requests_total{{bulkhead="shop",reason="{why}"}}"#)
    };

    let page = scrape(&telemetry, &exporter);
    for why in ["full", "shed", "queue_timed_out"] {
        assert_eq!(value(&page, &refused(why)), Some(0.0), "{page}");
    }
    let calls: Vec<_> = (0..7).map(|_| service.call(get("/"))).collect();
    let page = scrape(&telemetry, &exporter);
    assert_eq!(value(&page, &series("in_flight_requests")), Some(5.0), "{page}");
    assert_eq!(value(&page, &series("queued_requests")), Some(1.0));
    assert_eq!(value(&page, &series("limit_requests")), Some(5.0));
    assert_eq!(value(&page, &refused("full")), Some(1.0));

    drop(calls);

    let page = scrape(&telemetry, &exporter);
    assert_eq!(value(&page, &series("in_flight_requests")), Some(0.0), "{page}");
    assert_eq!(value(&page, &series("queued_requests")), Some(0.0));
    // The waiter came in when the first was dropped, and was dropped in its turn.
    let admitted = value(&page, &series("admitted_requests_total"));
    let abandoned = value(&page, &series("abandoned_requests_total"));
    assert_eq!((admitted, abandoned), (Some(5.0), Some(1.0)));
}

#[tokio::test]
async fn the_partitions_of_a_bulkhead_have_series_of_their_own() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let shares = Partitions::new().share("live", Ratio::percent(70));
    let layer = BulkheadLayer::new("shop", 10.try_into().unwrap())
        .partitions(shares, |_: &Request<()>| "live");
    with_local_recorder(&exporter, || telemetry.watch(layer.handle()));
    let never = || pending::<Result<Response<Full<Bytes>>, Infallible>>();
    let mut service = layer.layer(service_fn(move |_: Request<()>| never()));

    let _call = service.call(get("/"));

    let page = scrape(&telemetry, &exporter);
    let live =
        r#"buttress_bulkhead_partition_in_flight_requests{bulkhead="shop",partition="live"}"#;
    assert_eq!(value(&page, live), Some(1.0), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_says_what_it_admitted_refused_and_let_wait() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let three = Rate::per_minute(3.try_into().unwrap()).burst(2.try_into().unwrap());
    let limit = RateLimitLayer::new("api", three);
    let keyed =
        RateLimitLayer::new("keyed", three).keyed(|request: &Request<()>| request.version());
    let handle = limit.handle();
    telemetry.watch(limit.handle());
    telemetry.watch(keyed.handle());
    let answer = || {
        let body = || Full::new(Bytes::from_static(b"body"));
        service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(Response::new(body()))))
    };

    for _ in 0..5 {
        limit.layer(answer()).oneshot(get("/")).await.unwrap();
        keyed.layer(answer()).oneshot(get("/")).await.unwrap();
    }
    handle.set_patience(Some(TimeLimit::from_secs(60)));
    let mut waits = tokio_test::task::spawn(limit.layer(answer()).oneshot(get("/")));
    assert!(waits.poll().is_pending());
    let during = scrape(&telemetry, &exporter);
    drop(waits);
    let after = scrape(&telemetry, &exporter);

    let api = |page: &str, series: &str, labels: &str| {
        value(page, &format!("buttress_rate_limit_{series}{{rate_limit=\"api\"{labels}}}"))
    };
    assert_eq!(api(&during, "admitted_requests_total", ""), Some(2.0));
    assert_eq!(api(&during, "refused_requests_total", ",reason=\"empty\""), Some(3.0));
    assert_eq!(api(&during, "refused_requests_total", ",reason=\"too_much\""), Some(0.0));
    assert_eq!(api(&during, "waiting_requests", ""), Some(1.0));
    assert_eq!(api(&during, "rate_per_second", ",limit=\"1\""), Some(0.05));
    assert_eq!(api(&during, "burst_requests", ",limit=\"1\""), Some(2.0));
    assert_eq!(api(&after, "waiting_requests", ""), Some(0.0));
    assert_eq!(api(&after, "left_requests_total", ""), Some(1.0));
    assert_eq!(value(&after, "buttress_rate_limit_keys{rate_limit=\"keyed\"}"), Some(1.0));
    let keyed = "buttress_rate_limit_refused_requests_total{rate_limit=\"keyed\",reason=\"empty\"}";
    assert_eq!(value(&after, keyed), Some(3.0));
}

#[tokio::test(start_paused = true)]
async fn retries_and_their_reasons_to_stop_are_published() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let retry = RetryLayer::new("stock", retry::Settings::default().seed(1));
    let throttle = ThrottleLayer::new("stock", throttle::Settings::new().allowance(9));
    telemetry.watch(retry.handle());
    telemetry.watch(throttle.handle());
    let journal = telemetry.journal();
    let layers = tower::ServiceBuilder::new().layer(retry).layer(throttle);
    let down = service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(
            Response::builder().status(503).body(Full::<Bytes>::default()).unwrap(),
        ))
    });

    let page = scrape(&telemetry, &exporter);
    for reason in ["budget", "deadline", "body_too_large", "circuit_open", "pushback"] {
        let series = r#"buttress_retry_stopped_requests_total{retry="stock",reason="#;
        assert_eq!(value(&page, &format!("{series}\"{reason}\"}}")), Some(0.0), "{page}");
    }
    drop(layers.service(down).oneshot(get("/items/7")).await.unwrap());

    let page = scrape(&telemetry, &exporter);
    let read = |series: &str| value(&page, series).unwrap_or_else(|| panic!("{series}: {page}"));
    let stock = r#"{retry="stock""#;
    assert_eq!(read(&format!("buttress_retry_requests_total{stock}}}")).to_bits(), 1_f64.to_bits());
    let retries = format!(r#"buttress_retry_attempts_total{stock},kind="retry"}}"#);
    assert_eq!(read(&retries).to_bits(), 2_f64.to_bits());
    let stopped = format!(r#"buttress_retry_stopped_requests_total{stock},reason="attempts"}}"#);
    assert_eq!(read(&stopped).to_bits(), 1_f64.to_bits());
    let told: Vec<_> = journal.entries().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["retry stock: a request was not tried again: attempts"]);
    let balance = format!("buttress_retry_budget_balance{stock}}}");
    assert_eq!(read(&balance).to_bits(), 98_f64.to_bits());
    let series = r#"buttress_throttle_requests_total{throttle="stock",outcome="unaccepted"}"#;
    assert_eq!(read(series).to_bits(), 3_f64.to_bits());
    let refused = r#"buttress_throttle_refused_requests_total{throttle="stock"}"#;
    assert_eq!(read(refused).to_bits(), 0_f64.to_bits());
}

#[tokio::test(start_paused = true)]
async fn hedges_how_they_end_and_why_there_are_none_are_published() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let after = hedge::Delay::fixed(Duration::from_millis(50));
    let layer = HedgeLayer::new("stock", hedge::Settings::new(after));
    telemetry.watch(layer.handle());
    let slow = service_fn(async |_: Request<()>| {
        tokio::time::sleep(Duration::from_millis(80)).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let service = layer.layer(slow);
    let read = |page: &str, series: &str| {
        value(page, series).unwrap_or_else(|| panic!("{series}: {page}")).to_bits()
    };
    let counted = |name: &str, labels: &str| {
        let page = scrape(&telemetry, &exporter);
        f64::from_bits(read(&page, &format!(r#"buttress_hedge_{name}{{hedge="stock"{labels}}}"#)))
    };
    for reason in hedge::Unhedged::ALL {
        let labels = format!(r#",reason="{}""#, reason.as_str());
        assert_eq!(counted("unhedged_requests_total", &labels).to_bits(), 0);
    }

    drop(service.clone().oneshot(get("/items/7")).await.unwrap());
    let post = Request::post("/").body(()).unwrap();
    drop(service.oneshot(post).await.unwrap());

    let bits = |name: &str, labels: &str| counted(name, labels).to_bits();
    assert_eq!(bits("requests_total", ""), 2_f64.to_bits());
    assert_eq!(bits("attempts_total", ""), 1_f64.to_bits());
    assert_eq!(bits("ended_attempts_total", r#",outcome="lost""#), 1_f64.to_bits());
    assert_eq!(bits("ended_attempts_total", r#",outcome="won""#), 0);
    assert_eq!(bits("unhedged_requests_total", r#",reason="method""#), 1_f64.to_bits());
    assert_eq!(bits("delay_seconds", ""), 0.05_f64.to_bits());
    assert_eq!(bits("budget_balance", ""), 99_f64.to_bits());
    assert_eq!(bits("shadow", ""), 0);
}
