//! The service: three routes, a dependency that has bad days, and the layers around them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::get,
};
use buttress::{
    BoxError, Random, Ratio, TimeLimit,
    sli::{SliHandle, SliLayer},
    telemetry::{BUCKET_BOUNDS, Telemetry},
    timeout::TimeoutLayer,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::sleep;

/// How long a caller of the service waits at the most.
pub(crate) const LIMIT: TimeLimit = TimeLimit::from_millis(250);

/// What to ask of a service that is kept up.
pub(crate) const TO_TRY: [(&str, &str); 5] = [
    ("/items/7", "200, and good"),
    ("/slow?ms=1000", "504 after 250 ms: the timeout layer answers"),
    ("/fail", "500, and bad"),
    ("/nowhere", "404: the caller's mistake, excluded"),
    ("/metrics", "what the layers counted, for Prometheus"),
];

/// The service and what watches it.
#[derive(Debug)]
pub(crate) struct App {
    dependency: Arc<Dependency>,
    sli: SliLayer,
    timeout: TimeoutLayer,
    telemetry: Telemetry,
    prometheus: PrometheusHandle,
}

impl App {
    pub(crate) fn new() -> Result<Self, BoxError> {
        let prometheus = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &BUCKET_BOUNDS)?
            .install_recorder()?;
        let sli = SliLayer::server("quickstart").routes(["/items/{id}", "/slow", "/fail"]);
        let timeout = TimeoutLayer::new("quickstart", LIMIT).propagate();
        let telemetry = Telemetry::new();
        telemetry.watch(sli.handle());
        telemetry.watch(timeout.handle());
        let dependency =
            Arc::new(Dependency { ill: AtomicBool::new(false), random: Random::seeded(7) });
        Ok(Self { dependency, sli, timeout, telemetry, prometheus })
    }

    /// The routes with the layers around them. `/metrics` stands outside: scrapes are not calls.
    pub(crate) fn router(&self) -> Router {
        let (telemetry, prometheus) = (self.telemetry.clone(), self.prometheus.clone());
        let metrics = move || {
            telemetry.tick();
            std::future::ready(prometheus.render())
        };
        Router::new()
            .route("/items/{id}", get(item))
            .route("/slow", get(slow))
            .route("/fail", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
            .layer(self.timeout.clone())
            .layer(self.sli.clone())
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(&self.dependency))
    }

    pub(crate) fn sli(&self) -> SliHandle {
        self.sli.handle()
    }

    pub(crate) fn telemetry(&self) -> Telemetry {
        self.telemetry.clone()
    }

    /// Makes the dependency ill, or well again.
    pub(crate) fn set_ill(&self, ill: bool) {
        self.dependency.ill.store(ill, Ordering::Relaxed);
    }
}

/// What the service needs to answer, and cannot rely on.
#[derive(Debug)]
struct Dependency {
    ill: AtomicBool,
    random: Random,
}

impl Dependency {
    /// Finds an item: in a few milliseconds when well; when ill, one in three calls fails and
    /// one in four takes longer than anybody waits.
    async fn find(&self, id: u64) -> Result<String, StatusCode> {
        let pause = Duration::from_millis(2 + Random::below(self.random.draw(), 15));
        sleep(pause).await;
        if self.ill.load(Ordering::Relaxed) {
            if Random::hits(self.random.draw(), Ratio::percent(33)) {
                return Err(StatusCode::BAD_GATEWAY);
            }
            if Random::hits(self.random.draw(), Ratio::percent(25)) {
                sleep(Duration::from_secs(2)).await;
            }
        }
        if id < 1000 { Ok(format!("item {id}\n")) } else { Err(StatusCode::NOT_FOUND) }
    }
}

async fn item(
    State(dependency): State<Arc<Dependency>>,
    Path(id): Path<u64>,
) -> Result<String, StatusCode> {
    dependency.find(id).await
}

/// Answers after as many milliseconds as the query's first value says.
async fn slow(Query(query): Query<Vec<(String, u64)>>) -> String {
    let millis = query.first().map_or(1000, |(_, millis)| *millis);
    sleep(Duration::from_millis(millis)).await;
    format!("slept {millis} ms\n")
}
