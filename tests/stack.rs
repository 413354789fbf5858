//! All layers at once, in the order of the guide, around each client and on a server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use buttress::{
    Rate, TimeLimit,
    breaker::{BreakerLayer, Settings as Trips},
    bulkhead::BulkheadLayer,
    fallback::FallbackLayer,
    hedge::{HedgeLayer, Settings as Hedges},
    rate_limit::RateLimitLayer,
    retry::{Backoff, RetryLayer, Settings as Attempts},
    sli::SliLayer,
    throttle::{Settings as Rule, ThrottleLayer},
    timeout::TimeoutLayer,
};
use buttress_tests::{Moody, ask, channel, http_client, http2_client, serve, serve_grpc, soon};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tonic::transport::Server;
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};
use tower::{ServiceBuilder, ServiceExt};

/// A client's whole stack around `$client`: no world is told apart.
macro_rules! client {
    ($client:expr) => {
        ServiceBuilder::new()
            .layer(SliLayer::client("shop"))
            .layer(FallbackLayer::new("shop").respond(StatusCode::OK, "text/plain", "instead"))
            .layer(TimeoutLayer::new("shop", TimeLimit::from_secs(5)).propagate())
            .layer(RetryLayer::new("shop", quickly()))
            .layer(HedgeLayer::new("shop", Hedges::default().like(&quickly())))
            .layer(ThrottleLayer::new("shop", Rule::default()))
            .layer(BreakerLayer::new("shop", Trips::rate()))
            .layer(BulkheadLayer::new("shop", 10.try_into().unwrap()))
            .layer(TimeoutLayer::new("attempt", TimeLimit::from_secs(1)))
            .service($client)
    };
}

fn quickly() -> Attempts {
    Attempts::new(Backoff::constant(Duration::from_millis(1)))
}

/// `/hi` answers, `/shaky` fails twice and then does, `/down` fails for ever.
async fn shaky() -> (SocketAddr, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let shaky = async move || match counted.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Err(StatusCode::SERVICE_UNAVAILABLE),
        _ => Ok("hi"),
    };
    let app = Router::new()
        .route("/hi", get(|| async { "hi" }))
        .route("/shaky", get(shaky))
        .route("/down", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
    (serve(app).await, calls)
}

/// So many good answers that the throttle holds nothing back after the failures that follow.
const TRUSTED: u32 = 10;

async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body<Data: Send, Error: std::fmt::Debug> + Unpin,
{
    let bytes = soon(response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn the_whole_stack_stands_around_a_hyper_client() {
    let (address, calls) = shaky().await;
    let get =
        |path: &str| Request::get(format!("http://{address}{path}")).body(Body::empty()).unwrap();
    let stack = client!(http2_client::<_>());
    for _ in 0..TRUSTED {
        soon(stack.clone().oneshot(get("/hi"))).await.unwrap();
    }

    let answer = soon(stack.clone().oneshot(get("/shaky"))).await.unwrap();
    assert!(!answer.headers().contains_key(<FallbackLayer>::HEADER));
    assert_eq!(text(answer).await, "hi");
    assert_eq!(calls.load(Ordering::Relaxed), 3);

    let answer = soon(stack.oneshot(get("/down"))).await.unwrap();
    assert!(answer.headers().contains_key(<FallbackLayer>::HEADER));
    assert_eq!(text(answer).await, "instead");
}

#[tokio::test]
async fn the_whole_stack_stands_around_a_reqwest_client() {
    let (address, calls) = shaky().await;
    let get = |path: &str| {
        let url = format!("http://{address}{path}").parse().unwrap();
        reqwest::Request::new(http::Method::GET, url)
    };
    let stack = client!(http_client());
    for _ in 0..TRUSTED {
        soon(stack.clone().oneshot(get("/hi"))).await.unwrap();
    }

    let answer = soon(stack.clone().oneshot(get("/shaky"))).await.unwrap();
    assert_eq!(soon(answer.text()).await.unwrap(), "hi");
    assert_eq!(calls.load(Ordering::Relaxed), 3);

    let answer = soon(stack.oneshot(get("/down"))).await.unwrap();
    assert!(answer.headers().contains_key(<FallbackLayer>::HEADER));
    assert_eq!(soon(answer.text()).await.unwrap(), "instead");
}

#[tokio::test]
async fn the_whole_stack_stands_around_a_tonic_channel() {
    let address = serve_grpc(Server::builder().add_service(HealthServer::new(Moody))).await;
    let mut client = HealthClient::new(client!(channel(address).await));

    soon(client.check(ask(""))).await.unwrap();
}

#[tokio::test]
async fn the_whole_stack_stands_on_an_axum_router() {
    let app = Router::new()
        .route("/hi", get(|| async { "hi" }))
        .route("/down", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .layer(BulkheadLayer::new("shop", 10.try_into().unwrap()).queue(10))
        .layer(RateLimitLayer::new("shop", Rate::per_second(100.try_into().unwrap())))
        .layer(TimeoutLayer::new("shop", TimeLimit::from_secs(5)).propagate())
        .layer(FallbackLayer::new("shop").respond(StatusCode::OK, "text/plain", "instead"))
        .layer(SliLayer::server("shop"));
    let address = serve(app).await;
    let get = |path: &str| http_client().get(format!("http://{address}{path}")).send();

    let answer = soon(get("/hi")).await.unwrap();
    assert_eq!(soon(answer.text()).await.unwrap(), "hi");
    let answer = soon(get("/down")).await.unwrap();
    assert_eq!(soon(answer.text()).await.unwrap(), "instead");
}
