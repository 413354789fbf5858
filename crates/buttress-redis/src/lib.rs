//! Rate limits that a whole fleet shares, on Redis 7 or Valkey.
//!
//! [`FleetLimitLayer`] is the rate limit of `buttress` with its buckets in a [`Store`] that all
//! processes ask: [`RedisStore`], or one of your own. A request is refused as there, with a
//! [`Rejection`](buttress_core::Rejection) of kind `RateLimited` that says when to come again, and
//! the layer goes wherever that one goes. What it promises depends on how it asks, and what it does
//! when nobody answers is yours to choose and there to be seen.
//!
//! # Example
//!
//! ```
//! # use std::time::Duration;
//! # use buttress_core::{BoxError, Plain, Rate, Rejection};
//! # use buttress_redis::{FleetLimitLayer, MemoryStore, Settings};
//! # use tower::{Service, ServiceBuilder, ServiceExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // In a service: RedisStore::open("redis://127.0.0.1:6379/")?.
//! let store = MemoryStore::new();
//! let once_a_second = Rate::per_second(1.try_into()?);
//! // Two processes, each with a layer of its own.
//! let [mut here, mut there] = [(); 2].map(|()| {
//!     let limit = FleetLimitLayer::new("greeter", once_a_second, Settings::strict(), store.clone());
//!     ServiceBuilder::new().layer(limit.exchange(Plain)).service_fn(
//!         |name: &'static str| async move { Ok::<_, BoxError>(format!("hello {name}")) },
//!     )
//! });
//!
//! assert_eq!(here.ready().await?.call("ada").await?, "hello ada");
//!
//! // The bucket held one token, wherever it is asked for.
//! let error = there.ready().await?.call("bob").await.unwrap_err();
//! let refused = Rejection::find(&*error).expect("too soon");
//! assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
//! # Ok(())
//! # }
//! ```
//!
//! On axum, tonic, hyper and reqwest it is a plain `.layer(..)` without `.exchange(..)`, and
//! [`keyed`](FleetLimitLayer::keyed), [`cost`](FleetLimitLayer::cost),
//! [`reserve`](FleetLimitLayer::reserve), [`reserve_for`](FleetLimitLayer::reserve_for),
//! [`bypass`](FleetLimitLayer::bypass) and [`headers`](FleetLimitLayer::headers) are those of the
//! local rate limit, and so are [`peek`](FleetLimitHandle::peek) and
//! [`refund`](FleetLimitHandle::refund), which ask the store. What the local one has and this one has
//! not:
//!
//! - `wait`, since a turn that comes is not known to the other processes: see below.
//! - `within`, what all keys have together: a script decides in one step over keys of one slot of a
//!   cluster, and the keys of a layer lie in as many slots as there are. Put a second layer without
//!   keys outside this one; what passes that and is refused here has taken from that one, whose
//!   [`refund`](FleetLimitHandle::refund) gives it back.
//! - `drain`, to empty a bucket, and `capacity` by a method: see [`Settings::capacity`].
//!
//! # Strict, or leased
//!
//! | | [`Settings::strict`] | [`Settings::leased`] |
//! |---|---|---|
//! | asks the store | for each request | for a batch, sized by demand |
//! | admits in any time `t` | burst + rate x t, across the fleet, never more | and at the most [`Lease::over_admission`] more: what was leased before `t` began |
//! | adds to a request | a round trip | a short lock, where a lease holds |
//! | allocates | 15 times a request, the client library's part included | nothing where a lease holds |
//! | for | few and dear requests: logins, payments, days' quotas | many and cheap ones |
//!
//! A script decides in one step, with all limits of a layer: it takes from all buckets of a key or
//! from none. Time is the server's, in microseconds, so clocks of processes do not matter. Numbers
//! are whole ones within the 2^53 that Lua counts to, and where a rate does not fit it is made
//! slower, never faster: see [`Scale`]. A server's clock that goes backwards mints nothing; the
//! bucket fills on when it has come back to where it was. A wait that is told is exact but for a
//! microsecond, to which it is rounded up.
//!
//! A lease is used by the clock of its process, from when it was asked for, so it never lasts longer
//! than it may, and a process that was stopped meanwhile finds it lapsed. What is leased and not used lapses; [`FleetLimitHandle::give_back`] gives it back. A
//! request that finds nothing leased asks for a batch itself, and others wait for the same answer;
//! a bucket that is known to be dry is not asked again before it can have enough, or a lease's time
//! has passed. Nothing is spawned here: [`FleetLimitHandle::run`], which you spawn, has batches
//! fetched before they are needed.
//!
//! # When the store does not answer
//!
//! A request waits for the store for [`Settings::within`] and no longer, whether it is slow, gone, or
//! being connected to. Three failures in a row open a circuit, and from then on nobody waits: what
//! decides is an [`Outage`], until a probe is answered.
//!
//! | [`Outage`] | meanwhile | across the fleet |
//! |---|---|---|
//! | `Share`, the default | each process admits rate / replicas by a bucket of its own; the whole rate where nobody runs [`run`](FleetLimitHandle::run) and no replicas were given | the rate, but for one burst when it begins, one when it ends, and what both admit while some processes know and others do not yet |
//! | `Open` | all are admitted | no limit |
//! | `Closed` | all are refused, with 503 or `UNAVAILABLE` | nothing |
//!
//! Replicas are given, or counted by what each says in the store once a second while its
//! [`run`](FleetLimitHandle::run) runs: without that they are as many as was said at first, by default
//! one, and each process admits the whole rate, which the first decision of an outage tells
//! observers of. Spawn it, or say [`Replicas::Given`]. A server that was started again knows nothing of what it had
//! granted: its buckets are full. What was taken for a request that did not wait for the answer
//! stays taken.
//!
//! # What the server has to do
//!
//! Redis 7 or later, or Valkey; one server by [`RedisStore::open`], or a cluster by
//! [`RedisStore::cluster`]. The scripts have one key each, so nothing of a cluster stands in their
//! way, and the buckets of a keyed layer lie with all of its nodes. They are called by `EVALSHA`, or `EVAL` where it does not know them, and use `TIME`, `GET`, `SET` with `PX` and
//! `DEL`, and for the replicas `ZADD`, `ZREMRANGEBYSCORE`, `ZCARD` and `PEXPIRE`. Keys are
//! `prefix:{name}`, and `prefix:{name:key}` of a keyed layer; each is gone when its bucket is full
//! again. Do not let it evict keys (`maxmemory-policy noeviction`): an evicted bucket is a full one.
//!
//! # Sharing
//!
//! One layer is one state in its process, as everywhere in `buttress`; the bucket belongs to all
//! layers of that name and prefix in the store, in whichever process. All should have the same rates:
//! where they differ for the time of a roll-out, the bucket keeps what it holds, as far as it fits.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is the inner service's own. Who has to ask waits in the response future, on the very
//! instance that was made ready. A future that is dropped while it asks leaves to others what they
//! waited for with it, and what was taken for it stays taken.
//!
//! # Defaults
//!
//! 20 ms at the most for an answer; shares in an outage, of as many replicas as are counted, one
//! until then; a lease lasts for a second.
//!
//! # Panics
//!
//! A call that asks the store panics outside of a tokio runtime with its time and I/O drivers enabled.
//!
//! # When not to use
//!
//! To keep one process from doing more than it can: that is a bulkhead's, or a local rate limit's,
//! and neither needs a network. To wait for a turn: this layer refuses at once, and a `Retry` further
//! out waits as long as it is told.

mod bucket;
mod buckets;
mod circuit;
mod clock;
mod core;
mod counts;
mod driver;
mod fleet;
mod handle;
mod key;
mod layer;
mod lease;
mod memory;
mod purse;
mod redis;
mod scale;
#[doc(hidden)]
pub mod script;
mod seat;
mod settings;
#[cfg(feature = "metrics")]
mod source;
mod store;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
mod tls {
    pub(crate) const fn prepare() {}
}

pub use self::{
    buckets::{Buckets, Many, Single},
    counts::{Source, Totals},
    fleet::{By, Find, Fleet, Whole},
    handle::FleetLimitHandle,
    key::FleetKey,
    layer::FleetLimitLayer,
    lease::Lease,
    memory::{MemoryAnswer, MemoryStore},
    redis::{RedisAnswer, RedisStore},
    scale::{Debt, Scale, wait},
    settings::{Outage, Replicas, Settings, share_of},
    store::{Failure, MOST, Store, StoreError, Take, Taken},
};
