//! What a scraper gets over a real socket, checked by Prometheus's own tool.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use axum::{Router, routing::get};
use buttress::{
    TimeLimit,
    bulkhead::BulkheadLayer,
    fallback::{FallbackLayer, StaleCache, StaleSettings},
    sli::SliLayer,
    slo::{
        Clocks, Combine, Composite, Counts, Objective, Part, Sli, SloLayer, SloTracker,
        SnapshotFile,
    },
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
    let fallback = FallbackLayer::new("shop").stale(StaleCache::new(StaleSettings::new()));
    telemetry.watch(fallback.handle());
    let tracker = objectives();
    telemetry.watch(tracker.clone());
    let path = std::env::temp_dir().join(format!("buttress-page-{}.slo", std::process::id()));
    tracker.keep(SnapshotFile::at(&path)).unwrap();
    std::fs::remove_file(path).unwrap();
    let slo = SloLayer::server("objectives", &tracker);
    let ticked = tracker.clone();
    let page = move || {
        ticked.tick();
        telemetry.tick();
        std::future::ready(prometheus.render())
    };
    let app = Router::new()
        .route("/users/{id}", get(|| async { "ada" }))
        .layer(bulkhead)
        .layer(timeout)
        .layer(fallback)
        .layer(sli)
        .layer(slo)
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
    for series in ["stored_responses", "stored_bytes", "unanswered_requests_total"] {
        assert!(page.contains(&format!("\nbuttress_fallback_{series}{{")), "{series}: {page}");
    }
    for series in [
        "events_total",
        "excluded_total",
        "info",
        "objective_ratio",
        "error_ratio",
        "error_budget_remaining_ratio",
        "error_budget_consumed_ratio",
        "burn_rate_ratio",
        "window_events",
        "window_coverage_ratio",
        "alert_state",
        "policy_level",
        "time_to_exhaustion_seconds",
        "clock_discontinuities_total",
        "snapshot_age_seconds",
    ] {
        assert!(page.contains(&format!("\nslo_{series}{{")), "slo_{series}: {page}");
    }
}

/// Two objectives and a composite, with a late verdict, on clocks that go a second a reading: a
/// tracker that has seen no time knows no end of its budget.
fn objectives() -> SloTracker {
    let second = TimeLimit::from_secs(1);
    let named =
        |name: &str, sli| Objective::new(name.parse().unwrap(), sli, "99.9%".parse().unwrap());
    let fast = named("fast", Sli::Latency { within: second, part: Part::Total });
    let both = [named("up", Sli::Availability), fast];
    #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
    let (start, readings) = (Instant::now(), AtomicU64::new(0));
    let clocks = move || {
        let passed = Duration::from_secs(readings.fetch_add(1, Ordering::Relaxed));
        let wall = SystemTime::UNIX_EPOCH + passed;
        Clocks { monotonic: start + passed, wall, boot: None }
    };
    let tracker = SloTracker::with_clocks("shop".parse().unwrap(), both, clocks).unwrap();
    let parts = ["up", "fast"].map(|name| name.parse().unwrap());
    tracker.compose(Composite::new("journey".parse().unwrap(), Combine::Any, parts)).unwrap();
    tracker.recorder("up").unwrap().add(Counts { good: 10, bad: 1 });
    tracker.recorder("up").unwrap().revise(1);
    tracker
}

/// Of slo.md 10: the same outage, told by a Prometheus that scrapes every 15 s and computes the
/// pages from our counters. The tracker tells after 52 s and after 519 s.
#[test]
#[ignore = "needs promtool: cargo xtask test"]
fn a_prometheus_that_pages_by_our_counters_does_so_a_scrape_or_two_later() {
    let ratio = |window| {
        let of = |outcome| format!("sum(increase(slo_events_total{{{outcome}}}[{window}]))");
        format!("{} / {}", of(r#"outcome="bad""#), of(r#"outcome=~"good|bad""#))
    };
    let pair =
        |long, short, over| format!("({} > {over} and {} > {over})", ratio(short), ratio(long));
    let pages = [pair("1h", "5m", "0.0144"), pair("6h", "30m", "0.006")].join(" or ");
    let rules = format!("groups: [{{name: page, rules: [{{alert: Page, expr: '{pages}'}}]}}]\n");
    let folder = std::env::temp_dir().join(format!("buttress-rules-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("rules.yml"), rules).unwrap();
    let mut tests = "rule_files: [rules.yml]\nevaluation_interval: 15s\ntests:\n".to_owned();
    // Six hours of 100 a second, all well, and then so many bad of the 1,500 between two scrapes.
    for (bad, pages_after) in [(1_500, 60), (150, 540)] {
        let good = 1_500 - bad;
        let (first, pages) = (2_160_000 + good, 21_600 + pages_after);
        let _ = write!(
            tests,
            "- interval: 15s\n  input_series:\n  \
             - {{series: 'slo_events_total{{outcome=\"good\"}}', \
             values: '0+1500x1440 {first}+{good}x60'}}\n  \
             - {{series: 'slo_events_total{{outcome=\"bad\"}}', values: '0+0x1440 {bad}+{bad}x60'}}\n  \
             alert_rule_test:\n  \
             - {{eval_time: {}s, alertname: Page}}\n  \
             - {{eval_time: {pages}s, alertname: Page, exp_alerts: [{{exp_labels: {{}}}}]}}\n",
            pages - 30,
        );
    }
    std::fs::write(folder.join("tests.yml"), tests).unwrap();

    let output = std::process::Command::new("promtool")
        .args(["test", "rules", "tests.yml"])
        .current_dir(&folder)
        .output()
        .expect("promtool: cargo xtask test installs it");

    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
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
