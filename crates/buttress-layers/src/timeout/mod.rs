//! Answers in time: refuses a request whose response takes longer than its caller will wait.
//!
//! Three clocks. *Total* runs from the call to the end of the body, *head* from the call to the
//! response head, *idle* while the body keeps us waiting for its next frame. All of them are
//! anchored where the request is called, so they cover the wait for a busy inner service and for
//! queues further in. A head that comes too late is answered with a [`Rejection`] of kind
//! `TimedOut`: 504, or `DEADLINE_EXCEEDED` for gRPC. A body that takes too long is cut off: a
//! gRPC body ends in trailers with that code, any other breaks with an error, so that nobody
//! takes a part for the whole.
//!
//! # Example
//!
//! ```
//! # use std::time::Duration;
//! # use buttress_core::{BoxError, Kind, Plain, Rejection, TimeLimit};
//! # use buttress_layers::timeout::TimeoutLayer;
//! # use tower::{Service, ServiceBuilder, ServiceExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let mut service = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new("greeter", TimeLimit::from_millis(500)).exchange(Plain))
//!     .service_fn(|seconds: u64| async move {
//!         tokio::time::sleep(Duration::from_secs(seconds)).await;
//!         Ok::<_, BoxError>("hello")
//!     });
//!
//! assert_eq!(service.ready().await?.call(0).await?, "hello");
//!
//! let error = service.ready().await?.call(60).await.unwrap_err();
//! assert_eq!(Rejection::find(&*error).map(Rejection::kind), Some(Kind::TimedOut));
//! # Ok(())
//! # }
//! ```
//!
//! On axum, tonic, hyper and reqwest it is a plain `.layer(..)` without `.exchange(..)`.
//!
//! # Deadlines that travel
//!
//! With [`propagate`](TimeoutLayer::propagate) the caller's deadline is read from `grpc-timeout`
//! or an HTTP header of milliseconds, and the sooner of it and our own limits holds; what is left
//! of it, rounded down, is written for the next hop, and a [`Deadline`](buttress_core::Deadline)
//! is put into the request's extensions. Work whose deadline has passed is refused before it
//! starts. What tonic says when it gives up on such a deadline itself, `Cancelled`, becomes
//! `DEADLINE_EXCEEDED`, with propagation or without.
//!
//! Where deadlines may be wrong, [`refuse_expired_at_most`](TimeoutLayer::refuse_expired_at_most)
//! puts a cap on that: of expired work it refuses a share of what is served, and serves the rest.
//!
//! A deadline is believed, whoever sends it: propagate between services of yours, and not where
//! strangers call. In shadow mode a deadline of the caller's travels on and a limit of ours does
//! not. On a native reqwest request it travels in the header alone.
//!
//! # Sharing
//!
//! One [`TimeoutLayer`] is one set of limits and counts. Every service that it builds and every
//! clone of those shares them; a [`TimeoutHandle`] reads and moves them.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is always ready, because waiting for a busy inner service is part of the time
//! that we limit: the future waits for the very instance that was polled. So load shedding must
//! stand inside this layer; outside of it there is no back-pressure to see. Errors of the inner
//! `poll_ready` are passed on. A dropped future or body drops what is inside, and counts nothing.
//!
//! # Defaults
//!
//! There is none: a request ends after a total limit, or is a stream with a limit to its head and
//! one between its frames ([`Limits::streaming`]). Nothing is propagated unless asked for.
//!
//! A body that keeps its reader waiting allocates its timer, once. Nothing else here allocates,
//! but for propagation.
//!
//! # Panics
//!
//! A call that has to wait panics outside of a tokio runtime with its time driver enabled.
//!
//! # When not to use
//!
//! Around an upload that takes longer than its answer: the total clock runs while the request
//! body is sent too. A body is cut when it is next polled; a server whose client stopped reading
//! does not poll, so a limit on writes belongs to the server.
//!
//! [`Rejection`]: buttress_core::Rejection

mod body;
mod future;
mod handle;
mod layer;
mod limits;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    body::Cut,
    future::ResponseFuture,
    handle::{Arrivals, TimeoutHandle, TimeoutSnapshot},
    layer::TimeoutLayer,
    limits::{Clock, Limits},
    service::Timeout,
};
