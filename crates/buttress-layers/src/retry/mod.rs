//! Tries again what failed and may succeed, as often as a budget allows.
//!
//! A request that fails is sent again after a wait, until it succeeds or there is a reason to
//! stop; what its caller gets is the last outcome. Which failures are retried is judged as
//! everywhere in this suite: what is bad and another try may mend, 408, 425 and 429, and of gRPC
//! the codes that are named, which also say what becomes of a call that broke or took too long
//! without one: see [`codes`](buttress_core::retry::Settings::codes). What its handler calls bad with
//! a [`Verdict`](buttress_core::Verdict) beside a good status is an answer. Of HTTP requests only
//! those are repeated that do no harm twice: idempotent methods, and any with an
//! `Idempotency-Key`. Nothing is repeated once its response was handed out.
//!
//! The request is *kept* while it is under way: its head is copied, and a body that streams is
//! written down while it is sent, up to 64 KiB. Requests and bodies need not be `Clone`. What is
//! longer, or was not sent to its end when the failure came, is sent once; what will not be
//! repeated anyway is neither copied nor written down.
//!
//! # Example
//!
//! ```
//! # use std::{sync::atomic::{AtomicU32, Ordering}, time::Duration};
//! # use buttress_core::{BoxError, Plain, retry::{Backoff, Budget, Settings, Stop}};
//! # use buttress_layers::retry::RetryLayer;
//! # use tower::{Service, ServiceBuilder, ServiceExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//!
//! let settings = Settings::new(Backoff::exponential(Duration::from_millis(50)))
//!     .attempts(4)
//!     .budget(Budget::percent(20));
//! let layer = RetryLayer::new("stock", settings).exchange(Plain);
//! let retries = layer.handle();
//! let mut service = ServiceBuilder::new().layer(layer).service_fn(|item: &'static str| async move {
//!     match CALLS.fetch_add(1, Ordering::Relaxed) {
//!         0 | 1 => Err(BoxError::from("connection reset")),
//!         _ => Ok(format!("3 of {item}")),
//!     }
//! });
//!
//! assert_eq!(service.ready().await?.call("book").await?, "3 of book");
//! assert_eq!((retries.snapshot().requests(), retries.snapshot().retries()), (1, 2));
//! assert_eq!(retries.snapshot().stopped(Stop::Budget), 0);
//! # Ok(())
//! # }
//! ```
//!
//! On axum, tonic, hyper and reqwest it is a plain `.layer(..)` without `.exchange(..)`.
//!
//! # When it stops
//!
//! Each reason is a [`Stop`](buttress_core::retry::Stop), counted, published, and told to observers
//! once until it has not happened for a minute. The attempts or
//! the backoff are used up; the next attempt could not begin before the caller's deadline; the
//! server said not to come again, or not before longer than anybody waits; the circuit breaker
//! further in is open, or another layer of ours refused, which is an answer and no failure; the
//! body is too long or was not sent to its end; and the budget is spent. The budget is asked last.
//!
//! `Retry-After` and `grpc-retry-pushback-ms` are obeyed: a retry is never earlier than asked, and
//! never earlier than the backoff. What never reached the server, for want of a connection or
//! because it refused the HTTP/2 stream, is
//! sent again at once and for nothing, but only once, if it was kept: a `POST` without a key was
//! not. A refused gRPC call is seen whether its status comes with the head or in trailers that
//! follow at once; a head behind which nothing has come yet is handed out, so that no stream is
//! held up, and is not retried any more.
//!
//! `Retry-After` is read in seconds and as a date, which counts from the `Date` beside it; of
//! several the longest counts. A date without a `Date` is further off than anybody waits.
//!
//! # The budget
//!
//! Where a client retries three times, and its caller does too, a service that is down gets nine
//! times its load. A [`Budget`](buttress_core::retry::Budget) is a share of the requests, by
//! default a fifth of the last ten seconds and ten a second besides. It is exact, and one value:
//! clone it into all layers that call the same service. With
//! [`Budget::leeway`](buttress_core::retry::Budget::leeway) it shrinks while an error budget burns:
//! see [`slo`](crate::slo).
//!
//! # Sharing
//!
//! One [`RetryLayer`] is one set of settings, counts and one budget. Every service that it builds
//! and every clone of those share it.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is the inner service's own, and the first attempt takes the instance that was
//! ready. Each later one waits until a clone of it is ready too; that the inner service fails then
//! is passed on. A dropped call drops its attempt, or its wait. The failed response is dropped
//! before the wait. Time limits: an attempt that takes longer than
//! [`attempt_timeout`](buttress_core::retry::Settings::attempt_timeout) to its head has failed, and
//! the last one is refused with a [`Rejection`](buttress_core::Rejection) of kind `TimedOut`; where
//! the caller's deadline is known, from its request or a [`timeout`](crate::timeout) around this
//! layer, that is the only limit of an attempt upon which none can follow. A service that becomes
//! ready for an attempt past the deadline is not called any more.
//!
//! In *shadow* mode it decides and counts and retries nothing: requests are not kept, attempts
//! not cut, budgets looked at and not spent.
//!
//! # Defaults
//!
//! [`Settings::jittered`](buttress_core::retry::Settings::jittered): three attempts, waits at
//! random up to 50 ms, doubling to 2 s, and the budget above. `Retry-After` up to 30 seconds.
//!
//! # When not to use
//!
//! At every level of a chain of services: retry next to where it fails, or next to who knows what
//! to do. Inside a breaker, whose counts would then be those of requests and not of attempts. And
//! not beside a client's own retries, which its budget does not see: `reqwest::client` and
//! `HttpClient::build` of this crate build a reqwest client without them, and hyper-util's has
//! `retry_canceled_requests(false)`.

pub(crate) mod attempt;
mod future;
mod handle;
mod layer;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    future::ResponseFuture,
    handle::{RetryHandle, RetrySnapshot},
    layer::RetryLayer,
    service::Retry,
};
