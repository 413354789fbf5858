//! A circuit breaker: it decides who is admitted, and what outcomes make of it.
//!
//! [`Machine`] is the state, [`Rules`] are the conditions with their windows, [`Settings`] what
//! both are made of. Nothing here knows what time it is, or waits.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use buttress_core::breaker::{Machine, Outcome, Settings, State};
//!
//! let (breaker, rules) = Machine::new(Settings::consecutive(2), 42);
//! # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
//! let start = Instant::now();
//! let mut moves = Vec::new();
//!
//! for _ in 0..2 {
//!     let ticket = breaker.admit(|| rules.clone(), || start, &mut moves).unwrap();
//!     breaker.settle(&rules, ticket, Outcome::Failure.into(), start, &mut moves);
//! }
//! assert_eq!(breaker.state(&rules, start, &mut moves), State::Open);
//!
//! let later = start + Duration::from_secs(15);
//! let refused = breaker.admit(|| rules.clone(), || later, &mut moves).unwrap_err();
//! assert_eq!(refused.retry_after, Some(Duration::from_secs(45)));
//! ```
//!
//! The pattern is from Nygard, *Release It!*, chapter 5.

mod cells;
mod half_open;
#[cfg(all(test, buttress_loom))]
mod loom_tests;
mod machine;
mod open_for;
mod rules;
mod settings;
mod state;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
mod window;
mod word;

pub use self::{
    half_open::Progress,
    machine::{Machine, Move, Moves, Report, Ticket},
    open_for::{OpenFor, Opening},
    rules::{Cause, Measured, Outcome, Rules},
    settings::{Dropped, Probes, Settings, Then, Trip},
    state::{Refusal, Refused, Snapshot, State, Totals, Transition, Why},
    window::{Tally, Window},
};
