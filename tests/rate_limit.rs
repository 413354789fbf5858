//! Rate limits behind `axum::serve` and tonic, over real connections.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use buttress::{
    Criticality, Rate, TimeLimit,
    bulkhead::{BulkheadLayer, Shedding},
    http::{TrustedProxies, key},
    rate_limit::{RateLimitLayer, Refusal},
};
use buttress_tests::{Moody, ask, channel, http_client, listen, serve, serve_grpc, soon};
use http::{Request, StatusCode};
use tonic::{Code, service::Routes, transport::Server};
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};

const OK: StatusCode = StatusCode::OK;

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn hello() -> Router {
    Router::new().route("/hello", get(|| async { "hello" }))
}

async fn status(client: &reqwest::Client, address: SocketAddr) -> u16 {
    let response = soon(client.get(format!("http://{address}/hello")).send()).await.unwrap();
    response.status().as_u16()
}

/// X03: state made in `Layer::layer` would admit all five.
#[tokio::test]
async fn one_a_minute_is_one_over_five_connections() {
    let limit = RateLimitLayer::new("shop", Rate::per_minute(n(1)));
    let handle = limit.handle();
    let address = serve(hello().layer(limit)).await;

    let mut statuses = Vec::new();
    for _ in 0..5 {
        // A client of its own has a connection of its own.
        statuses.push(status(&http_client(), address).await);
    }

    assert_eq!(statuses, [200, 429, 429, 429, 429]);
    assert_eq!((handle.totals().admitted, handle.totals().refused(Refusal::Empty)), (1, 4));
}

#[tokio::test]
async fn each_client_has_a_limit_of_its_own_behind_a_proxy_that_is_trusted() {
    let proxies = TrustedProxies::parse(["127.0.0.0/8", "::1"]).unwrap();
    let limit =
        RateLimitLayer::new("shop", Rate::per_minute(n(1))).keyed(key::client_address(proxies));
    let handle = limit.handle();
    let (listener, address) = listen().await;
    let app = hello().layer(limit).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, app).into_future());
    let from = async |forwarded: &str| {
        let request = http_client().get(format!("http://{address}/hello"));
        let request = request.header("x-forwarded-for", forwarded);
        soon(request.send()).await.unwrap().status().as_u16()
    };

    let ada = from("203.0.113.1").await;
    let bob = from("203.0.113.2").await;
    let ada_again = from("203.0.113.1").await;
    let ada_in_disguise = from("198.51.100.9, 203.0.113.1").await;

    assert_eq!((ada, bob, ada_again, ada_in_disguise), (200, 200, 429, 429));
    assert_eq!(handle.known(), 2);
}

/// Waits by the server's word alone, which must be enough, and not a second too much.
#[tokio::test]
async fn a_client_that_waits_for_as_long_as_retry_after_says_is_admitted() {
    let proxies = TrustedProxies::parse(["127.0.0.0/8", "::1"]).unwrap();
    let limit = RateLimitLayer::new("shop", Rate::per_second(n(1)).burst(n(2)))
        .keyed(key::client_address(proxies))
        .within([Rate::per_second(n(1000))]);
    let (listener, address) = listen().await;
    let app = hello().layer(limit).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, app).into_future());
    let clients = ["203.0.113.1", "203.0.113.2"].map(|client| (http_client(), client));
    let get = async |who: usize| {
        let (client, address_of_client) = &clients[who];
        let request = client.get(format!("http://{address}/hello"));
        soon(request.header("x-forwarded-for", *address_of_client).send()).await.unwrap()
    };

    for (who, _) in clients.iter().enumerate() {
        assert_eq!((get(who).await.status(), get(who).await.status()), (OK, OK));
    }
    // A machine that takes more than a second for that has a token again.
    let refused = loop {
        let answer = get(0).await;
        if answer.status() != OK {
            break answer;
        }
    };
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    soon(tokio::time::sleep(Duration::from_secs(seconds))).await;
    let (admitted, other) = (get(0).await, get(1).await);

    assert_eq!((refused.status().as_u16(), seconds), (429, 1));
    assert_eq!((admitted.status(), other.status()), (OK, OK));
}

/// What a bulkhead has found out and passes on is what the reserve goes by.
#[tokio::test]
async fn the_last_of_the_bucket_is_for_requests_that_a_bulkhead_found_critical() {
    let limit = RateLimitLayer::new("shop", Rate::per_minute(n(4)))
        .reserve_for(n(2), Criticality::CriticalPlus);
    let bulkhead = BulkheadLayer::new("shop", n(100)).criticality_by(
        Shedding::new().propagate(),
        |request: &Request<Body>| {
            (request.uri().path() == "/pay").then_some(Criticality::CriticalPlus)
        },
    );
    let app = Router::new().route("/hello", get(|| async {})).route("/pay", get(|| async {}));
    let address = serve(app.layer(limit).layer(bulkhead)).await;
    let client = http_client();
    let status = async |path: &str| {
        let response = soon(client.get(format!("http://{address}{path}")).send()).await.unwrap();
        response.status().as_u16()
    };

    let mut statuses = Vec::new();
    for path in ["/hello", "/hello", "/hello", "/pay", "/pay", "/pay"] {
        statuses.push(status(path).await);
    }

    assert_eq!(statuses, [200, 200, 429, 200, 200, 429]);
}

#[tokio::test]
async fn requests_over_many_connections_wait_their_turn_and_are_all_answered() {
    let limit = RateLimitLayer::new("shop", Rate::per_second(n(100)).burst(n(5)))
        .wait(TimeLimit::from_secs(10));
    let handle = limit.handle();
    let address = serve(hello().layer(limit)).await;

    let calls = (0..30).map(|_| async move { status(&http_client(), address).await });
    let statuses = soon(futures_util::future::join_all(calls)).await;

    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let totals = handle.totals();
    assert_eq!((totals.admitted, totals.all_refused(), handle.peek().waiting), (30, 0, 0));
    assert!(totals.waited > 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_gives_its_place_back() {
    let limit = RateLimitLayer::new("shop", Rate::per_minute(n(1))).wait(TimeLimit::from_secs(600));
    let handle = limit.handle();
    let address = serve(hello().layer(limit)).await;
    assert_eq!(status(&http_client(), address).await, 200);
    let waits = tokio::spawn(async move { status(&http_client(), address).await });
    soon(async {
        while handle.peek().waiting == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    waits.abort();

    soon(async {
        while handle.peek().waiting > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(handle.totals().left, 1);
}

#[tokio::test]
async fn a_grpc_caller_is_told_resource_exhausted_and_when_to_come_again() {
    static COST: AtomicU64 = AtomicU64::new(1);
    let limit = RateLimitLayer::new("shop", Rate::per_minute(n(1)))
        .cost(|_: &Request<_>| n(u32::try_from(COST.load(Ordering::Relaxed)).unwrap()));
    let app = Routes::new(HealthServer::new(Moody)).into_axum_router().layer(limit);
    let mut client = HealthClient::new(channel(serve(app).await).await);

    let first = soon(client.check(ask(""))).await;
    let refused = soon(client.check(ask(""))).await.unwrap_err();
    COST.store(2, Ordering::Relaxed);
    let hopeless = soon(client.check(ask(""))).await.unwrap_err();

    assert!(first.is_ok());
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let pushback: u64 = refused
        .metadata()
        .get("grpc-retry-pushback-ms")
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((59_000..=60_000).contains(&pushback), "{pushback}");
    assert_eq!(hopeless.code(), Code::ResourceExhausted);
    assert_eq!(hopeless.message(), "asks for more than the rate limit ever allows at once");
    // gRPC's A6: a client that is told a negative number does not try again.
    assert_eq!(hopeless.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
}

/// tonic's own server says who has connected in an extension of its own.
#[tokio::test]
async fn a_client_of_a_tonic_server_is_known_by_its_address() {
    let limit = RateLimitLayer::new("shop", Rate::per_hour(n(10)))
        .keyed(key::client_address(TrustedProxies::none()));
    let handle = limit.handle();
    let mut server = Server::builder().layer(limit);
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;

    soon(HealthClient::new(channel(address).await).check(ask(""))).await.unwrap();

    let known = [None, Some("127.0.0.1".parse().unwrap())].map(|key| handle.peek(&key).is_some());
    assert_eq!(known, [false, true], "nobody, and the client's address");
}
