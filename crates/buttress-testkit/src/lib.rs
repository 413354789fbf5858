//! Probes that catch a broken Tower contract, services that do as a script says, and traffic in
//! virtual time.
//!
//! Tower's contract is easy to break and hard to see broken: a layer that calls a clone of what
//! it found ready works in every test whose inner service is always ready. [`Probe`] is an inner
//! service that notices, and [`laws`] are the ways in which layers go wrong, one function each.
//! Nothing here knows any layer; all of it works with anybody's.
//!
//! # Example
//!
//! A layer is handed over afresh for each law, with what can be read off it.
//!
//! ```
//! use buttress_testkit::laws::{self, Law, Subject};
//! use std::time::Duration;
//! use tower::{timeout::TimeoutLayer, util::MapErrLayer};
//!
//! let timeout = || Subject::new(TimeoutLayer::new(Duration::from_secs(5)));
//! assert_eq!(laws::calls_the_readied_instance(timeout), Ok(()));
//! assert_eq!(laws::passes_errors_on(timeout), Ok(()));
//!
//! // Whoever asks what went wrong inside is told nothing.
//! let vague = || Subject::new(MapErrLayer::new(|_| "something went wrong"));
//! let violation = laws::passes_errors_on(vague).unwrap_err();
//! assert_eq!(violation.law(), Law::PassesErrorsOn);
//! ```
//!
//! # Scripts
//!
//! Of a [`Probe`]: to be busy or ready, to fail to become ready, and for each call to answer, to
//! fail, to hang until it is released, or to panic in `call` or when polled. Of a [`Body`]: its
//! frames and trailers, and where it stalls, fails or panics. Handles tell what became of them.
//! Of a whole run, with traffic and outages in virtual time: [`sim`].

mod body;
mod handle;
pub mod laws;
mod probe;
mod scripted;
pub mod sim;

pub use self::{
    body::{Body, BodyHandle},
    handle::{Misuse, ProbeHandle, Step, Tally},
    probe::{HttpProbe, Probe, ProbeFuture},
    scripted::{ScriptedError, ScriptedPanic},
};

/// An error of any kind, as Tower boxes it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
