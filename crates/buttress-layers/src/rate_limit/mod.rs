//! Refuses requests that come faster than a rate, or lets them wait for their turn.
//!
//! A request takes a token, or as many as it costs, from a bucket that fills up at a
//! [`Rate`](buttress_core::Rate). One that finds too few is refused with a [`Rejection`] of kind
//! `RateLimited`, 429 or `RESOURCE_EXHAUSTED`, that says when to come again: exact but for a
//! nanosecond, to which it is rounded up. Put this layer outside anything that queues, so that
//! excess load is turned away before it takes up room.
//!
//! # Example
//!
//! ```
//! # use std::time::Duration;
//! # use buttress_core::{BoxError, Kind, Plain, Rate, Rejection};
//! # use buttress_layers::rate_limit::RateLimitLayer;
//! # use tower::{Service, ServiceBuilder, ServiceExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let once_a_second = Rate::per_second(1.try_into()?);
//! let mut service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new("greeter", once_a_second).exchange(Plain))
//!     .service_fn(|name: &'static str| async move { Ok::<_, BoxError>(format!("hello {name}")) });
//!
//! assert_eq!(service.ready().await?.call("ada").await?, "hello ada");
//!
//! // The bucket held one token, so the second call in the same second is refused.
//! let error = service.ready().await?.call("bob").await.unwrap_err();
//! let refused = Rejection::find(&*error).expect("too soon");
//! assert_eq!(refused.kind(), Kind::RateLimited);
//! assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
//!
//! // Who waits for that long, and no longer, is admitted.
//! tokio::time::advance(Duration::from_secs(1)).await;
//! assert_eq!(service.ready().await?.call("bob").await?, "hello bob");
//! # Ok(())
//! # }
//! ```
//!
//! On axum, tonic, hyper and reqwest it is a plain `.layer(..)` without `.exchange(..)`.
//!
//! # One for each
//!
//! [`keyed`](RateLimitLayer::keyed) keeps a bucket for each key that it finds in a request:
//! [`key::client_address`](buttress_core::http::key::client_address), which is not fooled by what a
//! client writes into `X-Forwarded-For`, an API key, a route. [`within`](RateLimitLayer::within)
//! limits all keys together in the same decision: a request gets of its own bucket and of the
//! common one, or of neither.
//!
//! ```
//! # use std::net::SocketAddr;
//! # use buttress_core::{BoxError, Rate, http::{TrustedProxies, key}};
//! # use buttress_layers::rate_limit::RateLimitLayer;
//! # use http::{Request, Response};
//! # use tower::{Service, ServiceBuilder, ServiceExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // Five a second and a thousand a day, which may come at once, for each client, and a hundred a second for all of them.
//! // Our own load balancers say whom they have seen; nobody else is believed.
//! let each = [Rate::per_second(5.try_into()?), Rate::per_day(1_000.try_into()?)];
//! let proxies = TrustedProxies::parse(["10.0.0.0/8"])?;
//! let limit = RateLimitLayer::several("clients", each)
//!     .keyed(key::client_address(proxies))
//!     .within([Rate::per_second(100.try_into()?)]);
//! let clients = limit.handle();
//!
//! // On axum: `Router::new().route(..).layer(limit)`, served with
//! // `into_make_service_with_connect_info::<SocketAddr>()`.
//! let mut service = ServiceBuilder::new().layer(limit).service_fn(|_: Request<String>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
//! });
//! let mut statuses = Vec::new();
//! for client in ["203.0.113.1"; 6].into_iter().chain(["203.0.113.2"]) {
//!     let mut request = Request::new(String::new());
//!     request.extensions_mut().insert(SocketAddr::from(([10, 0, 0, 1], 443)));
//!     // What the client itself has written stands before what our load balancer saw.
//!     request.headers_mut().insert("x-forwarded-for", format!("6.6.6.6, {client}").parse()?);
//!     statuses.push(service.ready().await?.call(request).await?.status().as_u16());
//! }
//!
//! assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 200]);
//! assert_eq!(clients.known(), 2);
//! let ada = Some("203.0.113.1".parse()?);
//! assert_eq!(clients.peek(&ada).map(|peek| peek.available), Some(0));
//! # Ok(())
//! # }
//! ```
//!
//! Keys come from strangers. They are hashed with a seed of the layer's own, as the standard
//! library does, and there are never more than [`capacity`](RateLimitLayer::capacity). Who comes with a
//! key of its own invention each time has a full bucket each time: key by what has been checked, and
//! let [`within`](RateLimitLayer::within) bound what all of them get. When there is room for no more,
//! whoever of a few has the most left is forgotten, so that a flood of keys locks nobody out;
//! [`WhenFull::Strict`] has it the other way round: nobody ever gets more than the rate, and a flood
//! locks out who is not known. Behind a load balancer that is not among the trusted, all clients are
//! one; and where nothing says who has connected, too, which an event tells of.
//!
//! # The last of the bucket
//!
//! [`reserve_for`](RateLimitLayer::reserve_for) keeps the last tokens for requests that are
//! critical enough, by the [`Criticality`](buttress_core::Criticality) that a
//! [bulkhead](crate::bulkhead) reads and passes on; [`reserve`](RateLimitLayer::reserve) asks a
//! closure.
//!
//! # Waiting
//!
//! With [`wait`](RateLimitLayer::wait) a request that finds too little joins a queue, by order of
//! arrival: a newcomer does not pass who waits, not even with a token there. One whose turn would
//! not come in time, by the limit or by a [`timeout`](crate::timeout) around this layer, is refused
//! at once and does not wait for nothing. With [`within`](RateLimitLayer::within) it waits for its
//! own bucket first, and then in line with those of other keys for the common one. Timers are as fine as a millisecond; a burst that holds
//! less than the rate yields in two of them lets in fewer than the rate allows.
//!
//! # What callers are told
//!
//! Who is refused is told when to come again: in `Retry-After`, in `grpc-retry-pushback-ms`, or in
//! the [`Rejection`]. Who asks for more than may ever come at once is told so instead, by
//! `grpc-retry-pushback-ms: -1` and [`is_hopeless`](buttress_core::Rejection::is_hopeless), and by no
//! `Retry-After`. What [`bypass`](RateLimitLayer::bypass) lets through takes nothing and is told
//! nothing. With
//! [`headers`](RateLimitLayer::headers) every response says what the limits are and what is left.
//!
//! # What is promised
//!
//! In any span of time `t` no more is admitted than the burst and what the rate yields in `t`; a
//! wait is never early. There is no window, and so no boundary at which two bursts meet. A clock
//! that goes backwards mints nothing, and neither does a change of the rate.
//!
//! # Sharing
//!
//! One [`RateLimitLayer`] is one bucket. Every service that it builds and every clone of those
//! draws from it, so the limit holds for a server whose stack is cloned for each connection. For
//! separate limits make separate layers.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is the inner service's own; the token is taken in `call`, so a service that was
//! made ready and is dropped costs nothing. Who waits, waits in the future, on the very instance
//! that was made ready. A response future that is dropped while it waits gives its place to who is
//! behind it; one that was let in does not give back its token: the request has started. A
//! [`RateLimitHandle`] can [refund](RateLimitHandle::refund) it.
//!
//! # Defaults
//!
//! Nobody waits, each request costs one, and a [`Rate`](buttress_core::Rate) without a burst of
//! its own allows all events of its period at once.
//!
//! # Panics
//!
//! A call that has to wait panics outside of a tokio runtime with its time driver enabled.
//!
//! # When not to use
//!
//! To protect a service from more work than it can do at once: how much that is, is a matter of
//! how long the work takes, and a bulkhead knows it. The limit is that of one process; a fleet of
//! ten admits ten times as much.
//!
//! [`Rejection`]: buttress_core::Rejection

mod announce;
mod common;
mod counts;
mod future;
mod handle;
mod keyed;
mod keyed_handle;
mod keys;
mod layer;
mod pool;
mod service;
mod shard;
mod weigh;
mod words;

#[cfg(test)]
mod tests;

pub use self::{
    announce::{Announce, Headers, Silent},
    common::{Admission, Told},
    counts::{Refusal, Totals},
    future::ResponseFuture,
    handle::RateLimitHandle,
    keyed::Keyed,
    keyed_handle::KeyedRateLimitHandle,
    keys::WhenFull,
    layer::{Plan, RateLimitLayer},
    pool::{One, Pool, Seat},
    service::RateLimit,
    weigh::{Bypass, Cost, Each, Reserve, ReserveFor, Weigh},
};
