//! What a reader of the log sees.
//!
//! A binary of its own, with one test: `tracing` keeps for the whole process whether anybody wants an event, and asks
//! the thread that reaches the event first, so that a test of a log must not share its process with others.

use std::{
    future::{pending, ready},
    io,
    sync::{Arc, Mutex},
};

use buttress_core::{BoxError, TimeLimit};
use buttress_layers::{fallback::FallbackLayer, timeout::TimeoutLayer};
use buttress_metrics::Telemetry;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{ServiceBuilder, ServiceExt, service_fn};

type Page = Response<Full<Bytes>>;

/// What is written to the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// The classic example of the manual of the fallback: each failure is logged once, with its cause.
#[tokio::test(start_paused = true)]
async fn recommendations_fail_over_and_the_log_says_why_once() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
    let telemetry = Telemetry::new();
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
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(TimeoutLayer::new("personalised", TimeLimit::from_millis(500)))
        .service(service_fn(|_: Request<Full<Bytes>>| pending::<Result<Page, BoxError>>()));

    for _ in 0..3 {
        let page = service.clone().oneshot(Request::new(Full::default())).await.unwrap();
        assert_eq!(page.into_body().collect().await.unwrap().to_bytes(), "bestsellers");
    }

    let written = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let of = |what: &str| written.lines().filter(|line| line.contains(what)).count();
    assert_eq!(of("timed out before the end of the response (personalised)"), 1, "{written}");
    assert_eq!(of("popular: the cache is down"), 1, "{written}");
    assert_eq!((of("constant"), written.lines().count()), (1, 3), "{written}");
}
