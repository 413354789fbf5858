//! Objectives, as a scraper sees them.

use std::time::SystemTime;

use buttress_layers::slo::{SloLayer, SloTracker, clocks};
use buttress_slo::{Counts, Exclusion, Objective, Sli};
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
    }
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
