//! What a fallback decides by: what triggers it, why it answers, and what it keeps of good
//! responses for bad times.
//!
//! Nothing here waits, and time is an argument.
//!
//! ```
//! use buttress_core::{Facts, Judgement, Kind, Method, Protocol, Reason, Verdict};
//! use buttress_core::fallback::Triggers;
//!
//! let triggers = Triggers::new().without(Kind::Overloaded);
//! let facts = Facts { protocol: Protocol::Http, method: Method::Get, status: Some(503), code: None };
//! let refused = |kind| Judgement::new(Verdict::Bad, Reason::Refused(kind));
//!
//! assert!(triggers.fire(refused(Kind::CircuitOpen), facts, false));
//! assert!(!triggers.fire(refused(Kind::Overloaded), facts, false));
//! assert!(!triggers.fire(refused(Kind::RateLimited), facts, false), "unless it is asked for");
//! ```

mod lifetime;
mod shelf;
mod triggers;
mod turn;
mod why;

#[cfg(test)]
mod tests;

pub use self::{
    lifetime::Lifetime,
    shelf::{Bounds, Claim, Passage, Shelf},
    triggers::Triggers,
    turn::{Skip, Turn},
    why::{Degraded, Why},
};
