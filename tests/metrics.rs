//! What a scraper gets over a real socket, checked by Prometheus's own tool.

use std::{io::Write, process::Stdio};

use axum::{Router, routing::get};
use buttress::{
    TimeLimit,
    bulkhead::BulkheadLayer,
    sli::SliLayer,
    telemetry::{BUCKET_BOUNDS, Telemetry},
    timeout::TimeoutLayer,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::net::TcpListener;

#[tokio::test]
#[ignore = "needs promtool: cargo xtask test"]
async fn promtool_has_nothing_to_say_about_the_page() {
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &BUCKET_BOUNDS)
        .unwrap()
        .install_recorder()
        .unwrap();
    let (sli, timeout) =
        (SliLayer::server("shop"), TimeoutLayer::new("shop", TimeLimit::from_secs(1)));
    let telemetry = Telemetry::new();
    telemetry.watch(sli.handle());
    telemetry.watch(timeout.handle());
    let bulkhead = BulkheadLayer::new("shop", 8.try_into().unwrap()).queue(8);
    telemetry.watch(bulkhead.handle());
    let page = move || {
        telemetry.tick();
        std::future::ready(prometheus.render())
    };
    let app = Router::new()
        .route("/users/{id}", get(|| async { "ada" }))
        .layer(bulkhead)
        .layer(timeout)
        .layer(sli)
        .route("/metrics", get(page));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());

    for path in ["/users/7", "/users/8", "/nowhere"] {
        reqwest::get(format!("http://{address}{path}")).await.unwrap().bytes().await.unwrap();
    }
    let page =
        reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();

    let said = promtool(&page);
    assert!(said.is_empty(), "{said}");
    assert!(page.contains(r#"route="/users/{id}",outcome="good"} 2"#), "{page}");
    assert!(!page.contains("/users/7"), "a raw path is no label: {page}");
}

/// What `promtool check metrics` says of a page; nothing, where all is well.
fn promtool(page: &str) -> String {
    let mut tool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: cargo xtask test installs it");
    tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { said } else { format!("it failed: {said}") }
}
