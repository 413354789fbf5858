//! What a well-behaved Tower layer keeps to: one function per law.
//!
//! Each law takes a closure that makes a fresh layer, wrapped in a [`Subject`], puts the layer
//! around an [`HttpProbe`](crate::HttpProbe), and tells by a [`Violation`] what went wrong. A layer need not speak
//! HTTP for that: requests and responses of HTTP are taken because their bodies go on after the
//! response is there, and much goes wrong in them.
//!
//! | law | catches |
//! |---|---|
//! | [`calls_the_readied_instance`] | `call` on a clone; a place in a queue given up |
//! | [`keeps_clones_unready`] | `#[derive(Clone)]` over a readiness flag |
//! | [`settles_once`] | a permit leaked when a future or a body is dropped; an outcome counted twice or never |
//! | [`survives_panics`] | a panic that is swallowed, or that leaves the layer broken |
//! | [`refuses_in_call_only`] | an error from `poll_ready` where nothing inside has failed |
//! | [`waits_to_be_woken`] | a loop of polls while the inner service is busy; a lost wake-up |
//! | [`can_be_shared`] | a layer, service or future that lacks `Clone`, `Debug`, `Send` or `Sync` |
//! | [`has_one_state`] | state made in `Layer::layer`, which limits and counts nothing on axum |
//! | [`passes_errors_on`] | an error of the inner service that gets lost |
//!
//! # Example
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
//! use buttress_testkit::laws::{self, Law, Settled, Subject};
//! use tower::{limit::ConcurrencyLimitLayer, util::MapResponseLayer};
//!
//! let limit = || Subject::new(ConcurrencyLimitLayer::new(3));
//! assert_eq!(laws::settles_once(limit), Ok(()));
//! assert_eq!(laws::waits_to_be_woken(limit), Ok(()));
//!
//! // It counts the calls that are answered, and loses those that fail or are dropped.
//! let hopeful = || {
//!     let answered = Arc::new(AtomicU64::new(0));
//!     let count = Arc::clone(&answered);
//!     let layer = MapResponseLayer::new(move |response: http::Response<_>| {
//!         count.fetch_add(1, Ordering::Relaxed);
//!         response
//!     });
//!     Subject::new(layer).settled(move || {
//!         Settled { ended: answered.load(Ordering::Relaxed), in_flight: 0 }
//!     })
//! };
//! assert_eq!(laws::has_one_state(hopeful), Ok(()));
//! assert_eq!(laws::settles_once(hopeful).unwrap_err().law(), Law::SettlesOnce);
//! ```
//!
//! # Panics
//!
//! Each law runs in a paused Tokio runtime of its own, so call it from a plain `#[test]`: inside
//! another runtime it panics.

mod bounds;
mod endings;
mod panics;
mod passing;
mod readiness;
mod rig;
mod subject;
mod violation;

#[cfg(test)]
mod tests;

pub use self::{
    bounds::Stacked,
    endings::settles_once,
    panics::survives_panics,
    passing::{can_be_shared, has_one_state, passes_errors_on},
    readiness::{
        calls_the_readied_instance, keeps_clones_unready, refuses_in_call_only, waits_to_be_woken,
    },
    subject::{Settled, Subject},
    violation::{Law, Violation},
};
