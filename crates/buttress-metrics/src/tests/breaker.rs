//! Breakers, as a scraper sees them.

use std::{borrow::Cow, time::Duration};

use buttress_core::{
    BoxError, Plain, TimeLimit,
    breaker::{OpenFor, Settings, State},
};
use buttress_layers::breaker::BreakerLayer;
use tokio::time::advance;

use super::*;

fn settings() -> Settings {
    Settings::consecutive(2).open_for(OpenFor::fixed(TimeLimit::from_secs(1)))
}

/// The states that are not 0, with their values.
fn standing(page: &str) -> Vec<(&'static str, f64)> {
    let series = |state: State| {
        let series = format!(r#"buttress_breaker_state{{breaker="b",state="{}"}}"#, state.as_str());
        (state.as_str(), value(page, &series).expect("every state is there"))
    };
    State::ALL.map(series).into_iter().filter(|(_, value)| *value != 0.0).collect()
}

fn calls(page: &str, outcome: &str) -> Option<f64> {
    value(page, &format!(r#"buttress_breaker_calls_total{{breaker="b",outcome="{outcome}"}}"#))
}

fn refused(page: &str, reason: &str) -> Option<f64> {
    let series =
        format!(r#"buttress_breaker_refused_calls_total{{breaker="b",reason="{reason}"}}"#);
    value(page, &series)
}

// X11
#[tokio::test(start_paused = true)]
async fn exactly_one_state_series_is_1_whatever_the_breaker_went_through() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let layer = BreakerLayer::new("b", settings()).exchange(Plain);
    with_local_recorder(&exporter, || telemetry.watch(layer.handle()));
    let service = layer.layer(service_fn(|fails: bool| async move {
        if fails { Err(BoxError::from("fails")) } else { Ok(()) }
    }));
    assert_eq!(standing(&scrape(&telemetry, &exporter)), [("closed", 1.0)]);

    for _ in 0..4 {
        service.clone().oneshot(true).await.unwrap_err();
    }
    let open = scrape(&telemetry, &exporter);
    assert_eq!(standing(&open), [("open", 1.0)]);
    assert_eq!((calls(&open, "failure"), refused(&open, "open")), (Some(2.0), Some(2.0)));
    advance(Duration::from_secs(1)).await;
    service.clone().oneshot(false).await.unwrap();

    let closed = scrape(&telemetry, &exporter);
    assert_eq!(standing(&closed), [("closed", 1.0)]);
    assert_eq!((calls(&closed, "success"), refused(&closed, "half_open")), (Some(1.0), Some(0.0)));
    let told: Vec<_> = telemetry.journal().entries().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "breaker b: closed -> open: 2 failures in a row",
            "breaker b: open -> half_open: the wait is over",
            "breaker b: half_open -> closed: the probes passed",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_keyed_breaker_is_counted_by_state_and_what_is_pushed_out_stays_counted() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let layer = BreakerLayer::new("b", settings())
        .exchange(Plain)
        .keyed(|key: &String| Cow::from(key))
        .capacity(2.try_into().unwrap());
    with_local_recorder(&exporter, || telemetry.watch(layer.handle()));
    let service =
        layer.layer(service_fn(|_: String| async { Err::<(), _>(BoxError::from("fails")) }));

    for key in ["a", "b", "c", "c"] {
        service.clone().oneshot(key.to_owned()).await.unwrap_err();
    }

    let page = scrape(&telemetry, &exporter);
    assert_eq!(standing(&page), [("closed", 1.0), ("open", 1.0)]);
    assert_eq!(calls(&page, "failure"), Some(4.0));
    drop((layer, service));
    let after = scrape(&telemetry, &exporter);
    assert_eq!(standing(&after), []);
    assert_eq!(calls(&after, "failure"), Some(4.0));
}

/// Looks at the telemetry when it hears of something, as a page would.
struct Looking(Telemetry, std::sync::atomic::AtomicUsize);

impl Observe for Looking {
    fn observe(&self, _: &Event<'_>) {
        self.0.tick();
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_tick_when_a_tick_finds_that_time_has_moved_a_breaker() {
    let telemetry = Telemetry::new();
    let layer = BreakerLayer::new("b", settings().ramp(TimeLimit::from_secs(1))).exchange(Plain);
    telemetry.watch(layer.handle());
    layer.handle().open_for(TimeLimit::from_secs(1));
    advance(Duration::from_secs(1)).await;
    let service = layer.layer(service_fn(|()| async { Ok::<_, BoxError>(()) }));
    service.oneshot(()).await.unwrap();
    assert_eq!(layer.handle().state(), State::Recovering);
    let looking = Arc::new(Looking(telemetry.clone(), 0.into()));
    layer.handle().observe(Arc::clone(&looking) as _);

    advance(Duration::from_secs(1)).await;
    let ticked = tokio::task::spawn_blocking(move || telemetry.tick());

    // Of a lock that is held, this would wait for ever.
    tokio::time::timeout(Duration::from_secs(60), ticked).await.unwrap().unwrap();
    assert_eq!(looking.1.load(std::sync::atomic::Ordering::Relaxed), 1);
}
