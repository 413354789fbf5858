//! Plain `.layer(..)` on hyper-util's client and on a service that hyper serves, in HTTP/1 and 2.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::pin,
};

use ::axum::{Router, body::Body, routing::get};
use ::hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use buttress::{
    BoxError, Kind, Reason, TimeLimit,
    sli::SliLayer,
    timeout::{Clock, TimeoutLayer},
};
use buttress_tests::{
    GOOD, bad, http2_client, listen, recorded, refused_by, refusing, serve, soon,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tower::{ServiceBuilder, ServiceExt, service_fn};

#[tokio::test]
async fn a_client_hands_on_the_answer_and_records_its_end() {
    let address = serve(app()).await;

    for version in Version::BOTH {
        let (sli, mut calls) = recorded(SliLayer::client("upstream"));
        let stack = ServiceBuilder::new()
            .layer(sli)
            .layer(TimeoutLayer::new("upstream", LONG))
            .service(version.client());

        let response = soon(stack.oneshot(ask(address, "/hello"))).await.unwrap();
        let body = soon(response.into_body().collect()).await.unwrap();

        assert_eq!(body.to_bytes(), "hello", "{version:?}");
        assert_eq!(calls.next().await.judgement, GOOD, "{version:?}");
    }
}

#[tokio::test]
async fn a_client_that_is_answered_late_has_the_rejection_in_its_error() {
    let address = serve(app()).await;

    for version in Version::BOTH {
        let (sli, mut calls) = recorded(SliLayer::client("upstream"));
        let stack = ServiceBuilder::new()
            .layer(sli)
            .layer(TimeoutLayer::new("upstream", SHORT))
            .service(version.client());

        let error = soon(stack.oneshot(ask(address, "/never"))).await.unwrap_err();

        assert_eq!(refused_by(&*error), Some((Kind::TimedOut, "upstream")), "{version:?}");
        assert_eq!(calls.next().await.judgement, TIMED_OUT, "{version:?}");
    }
}

#[tokio::test]
async fn a_body_that_a_client_waits_for_too_long_ends_in_the_rejection() {
    let address = serve(app()).await;

    for version in Version::BOTH {
        let (sli, mut calls) = recorded(SliLayer::client("upstream"));
        let stack = ServiceBuilder::new()
            .layer(sli)
            .layer(TimeoutLayer::new("upstream", HEAD_COMES_FIRST))
            .service(version.client());

        let response = soon(stack.oneshot(ask(address, "/stalls"))).await.unwrap();
        let mut body = pin!(response.into_body());
        let first = soon(body.frame()).await.unwrap().unwrap();
        let error = soon(body.frame()).await.unwrap().unwrap_err();
        let after = soon(body.frame()).await;

        assert_eq!(first.into_data().unwrap(), "a part", "{version:?}");
        assert_eq!(refused_by(&*error), Some((Kind::TimedOut, "upstream")), "{version:?}");
        assert!(after.is_none(), "{version:?}");
        assert_eq!(calls.next().await.judgement, TIMED_OUT, "{version:?}");
    }
}

#[tokio::test]
async fn a_client_keeps_its_own_error_when_nobody_listens() {
    let (_held, address) = refusing();
    let (sli, mut calls) = recorded(SliLayer::client("upstream"));
    let stack = ServiceBuilder::new()
        .layer(sli)
        .layer(TimeoutLayer::new("upstream", LONG))
        .service(Version::Http1.client());

    let error = soon(stack.oneshot(ask(address, "/hello"))).await.unwrap_err();

    assert!(error.downcast_ref::<Error>().is_some_and(Error::is_connect), "{error:?}");
    assert_eq!(calls.next().await.judgement, bad(Reason::Failed));
}

#[tokio::test]
async fn a_server_answers_late_with_504() {
    for version in Version::BOTH {
        let (sli, mut calls) = recorded(SliLayer::server("ours"));
        let timeout = TimeoutLayer::new("ours", SHORT);
        let handle = timeout.handle();
        let service = ServiceBuilder::new().layer(sli).layer(timeout).service_fn(handler);
        let address = version.serve(TowerToHyperService::new(service)).await;
        let client = version.client();

        let in_time = soon(client.request(ask(address, "/hello"))).await.unwrap();
        let late = soon(client.request(ask(address, "/never"))).await.unwrap();

        assert_eq!((in_time.status().as_u16(), late.status().as_u16()), (200, 504), "{version:?}");
        assert_eq!(soon(in_time.into_body().collect()).await.unwrap().to_bytes(), "hello");
        assert_eq!(calls.next().await.judgement, GOOD, "{version:?}");
        assert_eq!(calls.next().await.judgement, TIMED_OUT, "{version:?}");
        assert_eq!(handle.snapshot().expired(Clock::Total), 1, "{version:?}");
    }
}

#[tokio::test]
async fn a_body_that_a_server_cuts_short_does_not_pass_for_whole() {
    for version in Version::BOTH {
        let (sli, mut calls) = recorded(SliLayer::server("ours"));
        let layers =
            ServiceBuilder::new().layer(sli).layer(TimeoutLayer::new("ours", HEAD_COMES_FIRST));
        let service = layers.service_fn(handler);
        let address = version.serve(TowerToHyperService::new(service)).await;

        let response = soon(version.client().request(ask(address, "/stalls"))).await.unwrap();
        let body = soon(response.into_body().collect()).await;

        assert!(body.is_err(), "{version:?}");
        assert_eq!(calls.next().await.judgement, TIMED_OUT, "{version:?}");
    }
}

#[tokio::test]
async fn layers_whose_service_can_fail_raise_the_rejection_and_hyper_breaks_the_exchange() {
    for version in Version::BOTH {
        let service = ServiceBuilder::new().layer(TimeoutLayer::new("ours", SHORT)).service(
            service_fn(|_: Request<Incoming>| pending::<Result<Response<Body>, io::Error>>()),
        );
        let address = version.serve(TowerToHyperService::new(service)).await;

        let broken = soon(version.client().request(ask(address, "/never"))).await;

        assert!(broken.is_err(), "{version:?}");
    }
}

/// The versions of HTTP that hyper speaks.
#[derive(Clone, Copy, Debug)]
enum Version {
    Http1,
    Http2,
}

impl Version {
    const BOTH: [Self; 2] = [Self::Http1, Self::Http2];

    fn client(self) -> Client<HttpConnector, Empty<Bytes>> {
        match self {
            Self::Http1 => Client::builder(TokioExecutor::new()).build_http(),
            Self::Http2 => http2_client(),
        }
    }

    /// Serves on a port of its own, each connection with a clone, as hyper has it.
    async fn serve<S, B>(self, service: S) -> SocketAddr
    where
        S: ::hyper::service::Service<Request<Incoming>, Response = Response<B>>,
        S: Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Future + Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (io, service) = (TokioIo::new(stream), service.clone());
                tokio::spawn(async move {
                    // What a broken connection means, its client tells.
                    let _ = match self {
                        Self::Http1 => http1::Builder::new().serve_connection(io, service).await,
                        Self::Http2 => {
                            let builder = http2::Builder::new(TokioExecutor::new());
                            builder.serve_connection(io, service).await
                        }
                    };
                });
            }
        });
        address
    }
}

/// An upstream that answers in time, never, or in part.
fn app() -> Router {
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/never", get(pending::<&'static str>))
        .route("/stalls", get(|| async { stalls() }))
}

/// The same without axum.
async fn handler(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    match request.uri().path() {
        "/never" => pending().await,
        "/stalls" => Ok(Response::new(stalls())),
        _ => Ok(Response::new(Body::from("hello"))),
    }
}

fn stalls() -> Body {
    let part = stream::iter([Ok::<_, io::Error>("a part")]);
    Body::from_stream(part.chain(stream::pending()))
}

fn ask(address: SocketAddr, path: &str) -> Request<Empty<Bytes>> {
    let uri: Uri = format!("http://{address}{path}").parse().unwrap();
    Request::get(uri).body(Empty::new()).unwrap()
}

/// Enough time for whatever else happens in a test.
const LONG: TimeLimit = TimeLimit::from_secs(600);

/// Enough time for the head to come on the busiest machine, and not too much to wait for the end.
const HEAD_COMES_FIRST: TimeLimit = TimeLimit::from_millis(400);

const SHORT: TimeLimit = TimeLimit::from_millis(50);

const TIMED_OUT: buttress::Judgement = bad(Reason::Refused(Kind::TimedOut));
