//! The bulkhead behind `axum::serve`, tonic's server and its channel, over many connections.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::axum::{Router, body::Body, routing::get};
use ::tonic::{Code, service::Routes, transport::Server};
use buttress::{
    Criticality, Kind, Rejection, TimeLimit,
    bulkhead::{BulkheadHandle, BulkheadLayer, Refusal, Shedding},
};
use buttress_tests::{
    Moody, NEVER, ask, channel, http_client, http2_client, serve, serve_grpc, soon,
};
use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::{sync::Notify, time::timeout};
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};
use tower::{Service, ServiceBuilder, ServiceExt};

/// X03.
#[tokio::test]
async fn a_limit_of_one_over_four_connections_has_a_peak_of_one() {
    let (inside, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = (Arc::clone(&inside), Arc::clone(&peak));
    let work = move || {
        let (inside, peak) = seen.clone();
        async move {
            peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Lets whoever is inside as well show itself.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            inside.fetch_sub(1, Ordering::SeqCst);
            "done"
        }
    };
    let layer = BulkheadLayer::new("shop", 1.try_into().unwrap()).queue(100).wait(LONG);
    let handle = layer.handle();
    let address = serve(Router::new().route("/work", get(work)).layer(layer)).await;

    let connections = (0..4).map(|_| async {
        let client = http_client();
        for _ in 0..5 {
            let response = soon(client.get(format!("http://{address}/work")).send()).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(soon(response.text()).await.unwrap(), "done");
        }
    });
    join_all(connections).await;

    assert_eq!(peak.load(Ordering::SeqCst), 1);
    at_rest(&handle).await;
    assert_eq!(handle.snapshot().admitted, 20);
}

/// X03, X12: without a queue the others are refused, and told so.
#[tokio::test]
async fn of_four_connections_three_are_refused_in_their_own_protocols() {
    let layer = BulkheadLayer::new("both", 1.try_into().unwrap());
    let handle = layer.handle();
    let app = Router::new()
        .route("/never", get(pending::<&'static str>))
        .merge(Routes::new(HealthServer::new(Moody)).into_axum_router())
        .layer(layer);
    let address = serve(app).await;
    let stays = tokio::spawn(http_client().get(format!("http://{address}/never")).send());
    until(|| handle.snapshot().in_flight == 1).await;

    let http = soon(http_client().get(format!("http://{address}/never")).send()).await.unwrap();
    let grpc = soon(HealthClient::new(channel(address).await).check(ask(""))).await.unwrap_err();
    let other = soon(http_client().get(format!("http://{address}/never")).send()).await.unwrap();

    assert_eq!((http.status().as_u16(), other.status().as_u16()), (503, 503));
    assert_eq!(http.headers()["retry-after"], "1");
    assert_eq!(grpc.code(), Code::Unavailable);
    assert_eq!(grpc.message(), "too many requests in flight");
    assert_eq!(grpc.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    assert_eq!(handle.snapshot().refused(Refusal::Full), 3);

    // X11: a client that leaves gives its place back.
    stays.abort();
    at_rest(&handle).await;
}

/// X12.
#[tokio::test]
async fn who_has_waited_too_long_is_refused_in_other_words() {
    let layer = BulkheadLayer::new("shop", 1.try_into().unwrap()).queue(1).wait(SHORT);
    let handle = layer.handle();
    let app = Router::new().route("/never", get(pending::<&'static str>)).layer(layer);
    let address = serve(app).await;
    let _stays = tokio::spawn(http_client().get(format!("http://{address}/never")).send());
    until(|| handle.snapshot().in_flight == 1).await;

    let late = soon(http_client().get(format!("http://{address}/never")).send()).await.unwrap();

    assert_eq!(late.status(), 503);
    assert!(late.headers().contains_key("retry-after"));
    assert_eq!(handle.snapshot().refused(Refusal::WaitedTooLong), 1);
}

/// X13: four streams at once are one at a time; with `until_head` they are not.
#[tokio::test]
async fn a_stream_holds_its_place_to_its_end() {
    for until_head in [false, true] {
        let layer = BulkheadLayer::new("shop", 1.try_into().unwrap());
        let handle = layer.handle();
        let layer = if until_head { layer.until_head() } else { layer };
        let go_on = Arc::new(Notify::new());
        let address = serve(Router::new().route("/stream", streaming(&go_on)).layer(layer)).await;
        let uri = format!("http://{address}/stream");
        let open = || {
            let request = Request::get(&uri).body(Empty::<Bytes>::new()).unwrap();
            async move { soon(http2_client().request(request)).await.unwrap() }
        };

        let mut first = open().await;
        let part = soon(first.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(part.into_data().unwrap(), "part");
        let statuses = [open().await.status(), open().await.status(), open().await.status()];

        let expected = if until_head { 200 } else { 503 };
        assert_eq!(statuses, [expected; 3], "until the head: {until_head}");
        if !until_head {
            assert_eq!(handle.snapshot().in_flight, 1);
            go_on.notify_one();
            soon(first.into_body().collect()).await.unwrap();
            at_rest(&handle).await;
            assert_eq!(open().await.status(), 200);
        }
        // And a client that leaves in the middle of a body gives its place back.
        at_rest(&handle).await;
    }
}

fn streaming(go_on: &Arc<Notify>) -> ::axum::routing::MethodRouter {
    let go_on = Arc::clone(go_on);
    get(move || {
        let go_on = Arc::clone(&go_on);
        let rest = stream::once(async move {
            go_on.notified().await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"rest"))
        });
        let part = stream::once(async { Ok(Bytes::from_static(b"part")) });
        std::future::ready(Body::from_stream(part.chain(rest)))
    })
}

#[tokio::test]
async fn a_tonic_server_refuses_over_all_its_connections() {
    let layer = BulkheadLayer::new("health", 1.try_into().unwrap());
    let handle = layer.handle();
    let mut server = Server::builder().layer(layer);
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;
    let stays = watch_forever(address, &handle).await;

    for _ in 0..3 {
        let refused = soon(HealthClient::new(channel(address).await).check(ask(""))).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    }

    drop(stays);
    at_rest(&handle).await;
    assert!(soon(HealthClient::new(channel(address).await).check(ask(""))).await.is_ok());
}

/// A stream that holds its place for as long as it is kept.
async fn watch_forever(address: SocketAddr, handle: &BulkheadHandle) -> impl Sized {
    let mut client = HealthClient::new(channel(address).await);
    let mut stream = soon(client.watch(ask(""))).await.unwrap().into_inner();
    assert!(soon(stream.message()).await.unwrap().is_some());
    assert_eq!(handle.snapshot().in_flight, 1);
    (client, stream)
}

#[tokio::test]
async fn a_tonic_client_finds_the_rejection_in_the_status() {
    let address = serve_grpc(Server::builder().add_service(HealthServer::new(Moody))).await;
    let layer = BulkheadLayer::new("health", 1.try_into().unwrap()).queue(1).wait(SHORT);
    let handle = layer.handle();
    let stack = ServiceBuilder::new().layer(layer).service(channel(address).await);
    let mut client = HealthClient::new(stack);
    let mut other = client.clone();
    let stays = tokio::spawn(async move { other.check(ask(NEVER)).await });
    until(|| handle.snapshot().in_flight == 1).await;

    let late = soon(client.check(ask(""))).await.unwrap_err();

    assert_eq!(late.code(), Code::Unavailable);
    let rejection = Rejection::find(&late).expect("it is in the chain");
    assert_eq!((rejection.kind(), rejection.layer()), (Kind::QueueTimedOut, "health"));
    stays.abort();
    at_rest(&handle).await;
    assert!(soon(client.check(ask(""))).await.is_ok());
}

/// Criticality travels: what a client says of its calls, the server's bulkhead sheds by.
#[tokio::test]
async fn a_server_sheds_what_its_clients_call_sheddable() {
    let layer = BulkheadLayer::new("health", 2.try_into().unwrap()).criticality(Shedding::new());
    let handle = layer.handle();
    let mut server = Server::builder().layer(layer);
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;
    let _stays = watch_forever(address, &handle).await;
    let call = |class: Criticality| async move {
        let by = move |_: &_| Some(class);
        let layer = BulkheadLayer::new("client", 8.try_into().unwrap());
        let layer = layer.criticality_by(Shedding::new().propagate(), by);
        let stack = ServiceBuilder::new().layer(layer).service(channel(address).await);
        soon(HealthClient::new(stack).check(ask(""))).await
    };

    let batch = call(Criticality::Sheddable).await.unwrap_err();

    assert_eq!(batch.message(), "shed in favour of more critical requests");
    assert_eq!(handle.snapshot().shed(Criticality::Sheddable), 1);
    assert!(call(Criticality::Critical).await.is_ok());
}

/// As on axum, so through reqwest's own requests.
#[tokio::test]
async fn a_native_reqwest_client_says_how_critical_its_requests_are() {
    let told = |headers: ::axum::http::HeaderMap| async move {
        headers.get("x-class").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let address = serve(Router::new().route("/told", get(told))).await;
    let layer = BulkheadLayer::new("client", 1.try_into().unwrap());
    let layer = layer.criticality(Shedding::new().header("x-class").propagate());
    let mut client = ServiceBuilder::new().layer(layer).service(http_client());
    let request = |class: Option<&str>| {
        let request = http_client().get(format!("http://{address}/told"));
        class.into_iter().fold(request, |request, class| request.header("x-class", class)).build()
    };

    for (class, expected) in [(None, "critical"), (Some("Critical-Plus"), "critical_plus")] {
        let call = client.ready().await.unwrap().call(request(class).unwrap());
        assert_eq!(soon(soon(call).await.unwrap().text()).await.unwrap(), expected);
    }
}

/// X11: nothing is in flight once all is over.
async fn at_rest(handle: &BulkheadHandle) {
    until(|| handle.snapshot().in_flight == 0).await;
    assert_eq!(handle.snapshot().queued, 0);
}

/// Awaits what another task brings about.
async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            // Awaiting a timer lets sockets be looked at, where yielding may not.
            let _ = timeout(Duration::from_millis(1), pending::<()>()).await;
        }
    })
    .await;
}

const SHORT: TimeLimit = TimeLimit::from_millis(50);
const LONG: TimeLimit = TimeLimit::from_secs(60);
