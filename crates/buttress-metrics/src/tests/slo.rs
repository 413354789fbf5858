//! Objectives, as a scraper sees them.

use std::time::SystemTime;

use buttress_layers::slo::{SloLayer, SloTracker, clocks};
use buttress_slo::{Combine, Composite, Counts, Exclusion, Objective, Sli};
use tokio::time::advance;

use super::*;

fn tracker() -> SloTracker {
    let up = Objective::new("up".parse().unwrap(), Sli::Availability, "99.9%".parse().unwrap());
    let clocks = clocks::following(SystemTime::UNIX_EPOCH);
    SloTracker::with_clocks("shop".parse().unwrap(), [up], clocks).unwrap()
}

/// The value of a series of the one objective, with these labels after its own.
fn of(page: &str, name: &str, labels: &str) -> Option<f64> {
    let more = if labels.is_empty() { String::new() } else { format!(",{labels}") };
    value(page, &format!(r#"{name}{{service="shop",slo="up"{more}}}"#))
}

/// Whether this is what is promised.
fn info(page: &str, target: &str, window: &str) -> Option<f64> {
    let version = env!("CARGO_PKG_VERSION");
    let labels = format!(
        r#"sloth_id="shop-up",sli="availability",target="{target}",window="{window}",method="events",version="{version}""#
    );
    of(page, "slo_info", &labels)
}

#[tokio::test(start_paused = true)]
async fn every_series_of_an_objective_is_there_before_its_first_event_and_none_without_data() {
    let (exporter, telemetry, tracker) = (exporter(), Telemetry::new(), tracker());

    with_local_recorder(&exporter, || telemetry.watch(tracker.clone()));

    let page = exporter.handle().render();
    for outcome in ["good", "bad", "excluded"] {
        let labels = format!(r#"outcome="{outcome}""#);
        assert_eq!(of(&page, "slo_events_total", &labels), Some(0.0), "{page}");
    }
    for exclusion in Exclusion::ALL {
        let labels = format!(r#"reason="{}""#, exclusion.as_str());
        assert_eq!(of(&page, "slo_excluded_total", &labels), Some(0.0), "{page}");
    }
    for severity in ["page", "ticket"] {
        let labels = format!(r#"severity="{severity}""#);
        assert_eq!(of(&page, "slo_alert_state", &labels), Some(0.0), "{page}");
    }
    assert_eq!(of(&page, "slo_objective_ratio", ""), Some(0.999));
    assert_eq!(of(&page, "slo_error_budget_remaining_ratio", ""), Some(1.0));
    assert_eq!(of(&page, "slo_error_budget_consumed_ratio", ""), Some(0.0));
    assert_eq!(of(&page, "slo_policy_level", ""), Some(0.0));
    let discontinuities = r#"slo_clock_discontinuities_total{service="shop"}"#;
    assert_eq!(value(&page, discontinuities), Some(0.0));
    for window in ["5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"] {
        let labels = format!(r#"window="{window}""#);
        assert_eq!(of(&page, "slo_window_coverage_ratio", &labels), Some(0.0), "{page}");
        assert_eq!(of(&page, "slo_window_events", &labels), Some(0.0), "{page}");
    }
    assert_eq!(info(&page, "99.9%", "30d"), Some(1.0), "{page}");
    // No data is neither 0 nor NaN, and a snapshot that is not kept has no age.
    for absent in ["slo_burn_rate_ratio", "slo_error_ratio", "slo_snapshot_age", "NaN"] {
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(samples.filter(|line| line.contains(absent)).count(), 0, "{absent}: {page}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_and_how_fast_it_goes_move_with_the_calls() {
    let (exporter, telemetry, tracker) = (exporter(), Telemetry::new(), tracker());
    telemetry.watch(tracker.clone());
    let layer = SloLayer::server("shop", &tracker);
    let service = layer.layer(service_fn(|request: Request<()>| {
        let status = request.uri().path()[1..].parse::<u16>().unwrap();
        ready(Ok::<_, Infallible>(
            Response::builder().status(status).body(Full::new(Bytes::new())).unwrap(),
        ))
    }));
    for (status, times) in [(200, 98), (500, 2), (404, 5)] {
        for _ in 0..times {
            let request = Request::get(format!("/{status}")).body(()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap();
        }
    }
    advance(Duration::from_secs(3600)).await;
    tracker.tick();

    let page = scrape(&telemetry, &exporter);
    assert_eq!(of(&page, "slo_events_total", r#"outcome="good""#), Some(98.0));
    assert_eq!(of(&page, "slo_events_total", r#"outcome="bad""#), Some(2.0));
    assert_eq!(of(&page, "slo_excluded_total", r#"reason="client_error""#), Some(5.0));
    // Two of a hundred are twenty times a thousandth; for one hour of 720.
    assert_eq!(of(&page, "slo_burn_rate_ratio", r#"window="1h""#), Some(20.0), "{page}");
    assert_eq!(of(&page, "slo_error_ratio", r#"window="30d""#), Some(0.02));
    let consumed = of(&page, "slo_error_budget_consumed_ratio", "").unwrap();
    assert!((consumed - 20.0 / 720.0).abs() < 1e-6, "{consumed}");
    let left = of(&page, "slo_error_budget_remaining_ratio", "").unwrap();
    assert!((left + consumed - 1.0).abs() < 1e-9, "{left}");

    assert_eq!(of(&page, "slo_alert_state", r#"severity="page""#), Some(2.0));
    let journal: Vec<_> = telemetry.journal().entries().iter().map(ToString::to_string).collect();
    assert!(
        journal.contains(&"slo up[page-fast]: page is firing, was quiet".into()),
        "{journal:?}"
    );
}

#[test]
fn counts_of_a_tracker_that_is_gone_are_kept() {
    let (exporter, telemetry, tracker) = (exporter(), Telemetry::new(), tracker());
    with_local_recorder(&exporter, || telemetry.watch(tracker.clone()));
    tracker.recorder("up").unwrap().add(Counts { good: 7, bad: 0 });

    drop(tracker);
    scrape(&telemetry, &exporter);

    let page = scrape(&telemetry, &exporter);
    assert_eq!(of(&page, "slo_events_total", r#"outcome="good""#), Some(7.0), "{page}");
}

async fn second(tracker: &SloTracker, counts: Counts) {
    tracker.recorder("up").unwrap().add(counts);
    advance(Duration::from_secs(1)).await;
    tracker.tick();
}

/// Whoever scrapes must be able to tell no traffic from traffic that is well.
#[tokio::test(start_paused = true)]
async fn what_nobody_knows_any_more_stays_as_it_was_and_its_events_are_none() {
    let (exporter, telemetry, tracker) = (exporter(), Telemetry::new(), tracker());
    telemetry.watch(tracker.clone());
    let burn = |page: &str, window| {
        let labels = format!(r#"window="{window}""#);
        (of(page, "slo_burn_rate_ratio", &labels), of(page, "slo_window_events", &labels))
    };
    let page = scrape(&telemetry, &exporter);
    assert_eq!(burn(&page, "5m"), (None, Some(0.0)), "nothing is known yet");

    second(&tracker, Counts { good: 99, bad: 1 }).await;
    let page = scrape(&telemetry, &exporter);
    assert_eq!(burn(&page, "5m"), (Some(10.0), Some(100.0)));

    advance(Duration::from_secs(600)).await;
    tracker.tick();
    let page = scrape(&telemetry, &exporter);
    assert_eq!(burn(&page, "5m"), (Some(10.0), Some(0.0)), "no data, and no 0");
    assert_eq!(burn(&page, "1h"), (Some(10.0), Some(100.0)));
    assert_eq!(of(&page, "slo_events_total", r#"outcome="bad""#), Some(1.0));
    assert!(!page.contains("NaN"), "{page}");

    second(&tracker, Counts { good: 10, bad: 0 }).await;
    let page = scrape(&telemetry, &exporter);
    assert_eq!(burn(&page, "5m"), (Some(0.0), Some(10.0)), "and 0 when it is one");

    drop(tracker);
    scrape(&telemetry, &exporter);
    let page = scrape(&telemetry, &exporter);
    assert_eq!(burn(&page, "1h"), (Some(0.0), Some(0.0)), "of a tracker that is gone");
}

#[tokio::test(start_paused = true)]
async fn a_composite_has_its_level_and_what_is_left_of_it() {
    let objectives = ["up", "stock"]
        .map(|name| Objective::new(name.parse().unwrap(), Sli::Events, "99%".parse().unwrap()));
    let clocks = clocks::following(SystemTime::UNIX_EPOCH);
    let tracker = SloTracker::with_clocks("shop".parse().unwrap(), objectives, clocks).unwrap();
    let parts = ["up", "stock"].map(|name| name.parse().unwrap());
    tracker.compose(Composite::new("journey".parse().unwrap(), Combine::Any, parts)).unwrap();
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    telemetry.watch(tracker.clone());
    let journey = |page: &str, name: &str| {
        value(page, &format!(r#"{name}{{service="shop",slo="journey"}}"#)).unwrap()
    };

    let page = scrape(&telemetry, &exporter);
    assert_eq!(journey(&page, "slo_policy_level").to_bits(), 0.0_f64.to_bits());
    assert_eq!(journey(&page, "slo_error_budget_remaining_ratio").to_bits(), 1.0_f64.to_bits());

    // An hour in which a part of it fails altogether, and pages.
    for _ in 0..60 {
        tracker.recorder("stock").unwrap().add(Counts { good: 0, bad: 60 });
        advance(Duration::from_secs(60)).await;
        tracker.tick();
    }
    let page = scrape(&telemetry, &exporter);
    assert_eq!(journey(&page, "slo_policy_level").to_bits(), 2.0_f64.to_bits(), "slow: {page}");
    let left = journey(&page, "slo_error_budget_remaining_ratio");
    let part = value(&page, r#"slo_error_budget_remaining_ratio{service="shop",slo="stock"}"#);
    assert_eq!(part, Some(left));
    assert!((left - (1.0 - 100.0 / 720.0)).abs() < 1e-6, "an hour of 7.2: {left}");
    // What is no objective has neither events nor a burn of its own.
    let own = page.lines().filter(|line| line.contains(r#"slo="journey""#)).count();
    assert_eq!(own, 2, "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_new_target_is_the_one_that_is_promised() {
    let (exporter, telemetry, tracker) = (exporter(), Telemetry::new(), tracker());
    telemetry.watch(tracker.clone());
    scrape(&telemetry, &exporter);

    tracker.retarget(&"up".parse().unwrap(), "99%".parse().unwrap()).unwrap();

    let page = scrape(&telemetry, &exporter);
    assert_eq!((info(&page, "99%", "30d"), info(&page, "99.9%", "30d")), (Some(1.0), Some(0.0)));
    assert_eq!(of(&page, "slo_objective_ratio", ""), Some(0.99));
}

/// Prometheus takes a count that goes back for a restart, and adds it all again.
#[tokio::test(start_paused = true)]
async fn late_verdicts_move_no_count_back() {
    let (exporter, telemetry, tracker) = (exporter(), Telemetry::new(), tracker());
    telemetry.watch(tracker.clone());
    let events = |page: &str| {
        let of =
            |outcome| of(page, "slo_events_total", &format!(r#"outcome="{outcome}""#)).unwrap();
        (of("good"), of("bad"))
    };
    let mut last = (0.0, 0.0);
    for round in 0..20_u64 {
        second(&tracker, Counts { good: 10, bad: 0 }).await;
        tracker.recorder("up").unwrap().revise(round % 4);
        let now = events(&scrape(&telemetry, &exporter));
        assert!(now.0 >= last.0 && now.1 >= last.1, "{now:?} after {last:?}");
        last = now;
    }
    second(&tracker, Counts { good: 10, bad: 0 }).await;

    // 30 of 210 were found bad.
    assert_eq!(events(&scrape(&telemetry, &exporter)), (180.0, 30.0));
    assert_eq!(tracker.numbers("up").unwrap().budget.counts(), Counts { good: 180, bad: 30 });
}
