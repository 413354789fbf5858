//! Deadlines that travel in `grpc-timeout`, and what tonic says when it gives up on one itself.

use std::{error::Error, net::SocketAddr, time::Duration};

use ::tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Server},
};
use buttress::{
    Kind, Reason, Rejection, TimeLimit,
    sli::SliLayer,
    timeout::{Clock, Timeout, TimeoutLayer},
};
use buttress_tests::{
    Calls, Moody, NEVER, ask, bad, channel, endpoint, excluded, http2_client, recorded, serve_grpc,
    soon,
};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tokio::sync::mpsc;
use tonic_health::pb::{
    HealthCheckRequest, health_client::HealthClient, health_server::HealthServer,
};
use tower::{Layer, ServiceBuilder};

#[tokio::test]
async fn a_deadline_that_tonic_enforces_outside_of_our_layers_is_bad_and_not_a_client_that_left() {
    let (sli, mut calls) = recorded(SliLayer::server("health"));
    let mut server = Server::builder().layer(sli);
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;

    let late = soon(patient(address).check(within("30m"))).await.unwrap_err();

    assert_eq!(late.code(), Code::Cancelled, "tonic's own word for it");
    assert_eq!(calls.next().await.judgement, bad(Reason::Deadline));
}

#[tokio::test]
async fn so_it_is_with_a_timeout_of_ours_that_does_not_read_the_deadline() {
    let (sli, mut calls) = recorded(SliLayer::server("health"));
    let mut server = Server::builder().layer(sli).layer(TimeoutLayer::new("health", LONG));
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;

    let late = soon(patient(address).check(within("30m"))).await.unwrap_err();

    assert_eq!(late.code(), Code::Cancelled);
    assert_eq!(calls.next().await.judgement, bad(Reason::Deadline));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_that_reads_the_deadline_answers_before_tonic_gives_up() {
    const CALLS: u32 = 50;
    let timeout = TimeoutLayer::new("health", LONG).propagate();
    let handle = timeout.handle();
    let (address, mut calls) = propagating_server(timeout).await;
    let client = patient(address);

    // Deadlines at all places between two ticks of tokio's timer.
    let late = (0..CALLS).map(|number| {
        let mut client = client.clone();
        let deadline = format!("{}u", 30_000 + number * 137);
        async move { soon(client.check(within(&deadline))).await.unwrap_err().code() }
    });
    let codes = join_all(late).await;

    assert_eq!(codes, [Code::DeadlineExceeded; CALLS as usize]);
    assert_eq!(handle.snapshot().expired(Clock::Deadline), u64::from(CALLS));
    for _ in 0..CALLS {
        assert_eq!(calls.next().await.judgement, bad(Reason::Refused(Kind::TimedOut)));
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_refused_before_the_work_starts() {
    let timeout = TimeoutLayer::new("health", LONG).propagate();
    let handle = timeout.handle();
    let (address, mut calls) = propagating_server(timeout).await;

    let late = soon(patient(address).check(within("0n"))).await.unwrap_err();

    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(handle.snapshot().refused(), 1);
    assert_eq!(calls.next().await.judgement, excluded(Reason::Refused(Kind::Expired)));
}

#[tokio::test]
async fn a_client_timeout_tells_the_server_what_is_left() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let service = HealthServer::with_interceptor(Moody, move |request: Request<()>| {
        let deadline = request.metadata().get("grpc-timeout").cloned();
        told.send(deadline).map_err(|_| Status::internal("nobody listens"))?;
        Ok(request)
    });
    let address = serve_grpc(Server::builder().add_service(service)).await;
    let timeout = TimeoutLayer::new("client", LONG).propagate();
    let stack = ServiceBuilder::new().layer(timeout).service(channel(address).await);
    let mut client = HealthClient::new(stack);

    let mut deadlines = Vec::new();
    for mut request in [Request::new(ask("")), Request::new(ask(""))] {
        if !deadlines.is_empty() {
            request.set_timeout(Duration::from_secs(60));
        }
        soon(client.check(request)).await.unwrap();
        let deadline = soon(heard.recv()).await.unwrap().expect("the client has a limit");
        deadlines.push(duration(deadline.to_str().unwrap()));
    }

    // Its own limit, and then the sooner one of its caller; less what has passed.
    assert!((Duration::from_secs(570)..=LONG.get()).contains(&deadlines[0]), "{deadlines:?}");
    assert!((Duration::from_secs(30)..Duration::from_secs(60)).contains(&deadlines[1]));
}

#[tokio::test]
async fn what_tonic_calls_cancelled_in_the_channel_is_deadline_exceeded_under_a_timeout() {
    let address = bare_server().await;
    let quick = endpoint(address).timeout(Duration::from_millis(30));
    let quick = soon(quick.connect()).await.unwrap();
    let reads_the_header = channel(address).await;

    for (channel, deadline) in [(quick, "1H"), (reads_the_header, "30m")] {
        let bare = soon(HealthClient::new(channel.clone()).check(within(deadline))).await;
        let ours = soon(under_timeout(channel).check(within(deadline))).await.unwrap_err();

        assert_eq!(bare.unwrap_err().code(), Code::Cancelled);
        assert_eq!(ours.code(), Code::DeadlineExceeded);
        assert_eq!(rejection_layer(&ours), Some("client"));
    }
}

#[tokio::test]
async fn what_a_tonic_server_calls_cancelled_is_deadline_exceeded_under_a_timeout() {
    let (sli, mut calls) = recorded(SliLayer::client("health"));
    let address = bare_server().await;
    let stack = ServiceBuilder::new()
        .layer(sli)
        .layer(TimeoutLayer::new("client", LONG))
        .service(http2_client());
    let mut client = HealthClient::with_origin(stack, endpoint(address).uri().clone());

    let late = soon(client.check(within("30m"))).await.unwrap_err();

    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(rejection_layer(&late), Some("client"));
    assert_eq!(calls.next().await.judgement, bad(Reason::Refused(Kind::TimedOut)));
}

/// The words by which a timeout of ours knows the answer of the test above.
#[tokio::test]
async fn a_tonic_server_gives_up_in_words_that_do_not_change() {
    let request =
        http::Request::post(format!("http://{}/grpc.health.v1.Health/Check", bare_server().await))
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "30m")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(b"\0\0\0\0\x07\x0a\x05never")))
            .unwrap();

    let (head, body) = soon(http2_client().request(request)).await.unwrap().into_parts();
    let body = soon(body.collect()).await.unwrap();

    assert_eq!(head.headers["grpc-status"], "1");
    assert_eq!(head.headers["grpc-message"], "Timeout%20expired");
    assert!(body.trailers().is_none());
}

#[tokio::test]
async fn a_caller_who_cancels_is_not_taken_for_a_deadline() {
    let address = serve_grpc(
        Server::builder()
            .layer(buttress_tests::RefuseLayer(
                Rejection::new(Kind::Overloaded, "test")
                    .because("the caller is gone")
                    .surfacing_as(499, buttress::Code::Cancelled),
            ))
            .add_service(HealthServer::new(Moody)),
    )
    .await;

    let cancelled = soon(under_timeout(channel(address).await).check(ask(""))).await.unwrap_err();

    assert_eq!(cancelled.code(), Code::Cancelled);
    assert_eq!(rejection_layer(&cancelled), None);
}

/// A server whose timeout reads the caller's deadline, and the calls that it records.
async fn propagating_server(timeout: TimeoutLayer) -> (SocketAddr, Calls) {
    let (sli, calls) = recorded(SliLayer::server("health"));
    let mut server = Server::builder().layer(sli).layer(timeout);
    (serve_grpc(server.add_service(HealthServer::new(Moody))).await, calls)
}

async fn bare_server() -> SocketAddr {
    serve_grpc(Server::builder().add_service(HealthServer::new(Moody))).await
}

/// A client that hands `grpc-timeout` over and waits all the same, where tonic's channel gives up
/// by itself: so what it sees is what the server said.
fn patient(address: SocketAddr) -> HealthClient<Client<HttpConnector, ::tonic::body::Body>> {
    HealthClient::with_origin(http2_client(), endpoint(address).uri().clone())
}

/// A check that takes for ever, of a caller that waits for `deadline`.
fn within(deadline: &str) -> Request<HealthCheckRequest> {
    let mut request = Request::new(ask(NEVER));
    request.metadata_mut().insert("grpc-timeout", MetadataValue::try_from(deadline).unwrap());
    request
}

fn under_timeout(channel: Channel) -> HealthClient<Timeout<Channel>> {
    HealthClient::new(TimeoutLayer::new("client", LONG).layer(channel))
}

fn rejection_layer(status: &Status) -> Option<&str> {
    Some(Rejection::find(status.source()?)?.layer())
}

/// Reads `grpc-timeout` in the units that it has here.
fn duration(deadline: &str) -> Duration {
    let (count, unit) = deadline.split_at(deadline.len() - 1);
    let count = count.parse().unwrap();
    match unit {
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        _ => panic!("{deadline} is in another unit"),
    }
}

/// Enough time for whatever else happens in a test.
const LONG: TimeLimit = TimeLimit::from_secs(600);
