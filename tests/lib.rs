//! What the framework tests share: servers on loopback sockets, clients that reach them, a layer
//! that refuses, and the calls that an SLI layer has recorded.

pub mod redis_server;

use std::{
    error::Error,
    future::{Future, Ready, pending, ready},
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use buttress::{
    Auto, BoxError, Facts, Judgement, Kind, Reason, Reject, Rejection, Verdict,
    sli::{Record, SliLayer},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Status,
    service::Routes,
    transport::{Channel, Endpoint, server},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};
use tower::{Layer, Service};

/// Awaits what must happen soon, so that a test which waits in vain fails rather than hangs.
///
/// # Panics
///
/// If it does not happen.
pub async fn soon<F: Future>(what: F) -> F::Output {
    timeout(PATIENCE, what).await.expect("what was awaited did not happen")
}

/// Long enough for the busiest machine; a test that passes never takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves `app` on a port of its own.
///
/// # Panics
///
/// If there is no port to be had.
pub async fn serve(app: Router) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Serves gRPC on a port of its own.
///
/// # Panics
///
/// If there is no port to be had.
pub async fn serve_grpc<L, B>(router: server::Router<L>) -> SocketAddr
where
    L: Layer<Routes> + Send + 'static,
    L::Service: Service<Request<tonic::body::Body>, Response = Response<B>>,
    L::Service: Clone + Send + 'static,
    <L::Service as Service<Request<tonic::body::Body>>>::Future: Send,
    <L::Service as Service<Request<tonic::body::Body>>>::Error: Into<BoxError> + Send,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (listener, address) = listen().await;
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// A listener on a port of its own.
///
/// # Panics
///
/// If there is no port to be had.
pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    (listener, address)
}

/// An address at which connections are refused for as long as the socket is held: it is bound, and
/// does not listen. That of a listener that was dropped may be another's in the next moment.
///
/// # Panics
///
/// If there is no port to be had.
#[must_use]
pub fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = socket.local_addr().expect("a bound socket");
    (socket, address)
}

/// A client with connections of its own, which goes through no proxy.
///
/// # Panics
///
/// If the environment forbids to build one.
#[must_use]
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client without TLS")
}

/// A client that speaks HTTP/2 from the first byte and has no timer.
#[must_use]
pub fn http2_client<B>() -> Client<HttpConnector, B>
where
    B: http_body::Body<Data: Send> + Send,
{
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// A channel to a gRPC server.
///
/// # Panics
///
/// If nobody listens there.
pub async fn channel(address: SocketAddr) -> Channel {
    soon(endpoint(address).connect()).await.expect("a listening server")
}

/// What a [`channel`] is made from.
///
/// # Panics
///
/// Never: an address makes a URI.
#[must_use]
pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("a URI")
}

/// A health service that serves every service but the one named [`NEVER`], about which it is
/// silent for ever; whoever watches gets one message, and then waits.
#[derive(Clone, Copy, Debug)]
pub struct Moody;

/// The service about which [`Moody`] does not answer.
pub const NEVER: &str = "never";

/// Asks for the health of a service.
#[must_use]
pub fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tonic::async_trait]
impl Health for Moody {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        if request.get_ref().service == NEVER {
            pending::<()>().await;
        }
        Ok(tonic::Response::new(serving()))
    }

    type WatchStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let once = stream::once(ready(Ok(serving()))).chain(stream::pending());
        Ok(tonic::Response::new(Box::pin(once)))
    }
}

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}

/// A call that an SLI layer has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it counted as.
    pub judgement: Judgement,
    /// What was known of it.
    pub facts: Facts,
    /// The template of its route.
    pub route: Option<String>,
}

/// The calls that an SLI layer records, in the order in which they end.
#[derive(Debug)]
pub struct Calls(mpsc::UnboundedReceiver<Call>);

impl Calls {
    /// The next call to end.
    ///
    /// # Panics
    ///
    /// If none does.
    pub async fn next(&mut self) -> Call {
        soon(self.0.recv()).await.expect("the sink holds the other end")
    }
}

/// The layer, and the calls that it will record.
#[must_use]
pub fn recorded<X>(layer: SliLayer<X>) -> (SliLayer<X>, Calls) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let layer = layer.sink(move |record: &Record<'_>| {
        // A test that has seen enough has dropped the other end.
        let _ = sender.send(Call {
            judgement: record.judgement,
            facts: record.facts,
            route: record.route.map(str::to_owned),
        });
    });
    (layer, Calls(receiver))
}

/// A call that got what was promised, as its status says.
pub const GOOD: Judgement = Judgement::new(Verdict::Good, Reason::Status);

/// What refused a call, and the name of the layer that did.
#[must_use]
pub fn refused_by<'a>(error: &'a (dyn Error + 'static)) -> Option<(Kind, &'a str)> {
    let rejection = Rejection::find(error)?;
    Some((rejection.kind(), rejection.layer()))
}

/// A call that did not.
#[must_use]
pub const fn bad(reason: Reason) -> Judgement {
    Judgement::new(Verdict::Bad, reason)
}

/// A call that counts for nothing.
#[must_use]
pub const fn excluded(reason: Reason) -> Judgement {
    Judgement::new(Verdict::Excluded, reason)
}

/// Refuses every request with one rejection, as layers do that have a reason.
#[derive(Clone, Debug)]
pub struct RefuseLayer(pub Rejection);

impl<S> Layer<S> for RefuseLayer {
    type Service = Refuse<S>;

    fn layer(&self, inner: S) -> Refuse<S> {
        Refuse { inner, rejection: self.0.clone() }
    }
}

/// The service that [`RefuseLayer`] builds.
#[derive(Clone, Debug)]
pub struct Refuse<S> {
    inner: S,
    rejection: Rejection,
}

impl<S, R> Service<R> for Refuse<S>
where
    S: Service<R>,
    Auto: Reject<R, S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = <Auto as Reject<R, S::Response, S::Error>>::Error;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| Reject::<R, S::Response, S::Error>::inner(&Auto, error))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let context = Reject::<R, S::Response, S::Error>::context(&Auto, &request);
        ready(Auto.reject(context, self.rejection.clone()))
    }
}
