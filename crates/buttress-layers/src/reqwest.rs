//! Makes a [`reqwest::Client`] an ordinary service of `http` requests.
//!
//! reqwest is a Tower service of its own request type, and every layer of buttress stacks on it
//! as it is. Layers of other crates want `http` requests, and so do extensions: a
//! [`Route`](buttress_core::Route) or a deadline travels in an `http` request but not in reqwest's.
//!
//! # Example
//!
//! ```
//! # use buttress_core::{BoxError, TimeLimit};
//! use buttress_layers::{reqwest::HttpClient, sli::SliLayer, timeout::TimeoutLayer};
//! use http::Request;
//! use reqwest::Body;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let client = HttpClient::build(reqwest::Client::builder()).unwrap();
//! let mut service = ServiceBuilder::new()
//!     .layer(SliLayer::client("catalogue"))
//!     .layer(TimeoutLayer::new("catalogue", TimeLimit::from_secs(2)).propagate())
//!     .service(client);
//!
//! let nobody_listens = Request::get("http://127.0.0.1:1/").body(Body::default()).unwrap();
//! let error: BoxError = service.ready().await.unwrap().call(nobody_listens).await.unwrap_err();
//! assert!(error.downcast_ref::<reqwest::Error>().is_some_and(|error| error.is_connect()));
//! # }
//! ```
//!
//! # Retries
//!
//! reqwest sends a request again by itself, up to twice and without a budget, when an HTTP/2
//! server refused the stream or said goodbye. A retry layer around it does not see these, so its
//! attempts multiply with them. [`HttpClient::build`] and [`client`] switch them off, whatever the
//! builder was told before; a client that was built already has them, and nothing can be done
//! about it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project::pin_project;
use reqwest::{Body, Client, ClientBuilder, Error};
use tower_service::Service;

/// A [`reqwest::Client`] as a service of `http::Request<reqwest::Body>`.
///
/// Not of any body that reqwest could take: with a choice, `service.ready()` cannot tell which is
/// meant. See the [module docs](self) for an example.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client,
}

impl HttpClient {
    /// Adapts `client`, which goes on sending again by itself what it did before: see
    /// [`HttpClient::build`].
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Builds a client that sends each request once, and adapts it.
    ///
    /// # Errors
    ///
    /// When reqwest cannot build it.
    pub fn build(builder: ClientBuilder) -> Result<Self, Error> {
        client(builder).map(Self::new)
    }
}

/// Builds a client that sends each request once: retries are left to a layer, whose counts and
/// budget so are of all there are.
///
/// ```
/// let client = buttress_layers::reqwest::client(reqwest::Client::builder())?;
/// # let _ = client;
/// # Ok::<_, reqwest::Error>(())
/// ```
///
/// # Errors
///
/// When reqwest cannot build it.
pub fn client(builder: ClientBuilder) -> Result<Client, Error> {
    builder.retry(reqwest::retry::never()).build()
}

impl Service<Request<Body>> for HttpClient {
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        let state = match reqwest::Request::try_from(request) {
            Ok(request) => State::Sent(self.client.call(request)),
            Err(error) => State::Unfit(Some(error)),
        };
        ResponseFuture { state }
    }
}

/// The response of an [`HttpClient`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    #[pin]
    state: State,
}

#[pin_project(project = StateProj)]
enum State {
    Sent(#[pin] <Client as Service<reqwest::Request>>::Future),
    /// The URI is none that reqwest can call.
    Unfit(Option<Error>),
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Sent(response) => response.poll(cx).map_ok(Into::into),
            StateProj::Unfit(error) => {
                Poll::Ready(Err(error.take().expect("polled after completion")))
            }
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
