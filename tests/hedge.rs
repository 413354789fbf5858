//! Hedges against real servers: who loses is seen to leave, uploads and messages are sent again,
//! and what is too long is sent once.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request as AxumRequest, routing::any};
use buttress::{
    TimeLimit,
    hedge::{Delay, Fate, HedgeLayer, HedgeSnapshot, Settings, Unhedged},
    reqwest::HttpClient,
    retry::{self, Budget, RetryLayer},
    throttle::ThrottleLayer,
    timeout::TimeoutLayer,
};
use buttress_tests::{ask, channel, http_client, http2_client, serve, serve_grpc, soon};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::Request;
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::sync::Notify;
use tonic::{Status, transport::Server};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{ServiceBuilder, ServiceExt};

/// Soon enough for a test. It begins when the first call was read: see [`Stuck::hold_the_clock`].
fn hedge() -> HedgeLayer {
    let settings = Settings::new(Delay::fixed(Duration::from_millis(100)));
    let settings = settings.budget(Budget::unlimited()).call("/grpc.health.v1.Health/Check");
    HedgeLayer::new("upstream", settings)
}

/// How many bytes were read of a request, and what it said of earlier attempts.
type Read = (usize, Option<String>);

/// A server whose first call hangs once it was read, and is seen to be cancelled.
#[derive(Clone, Default)]
struct Stuck {
    calls: Arc<AtomicU32>,
    read: Arc<Mutex<Vec<Read>>>,
    /// Lets the clock go on.
    clock: Arc<Mutex<Option<mpsc::Sender<()>>>>,
    cancelled: Arc<Notify>,
}

/// Tells when a call that hangs is dropped.
struct Guard(Arc<Notify>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Stuck {
    fn new() -> Self {
        let this = Self::default();
        this.hold_the_clock();
        this
    }

    /// Holds it until the next call that hangs was read. However slow a machine is, a hedge does not
    /// fire before: it might overtake the call, or find its body unfinished.
    fn hold_the_clock(&self) {
        let (held, waits) = mpsc::channel();
        tokio::time::pause();
        // Meanwhile a clock that stands still does not go on to the next timer either.
        tokio::task::spawn_blocking(move || waits.recv_timeout(Duration::from_secs(20)));
        *self.clock.lock().unwrap() = Some(held);
    }

    async fn takes(&self, bytes: usize, attempt: Option<String>) {
        self.read.lock().unwrap().push((bytes, attempt));
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            if let Some(held) = self.clock.lock().unwrap().take() {
                tokio::time::resume();
                drop(held);
            }
            let _guard = Guard(Arc::clone(&self.cancelled));
            pending::<()>().await;
        }
    }

    fn app(&self) -> Router {
        let this = self.clone();
        Router::new().route(
            "/",
            any(move |request: AxumRequest| {
                let this = this.clone();
                async move {
                    let said = request.headers().get("x-retry-attempt");
                    let said = said.map(|value| value.to_str().unwrap().to_owned());
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    this.takes(body.len(), said).await;
                    "hello"
                }
            }),
        )
    }

    /// The first call is gone, and there was one after it, which said so.
    async fn was_hedged(&self, bytes: usize, layer: &HedgeLayer) {
        soon(self.cancelled.notified()).await;
        assert_eq!(*self.read.lock().unwrap(), [(bytes, None), (bytes, Some("1".to_owned()))]);
        let snapshot = layer.handle().snapshot();
        assert_eq!((snapshot.fired(), snapshot.ended(Fate::Won)), (1, 1));
    }
}

fn upload(bytes: usize) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + Sync {
    stream::iter((0..bytes / 1024).map(|_| Ok(Bytes::from_static(&[7; 1024]))))
}

fn get<B: Default>(address: SocketAddr) -> Request<B> {
    Request::get(format!("http://{address}/")).body(B::default()).unwrap()
}

#[tokio::test]
async fn a_server_sees_the_call_of_a_hyper_client_that_lost_being_cancelled() {
    let (stuck, hedge) = (Stuck::new(), hedge());
    let address = serve(stuck.app()).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let stack = ServiceBuilder::new().layer(hedge.clone()).service(client);

    let answer = soon(stack.oneshot(get(address))).await.unwrap();

    stuck.was_hedged(0, &hedge).await;
    // The body of the winner is all there.
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn over_http2_the_stream_that_lost_is_reset_and_its_connection_is_kept() {
    let (stuck, hedge) = (Stuck::new(), hedge());
    let address = serve(stuck.app()).await;
    let stack = ServiceBuilder::new().layer(hedge.clone()).service(http2_client::<Body>());

    let answer = soon(stack.clone().oneshot(get(address))).await.unwrap();
    stuck.was_hedged(0, &hedge).await;

    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(soon(stack.oneshot(get(address))).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_server_sees_the_call_of_a_reqwest_client_that_lost_being_cancelled() {
    let (stuck, hedge) = (Stuck::new(), hedge());
    let address = serve(stuck.app()).await;
    let stack = ServiceBuilder::new().layer(hedge.clone()).service(http_client());
    let request = http_client().get(format!("http://{address}/")).build().unwrap();

    let answer = soon(stack.oneshot(request)).await.unwrap();

    stuck.was_hedged(0, &hedge).await;
    assert_eq!(answer.text().await.unwrap(), "hello");
}

// X25, for hedges
#[tokio::test]
async fn an_upload_of_50_kib_is_streamed_again_and_one_of_a_mebibyte_is_not() {
    let (stuck, hedge) = (Stuck::new(), hedge());
    let address = serve(stuck.app()).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let stack = ServiceBuilder::new().layer(hedge.clone()).service(client);
    let post = |bytes| {
        let post = Request::post(format!("http://{address}/")).header("idempotency-key", "7f3a");
        post.body(Body::from_stream(upload(bytes))).unwrap()
    };

    assert_eq!(soon(stack.clone().oneshot(post(50 * 1024))).await.unwrap().status(), 200);
    stuck.was_hedged(50 * 1024, &hedge).await;

    // This one hangs with nobody coming to its aid, until its caller gives up.
    stuck.calls.store(0, Ordering::Relaxed);
    stuck.read.lock().unwrap().clear();
    stuck.hold_the_clock();
    let call = stack.oneshot(post(1024 * 1024));
    let unhedged = |snapshot: HedgeSnapshot| snapshot.unhedged(Unhedged::BodyTooLarge);
    let handle = hedge.handle();
    let counted = async {
        while unhedged(handle.snapshot()) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = call => panic!("it hangs"),
        () = soon(counted) => {}
    }
    soon(stuck.cancelled.notified()).await;
    assert_eq!(*stuck.read.lock().unwrap(), [(1024 * 1024, None)]);
}

#[tokio::test]
async fn the_adapter_of_reqwest_is_hedged_too() {
    let (stuck, hedge) = (Stuck::new(), hedge());
    let address = serve(stuck.app()).await;
    let client = HttpClient::new(http_client());
    let stack = ServiceBuilder::new().layer(hedge.clone()).service(client);
    let request = Request::put(format!("http://{address}/"));
    let request = request.body(::reqwest::Body::wrap_stream(upload(2048))).unwrap();

    assert_eq!(soon(stack.oneshot(request)).await.unwrap().status(), 200);

    stuck.was_hedged(2048, &hedge).await;
}

#[tonic::async_trait]
impl Health for Stuck {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let said = request.metadata().get("grpc-previous-rpc-attempts");
        let said = said.map(|value| value.to_str().unwrap().to_owned());
        self.takes(request.into_inner().service.len(), said).await;
        Ok(tonic::Response::new(HealthCheckResponse::default()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches"))
    }
}

#[tokio::test]
async fn a_tonic_server_sees_the_call_that_lost_being_cancelled() {
    let (stuck, hedge) = (Stuck::new(), hedge());
    let server = Server::builder().add_service(HealthServer::new(stuck.clone()));
    let channel = channel(serve_grpc(server).await).await;
    // All that may stand around it and inside of it.
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new("health", TimeLimit::from_secs(60)).propagate())
        .layer(RetryLayer::new("health", retry::Settings::default()))
        .layer(hedge.clone())
        .layer(ThrottleLayer::new("health", buttress::throttle::Settings::new()))
        .service(channel);

    soon(HealthClient::new(stack).check(ask("a message"))).await.unwrap();

    stuck.was_hedged("a message".len(), &hedge).await;
}

#[tokio::test]
async fn a_plain_layer_hedges_on_an_axum_router() {
    let (stuck, hedge) = (Stuck::new(), hedge());
    let address = serve(stuck.app().layer(hedge.clone())).await;

    let response = soon(http_client().get(format!("http://{address}/")).send()).await.unwrap();

    assert_eq!(response.status(), 200);
    stuck.was_hedged(0, &hedge).await;
}

/// Every world takes the plain layer, with room for several.
#[expect(dead_code, reason = "that it compiles is the test")]
fn plain_layers_fit_everywhere() {
    fn fits<S, R>(_: S)
    where
        S: tower::Service<R>,
    {
    }
    let stack = || ServiceBuilder::new().layer(hedge()).layer(hedge().extra::<4>());
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
    let _ = Server::builder().layer(hedge());
}
