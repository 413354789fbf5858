//! Who retries, reqwest or the layer around it; and what a native request and response can do.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::reqwest::{Body as ReqwestBody, Client, ClientBuilder};
use axum::{Router, body::Body, extract::Request as AxumRequest, routing::any};
use buttress::{
    BoxError, Ratio, TimeLimit,
    reqwest::{HttpClient, client},
    retry::{Backoff, Budget, Percentage, RetryLayer, Settings, Stop},
    timeout::TimeoutLayer,
};
use buttress_tests::{listen, serve, soon};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper_util::rt::TokioExecutor;
use tower::{ServiceBuilder, ServiceExt};

fn retry(attempts: u32) -> RetryLayer {
    let settings = Settings::new(Backoff::constant(Duration::from_millis(1)));
    RetryLayer::new("upstream", settings.attempts(attempts).budget(Budget::unlimited()))
}

/// A builder of clients that speak HTTP/2 at once, through no proxy.
fn http2() -> ClientBuilder {
    Client::builder().no_proxy().http2_prior_knowledge()
}

/// An HTTP/2 server that refuses so many streams, answers those after them, and counts them all.
async fn refusing(refused: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let (listener, address) = listen().await;
    let count = Arc::new(AtomicUsize::new(0));
    let streams = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let streams = Arc::clone(&streams);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(connection).await?;
                while let Some(stream) = connection.accept().await {
                    let (_, mut respond) = stream?;
                    if streams.fetch_add(1, Ordering::Relaxed) < refused {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                    } else {
                        respond.send_response(Response::new(()), true)?;
                    }
                }
                Ok::<_, h2::Error>(())
            });
        }
    });
    (address, count)
}

fn get(address: SocketAddr) -> Request<ReqwestBody> {
    Request::get(format!("http://{address}/")).body(ReqwestBody::default()).unwrap()
}

#[tokio::test]
async fn reqwest_retries_by_itself_unless_the_client_was_built_without() {
    for (client, expected) in [
        (HttpClient::new(http2().build().unwrap()), 3),
        (HttpClient::build(http2()).unwrap(), 1),
        // Whatever the builder was told before.
        (HttpClient::build(http2().retry(::reqwest::retry::for_host("127.0.0.1"))).unwrap(), 1),
    ] {
        let (address, streams) = refusing(usize::MAX).await;

        assert!(soon(client.oneshot(get(address))).await.is_err());

        assert_eq!(streams.load(Ordering::Relaxed), expected);
    }
}

#[tokio::test]
async fn attempts_multiply_unless_the_client_was_built_without_retries() {
    for (client, expected) in [(http2().build().unwrap(), 12), (client(http2()).unwrap(), 4)] {
        let ((address, streams), retry) = (refusing(usize::MAX).await, retry(3));
        let request = client.get(format!("http://{address}/")).build().unwrap();

        let stack = ServiceBuilder::new().layer(retry.clone()).service(client);
        assert!(soon(stack.oneshot(request)).await.is_err());

        assert_eq!(streams.load(Ordering::Relaxed), expected);
        let counts = retry.handle().snapshot();
        assert_eq!((counts.transparent(), counts.retries()), (1, 2), "all that the layer knows of");
    }
}

#[tokio::test]
async fn a_stream_that_its_server_refused_is_asked_for_again_and_nobody_pays() {
    let broke = || Budget::from(Percentage::new(Ratio::ZERO).floor(0));
    let retry = || RetryLayer::new("r", Settings::default().budget(broke()));

    let ((address, streams), layer) = (refusing(1).await, retry());
    let native = client(http2()).unwrap();
    let request = native.get(format!("http://{address}/")).build().unwrap();
    let stack = ServiceBuilder::new().layer(layer.clone()).service(native);
    assert_eq!(soon(stack.oneshot(request)).await.unwrap().status(), 200);
    let counts = layer.handle().snapshot();
    assert_eq!((counts.transparent(), counts.retries()), (1, 0));
    assert_eq!(streams.load(Ordering::Relaxed), 2);

    let ((address, streams), layer) = (refusing(1).await, retry());
    let mut hyper = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    let hyper = hyper.http2_only(true).build_http::<Full<Bytes>>();
    let request = Request::get(format!("http://{address}/")).body(Full::default()).unwrap();
    let stack = ServiceBuilder::new().layer(layer.clone()).service(hyper);
    assert_eq!(soon(stack.oneshot(request)).await.unwrap().status(), 200);
    let counts = layer.handle().snapshot();
    assert_eq!((counts.transparent(), counts.retries()), (1, 0));
    assert_eq!(streams.load(Ordering::Relaxed), 2);

    // A second time it is a failure like any other.
    let ((address, streams), layer) = (refusing(2).await, retry());
    let native = client(http2()).unwrap();
    let request = native.get(format!("http://{address}/")).build().unwrap();
    let stack = ServiceBuilder::new().layer(layer.clone()).service(native);
    assert!(soon(stack.oneshot(request)).await.is_err());
    assert_eq!(layer.handle().snapshot().stopped(Stop::Budget), 1);
    assert_eq!(streams.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn each_attempt_of_a_native_request_is_told_what_is_left_until_the_deadline() {
    const WAIT: Duration = Duration::from_millis(20);
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let app = Router::new().route(
        "/",
        any(move |request: AxumRequest| {
            let left = request.headers()["x-request-timeout-ms"].to_str().unwrap().parse();
            let calls = {
                let mut log = log.lock().unwrap();
                log.push(Duration::from_millis(left.unwrap()));
                log.len()
            };
            async move { http::StatusCode::from_u16(if calls < 3 { 503 } else { 200 }).unwrap() }
        }),
    );
    let address = serve(app).await;
    let client = client(Client::builder().no_proxy()).unwrap();
    let request = client.get(format!("http://{address}/")).build().unwrap();
    let settings = Settings::new(Backoff::constant(WAIT));
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new("t", TimeLimit::from_secs(60)).propagate())
        .layer(RetryLayer::new("r", settings))
        .service(client);

    assert_eq!(soon(stack.oneshot(request)).await.unwrap().status(), 200);

    let told = told.lock().unwrap();
    assert_eq!(told.len(), 3);
    assert!(told.is_sorted_by(|before, after| *before >= *after + WAIT), "{told:?}");
}

/// Answers with a head, and with trailers behind it of these codes, one after the other.
async fn failing_in_trailers(codes: &'static [&'static str]) -> (SocketAddr, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let app = Router::new().fallback(move |_: AxumRequest| {
        let code = codes[count.fetch_add(1, Ordering::Relaxed)];
        async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", code.parse().unwrap());
            let frames = stream::iter([Ok::<_, BoxError>(Frame::trailers(trailers))]);
            let response = Response::builder().header("content-type", "application/grpc");
            response.body(Body::new(StreamBody::new(frames))).unwrap()
        }
    });
    (serve(app).await, calls)
}

#[tokio::test]
async fn trailers_behind_the_head_of_a_native_response_are_seen_and_still_there() {
    let (address, calls) = failing_in_trailers(&["14", "14", "0"]).await;
    let (client, retry) = (client(http2()).unwrap(), retry(3));
    let url = format!("http://{address}/shop.Stock/Count");
    let request = client.post(&url).header("content-type", "application/grpc").build().unwrap();
    let stack = ServiceBuilder::new().layer(retry.clone()).service(client);

    let response = soon(stack.oneshot(request)).await.unwrap();

    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(response.url().as_str(), url);
    let response: Response<ReqwestBody> = response.into();
    let body = soon(http_body_util::BodyExt::collect(response.into_body())).await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(retry.handle().snapshot().stopped(Stop::Attempts), 0);
}
