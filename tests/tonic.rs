//! Plain `.layer(..)` on tonic's server, its services, its channel and its interceptors.

use std::{error::Error, time::Duration};

use ::tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    service::{InterceptorLayer, LayerExt},
    transport::{Channel, Server},
};
use buttress::{
    Code as GrpcCode, Kind, Reason, Rejection, TimeLimit,
    sli::SliLayer,
    timeout::{Limits, TimeoutLayer},
};
use buttress_tests::{
    GOOD, Moody, NEVER, RefuseLayer, ask, bad, channel, excluded, recorded, serve_grpc, soon,
};
use tonic_health::pb::{
    health_check_response::ServingStatus, health_client::HealthClient, health_server::HealthServer,
};
use tower::ServiceBuilder;

#[tokio::test]
async fn layers_around_a_whole_server_answer_late_and_record_each_method() {
    let (sli, mut calls) = recorded(SliLayer::server("health"));
    let timeout = TimeoutLayer::new("health", LONG);
    let handle = timeout.handle();
    let mut server = Server::builder().layer(sli).layer(timeout);
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;
    let mut client = HealthClient::new(channel(address).await);

    let served = soon(client.check(ask(""))).await.unwrap();
    handle.set_limits(Limits::total(SHORT));
    let late = soon(client.check(ask(NEVER))).await.unwrap_err();

    assert_eq!(served.into_inner().status(), ServingStatus::Serving);
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(late.message(), "timed out before the end of the response");
    for (judgement, code) in [(GOOD, GrpcCode::Ok), (TIMED_OUT, GrpcCode::DeadlineExceeded)] {
        let call = calls.next().await;
        assert_eq!(call.route.as_deref(), Some("/grpc.health.v1.Health/Check"));
        assert_eq!((call.judgement, call.facts.code), (judgement, Some(code)));
    }
}

#[tokio::test]
async fn layers_fit_around_one_service_of_a_server() {
    let (sli, mut calls) = recorded(SliLayer::server("moody"));
    let timeout = TimeoutLayer::new("moody", LONG);
    let handle = timeout.handle();
    let layers = ServiceBuilder::new().layer(sli).layer(timeout);
    let moody = layers.into_inner().named_layer(HealthServer::new(Moody));
    let address = serve_grpc(Server::builder().add_service(moody)).await;
    let mut client = HealthClient::new(channel(address).await);

    let served = soon(client.check(ask(""))).await;
    handle.set_limits(Limits::total(SHORT));
    let late = soon(client.check(ask(NEVER))).await.unwrap_err();

    assert!(served.is_ok());
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(calls.next().await.judgement, GOOD);
    assert_eq!(calls.next().await.judgement, TIMED_OUT);
}

#[tokio::test]
async fn a_client_under_our_layers_finds_the_rejection_in_the_status() {
    let (sli, mut calls) = recorded(SliLayer::client("health"));
    let timeout = TimeoutLayer::new("health", LONG);
    let handle = timeout.handle();
    let stack = ServiceBuilder::new().layer(sli).layer(timeout).service(bare_server().await);
    let mut client = HealthClient::new(stack);

    let served = soon(client.check(ask(""))).await;
    handle.set_limits(Limits::total(SHORT));
    let late = soon(client.check(ask(NEVER))).await.unwrap_err();

    assert!(served.is_ok());
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(rejection(&late), Some((Kind::TimedOut, "health")));
    assert_eq!(calls.next().await.judgement, GOOD);
    assert_eq!(calls.next().await.judgement, TIMED_OUT);
}

#[tokio::test]
async fn a_client_sees_the_code_and_the_pushback_of_every_refusal() {
    let kinds = [
        (Kind::RateLimited, Code::ResourceExhausted),
        (Kind::CircuitOpen, Code::Unavailable),
        (Kind::Overloaded, Code::Unavailable),
        (Kind::QueueTimedOut, Code::Unavailable),
        (Kind::TimedOut, Code::DeadlineExceeded),
    ];
    let channel = bare_server().await;

    for (kind, code) in kinds {
        let refusal = Rejection::new(kind, "test").with_retry_after(Duration::from_millis(1500));
        let stack = ServiceBuilder::new()
            .layer(SliLayer::client("outer"))
            .layer(TimeoutLayer::new("outer", LONG))
            .layer(RefuseLayer(refusal))
            .service(channel.clone());

        let refused = soon(HealthClient::new(stack).check(ask(""))).await.unwrap_err();

        assert_eq!(refused.code(), code, "{kind:?}");
        assert_eq!(rejection(&refused), Some((kind, "test")));
        assert_eq!(refused.metadata().get("grpc-retry-pushback-ms").unwrap(), "1500");
    }
}

#[tokio::test]
async fn layers_stand_inside_and_outside_of_interceptors() {
    let channel = bare_server().await;
    let timeout = TimeoutLayer::new("health", LONG);
    let inside = ServiceBuilder::new()
        .layer(SliLayer::client("health"))
        .layer(timeout.clone())
        .layer(InterceptorLayer::new(let_pass))
        .service(channel.clone());
    let under = ServiceBuilder::new()
        .layer(SliLayer::client("health"))
        .layer(timeout.clone())
        .service(channel);

    let mut clients = (HealthClient::new(inside), HealthClient::with_interceptor(under, let_pass));

    assert!(soon(clients.0.check(ask(""))).await.is_ok());
    assert!(soon(clients.1.check(ask(""))).await.is_ok());
    timeout.handle().set_limits(Limits::total(SHORT));
    for late in [soon(clients.0.check(ask(NEVER))).await, soon(clients.1.check(ask(NEVER))).await] {
        let late = late.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        assert_eq!(rejection(&late), Some((Kind::TimedOut, "health")));
    }
}

#[tokio::test]
async fn a_refusing_interceptor_is_judged_by_its_status() {
    let (sli, mut calls) = recorded(SliLayer::client("health"));
    let stack = ServiceBuilder::new()
        .layer(sli)
        .layer(TimeoutLayer::new("health", LONG))
        .layer(InterceptorLayer::new(|_: Request<()>| Err(Status::unauthenticated("no token"))))
        .service(bare_server().await);

    let refused = soon(HealthClient::new(stack).check(ask(""))).await.unwrap_err();

    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "no token"));
    assert_eq!(calls.next().await.facts.code, Some(GrpcCode::Unauthenticated));
}

#[tokio::test]
async fn a_stream_cut_short_on_the_server_ends_in_trailers() {
    let (sli, mut calls) = recorded(SliLayer::server("health"));
    let mut server =
        Server::builder().layer(sli).layer(TimeoutLayer::new("health", HEAD_COMES_FIRST));
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;
    let mut client = HealthClient::new(channel(address).await);

    let mut stream = soon(client.watch(ask(""))).await.unwrap().into_inner();
    let first = soon(stream.message()).await.unwrap().unwrap();
    let end = soon(stream.message()).await.unwrap_err();

    assert_eq!(first.status(), ServingStatus::Serving);
    assert_eq!(end.code(), Code::DeadlineExceeded);
    assert_eq!(end.message(), "timed out before the end of the response");
    let call = calls.next().await;
    assert_eq!(call.judgement, bad(Reason::Status));
    assert_eq!(call.facts.code, Some(GrpcCode::DeadlineExceeded));
}

#[tokio::test]
async fn a_stream_cut_short_on_the_client_ends_in_the_same_status() {
    let (sli, mut calls) = recorded(SliLayer::client("health"));
    let stack = ServiceBuilder::new()
        .layer(sli)
        .layer(TimeoutLayer::new("health", HEAD_COMES_FIRST))
        .service(bare_server().await);

    let mut stream = soon(HealthClient::new(stack).watch(ask(""))).await.unwrap().into_inner();
    let first = soon(stream.message()).await.unwrap().unwrap();
    let end = soon(stream.message()).await.unwrap_err();

    assert_eq!(first.status(), ServingStatus::Serving);
    assert_eq!(end.code(), Code::DeadlineExceeded);
    let call = calls.next().await;
    assert_eq!(call.judgement, bad(Reason::Status));
    assert_eq!(call.facts.code, Some(GrpcCode::DeadlineExceeded));
}

#[tokio::test]
async fn a_caller_that_drops_a_stream_had_what_it_wanted_and_left_as_the_server_sees_it() {
    let (server_sli, mut server_calls) = recorded(SliLayer::server("health"));
    let (client_sli, mut client_calls) = recorded(SliLayer::client("health"));
    let mut server = Server::builder().layer(server_sli);
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;
    let stack = ServiceBuilder::new().layer(client_sli).service(channel(address).await);
    let mut client = HealthClient::new(stack);

    let mut stream = soon(client.watch(ask(""))).await.unwrap().into_inner();
    soon(stream.message()).await.unwrap().unwrap();
    drop(stream);

    assert_eq!(client_calls.next().await.judgement, GOOD);
    assert_eq!(server_calls.next().await.judgement, excluded(Reason::Left));
}

#[tokio::test]
async fn a_status_that_a_service_returns_passes_through_all_layers() {
    let (sli, mut calls) = recorded(SliLayer::server("health"));
    let service = HealthServer::with_interceptor(Moody, |_: Request<()>| {
        let mut status = Status::not_found("no such service");
        status.metadata_mut().insert("tried", MetadataValue::from_static("twice"));
        Err(status)
    });
    let mut server = Server::builder().layer(sli).layer(TimeoutLayer::new("health", LONG));
    let address = serve_grpc(server.add_service(service)).await;
    let stack = ServiceBuilder::new()
        .layer(SliLayer::client("health"))
        .layer(TimeoutLayer::new("health", LONG))
        .service(channel(address).await);

    let status = soon(HealthClient::new(stack).check(ask(""))).await.unwrap_err();

    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such service"));
    assert_eq!(status.metadata().get("tried").unwrap(), "twice");
    assert_eq!(calls.next().await.judgement, excluded(Reason::Status));
}

/// A channel to a server without any layer.
async fn bare_server() -> Channel {
    channel(serve_grpc(Server::builder().add_service(HealthServer::new(Moody))).await).await
}

/// What refused the call, where a client finds it.
fn rejection(status: &Status) -> Option<(Kind, &str)> {
    let rejection = Rejection::find(status.source()?)?;
    Some((rejection.kind(), rejection.layer()))
}

#[expect(clippy::unnecessary_wraps, reason = "an interceptor may refuse; this one does not")]
fn let_pass(request: Request<()>) -> Result<Request<()>, Status> {
    Ok(request)
}

/// Enough time for the head to come on the busiest machine, and not too much to wait for the end.
const HEAD_COMES_FIRST: TimeLimit = TimeLimit::from_millis(400);

/// Enough time for whatever else happens in a test.
const LONG: TimeLimit = TimeLimit::from_secs(600);

const SHORT: TimeLimit = TimeLimit::from_millis(50);

const TIMED_OUT: buttress::Judgement = bad(Reason::Refused(Kind::TimedOut));
