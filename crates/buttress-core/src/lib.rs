//! The decisions behind buttress, without a clock, a runtime or any I/O.
//!
//! Time is an argument. What must wait says until when, and somebody else waits; so a day of
//! traffic can be decided in a second of a test, the same way every time.
//!
//! Most users name the `buttress` crate, which re-exports what is here. This crate is for those
//! who write a layer, a strategy or a classifier of their own:
//!
//! - [`Rejection`] is the one way in which any layer refuses a request;
//! - [`Reject`] says how a refusal surfaces in one world, [`Judge`] how a call there is read,
//!   judged up to its end, and watched; [`Auto`] does both wherever the types tell how;
//! - [`Classify`](http::Classify) is the rule that turns an HTTP or gRPC outcome into a
//!   [`Verdict`];
//! - [`clock`] is the scope in which several layers share one reading of the time.
//!
//! # Features
//!
//! A feature brings the implementations for one crate's types, because an implementation must
//! stand where the trait stands: `http` (on by default), `axum` (route templates), `tonic` (its
//! `Status` only), `tonic-transport`, `hyper-util`, `reqwest`.

mod auto;
pub mod breaker;
pub mod bulkhead;
pub mod cells;
pub mod clock;
mod code;
mod criticality;
mod deadline;
mod errors;
mod exchange;
mod expired;
mod facts;
pub mod fallback;
pub mod hedge;
mod lease;
mod leeway;
mod observe;
mod plain;
mod random;
mod rate;
pub mod rate_limit;
mod ratio;
mod rejection;
mod resend;
pub mod retry;
mod slices;
pub mod throttle;
mod time_limit;
mod unreached;
mod unwind;
mod verdict;

#[cfg(feature = "axum")]
mod axum;
#[cfg(all(feature = "http", not(feature = "axum")))]
#[path = "without/axum.rs"]
mod axum;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "hyper-util")]
mod hyper_util;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(feature = "tonic")]
mod tonic;
#[cfg(not(feature = "tonic"))]
#[path = "without/tonic.rs"]
mod tonic;
#[cfg(feature = "tonic-transport")]
mod tonic_transport;
#[cfg(all(feature = "http", not(feature = "tonic-transport")))]
#[path = "without/tonic_transport.rs"]
mod tonic_transport;

#[cfg(not(buttress_loom))]
use std::sync::{self, atomic};

#[cfg(buttress_loom)]
use loom::sync::{self, atomic};

pub use self::{
    auto::{Auto, ClientError},
    code::Code,
    criticality::{Criticality, SaysCriticality},
    deadline::{Deadline, Remaining, format_grpc_timeout, parse_grpc_timeout},
    errors::as_error,
    exchange::{Case, Custom, Finish, Judge, Raise, Reject, Typed, Watch, With},
    expired::{Expired, ExpiredCap},
    facts::{Facts, Method, Protocol, Route},
    lease::{Lease, Shared},
    leeway::Leeway,
    observe::{Change, Event, Observe, Observers},
    plain::{Plain, PlainCase},
    random::Random,
    rate::Rate,
    ratio::{ParseRatioError, Ratio},
    rejection::{Kind, Rejection},
    resend::{Kept, Peeked, Resend},
    time_limit::{TimeLimit, TimeLimitError},
    unreached::is_unreached,
    unwind::{OnUnwind, guarded},
    verdict::{End, Judgement, Reason, Side, Stage, Timing, Verdict},
};

/// An error of any kind, as `tower` and its users box it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where to look for the errors that the worlds of the enabled features raise.
const KNOWN_ERRORS: &[errors::Lookup] = &[
    errors::lookup::<Rejection>,
    errors::lookup::<std::io::Error>,
    #[cfg(feature = "tonic")]
    errors::lookup::<::tonic::Status>,
    #[cfg(feature = "tonic-transport")]
    errors::lookup::<::tonic::transport::Error>,
    #[cfg(feature = "hyper-util")]
    errors::lookup::<::hyper_util::client::legacy::Error>,
    #[cfg(feature = "reqwest")]
    errors::lookup::<::reqwest::Error>,
];

/// How to tell that a request never left: the connection that it needed was not there.
const UNREACHED: &[fn(&(dyn std::error::Error + 'static)) -> bool] = &[
    #[cfg(feature = "tonic")]
    tonic::is_unreached,
    #[cfg(feature = "hyper-util")]
    hyper_util::is_unreached,
    #[cfg(feature = "reqwest")]
    reqwest::is_unreached,
];

/// How to tell that somebody further in gave up on a deadline, and calls it something else.
#[cfg(feature = "http")]
const TIMEOUTS: &[fn(&(dyn std::error::Error + 'static)) -> bool] = &[
    #[cfg(feature = "tonic")]
    tonic::is_timeout,
];
