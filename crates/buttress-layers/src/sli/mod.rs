//! Records what callers got: good, bad or excluded, how long it took, per route.
//!
//! A call is judged at its end, which is the end of the response's body: a stream that breaks
//! after its head was out is bad, and a gRPC status is in the trailers. Calls that end in an
//! error, a panic or by being dropped are judged too, each exactly once. The layer refuses
//! nothing and changes no error; it counts, and hands each call to any number of [`Sink`]s.
//!
//! # Example
//!
//! ```
//! # use buttress_core::BoxError;
//! use std::convert::Infallible;
//! use buttress_layers::sli::SliLayer;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = SliLayer::server("shop");
//! let handle = layer.handle();
//! let mut service = ServiceBuilder::new().layer(layer).service_fn(|request: Request<()>| async move {
//!     let status = if request.uri().path() == "/" { 200 } else { 500 };
//!     Ok::<_, Infallible>(Response::builder().status(status).body(Full::new(&b"hello"[..])).unwrap())
//! });
//!
//! for path in ["/", "/", "/broken"] {
//!     let request = Request::get(path).body(())?;
//!     let response = service.ready().await?.call(request).await?;
//!     response.into_body().collect().await?;
//! }
//!
//! assert_eq!((handle.counts().good, handle.counts().bad), (2, 1));
//! # Ok(())
//! # }
//! ```
//!
//! # What counts as what
//!
//! [`StatusRules::DEFAULT`](buttress_core::http::StatusRules) unless `.judge(..)` says otherwise:
//! 5xx, errors, broken bodies, missed deadlines and panics are bad, 4xx is excluded, the rest is
//! good. A handler that knows better puts a [`Verdict`](buttress_core::Verdict) into its
//! response's extensions.
//!
//! A [`server`](SliLayer::server) excludes calls whose client left, unless it left because we
//! were late: past its `grpc-timeout` (less a tenth, at most 50 ms, by which its clock may be
//! ahead of ours), or past [`late_after`](SliLayer::late_after). A
//! [`client`](SliLayer::client) keeps the head's verdict when its caller drops the body: that one
//! had what it wanted.
//!
//! An answer that somebody else gave in the service's stead, as a [`fallback`](crate::fallback)
//! does, is judged as what it is, mostly good, and counted beside: [`SliHandle::degraded`]. With
//! [`degraded_is_bad`](SliLayer::degraded_is_bad) it is bad.
//!
//! # Routes
//!
//! Counts are kept per route template: axum's `MatchedPath`, the method of a gRPC call, or a
//! [`Route`](buttress_core::Route) in the request's extensions. Never a raw path. There is room
//! for [`DEFAULT_ROUTES`] of them unless [`SliLayer::server_with_routes`] says otherwise; what comes
//! after that counts as `__other__`, and an event says so. A gRPC method takes up room on a server
//! only once a service has answered for it, with a stream or with `OK`, so no caller can fill the
//! table with names it made up. Name those that only ever fail with [`SliLayer::routes`].
//!
//! Latency objectives are exact when they count through a [`Sink`]: the histograms here are of the
//! total, in fixed buckets.
//!
//! # Sharing
//!
//! One [`SliLayer`] is one set of counts. Every service that it builds and every clone of those
//! counts into it. An [`SliHandle`] reads it.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is the inner service's own, and what fails there is no call. A call that is
//! dropped ends there and then, as above. A panic that unwinds through our call or poll of the
//! inner service is bad, and goes on; so is one of a classifier or a sink, after the call has been counted.
//!
//! # When not to use
//!
//! Outside of a layer that answers for others, such as a cache whose answers you do not want to
//! count. Around endless streams the total says nothing: judge by the time to the head.

mod future;
mod handle;
mod layer;
mod recording;
mod routes;
mod service;
mod sink;

#[cfg(test)]
mod tests;

pub use self::{
    future::ResponseFuture,
    handle::{Counts, RouteCounts, SeriesCounts, SliHandle, SliSnapshot},
    layer::SliLayer,
    recording::Recording,
    routes::{DEFAULT_ROUTES, OTHER, Series},
    service::Sli,
    sink::{Record, Sink},
};
