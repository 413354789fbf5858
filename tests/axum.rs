//! Plain `.layer(..)` on axum routers behind `axum::serve`, for HTTP and gRPC callers.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::axum::{Router, handler::Handler, routing::get, serve::ListenerExt};
use ::tonic::{Code, service::Routes};
use buttress::{
    Kind, Reason, Rejection, TimeLimit,
    http::ProblemDetails,
    sli::SliLayer,
    timeout::{Clock, Limits, TimeoutLayer},
};
use buttress_tests::{
    GOOD, Moody, NEVER, RefuseLayer, ask, bad, channel, excluded, http_client, http2_client,
    listen, recorded, serve, soon,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};

#[tokio::test]
async fn one_plain_layer_fits_wherever_axum_takes_layers() {
    let timeout = TimeoutLayer::new("shop", LIMIT);
    let (sli, mut calls) = recorded(SliLayer::server("shop"));
    let routes = || Router::new().route("/hello", get(hello)).route("/never", get(never));
    let places = [
        ("Router::layer", routes().layer(timeout.clone()).layer(sli.clone())),
        ("Router::route_layer", routes().route_layer(timeout.clone()).route_layer(sli.clone())),
        (
            "MethodRouter::layer",
            Router::new()
                // A tuple, outermost first: between two `.layer(..)` calls a `MethodRouter` would
                // have to be told its error.
                .route("/hello", get(hello).layer((sli.clone(), timeout.clone())))
                .route("/never", get(never).layer((sli.clone(), timeout.clone()))),
        ),
        (
            "Handler::layer",
            Router::new()
                .route("/hello", get(hello.layer(timeout.clone()).layer(sli.clone())))
                .route("/never", get(never.layer(timeout.clone()).layer(sli.clone()))),
        ),
    ];

    for (place, app) in places {
        let address = serve(app).await;

        let in_time = http_get(address, "/hello").await;
        let late = http_get(address, "/never").await;

        assert_eq!((in_time.status().as_u16(), late.status().as_u16()), (200, 504), "{place}");
        assert_eq!(calls.next().await.judgement, GOOD, "{place}");
        assert_eq!(calls.next().await.judgement, TIMED_OUT, "{place}");
    }
}

#[tokio::test]
async fn one_layer_value_is_one_state_over_five_connections() {
    let timeout = TimeoutLayer::new("shop", LIMIT);
    let (sli, mut calls) = recorded(SliLayer::server("shop"));
    let (expired, counts) = (timeout.handle(), sli.handle());
    let app = Router::new()
        .route("/hello", get(hello))
        .route("/never", get(never))
        .layer(timeout)
        .layer(sli);
    let connections = Arc::new(AtomicUsize::new(0));
    let (listener, address) = listen().await;
    let counted = Arc::clone(&connections);
    let listener = listener.tap_io(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    tokio::spawn(async move { ::axum::serve(listener, app).await });

    for _ in 0..5 {
        let client = http_client();
        for path in ["/hello", "/never"] {
            let response = soon(client.get(format!("http://{address}{path}")).send()).await;
            soon(response.unwrap().bytes()).await.unwrap();
            calls.next().await;
        }
    }

    assert_eq!(connections.load(Ordering::Relaxed), 5);
    assert_eq!((counts.counts().good, counts.counts().bad), (5, 5));
    assert_eq!(expired.snapshot().expired(Clock::Total), 5);
    assert_eq!(counts.snapshot().in_flight, 0);
}

#[tokio::test]
async fn limits_set_through_a_handle_hold_on_a_connection_that_is_open() {
    let timeout = TimeoutLayer::new("shop", TimeLimit::from_secs(600));
    let handle = timeout.handle();
    let app = Router::new().route("/hello", get(hello)).route("/never", get(never)).layer(timeout);
    let address = serve(app).await;
    let client = http_client();
    let get = |path| client.get(format!("http://{address}{path}")).send();
    soon(soon(get("/hello")).await.unwrap().bytes()).await.unwrap();

    handle.set_limits(Limits::total(LIMIT));
    let late = soon(get("/never")).await.unwrap();

    assert_eq!(late.status(), 504);
}

#[tokio::test]
async fn routes_are_recorded_by_template_and_never_by_path() {
    let (sli, mut calls) = recorded(SliLayer::server("shop"));
    let counts = sli.handle();
    let orders = Router::new().route("/{order}", get(hello));
    let app = Router::new().route("/users/{id}", get(hello)).nest("/orders", orders).layer(sli);
    let address = serve(app).await;

    let mut routes = Vec::new();
    for path in ["/users/7", "/users/8", "/orders/7?full=1", "/nowhere", "/else/where"] {
        http_get(address, path).await;
        let call = calls.next().await;
        routes.push((call.route, call.judgement));
    }

    let users = (Some("/users/{id}".to_owned()), GOOD);
    let orders = (Some("/orders/{order}".to_owned()), GOOD);
    let unknown = (None, excluded(Reason::Status));
    assert_eq!(routes, [users.clone(), users, orders, unknown.clone(), unknown]);
    let unknown = counts.snapshot().routes.into_iter().find(|route| route.route.is_empty());
    assert_eq!(unknown.expect("the fallback has counts").counts().excluded, 2);
    assert!(counts.snapshot().routes.iter().all(|route| !route.route.contains('7')));
}

#[tokio::test]
async fn a_method_that_a_route_does_not_have_counts_under_that_route() {
    let (sli, mut calls) = recorded(SliLayer::server("shop"));
    let address = serve(Router::new().route("/hello", get(hello)).layer(sli)).await;

    let refused = soon(http_client().post(format!("http://{address}/hello")).send()).await.unwrap();

    assert_eq!(refused.status(), 405);
    let call = calls.next().await;
    assert_eq!((call.judgement, call.facts.status), (excluded(Reason::Status), Some(405)));
    assert_eq!(call.route.as_deref(), Some("/hello"));
}

#[tokio::test]
async fn behind_four_layers_each_caller_of_one_port_is_answered_late_in_its_own_protocol() {
    let (sli, mut calls) = recorded(SliLayer::server("both"));
    let timeout = TimeoutLayer::new("inner", TimeLimit::from_secs(300));
    let handle = timeout.handle();
    let app = both_protocols()
        .layer(timeout)
        .layer(SliLayer::server("inner"))
        .layer(TimeoutLayer::new("outer", TimeLimit::from_secs(600)))
        .layer(sli);
    let address = serve(app).await;

    let answered = HealthClient::new(channel(address).await).check(ask("")).await;
    handle.set_limits(Limits::total(LIMIT));
    let http = http_get(address, "/never").await;
    let tonic = HealthClient::new(channel(address).await).check(ask(NEVER)).await.unwrap_err();

    assert_eq!(http.status(), 504);
    assert_eq!(tonic.code(), Code::DeadlineExceeded);
    assert!(answered.is_ok());
    for (route, judgement) in [(CHECK, GOOD), ("/never", TIMED_OUT), (CHECK, TIMED_OUT)] {
        let call = calls.next().await;
        assert_eq!((call.route.as_deref(), call.judgement), (Some(route), judgement));
    }
}

#[tokio::test]
async fn a_late_grpc_answer_is_trailers_only_and_grpc_web_is_answered_in_http() {
    let app = both_protocols().layer(TimeoutLayer::new("both", LIMIT));
    let address = serve(app).await;

    let (grpc, body) = post(address, CHECK, "application/grpc+proto").await.into_parts();
    let body = soon(body.collect()).await.unwrap();
    let web = post(address, CHECK, "application/grpc-web+proto").await;

    assert_eq!(grpc.status, 200);
    assert_eq!(grpc.headers["content-type"], "application/grpc");
    assert_eq!(grpc.headers["grpc-status"], "4");
    assert_eq!(grpc.headers["grpc-message"], "timed out before the end of the response");
    assert!(body.trailers().is_none(), "the status is in the head, and nothing follows it");
    assert!(body.to_bytes().is_empty());
    assert_eq!(web.status(), 504);
    assert!(!web.headers().contains_key("grpc-status"));
}

#[tokio::test]
async fn a_refusal_behind_four_layers_says_when_to_come_back_in_each_protocol() {
    let kinds = [
        (Kind::RateLimited, 429, Code::ResourceExhausted),
        (Kind::CircuitOpen, 503, Code::Unavailable),
        (Kind::Overloaded, 503, Code::Unavailable),
        (Kind::QueueTimedOut, 503, Code::Unavailable),
        (Kind::TimedOut, 504, Code::DeadlineExceeded),
    ];

    for (kind, status, code) in kinds {
        let refusal = Rejection::new(kind, "test").with_retry_after(Duration::from_millis(1500));
        let (sli, mut calls) = recorded(SliLayer::server("both"));
        let app = both_protocols()
            .layer(TimeoutLayer::new("inner", LIMIT))
            .layer(RefuseLayer(refusal))
            .layer(TimeoutLayer::new("outer", LIMIT))
            .layer(sli);
        let address = serve(app).await;

        let http = http_get(address, "/hello").await;
        let tonic = HealthClient::new(channel(address).await).check(ask("")).await.unwrap_err();

        assert_eq!(http.status(), status, "{kind:?}");
        assert_eq!(http.headers()["retry-after"], "2", "{kind:?}");
        assert_eq!(tonic.code(), code, "{kind:?}");
        assert_eq!(tonic.metadata().get("grpc-retry-pushback-ms").unwrap(), "1500", "{kind:?}");
        for _ in ["http", "tonic"] {
            assert_eq!(calls.next().await.judgement.reason, Reason::Refused(kind));
        }
    }
}

#[tokio::test]
async fn problem_details_tell_an_http_caller_in_json_and_a_grpc_caller_in_trailers() {
    let timeout = TimeoutLayer::new("both", LIMIT).on_reject(ProblemDetails);
    let address = serve(both_protocols().layer(timeout)).await;

    let http = http_get(address, "/never").await;
    let tonic = HealthClient::new(channel(address).await).check(ask(NEVER)).await.unwrap_err();

    assert_eq!(http.status(), 504);
    assert_eq!(http.headers()["content-type"], "application/problem+json");
    assert_eq!(
        soon(http.text()).await.unwrap(),
        r#"{"title":"Timed out","status":504,"detail":"timed out before the end of the response"}"#
    );
    assert_eq!(tonic.code(), Code::DeadlineExceeded);
}

/// An HTTP application and a gRPC service, as one router.
fn both_protocols() -> Router {
    Router::new()
        .route("/hello", get(hello))
        .route("/never", get(never))
        .merge(Routes::new(HealthServer::new(Moody)).into_axum_router())
}

async fn hello() -> &'static str {
    "hello"
}

async fn never() -> &'static str {
    pending().await
}

async fn http_get(address: SocketAddr, path: &str) -> reqwest::Response {
    soon(http_client().get(format!("http://{address}{path}")).send()).await.unwrap()
}

/// Sends a health check about [`NEVER`] without a gRPC client, to see what one would see.
async fn post(address: SocketAddr, path: &str, content_type: &str) -> Response<Incoming> {
    const MESSAGE: &[u8] = b"\0\0\0\0\x07\x0a\x05never";
    let request = Request::post(format!("http://{address}{path}"))
        .header("content-type", content_type)
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(MESSAGE)))
        .unwrap();
    soon(http2_client().request(request)).await.unwrap()
}

const CHECK: &str = "/grpc.health.v1.Health/Check";

const LIMIT: TimeLimit = TimeLimit::from_millis(50);

const TIMED_OUT: buttress::Judgement = bad(Reason::Refused(Kind::TimedOut));
