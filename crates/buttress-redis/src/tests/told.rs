use buttress_metrics::Telemetry;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::Outage;

/// Every series has words, and every decision its source.
#[tokio::test(start_paused = true)]
async fn series_have_words_and_the_circuit_is_in_the_journal() {
    let store = MemoryStore::new();
    let limit = process(per_second(2), Settings::strict().outage(Outage::Open), &store);
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let telemetry = Telemetry::new();

    admitted(&limit, 3).await;
    store.fail();
    admitted(&limit, 3).await;
    metrics::with_local_recorder(&recorder, || {
        telemetry.watch(limit.handle());
    });
    store.hang();
    tokio::time::advance(millis(600)).await;
    call(&limit, 1).await.unwrap();
    metrics::with_local_recorder(&recorder, || telemetry.tick());
    let page = page.render();

    for line in [
        r#"buttress_fleet_limit_decisions_total{fleet_limit="api",source="store",outcome="admitted"} 2"#,
        r#"buttress_fleet_limit_decisions_total{fleet_limit="api",source="store",outcome="refused"} 1"#,
        r#"buttress_fleet_limit_decisions_total{fleet_limit="api",source="open",outcome="admitted"} 4"#,
        r#"buttress_fleet_limit_store_failures_total{fleet_limit="api",failure="unreachable"} 3"#,
        r#"buttress_fleet_limit_store_failures_total{fleet_limit="api",failure="timed_out"} 1"#,
        r#"buttress_fleet_limit_store_state{fleet_limit="api",state="open"} 1"#,
        r#"buttress_fleet_limit_store_state{fleet_limit="api",state="closed"} 0"#,
        r#"buttress_fleet_limit_store_duration_seconds_count{fleet_limit="api"} 3"#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    let series = |line: &&str| line.starts_with("# TYPE buttress_fleet_limit");
    for name in page.lines().filter(series).map(|line| line.split(' ').nth(2).unwrap()) {
        assert!(page.contains(&format!("# HELP {name} ")), "{name} has no words");
    }
    let entries: Vec<_> = telemetry.journal().entries().iter().map(ToString::to_string).collect();
    assert!(entries.iter().any(|it| it.starts_with("fleet_limit api[store]: ")), "{entries:?}");
}
