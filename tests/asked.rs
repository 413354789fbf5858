//! What was asked for and is not so yet: each of these fails.

use std::{
    convert::Infallible,
    future::{pending, ready},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError, Code, Event, Observe, Plain, Ratio, TimeLimit,
    fallback::FallbackLayer,
    retry::{Backoff, Budget, RetryLayer, Settings},
    throttle::{Settings as Rule, ThrottleLayer},
    timeout::TimeoutLayer,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type Page = Response<Full<Bytes>>;

fn hanging()
-> impl Service<Request<()>, Response = Page, Error = BoxError, Future: Send> + Clone + Send {
    service_fn(|_: Request<()>| pending::<Result<Page, BoxError>>())
}

fn retries() -> Settings {
    Settings::new(Backoff::constant(Duration::from_millis(1))).budget(Budget::unlimited())
}

fn grpc() -> Request<()> {
    let request = Request::post("/bank.Bank/Pay").header("content-type", "application/grpc");
    request.body(()).unwrap()
}

// A06: "rejections of ours ... count as not accepted"; design.md, law 4: what had run past its
// deadline when it was dropped is a failure.
#[tokio::test(start_paused = true)]
async fn a_throttle_learns_of_attempts_that_a_retry_cuts() {
    let throttle = ThrottleLayer::new("t", Rule::new().allowance(9));
    let limit = retries().attempt_timeout(TimeLimit::from_millis(50));
    let stack = ServiceBuilder::new().layer(RetryLayer::new("r", limit)).layer(throttle.clone());

    assert!(stack.service(hanging()).oneshot(Request::new(())).await.is_err());

    assert_eq!(throttle.handle().window(), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_throttle_learns_of_calls_that_a_timeout_around_it_cuts() {
    let throttle = ThrottleLayer::new("t", Rule::new());
    let limit = TimeoutLayer::new("t", TimeLimit::from_millis(50));
    let stack = ServiceBuilder::new().layer(limit).layer(throttle.clone()).service(hanging());

    for _ in 0..10 {
        assert!(stack.clone().oneshot(Request::new(())).await.is_err());
    }

    assert_eq!(throttle.handle().window(), (10, 0));
}

// design.md, law 9: a handle reconfigures without losing state.
#[tokio::test(start_paused = true)]
async fn a_throttle_that_gets_another_cap_in_an_outage_goes_on_throttling() {
    let layer = ThrottleLayer::new("t", Rule::new()).exchange(Plain);
    let service = layer.layer(service_fn(|()| ready(Err::<(), BoxError>("down".into()))));
    for _ in 0..100 {
        assert!(service.clone().oneshot(()).await.is_err());
    }

    layer.handle().set_settings(Rule::new().at_most(Ratio::percent(80)));

    assert_eq!(layer.handle().probability(), Ratio::percent(80));
    assert_eq!(layer.handle().window(), (100, 0));
}

// "gRPC codes named": a call whose connection broke may have been done already, and its code is
// UNAVAILABLE, which nobody has named here.
#[tokio::test(start_paused = true)]
async fn a_grpc_call_whose_connection_broke_is_not_sent_again_unless_its_code_is_named() {
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let broken = service_fn(move |_: Request<()>| {
        count.fetch_add(1, Ordering::Relaxed);
        ready(Err::<Page, BoxError>(io::Error::from(io::ErrorKind::ConnectionReset).into()))
    });
    let layer = RetryLayer::new("r", retries().codes([Code::Aborted]));

    assert!(layer.layer(broken).oneshot(grpc()).await.is_err());

    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

// A page is no answer to a gRPC caller, who reads INTERNAL out of it.
#[tokio::test(start_paused = true)]
async fn a_rung_with_a_page_leaves_a_grpc_call_its_failure() {
    let layer = FallbackLayer::new("f").respond(StatusCode::OK, "application/json", "{}");
    let unavailable = service_fn(|_: Request<()>| {
        let response = Response::builder().header("content-type", "application/grpc");
        let response = response.header("grpc-status", "14").body(Full::<Bytes>::default());
        ready(Ok::<_, Infallible>(response.unwrap()))
    });

    let response = layer.layer(unavailable).oneshot(grpc()).await.unwrap();

    assert_eq!(response.headers()["grpc-status"], "14");
}

/// What observers are told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observe for Told {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{} {:?}", event.change, event.key));
    }
}

// "Stops when ...; each reason is an event and a label."
#[tokio::test(start_paused = true)]
async fn observers_hear_why_a_retry_stopped() {
    let layer = RetryLayer::new("r", retries().attempts(2)).exchange(Plain);
    let told = Arc::new(Told::default());
    layer.handle().observe(Arc::<Told>::clone(&told));
    let down = service_fn(|()| ready(Err::<(), BoxError>("down".into())));

    assert!(layer.layer(down).oneshot(()).await.is_err());

    let told = told.0.lock().unwrap();
    assert!(told.iter().any(|line| line.contains("attempts")), "{told:?}");
}

// "each failure logged once with its cause"
#[tokio::test(start_paused = true)]
async fn another_cause_of_a_failing_rung_is_told_too() {
    let calls = Arc::new(AtomicU32::new(0));
    let rung = {
        let calls = Arc::clone(&calls);
        move |_: &Request<()>| calls.fetch_add(1, Ordering::Relaxed)
    };
    let layer = FallbackLayer::new("f").function_sync_of(rung, |call, _| {
        Err::<Page, _>(if call < 5 { "the cache is down" } else { "the cache wants a password" })
    });
    let told = Arc::new(Told::default());
    layer.handle().observe(Arc::<Told>::clone(&told));
    let down = service_fn(|_: Request<()>| ready(Err::<Page, BoxError>("down".into())));
    let service = layer.layer(down);

    for _ in 0..10 {
        assert!(service.clone().oneshot(Request::new(())).await.is_err());
    }

    let told = told.0.lock().unwrap();
    for cause in ["the cache is down", "the cache wants a password"] {
        assert_eq!(told.iter().filter(|line| line.contains(cause)).count(), 1, "{told:?}");
    }
}
