//! Fallbacks, as a scraper sees them.

use buttress_core::{
    BoxError,
    http::{StaleCache, StaleSettings},
};
use buttress_layers::fallback::FallbackLayer;
use http::StatusCode;
use tower::ServiceBuilder;

use super::*;

type Page = Response<Full<Bytes>>;

// The classic example of the manual; `tests/log.rs` reads its log.
#[tokio::test(start_paused = true)]
async fn which_rung_answered_for_recommendations_is_counted() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let cache = service_fn(|_: Request<Full<Bytes>>| {
        ready(Err::<Page, _>(BoxError::from("the cache is down")))
    });
    let layer = FallbackLayer::new("recommendations")
        .service(cache)
        .named("popular")
        .within(TimeLimit::from_millis(100))
        .respond(StatusCode::OK, "text/plain", "bestsellers")
        .named("constant");
    telemetry.watch(layer.handle());
    let sli = SliLayer::server("shop");
    telemetry.watch(sli.handle());
    let service = ServiceBuilder::new()
        .layer(sli)
        .layer(layer)
        .layer(TimeoutLayer::new("personalised", TimeLimit::from_millis(500)))
        .service(service_fn(|_: Request<Full<Bytes>>| pending::<Result<Page, BoxError>>()));

    for _ in 0..3 {
        let page = service.clone().oneshot(Request::new(Full::default())).await.unwrap();
        assert_eq!(page.into_body().collect().await.unwrap().to_bytes(), "bestsellers");
    }

    let page = scrape(&telemetry, &exporter);
    let rung = |rung: &str, outcome: &str| {
        let labels = format!(r#"fallback="recommendations",rung="{rung}",outcome="{outcome}""#);
        value(&page, &format!("buttress_fallback_rung_requests_total{{{labels}}}"))
    };
    assert_eq!((rung("popular", "failed"), rung("popular", "answered")), (Some(3.0), Some(0.0)));
    assert_eq!(rung("constant", "answered"), Some(3.0));
    let triggered = r#"buttress_fallback_triggered_requests_total{fallback="recommendations",reason="timed_out"}"#;
    assert_eq!(value(&page, triggered), Some(3.0));
    let degraded = r#"buttress_sli_degraded_requests_total{sli="shop",side="server"}"#;
    assert_eq!(value(&page, degraded), Some(3.0));
    let good = r#"buttress_sli_requests_total{sli="shop",side="server",outcome="good"}"#;
    assert_eq!(value(&page, good), Some(3.0));
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_seen_and_how_old_the_answers_were() {
    let (exporter, telemetry) = (exporter(), Telemetry::new());
    let layer = FallbackLayer::new("f").stale(StaleCache::new(StaleSettings::new()));
    telemetry.watch(layer.handle());
    let calls = Arc::new(Mutex::new(0));
    let service = layer.layer(service_fn(move |_: Request<()>| {
        *calls.lock().unwrap() += 1;
        ready(match *calls.lock().unwrap() {
            1 => Ok(Response::new(Full::<Bytes>::from("good"))),
            _ => Err(BoxError::from("down")),
        })
    }));

    for _ in 0..2 {
        let page = service.clone().oneshot(get("/")).await.unwrap();
        page.into_body().collect().await.unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
    }

    let page = scrape(&telemetry, &exporter);
    let of = |series: &str| value(&page, &format!(r#"buttress_fallback_{series}{{fallback="f"}}"#));
    assert_eq!((of("stored_responses"), of("shadow")), (Some(1.0), Some(0.0)));
    assert!(of("stored_bytes").unwrap() > 4.0);
    let ages = r#"buttress_fallback_rung_age_seconds_total{fallback="f",rung="stale"}"#;
    assert_eq!(value(&page, ages), Some(9.0));
}
