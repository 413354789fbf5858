//! Holds back what its service would refuse anyway.
//!
//! A service that is overloaded spends what it has left on refusing. This layer counts what it
//! asks its service for and what is accepted, and when it would ask for more than twice that, it
//! refuses the excess itself, at random, with a [`Rejection`] of kind `Throttled`, 503 or
//! `UNAVAILABLE`. The more is refused, the less gets through; what still does tells when the
//! service accepts again. Unlike a breaker it knows no open and closed, and a service that can do
//! half of what it is asked goes on doing that half.
//!
//! Accepted is what was answered and is not judged bad, a 404 among it. Not accepted are
//! failures, what took longer than its caller waits for, refusals of the service such as 429 and
//! `RESOURCE_EXHAUSTED`, and refusals by layers of ours, this one and those further in. A call that
//! its caller gave up before its time was up counts for nothing.
//!
//! # Example
//!
//! ```
//! # use buttress_core::{BoxError, Kind, Plain, Rejection, throttle::Settings};
//! # use buttress_layers::throttle::ThrottleLayer;
//! # use tower::{Service, ServiceBuilder, ServiceExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = ThrottleLayer::new("stock", Settings::new()).exchange(Plain);
//! let throttle = layer.handle();
//! let mut service = ServiceBuilder::new()
//!     .layer(layer)
//!     .service_fn(|()| async { Err::<(), _>(BoxError::from("overloaded")) });
//!
//! let mut throttled = 0;
//! for _ in 0..1_000 {
//!     let error = service.ready().await?.call(()).await.unwrap_err();
//!     throttled += u32::from(Rejection::find(&*error).is_some_and(|r| r.kind() == Kind::Throttled));
//! }
//! assert!(throttled > 800);
//! assert_eq!(throttle.probability().to_string(), "0.9");
//! assert_eq!(throttle.window(), (1_000, 0));
//! # Ok(())
//! # }
//! ```
//!
//! On axum, tonic, hyper and reqwest it is a plain `.layer(..)` without `.exchange(..)`.
//!
//! # Sharing
//!
//! One [`ThrottleLayer`] is one window. Every service that it builds and every clone of those
//! share it.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is the inner service's own; the decision falls in `call`. A request counts when it
//! ends, at the end of its response. One that is dropped before its response counts for nothing,
//! but when the time is up that a [`timeout`](crate::timeout) around this layer, or
//! [`attempt_timeout`](buttress_core::retry::Settings::attempt_timeout) of a retry, had given it:
//! then the service has not answered in time, and has not accepted it.
//!
//! # Defaults
//!
//! [`Settings::new`](buttress_core::throttle::Settings::new): twice what is accepted, over two
//! minutes; nine in ten are refused at the most, and one request passes each second in any case.
//! So some traffic always passes, and a service that has recovered is found out. Nothing is held
//! back as long as half of what is asked for is accepted. There is no least number of requests, as
//! there is none in the book, so the first failure of a window counts for half. A client with
//! little traffic wants a [`minimum`](buttress_core::throttle::Settings::minimum), below which
//! nothing is held back, or an [`allowance`](buttress_core::throttle::Settings::allowance), which
//! is never held against the service.
//!
//! # When not to use
//!
//! For a client with next to no traffic: its window says nothing. Outside of retries, each of
//! which the service sees.
//!
//! [`Rejection`]: buttress_core::Rejection

mod admission;
mod future;
mod handle;
mod layer;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    admission::Admission,
    future::ResponseFuture,
    handle::{ThrottleHandle, ThrottleSnapshot},
    layer::ThrottleLayer,
    service::Throttle,
};
