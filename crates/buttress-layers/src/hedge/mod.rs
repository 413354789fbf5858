//! Sends a request that takes long a second time, and hands out the first good answer.
//!
//! If one call in a hundred is slow, then of the callers who need ten answers one in ten waits for
//! a slow one. A retry is no help, for nothing has failed. So when a request has no answer after a
//! delay, another attempt is sent beside it, to another instance if there is a balancer further
//! in. The first good answer is handed out, and just before that all other attempts are dropped:
//! a client that drops a call cancels it, which its server sees.
//!
//! Only what a retry would send again is hedged, and the same is kept of it: the head, and a body
//! of up to 64 KiB, written down while it is sent. What is judged a failure is what a
//! [`retry`](crate::retry) takes for one. And both spend from one
//! [`Budget`](buttress_core::retry::Budget), so that together they are no more load than that.
//!
//! # Example
//!
//! ```
//! # use std::{future::pending, sync::atomic::{AtomicU32, Ordering}, time::Duration};
//! # use buttress_core::{BoxError, Plain, hedge::{Delay, Settings}, retry::Budget};
//! # use buttress_layers::hedge::{Fate, HedgeLayer};
//! # use tower::{Service, ServiceBuilder, ServiceExt};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//!
//! let settings = Settings::new(Delay::fixed(Duration::from_millis(50))).budget(Budget::percent(20));
//! let layer = HedgeLayer::new("stock", settings).exchange(Plain);
//! let hedges = layer.handle();
//! let mut service = ServiceBuilder::new().layer(layer).service_fn(|item: &'static str| async move {
//!     if CALLS.fetch_add(1, Ordering::Relaxed) == 0 {
//!         pending::<()>().await;
//!     }
//!     Ok::<_, BoxError>(format!("3 of {item}"))
//! });
//!
//! assert_eq!(service.ready().await?.call("book").await?, "3 of book");
//! assert_eq!((hedges.snapshot().fired(), hedges.snapshot().ended(Fate::Won)), (1, 1));
//! # Ok(())
//! # }
//! ```
//!
//! On axum, tonic, hyper and reqwest it is a plain `.layer(..)` without `.exchange(..)`.
//!
//! # The delay
//!
//! [`Delay::fixed`](buttress_core::hedge::Delay::fixed), `at_once`, `never`, or a
//! [`Quantile`](buttress_core::hedge::Quantile) that is learned: within what time 95 of a hundred
//! first attempts had their heads, of the last 30 seconds, rounded up. So it follows a service
//! that is slower today, and no more than five in a hundred are hedged. A first attempt that lost,
//! failed or was dropped counts as one that took so long at least, if it had outlasted the delay.
//! To read the delay is to read one word, and to learn is one addition; at each eighth of the
//! window a request works the delay out anew, which takes a few microseconds. What is learned
//! takes 22 KiB for each processor, of four at the most.
//!
//! When a service turns slow all at once, most requests outlast what was learned, and are hedged
//! until an eighth of the window begins before which one in twenty was slow. With the defaults
//! that takes some five seconds, in which the budget is the only bound.
//!
//! # What is hedged
//!
//! Of HTTP idempotent methods, and what has an `Idempotency-Key`. Of gRPC the methods that are
//! named, [`call`](buttress_core::hedge::Settings::call) or `all_calls`: a retry knows by the code
//! of a failure that no harm was done, a hedge does not. A
//! [`Switch`](buttress_core::hedge::Switch) in the extensions of a request overrules that, and the
//! closure of [`switch`](HedgeLayer::switch) overrules both. Only a delay of `never` is off for all.
//! A native request of reqwest's keeps its extensions to itself, so there only the closure does it.
//!
//! A request is not hedged, and [`Unhedged`](buttress_core::hedge::Unhedged) says why: hedging is
//! off, or its method was not allowed; its body is too long, or was not sent to its end when the
//! time had come; too little is known yet; the caller would be gone by then; a server pushed back;
//! or the budget is spent, which is asked last. Each is counted and published.
//!
//! # Which answer counts
//!
//! The first good one; what the caller did wrong, such as a 404, is an answer like it. A bad one
//! waits for the others. If all fail, what the first attempt ended in is handed out. A hedge that
//! an open breaker or a full bulkhead refuses has failed, and the first attempt goes on.
//!
//! A first attempt that fails while it is alone is passed on at once. gRPC's hedging would send the
//! next attempt then; here a retry around this layer does that, after a backoff, for a service
//! that fails needs another remedy than one that is slow. A server that pushes back by
//! `grpc-retry-pushback-ms`, or by `Retry-After`, is sent no more attempts, and none of those that
//! are under way is dropped for it; a pushback of so many milliseconds is waited for
//! ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md)). Each hedge says in
//! `grpc-previous-rpc-attempts`, or in the retry's HTTP header, how many were sent before it.
//!
//! # The budget
//!
//! A request counts once for a budget, also where a retry with the same one stands around this
//! layer: what stands in between may wait before it calls on, but not in a task of its own, as a
//! `Buffer` does. Give both the same rules and budget with [`like`](buttress_core::hedge::Settings::like).
//!
//! # Sharing
//!
//! One [`HedgeLayer`] is one set of settings, what they have learned, counts and one budget. Every
//! service that it builds and every clone of those share it.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is the inner service's own, and the first attempt takes the instance that was
//! ready. Each other one waits until a clone of it is ready too, beside those that are under way;
//! if the inner service fails then, or the caller's deadline passes, only that attempt is over. A
//! dropped call drops all its
//! attempts. A panic of one of them goes on to the caller, and the others are dropped with it.
//!
//! There is room for one attempt beside the first in the response future itself; with
//! [`extra`](HedgeLayer::extra) for up to four, each when the delay has passed once more. Nothing
//! is boxed and nothing is spawned. What is kept of a request costs one copy of its head, and
//! nothing where it will not be hedged.
//!
//! In *shadow* mode it learns, decides and counts, and sends nothing twice: requests are not kept,
//! budgets are looked at and not spent.
//!
//! # Defaults
//!
//! [`Settings::default`](buttress_core::hedge::Settings): the learned delay above, from a hundred
//! requests on, and a retry's budget: a fifth of the requests of ten seconds and ten a second.
//!
//! # When not to use
//!
//! - For a service that is slow because it is overloaded: more load does not help it, and only the
//!   budget keeps hedges from making it worse.
//! - For work that goes on when its call is dropped.
//! - Outside of a retry, whose waits would be hedged too: the order is retry, hedge, throttle,
//!   breaker.
//! - For uploads that take longer than the delay: only what was sent to its end is sent again.

mod call;
mod choose;
mod future;
mod handle;
mod judge;
mod lanes;
mod layer;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    choose::{By, Choose, Unsaid},
    future::ResponseFuture,
    handle::{Fate, HedgeHandle, HedgeSnapshot},
    lanes::{Extra, Lane, Lanes, Several},
    layer::HedgeLayer,
    service::Hedge,
};
