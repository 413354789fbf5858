//! Limits how many requests are under way at once.
//!
//! A request that comes while as many are under way as may be waits in line, if there is a queue
//! with room, or is refused at once with a [`Rejection`] of kind `Overloaded`: 503, or
//! `UNAVAILABLE` for gRPC. Who has waited as long as it may is refused with the kind
//! `QueueTimedOut`. Both are told when a place is likely to be free, by how fast places have come
//! free of late. A place is held to the end of the response's body, because a stream is work as
//! long as it lasts.
//!
//! # Example
//!
//! ```
//! # use buttress_core::{BoxError, Kind, Plain, Rejection};
//! # use buttress_layers::bulkhead::BulkheadLayer;
//! # use tower::{Service, ServiceBuilder, ServiceExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let mut service = ServiceBuilder::new()
//!     .layer(BulkheadLayer::new("reports", 1.try_into()?).exchange(Plain))
//!     .service_fn(|name: &'static str| async move { Ok::<_, BoxError>(format!("hello {name}")) });
//!
//! let first = service.ready().await?.call("ada");
//!
//! // One is under way, so the second is refused.
//! let refused = service.ready().await?.call("bob").await.unwrap_err();
//! assert_eq!(Rejection::find(&*refused).map(Rejection::kind), Some(Kind::Overloaded));
//!
//! assert_eq!(first.await?, "hello ada");
//! assert_eq!(service.ready().await?.call("bob").await?, "hello bob");
//! # Ok(())
//! # }
//! ```
//!
//! On axum, tonic, hyper and reqwest it is a plain `.layer(..)` without `.exchange(..)`.
//!
//! # Waiting
//!
//! With [`queue`](BulkheadLayer::queue) so many requests wait in line, each for as long as
//! [`wait`](BulkheadLayer::wait) says and its caller's deadline allows. They come in by the order
//! in which they came: a place that is given back is handed to the first, and no newcomer
//! takes it from under its nose. Who leaves the queue leaves no hole.
//!
//! # Who comes first
//!
//! [`partitions`](BulkheadLayer::partitions) keep a share of the limit for each part of the
//! traffic. What is idle of a share others may borrow; a part below its share gets what they give
//! back before any of them. If it was refused, for want of a queue, a place is kept for it for a
//! second. The limit is never exceeded, unless the partitions
//! [`overcommit`](Partitions::overcommit).
//!
//! With [`criticality`](BulkheadLayer::criticality) what is [sheddable] is refused
//! while there is still room for the rest: sheddable requests when 60 % of all room, inside and in
//! the queue, are taken, sheddable plus at 80 %. When the queue is full a newcomer takes the place
//! of a waiter that is less critical: the last of the least critical goes. Who waits and is not
//! displaced keeps its turn, whatever its class, so nobody starves.
//!
//! With [`leeway`](BulkheadLayer::leeway) somebody else makes what is shed less still, such as an
//! error budget that burns: see [`slo`](crate::slo).
//!
//! What a header says of its criticality is believed, whoever sends it: have your edge strip it
//! from what strangers send.
//!
//! With [`bypass`](BulkheadLayer::bypass) named traffic takes no place at all.
//!
//! # A limit that moves
//!
//! [`adaptive`](BulkheadLayer::adaptive) moves the limit with what is measured: with drops
//! ([`Aimd`]) or with the time for which places are held ([`Gradient2`]). A call that is dropped
//! before its response, or that fails for want of time or room further in, is a drop; a call that
//! fails otherwise is not measured. Neither rule grows a limit of which less than half is used.
//!
//! # Sharing
//!
//! One [`BulkheadLayer`] is one limit. Every service that it builds and every clone of those
//! shares it, so it holds for a server that clones its stack per connection. For separate limits,
//! make separate layers. A [`BulkheadHandle`] reads and moves it.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is the inner service's own and takes nothing; the place is taken in `call`, and
//! waited for in the response future, on the very instance that was ready. A response future or a
//! body that is dropped gives its place back at once, to the next in line; so does a panic. What
//! is inside is dropped first.
//!
//! # Defaults
//!
//! No queue: a request that finds no room is refused at once. With a queue a request waits for 1 s
//! at most. A place is held to the end of the body; [`until_head`](BulkheadLayer::until_head) gives
//! it back sooner. `Retry-After` says 1 s before anything has been measured, and never more than
//! a minute.
//!
//! # Panics
//!
//! A call that has to wait panics outside of a tokio runtime with its time driver enabled.
//!
//! # When not to use
//!
//! To limit a rate: a bulkhead does not care how often requests come, only how many there are at
//! once. Around endless streams, unless each is to hold its place for good.
//!
//! [`Rejection`]: buttress_core::Rejection
//! [sheddable]: buttress_core::Criticality::Sheddable

mod future;
mod handle;
mod layer;
mod permit;
mod service;
mod triage;

#[cfg(test)]
mod tests;

pub use self::{
    future::ResponseFuture,
    handle::{BulkheadHandle, BulkheadSnapshot, PartitionSnapshot},
    layer::BulkheadLayer,
    permit::Permit,
    service::Bulkhead,
    triage::{Bypass, Divided, Everyone, Findings, Ranked, Shedding, Triage},
};
pub use buttress_core::bulkhead::{Adaptive, Aimd, Gradient2, Partitions, Refusal};
