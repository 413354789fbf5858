//! Stops calling what keeps failing: refuses calls at once, until a few probes find it well again.
//!
//! While the breaker is *closed*, calls pass and their outcomes are counted. When one of its
//! conditions is reached, a share of failures or of slow calls or a row of failures, it *opens*:
//! every call is refused with a [`Rejection`] of kind `CircuitOpen`, 503 or `UNAVAILABLE`, that
//! says when to come again. After a while it is *half-open*: a few probes pass, and what becomes
//! of them closes it or opens it again. A service that is down gets room to recover, and callers
//! get their answer, or their fallback, now and not after a timeout.
//!
//! A call's outcome is known at the end of its response: the status or code, a broken body, a
//! missing gRPC status, an error, a panic. 429 and `RESOURCE_EXHAUSTED` are *soft* failures: they
//! weigh in a rate and fail a probe, and are no part of a row of failures. What the default rules
//! exclude, client errors among it, is neutral, and so is a refusal by a layer of ours further in,
//! except that its time had run out. Slow is what takes long to its response head.
//!
//! # Example
//!
//! ```
//! # use buttress_core::{BoxError, Kind, Plain, Rejection, breaker::{Settings, State}};
//! # use buttress_layers::breaker::BreakerLayer;
//! # use tower::{Service, ServiceBuilder, ServiceExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = BreakerLayer::new("stock", Settings::consecutive(2)).exchange(Plain);
//! let breaker = layer.handle();
//! let mut service = ServiceBuilder::new()
//!     .layer(layer)
//!     .service_fn(|()| async { Err::<(), _>(BoxError::from("connection refused")) });
//!
//! for _ in 0..2 {
//!     let error = service.ready().await?.call(()).await.unwrap_err();
//!     assert_eq!(error.to_string(), "connection refused");
//! }
//! assert_eq!(breaker.state(), State::Open);
//!
//! let error = service.ready().await?.call(()).await.unwrap_err();
//! let refused = Rejection::find(&*error).expect("not called any more");
//! assert_eq!(refused.kind(), Kind::CircuitOpen);
//! assert_eq!(refused.retry_after_seconds(), Some(60));
//! # Ok(())
//! # }
//! ```
//!
//! On axum, tonic, hyper and reqwest it is a plain `.layer(..)` without `.exchange(..)`.
//!
//! # One for each
//!
//! A breaker for a whole client opens for all when one of its servers fails.
//! [`keyed`](BreakerLayer::keyed) keeps one for each key that it finds in a request, such as
//! [`key::route`](buttress_core::http::key::route) or
//! [`key::authority`](buttress_core::http::key::authority). An [`Isolation`] is the other
//! direction: one switch that closes the door before any number of breakers.
//!
//! # By hand
//!
//! A [`BreakerHandle`] shows the state, the rates and the time to the next probe; forces the
//! breaker open or closed, opens it for a while, resets it; changes its settings without losing
//! what the windows hold; and tells observers of each transition, once, with why. In *shadow
//! mode* it stays closed, counts what it would have refused and says once when it would open.
//!
//! # Sharing
//!
//! One [`BreakerLayer`] is one breaker, or one set of keys. Every service that it builds and every
//! clone of those shares it, so the connections of a server, for each of which axum clones its
//! stack, fail and recover together.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is always ready, so that an open breaker answers while the inner service is busy,
//! or stuck. A call that is admitted waits in its future for the very instance that was polled; so
//! load shedding must stand inside this layer. Errors of the inner `poll_ready` are passed on.
//!
//! A dropped call gives its permit back and says nothing, unless it was late: past the deadline
//! that its request carries, past the limit of a [`timeout`](crate::timeout) around this layer, or
//! past the duration of a slow call. Then it is a failure, as is a panic that unwinds through the
//! call. A timeout of somebody else's leaves no trace: set a slow rate, or
//! [`Dropped::Failure`](buttress_core::breaker::Dropped::Failure). What was admitted in one state
//! of the breaker has no say in another.
//!
//! # Defaults
//!
//! [`Settings::rate`](buttress_core::breaker::Settings::rate): half of at least 20 calls in 30
//! seconds; open for 5 seconds, doubling up to 60 with jitter; three probes of 10 seconds each. No
//! ramp, no slow rate: what is slow, only its user knows.
//!
//! # When not to use
//!
//! Around a service whose failures are its callers' doing, or whose replicas fail one by one
//! behind a balancer that takes them out itself. A breaker is no retry and no timeout: without a
//! limit on time, a service that hangs never fails.
//!
//! [`Rejection`]: buttress_core::Rejection

mod circuit;
mod future;
mod handle;
mod isolation;
mod layer;
mod permit;
mod pick;
mod registry;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    future::ResponseFuture,
    handle::{BreakerHandle, KeyedBreakerHandle},
    isolation::Isolation,
    layer::BreakerLayer,
    permit::Permit,
    pick::{Keyed, One, Pick},
    service::Breaker,
};
