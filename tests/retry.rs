//! Retries against real servers: bodies that are no `Clone` and gRPC messages are sent again, what
//! is too long is sent once, and servers are obeyed.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request as AxumRequest, routing::any};
use buttress::{
    BoxError, TimeLimit,
    reqwest::HttpClient,
    retry::{Backoff, Budget, RetryLayer, Settings, Stop},
    sli::SliLayer,
    throttle::ThrottleLayer,
    timeout::TimeoutLayer,
};
use buttress_tests::{ask, channel, http_client, refusing, serve, serve_grpc, soon};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{sync::Notify, time::Instant};
use tonic::{Code, Status, transport::Server};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{ServiceBuilder, ServiceExt};

/// Reads each upload to its end, and fails so often before it answers well.
#[derive(Clone, Default)]
struct Uploads {
    failures: Arc<AtomicU32>,
    seen: Arc<Mutex<Vec<Bytes>>>,
    said: Arc<Mutex<Vec<Option<String>>>>,
}

impl Uploads {
    fn failing(times: u32) -> Self {
        let uploads = Self::default();
        uploads.failures.store(times, Ordering::Relaxed);
        uploads
    }

    fn app(&self) -> Router {
        let this = self.clone();
        Router::new().route(
            "/",
            any(move |request: AxumRequest| {
                let this = this.clone();
                async move { this.answer(request).await }
            }),
        )
    }

    async fn answer(&self, request: AxumRequest) -> StatusCode {
        let said = request.headers().get("x-retry-attempt");
        let said = said.map(|value| value.to_str().unwrap().to_owned());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.said.lock().unwrap().push(said);
        self.seen.lock().unwrap().push(body);
        let fails = |left: u32| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        }
    }
}

fn chunks(bytes: usize) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + Sync {
    let chunk = |at: usize| Ok(Bytes::from(vec![u8::try_from(at % 251).unwrap(); 1024]));
    stream::iter((0..bytes / 1024).map(chunk))
}

fn retry() -> RetryLayer {
    let backoff = Backoff::constant(Duration::from_millis(1));
    RetryLayer::new("upstream", Settings::new(backoff).budget(Budget::unlimited()))
}

/// A POST that may be repeated, as its key says.
fn post<B>(address: SocketAddr, body: B) -> Request<B> {
    let request = Request::post(format!("http://{address}/")).header("idempotency-key", "7f3a");
    request.body(body).unwrap()
}

/// Sends 50 KiB and then 1 MiB, streamed, to a server that fails twice: the first comes three
/// times, the second once.
async fn small_ones_again_large_ones_once<F>(send: impl Fn(RetryLayer, SocketAddr, usize) -> F)
where
    F: Future<Output = u16>,
{
    for (bytes, times) in [(50 * 1024, 3), (1024 * 1024, 1)] {
        let (uploads, retry) = (Uploads::failing(2), retry());
        let address = serve(uploads.app()).await;

        let status = soon(send(retry.clone(), address, bytes)).await;

        assert_eq!(status, if times == 3 { 200 } else { 503 }, "{bytes}");
        let seen = uploads.seen.lock().unwrap();
        assert_eq!(seen.iter().map(Bytes::len).collect::<Vec<_>>(), vec![bytes; times]);
        assert!(seen.iter().all(|body| *body == seen[0]));
        let last = uploads.said.lock().unwrap().last().unwrap().clone();
        assert_eq!(last.as_deref(), (times == 3).then_some("2"));
        let stopped = retry.handle().snapshot().stopped(Stop::BodyTooLarge);
        assert_eq!(stopped, u64::from(times == 1));
    }
}

// X25
#[tokio::test]
async fn hyper_sends_a_streamed_upload_again() {
    small_ones_again_large_ones_once(async |retry, address, bytes| {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let stack = ServiceBuilder::new().layer(retry).service(client);
        let frames = futures_util::TryStreamExt::map_ok(chunks(bytes), Frame::data);
        let body: BoxBody<Bytes, BoxError> = StreamBody::new(frames).map_err(Into::into).boxed();
        stack.oneshot(post(address, body)).await.unwrap().status().as_u16()
    })
    .await;
}

// X25
#[tokio::test]
async fn hyper_sends_axums_body_again() {
    small_ones_again_large_ones_once(async |retry, address, bytes| {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let stack = ServiceBuilder::new().layer(retry).service(client);
        let body = Body::from_stream(chunks(bytes));
        stack.oneshot(post(address, body)).await.unwrap().status().as_u16()
    })
    .await;
}

// X25
#[tokio::test]
async fn reqwest_sends_a_streamed_upload_again() {
    small_ones_again_large_ones_once(async |retry, address, bytes| {
        let stack = ServiceBuilder::new().layer(retry).service(http_client());
        let request = http_client()
            .post(format!("http://{address}/"))
            .header("idempotency-key", "7f3a")
            .body(::reqwest::Body::wrap_stream(chunks(bytes)));
        stack.oneshot(request.build().unwrap()).await.unwrap().status().as_u16()
    })
    .await;
}

// X25
#[tokio::test]
async fn the_adapter_sends_a_streamed_upload_again_and_a_whole_one_as_it_is() {
    small_ones_again_large_ones_once(async |retry, address, bytes| {
        let client = HttpClient::new(http_client());
        let stack = ServiceBuilder::new().layer(retry).service(client);
        let body = ::reqwest::Body::wrap_stream(chunks(bytes));
        stack.oneshot(post(address, body)).await.unwrap().status().as_u16()
    })
    .await;
    small_ones_again_large_ones_once(async |retry, address, bytes| {
        let client = HttpClient::new(http_client());
        let stack = ServiceBuilder::new().layer(retry).service(client);
        let body = ::reqwest::Body::from(vec![7; bytes]);
        stack.oneshot(post(address, body)).await.unwrap().status().as_u16()
    })
    .await;
}

#[tokio::test]
async fn a_post_without_a_key_is_sent_once() {
    let (uploads, retry) = (Uploads::failing(1), retry());
    let address = serve(uploads.app()).await;
    let stack = ServiceBuilder::new().layer(retry.clone()).service(http_client());
    let request = http_client().post(format!("http://{address}/")).build().unwrap();

    assert_eq!(soon(stack.oneshot(request)).await.unwrap().status(), 503);

    assert_eq!(uploads.seen.lock().unwrap().len(), 1);
    assert_eq!(retry.handle().snapshot().stopped(Stop::Method), 1);
}

#[tokio::test]
async fn a_plain_layer_retries_on_an_axum_router() {
    let (uploads, retry) = (Uploads::failing(2), retry());
    let address = serve(uploads.app().layer(retry.clone())).await;

    let response = soon(http_client().get(format!("http://{address}/")).send()).await.unwrap();

    assert_eq!(response.status(), 200);
    assert_eq!(retry.handle().snapshot().retries(), 2);
}

#[tokio::test]
async fn a_connection_that_was_refused_is_tried_again_for_nothing_once() {
    let (_held, address) = refusing();
    for world in ["reqwest", "hyper", "tonic"] {
        let settings = Settings::new(Backoff::constant(Duration::from_millis(1))).attempts(2);
        let retry = RetryLayer::new("nobody", settings);
        let stack = ServiceBuilder::new().layer(retry.clone());

        let failed = match world {
            "reqwest" => {
                let request = http_client().get(format!("http://{address}/")).build().unwrap();
                soon(stack.service(http_client()).oneshot(request)).await.is_err()
            }
            "hyper" => {
                let client = Client::builder(TokioExecutor::new()).build_http();
                let request = Request::get(format!("http://{address}/")).body(Body::empty());
                soon(stack.service(client).oneshot(request.unwrap())).await.is_err()
            }
            _ => {
                let channel = buttress_tests::endpoint(address).connect_lazy();
                soon(HealthClient::new(stack.service(channel)).check(ask(""))).await.is_err()
            }
        };

        let counts = retry.handle().snapshot();
        assert!(failed);
        assert_eq!((counts.transparent(), counts.retries()), (1, 1), "{world}");
    }
}

/// A health service that fails as often as it is told to, and keeps what it was asked.
#[derive(Clone, Default)]
struct Shaky {
    failures: Arc<Mutex<Vec<Status>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// The service that was asked for, what was said of earlier attempts, and when.
type Asked = (String, Option<String>, Instant);

#[tonic::async_trait]
impl Health for Shaky {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let before = request.metadata().get("grpc-previous-rpc-attempts");
        let before = before.map(|value| value.to_str().unwrap().to_owned());
        self.asked.lock().unwrap().push((request.into_inner().service, before, Instant::now()));
        match self.failures.lock().unwrap().pop() {
            Some(status) => Err(status),
            None => Ok(tonic::Response::new(HealthCheckResponse::default())),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// A head in any case; then a failure, or a message without an end.
    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let first = self.check(request).await.map(tonic::Response::into_inner);
        let ends = first.is_err();
        let rest =
            if ends { stream::empty().left_stream() } else { stream::pending().right_stream() };
        Ok(tonic::Response::new(Box::pin(stream::iter([first]).chain(rest))))
    }
}

fn unavailable(pushback: Option<&'static str>) -> Status {
    let mut status = Status::unavailable("not now");
    if let Some(pushback) = pushback {
        status.metadata_mut().insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
    }
    status
}

/// Asks a server that fails so through a retrying channel.
async fn check(failures: Vec<Status>) -> (Result<(), Code>, Shaky, RetryLayer) {
    let (shaky, retry) = (Shaky::default(), retry());
    *shaky.failures.lock().unwrap() = failures;
    let server = Server::builder().add_service(HealthServer::new(shaky.clone()));
    let channel = channel(serve_grpc(server).await).await;
    let stack = ServiceBuilder::new()
        .layer(SliLayer::client("health"))
        .layer(TimeoutLayer::new("health", TimeLimit::from_secs(60)).propagate())
        .layer(retry.clone())
        .layer(ThrottleLayer::new("health", buttress::throttle::Settings::new().allowance(9)))
        .service(channel);
    let checked = soon(HealthClient::new(stack).check(ask("a message"))).await;
    (checked.map(|_| ()).map_err(|status| status.code()), shaky, retry)
}

// X25
#[tokio::test]
async fn a_tonic_message_is_sent_again() {
    let (checked, shaky, _) = check(vec![unavailable(None), unavailable(None)]).await;

    assert_eq!(checked, Ok(()));
    let asked = shaky.asked.lock().unwrap();
    let asked: Vec<_> =
        asked.iter().map(|(service, before, _)| (&**service, before.as_deref())).collect();
    assert_eq!(asked, [("a message", None), ("a message", Some("1")), ("a message", Some("2"))]);
}

// R08
#[tokio::test]
async fn a_tonic_client_obeys_pushback() {
    let (checked, shaky, _) = check(vec![unavailable(Some("150"))]).await;
    assert_eq!(checked, Ok(()));
    let asked = shaky.asked.lock().unwrap().clone();
    assert!(asked[1].2 - asked[0].2 >= Duration::from_millis(150));

    let (checked, shaky, retry) = check(vec![unavailable(Some("-1"))]).await;
    assert_eq!(checked, Err(Code::Unavailable));
    assert_eq!(shaky.asked.lock().unwrap().len(), 1);
    assert_eq!(retry.handle().snapshot().stopped(Stop::Pushback), 1);
}

#[tokio::test]
async fn a_code_that_was_not_named_is_passed_on() {
    let (checked, shaky, retry) = check(vec![Status::internal("broken")]).await;

    assert_eq!(checked, Err(Code::Internal));
    assert_eq!(shaky.asked.lock().unwrap().len(), 1);
    assert_eq!(retry.handle().snapshot().stopped(Stop::Final), 1);
}

/// A gRPC server that answers with a head at once, and behind it fails so often, in trailers, when
/// `go` says so.
async fn failing_behind_the_head(failures: usize, go: Option<Arc<Notify>>) -> (SocketAddr, Calls) {
    let calls = Calls::default();
    let count = Arc::clone(&calls);
    let app = Router::new().fallback(move |_: AxumRequest| {
        let fails = count.fetch_add(1, Ordering::Relaxed) < u32::try_from(failures).unwrap();
        let go = go.clone();
        let message = (!fails).then(|| Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 0]))));
        let trailers = async move {
            if let Some(go) = go {
                go.notified().await;
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from(if fails { 14 } else { 0 }));
            Ok::<_, BoxError>(Frame::trailers(trailers))
        };
        async move {
            let frames = stream::iter(message).chain(stream::once(Box::pin(trailers)));
            let response = http::Response::builder().header("content-type", "application/grpc");
            response.body(Body::new(StreamBody::new(frames))).unwrap()
        }
    });
    (serve(app).await, calls)
}

type Calls = Arc<AtomicU32>;

#[tokio::test]
async fn a_call_that_fails_in_trailers_at_once_behind_its_head_is_sent_again() {
    let (address, calls) = failing_behind_the_head(2, None).await;
    let stack = ServiceBuilder::new().layer(retry()).service(channel(address).await);

    let checked = soon(HealthClient::new(stack).check(ask("a message"))).await;

    assert!(checked.is_ok(), "{checked:?}");
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_head_is_not_held_back_for_trailers_that_have_not_come() {
    let go = Arc::new(Notify::new());
    let (address, calls) = failing_behind_the_head(1, Some(Arc::clone(&go))).await;
    // The server goes on once the caller has its head.
    let stack = ServiceBuilder::new()
        .map_response(move |response: http::Response<_>| {
            go.notify_one();
            response
        })
        .layer(retry())
        .service(channel(address).await);

    let checked = soon(HealthClient::new(stack).check(ask("a message"))).await;

    assert_eq!(checked.unwrap_err().code(), Code::Unavailable);
    assert_eq!(calls.load(Ordering::Relaxed), 1, "what was handed out is not sent again");
}

#[tokio::test]
async fn a_tonic_stream_that_fails_before_its_first_message_is_opened_again() {
    let (shaky, retry) = (Shaky::default(), retry());
    *shaky.failures.lock().unwrap() = vec![unavailable(None), unavailable(None)];
    let server = Server::builder().add_service(HealthServer::new(shaky.clone()));
    let channel = channel(serve_grpc(server).await).await;
    let stack = ServiceBuilder::new().layer(retry.clone()).service(channel);

    let stream = soon(HealthClient::new(stack).watch(ask("a stream"))).await.unwrap();

    // The stream has a message and no end.
    assert!(soon(stream.into_inner().message()).await.unwrap().is_some());
    assert_eq!(shaky.asked.lock().unwrap().len(), 3);
    assert_eq!(retry.handle().snapshot().retries(), 2);
}

/// Every world takes the plain layers, in one stack.
#[expect(dead_code, reason = "that it compiles is the test")]
fn plain_layers_fit_everywhere() {
    fn fits<S, R>(_: S)
    where
        S: tower::Service<R>,
    {
    }
    let throttle = || ThrottleLayer::new("t", buttress::throttle::Settings::new());
    let stack = || ServiceBuilder::new().layer(retry()).layer(throttle());
    fits::<_, ::reqwest::Request>(stack().service(http_client()));
    fits::<_, Request<::reqwest::Body>>(stack().service(HttpClient::new(http_client())));
    let unary = tower::service_fn(async |_: tonic::Request<String>| {
        Ok::<_, Status>(tonic::Response::new(()))
    });
    fits::<_, tonic::Request<String>>(stack().service(unary));
    let server = tower::service_fn(async |_: Request<Body>| {
        Ok::<_, Infallible>(http::Response::new(Body::empty()))
    });
    fits::<_, Request<Body>>(stack().service(server));
    let _ = Server::builder().layer(retry()).layer(throttle());
}
