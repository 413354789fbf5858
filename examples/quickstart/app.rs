//! The service: three routes, the layers around them, and those around what it depends on.

use std::{fmt::Write, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{Request, Response, StatusCode},
    response::IntoResponse,
    routing::{get, post},
};
use buttress::{
    BoxError, Protocol, Ratio, Rejection, TimeLimit,
    breaker::{Breaker, BreakerHandle, BreakerLayer, OpenFor, Settings, Trip, Window},
    bulkhead::BulkheadLayer,
    reqwest::HttpClient,
    sli::SliHandle,
    slo::{Objective, Part, Sli, SloLayer, SloTracker, Window as Over},
    telemetry::{BUCKET_BOUNDS, Telemetry},
    timeout::{Timeout, TimeoutLayer},
};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};

use crate::stock::Stock;

/// How long a caller of the service waits at the most.
pub(crate) const LIMIT: TimeLimit = TimeLimit::from_millis(250);

/// How long the service waits for what it depends on: less, so that it can still answer.
const STOCK_LIMIT: TimeLimit = TimeLimit::from_millis(200);

/// What to ask of a service that is kept up: how, what, and what comes of it.
pub(crate) const TO_TRY: [(&str, &str, &str); 7] = [
    ("", "/items/7", "200, and good"),
    ("", "/slow?ms=1000", "504 after 250 ms: the timeout layer answers"),
    ("", "/fail", "500, and bad"),
    ("", "/nowhere", "404: the caller's mistake, excluded"),
    ("-X POST ", "/ill", "the stock falls ill: ask for items until the breaker opens"),
    ("-X POST ", "/well", "and recovers: the breaker finds out by itself"),
    ("", "/metrics", "what the layers counted, for Prometheus"),
];

/// What the service promises its callers.
fn objectives() -> Result<[Objective; 2], BoxError> {
    let fast = Sli::Latency { within: TimeLimit::from_millis(100), part: Part::Total };
    Ok([
        Objective::new("available".parse()?, Sli::Availability, "99.9%".parse()?),
        // Of the last five minutes, so that its budget is of a size to be watched.
        Objective::new("fast".parse()?, fast, "95%".parse()?)
            .over(Over::sliding(TimeLimit::from_secs(300))),
    ])
}

/// A client of the stock: calls are given up in time, and not made while it keeps failing.
type StockClient = Timeout<Breaker<HttpClient>>;

/// The service and what watches it.
#[derive(Debug)]
pub(crate) struct App {
    stock: Stock,
    client: StockClient,
    breaker: BreakerHandle,
    sli: SloLayer,
    tracker: SloTracker,
    timeout: TimeoutLayer,
    bulkhead: BulkheadLayer,
    telemetry: Telemetry,
    prometheus: PrometheusHandle,
}

impl App {
    pub(crate) fn new(stock: Stock) -> Result<Self, BoxError> {
        let prometheus = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &BUCKET_BOUNDS)?
            .install_recorder()?;
        let tracker = SloTracker::new("quickstart".parse()?, objectives()?)?;
        let sli =
            SloLayer::server("quickstart", &tracker).routes(["/items/{id}", "/slow", "/fail"]);
        let timeout = TimeoutLayer::new("quickstart", LIMIT).propagate();
        let bulkhead = BulkheadLayer::new("quickstart", 64.try_into()?)
            .queue(64)
            .wait(TimeLimit::from_millis(100));

        let stock_timeout = TimeoutLayer::new("stock", STOCK_LIMIT).propagate();
        // `Settings::rate()` in small, because this run is short: the preset's window of 30 s would
        // still remember the good days when the bad spell is over.
        let half =
            Trip::failure_rate(Ratio::percent(50)).over(Window::time(TimeLimit::from_secs(1)));
        let open_for =
            OpenFor::fixed(TimeLimit::from_millis(500)).doubling().up_to(TimeLimit::from_secs(1));
        let breaker = BreakerLayer::new("stock", Settings::new(half).open_for(open_for));
        let http = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).build()?;
        let client = stock_timeout.layer(breaker.layer(HttpClient::new(http)));

        let telemetry = Telemetry::new();
        telemetry.watch(sli.handle());
        telemetry.watch(tracker.clone());
        telemetry.watch(timeout.handle());
        telemetry.watch(bulkhead.handle());
        telemetry.watch(stock_timeout.handle());
        telemetry.watch(breaker.handle());
        let breaker = breaker.handle();
        Ok(Self { stock, client, breaker, sli, tracker, timeout, bulkhead, telemetry, prometheus })
    }

    /// The routes with the layers around them. What stands outside is no call: scrapes, and the
    /// stock's health.
    pub(crate) fn router(&self) -> Router {
        let (telemetry, prometheus) = (self.telemetry.clone(), self.prometheus.clone());
        let tracker = self.tracker.clone();
        let metrics = move || {
            // So that the page is of this very moment.
            tracker.tick();
            telemetry.tick();
            std::future::ready(prometheus.render())
        };
        let set_ill = |ill, said| {
            let stock = self.stock.clone();
            post(move || async move {
                stock.set_ill(ill);
                said
            })
        };
        Router::new()
            .route("/items/{id}", get(item))
            .route("/slow", get(slow))
            .route("/fail", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
            .layer(self.bulkhead.clone())
            .layer(self.timeout.clone())
            .layer(self.sli.clone())
            .route("/metrics", get(metrics))
            .route("/ill", set_ill(true, "the stock is ill\n"))
            .route("/well", set_ill(false, "the stock is well\n"))
            .with_state((self.client.clone(), self.stock.clone()))
    }

    pub(crate) fn sli(&self) -> SliHandle {
        self.sli.handle()
    }

    pub(crate) fn tracker(&self) -> &SloTracker {
        &self.tracker
    }

    pub(crate) fn breaker(&self) -> &BreakerHandle {
        &self.breaker
    }

    pub(crate) fn telemetry(&self) -> Telemetry {
        self.telemetry.clone()
    }

    pub(crate) fn stock(&self) -> &Stock {
        &self.stock
    }

    /// What the breaker did, and when, since `started`.
    pub(crate) fn story(&self, started: Instant) -> String {
        let mut story = String::new();
        for entry in self.telemetry.journal().entries() {
            let after = entry.at.saturating_duration_since(started.into_std());
            let _ = writeln!(story, "{:>8.3} s  {entry}", after.as_secs_f64());
        }
        story
    }
}

/// Asks the stock, and passes on what comes of it: also that it was not asked.
async fn item(
    State((client, stock)): State<(StockClient, Stock)>,
    Path(id): Path<u64>,
) -> Response<Body> {
    let request = Request::get(format!("http://{}/{id}", stock.address()));
    let request = request.body(reqwest::Body::default()).expect("a well-formed request");
    match client.oneshot(request).await {
        Ok(response) if response.status() == StatusCode::OK => {
            match response.into_body().collect().await {
                Ok(body) => body.to_bytes().into_response(),
                Err(error) => failed(&*error),
            }
        }
        Ok(response) if response.status() == StatusCode::NOT_FOUND => {
            StatusCode::NOT_FOUND.into_response()
        }
        Ok(_) => StatusCode::BAD_GATEWAY.into_response(),
        Err(error) => failed(&*error),
    }
}

/// A refusal of ours says what it is, and when to come again.
fn failed(error: &(dyn std::error::Error + 'static)) -> Response<Body> {
    match Rejection::find(error) {
        Some(rejection) => rejection.clone().into_response(Protocol::Http),
        None => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// Answers after as many milliseconds as the query's first value says.
async fn slow(Query(query): Query<Vec<(String, u64)>>) -> String {
    let millis = query.first().map_or(1000, |(_, millis)| *millis);
    sleep(Duration::from_millis(millis)).await;
    format!("slept {millis} ms\n")
}
