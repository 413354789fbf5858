//! Personalised recommendations within half a second; else popular items, from a cache; else the
//! same for all. `cargo run --example recommendations` breaks one after the other and prints what
//! callers get, and what the log says: each failure once, with its cause.

use std::{
    future::ready,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use buttress::{
    BoxError, TimeLimit, fallback::FallbackLayer, sli::SliLayer, telemetry::Telemetry,
    timeout::TimeoutLayer,
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).init();
    let [model_is_slow, cache_is_down] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let slow = Arc::clone(&model_is_slow);
    let personalised = move || {
        let takes = Duration::from_millis(if slow.load(Ordering::Relaxed) { 60_000 } else { 20 });
        async move {
            sleep(takes).await;
            "for you: a telescope"
        }
    };
    let down = Arc::clone(&cache_is_down);
    let cache = service_fn(move |_: Request<Body>| {
        ready(if down.load(Ordering::Relaxed) {
            Err(BoxError::from("the cache is down"))
        } else {
            Ok(Response::new(Body::from("popular: a kettle")))
        })
    });

    let sli = SliLayer::server("shop");
    let fallback = FallbackLayer::new("recommendations")
        .service(cache)
        .named("popular")
        .within(TimeLimit::from_millis(100))
        .respond(StatusCode::OK, "text/plain", "for all: a gift card")
        .named("constant");
    let telemetry = Telemetry::new();
    telemetry.watch(fallback.handle());
    let (counts, rungs) = (sli.handle(), fallback.handle());
    let app: Router = Router::new().route("/", get(personalised)).layer(
        ServiceBuilder::new()
            .layer(sli)
            .layer(fallback)
            .layer(TimeoutLayer::new("personalised", TimeLimit::from_millis(500))),
    );

    for (model, cache, what) in [
        (false, false, "all is well"),
        (true, false, "the model is slow"),
        (true, true, "and the cache is down"),
        (false, true, "the model is well again"),
    ] {
        model_is_slow.store(model, Ordering::Relaxed);
        cache_is_down.store(cache, Ordering::Relaxed);
        let page = app.clone().oneshot(Request::get("/").body(Body::empty())?).await?;
        let note = page.headers().get("x-degraded").map_or("", |note| note.to_str().unwrap_or(""));
        let note = note.to_owned();
        let text = page.into_body().collect().await?.to_bytes();
        println!("{what:<24} {:<24} {note}", String::from_utf8_lossy(&text));
    }
    println!(
        "\n{} good, {} of them degraded; {} bad",
        counts.counts().good,
        counts.degraded(),
        counts.counts().bad
    );
    for rung in rungs.snapshot().rungs {
        println!("{:<10} answered {}, failed {}", rung.name, rung.answered, rung.failed);
    }
    Ok(())
}
