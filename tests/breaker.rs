//! Plain `.layer(..)` of a breaker on axum, tonic, hyper and reqwest, over loopback sockets.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    routing::get,
};
use buttress::{
    Kind, Rejection, TimeLimit,
    breaker::{BreakerHandle, BreakerLayer, OpenFor, Settings, State as Stands, Totals},
    http::key,
    timeout::TimeoutLayer,
};
use buttress_tests::{
    Moody, NEVER, RefuseLayer, ask, channel, http_client, http2_client, refused_by, serve,
    serve_grpc, soon,
};
use http_body_util::BodyExt;
use tonic::{Code, transport::Server};
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};
use tower::{ServiceBuilder, ServiceExt};

/// Opens at the second failure in a row, for longer than any test takes.
fn two_in_a_row() -> Settings {
    Settings::consecutive(2).open_for(OpenFor::fixed(TimeLimit::from_secs(3600)))
}

const SHORT: TimeLimit = TimeLimit::from_millis(100);

/// Counts its calls, all of which fail.
async fn failing(State(calls): State<Arc<AtomicUsize>>) -> StatusCode {
    calls.fetch_add(1, Ordering::Relaxed);
    StatusCode::INTERNAL_SERVER_ERROR
}

/// Awaits what the server side of a call does a moment after its client has seen the end.
async fn until(handle: &BreakerHandle, reached: impl Fn(Totals) -> bool) {
    soon(async {
        while !reached(handle.totals()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

// X03: the incumbent's never opens, for axum builds its layer anew for each connection.
#[tokio::test]
async fn failures_on_two_connections_open_it_for_a_third() {
    let layer = BreakerLayer::new("shop", two_in_a_row());
    let (handle, calls) = (layer.handle(), Arc::new(AtomicUsize::new(0)));
    let app = Router::new()
        .route("/a", get(failing))
        .route("/b", get(failing))
        .with_state(Arc::clone(&calls))
        .layer(layer);
    let address = serve(app).await;

    let mut seen = Vec::new();
    for (number, path) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
        // A client of its own is a connection of its own.
        let response = soon(http_client().get(format!("http://{address}/{path}")).send()).await;
        let response = response.unwrap();
        let wait = response.headers().get("retry-after").cloned();
        seen.push((response.status().as_u16(), wait.is_some()));
        soon(response.bytes()).await.unwrap();
        if number < 2 {
            until(&handle, |totals| totals.failures > number as u64).await;
        }
    }

    assert_eq!(seen, [(500, false), (500, false), (503, true), (503, true), (503, true)]);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(handle.state(), Stands::Open);
}

#[tokio::test]
async fn a_breaker_for_each_route_opens_for_the_one_that_fails() {
    let layer = BreakerLayer::new("shop", two_in_a_row()).keyed(key::route::<Body>);
    let handle = layer.handle();
    let app = Router::new()
        .route("/down/{id}", get(|| async { StatusCode::BAD_GATEWAY }))
        .route("/up/{id}", get(|| async { "up" }))
        .route_layer(layer);
    let address = serve(app).await;
    let client = http_client();
    let call = async |path: String| {
        let response = soon(client.get(format!("http://{address}{path}")).send()).await.unwrap();
        let status = response.status().as_u16();
        soon(response.bytes()).await.unwrap();
        status
    };

    assert_eq!((call("/down/1".into()).await, call("/down/2".into()).await), (502, 502));
    soon(async {
        let down = || handle.get("/down/{id}").map(|breaker| breaker.state());
        while down() != Some(Stands::Open) {
            tokio::task::yield_now().await;
        }
    })
    .await;

    assert_eq!((call("/down/3".into()).await, call("/up/3".into()).await), (503, 200));
}

#[tokio::test]
async fn a_grpc_caller_of_an_axum_server_gets_unavailable_with_a_pushback() {
    let layer = BreakerLayer::new("health", two_in_a_row());
    layer.handle().open_for(TimeLimit::from_secs(60));
    let routes = tonic::service::Routes::new(HealthServer::new(Moody));
    let address = serve(routes.into_axum_router().layer(layer)).await;

    let status = soon(HealthClient::new(channel(address).await).check(ask(""))).await.unwrap_err();

    assert_eq!((status.code(), status.message()), (Code::Unavailable, "circuit breaker open"));
    let millis = status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
    assert!((59_000..=60_000).contains(&millis.parse::<u32>().unwrap()), "{millis}");
}

// X03
#[tokio::test]
async fn failures_on_two_connections_of_a_tonic_server_open_it_for_all() {
    let layer = BreakerLayer::new("health", two_in_a_row());
    let handle = layer.handle();
    let failing = RefuseLayer(Rejection::new(Kind::TimedOut, "further in"));
    let mut server = Server::builder().layer(layer).layer(failing);
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;

    let mut seen = Vec::new();
    for number in 0..5 {
        // A channel of its own is a connection of its own.
        let mut client = HealthClient::new(channel(address).await);
        let status = soon(client.check(ask(""))).await.unwrap_err();
        let pushback = status.metadata().get("grpc-retry-pushback-ms").is_some();
        seen.push((status.code(), pushback));
        if number < 2 {
            until(&handle, |totals| totals.failures > number).await;
        }
    }

    let (late, refused) = ((Code::DeadlineExceeded, false), (Code::Unavailable, true));
    assert_eq!(seen, [late, late, refused, refused, refused]);
}

#[tokio::test]
async fn a_tonic_client_that_keeps_timing_out_finds_the_breaker_open() {
    let address = serve_grpc(Server::builder().add_service(HealthServer::new(Moody))).await;
    let layer = BreakerLayer::new("health", two_in_a_row());
    let handle = layer.handle();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new("total", SHORT))
        .layer(layer)
        .service(channel(address).await);
    let mut client = HealthClient::new(stack);

    for _ in 0..2 {
        let late = soon(client.check(ask(NEVER))).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
    }
    assert_eq!((handle.state(), handle.totals().failures), (Stands::Open, 2));
    let status = soon(client.check(ask(""))).await.unwrap_err();

    assert_eq!(status.code(), Code::Unavailable);
    let refused = status.source().and_then(|source| Rejection::find(source));
    assert_eq!(refused.map(|refused| (refused.kind(), refused.layer())), Some(REFUSED));
    assert!(refused.and_then(Rejection::retry_after).is_some());

    handle.reset();
    soon(client.check(ask(""))).await.unwrap();
    assert_eq!(handle.totals().successes, 1);
}

const REFUSED: (Kind, &str) = (Kind::CircuitOpen, "health");

#[tokio::test]
async fn what_a_grpc_service_says_in_its_trailers_counts() {
    for (kind, expected) in [
        (Kind::Overloaded, (1, 0)),
        // RESOURCE_EXHAUSTED is a soft failure.
        (Kind::RateLimited, (0, 1)),
    ] {
        let refusing = RefuseLayer(Rejection::new(kind, "server"));
        let mut server = Server::builder().layer(refusing);
        let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;
        let layer = BreakerLayer::new("health", two_in_a_row());
        let handle = layer.handle();
        let stack = ServiceBuilder::new().layer(layer).service(channel(address).await);

        soon(HealthClient::new(stack).check(ask(""))).await.unwrap_err();

        let totals = handle.totals();
        assert_eq!((totals.failures, totals.soft_failures), expected, "{kind:?}");
    }
}

#[tokio::test]
async fn a_stream_that_its_reader_leaves_says_what_its_head_said() {
    let address = serve_grpc(Server::builder().add_service(HealthServer::new(Moody))).await;
    let layer = BreakerLayer::new("health", two_in_a_row());
    let handle = layer.handle();
    let stack = ServiceBuilder::new().layer(layer).service(channel(address).await);

    let response = soon(HealthClient::new(stack).watch(ask(""))).await.unwrap();
    let mut stream = response.into_inner();
    soon(stream.message()).await.unwrap().expect("a first message");
    drop(stream);

    until(&handle, |totals| totals.ended() == 1).await;
    // A stream that has begun and a message that came: the service did its work so far.
    assert_eq!(handle.totals().successes, 1);
}

#[tokio::test]
async fn a_reqwest_client_and_a_hyper_client_find_the_breaker_open() {
    let calls = Arc::new(AtomicUsize::new(0));
    let app = Router::new().route("/", get(failing)).with_state(Arc::clone(&calls));
    let address = serve(app).await;
    let url = format!("http://{address}/");

    let layer = BreakerLayer::new("upstream", two_in_a_row());
    let stack = ServiceBuilder::new().layer(layer).service(http_client());
    for _ in 0..2 {
        let request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
        let response = soon(stack.clone().oneshot(request)).await.unwrap();
        soon(response.bytes()).await.unwrap();
    }
    let request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
    let error = soon(stack.oneshot(request)).await.unwrap_err();
    assert_eq!(refused_by(&*error), Some((Kind::CircuitOpen, "upstream")));

    let layer = BreakerLayer::new("upstream", two_in_a_row());
    let stack = ServiceBuilder::new().layer(layer).service(http2_client::<Body>());
    for _ in 0..2 {
        let request = Request::get(&url).body(Body::empty()).unwrap();
        let response = soon(stack.clone().oneshot(request)).await.unwrap();
        soon(response.into_body().collect()).await.unwrap();
    }
    let request = Request::get(&url).body(Body::empty()).unwrap();
    let error = soon(stack.oneshot(request)).await.unwrap_err();
    assert_eq!(refused_by(&*error), Some((Kind::CircuitOpen, "upstream")));

    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_counts_as_failing() {
    let (_held, address) = buttress_tests::refusing();
    let layer = BreakerLayer::new("upstream", two_in_a_row());
    let handle = layer.handle();
    let stack = ServiceBuilder::new().layer(layer).service(http_client());

    for _ in 0..2 {
        let url = format!("http://{address}/").parse().unwrap();
        let request = reqwest::Request::new(http::Method::GET, url);
        soon(stack.clone().oneshot(request)).await.unwrap_err();
    }

    assert_eq!(handle.state(), Stands::Open);
}
