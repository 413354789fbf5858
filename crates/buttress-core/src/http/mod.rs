//! HTTP and gRPC: how a refusal looks, how a call is judged, and the body that sees its own end.
//!
//! # Example
//!
//! Objectives differ in what they count. These count a redirect as bad, and being turned away
//! by a rate limit too:
//!
//! ```
//! use buttress_core::{Verdict, http::StatusRules};
//!
//! let rules = StatusRules::DEFAULT
//!     .http(300..=399, Verdict::Bad)
//!     .http(429..=429, Verdict::Bad);
//! # let _ = rules;
//! ```

mod body;
mod classify;
mod client;
pub(crate) mod degrade;
mod head;
pub(crate) mod judge;
pub mod key;
mod peek;
mod problem;
mod replay;
pub(crate) mod resend;
mod respond;
mod rules;
mod stale;

/// For the layers of this suite.
#[doc(hidden)]
pub mod unknown {
    pub use super::client::take_unknown;
}

pub use self::{
    body::Watched,
    classify::{Classified, Classify, HttpCase},
    client::{ParseNetworkError, TrustedProxies},
    degrade::{Adopt, Degrade, Outline, Remake, Replayable},
    head::{RequestHead, ResponseHead},
    peek::Peekable,
    problem::ProblemDetails,
    replay::{Rebox, Recorded, Recording, Replay, Room},
    resend::KeptRequest,
    respond::Respond,
    rules::{Conventional, StatusRules},
    stale::{Asked, Entry, FallbackBody, StaleCache, StaleSettings, Stored, Tape, Target},
};
