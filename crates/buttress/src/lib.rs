//! Tower layers that keep a service up, and the objectives that tell whether it is.
//!
//! Write `.layer(..)` on an axum router, a tonic server or channel, a hyper client or a reqwest
//! client: each gets the answer that its own world expects. A refused HTTP caller gets a status
//! and `Retry-After`, a refused gRPC caller a status in trailers, a client an error in which the
//! one [`Rejection`] is found.
//!
//! | layer | what it does |
//! |---|---|
//! | [`retry`] | tries again what may succeed, within an exact budget; bodies need not be `Clone` |
//! | [`hedge`] | sends what takes long a second time, from the same budget; the first good answer counts |
//! | [`throttle`] | holds back what an overloaded service would refuse anyway |
//! | [`timeout`] | answers in time: to the head, to the end of the body, between frames; deadlines travel |
//! | [`breaker`] | refuses what keeps failing: by rate, slowness or a row; probes; one for each key; forced, isolated, in shadow |
//! | [`bulkhead`] | limits how many are under way: a queue, shares, the least critical shed first, a limit that adapts |
//! | [`fallback`] | answers in the service's stead: another service, the last good response, a function, a value |
//! | [`sli`] | records good, bad and excluded at the end of the body, per route |
//! | [`slo`] | holds what is recorded to objectives: budgets, burn rates, alerts, policy, snapshots |
//!
//! What they count is published by [`telemetry`]. The [`guide`] tells how it all hangs together,
//! and why.
//!
//! # Example
//!
//! ```
//! use axum::{Router, body::Body, http::Request, routing::get};
//! use buttress::{Kind, Rejection, TimeLimit, sli::SliLayer, timeout::TimeoutLayer};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let sli = SliLayer::server("shop");
//! let counts = sli.handle();
//! let app: Router = Router::new()
//!     .route("/report", get(|| std::future::pending::<&'static str>()))
//!     .layer(TimeoutLayer::new("shop", TimeLimit::from_secs(2)))
//!     .layer(sli);
//!
//! let response = app.oneshot(Request::get("/report").body(Body::empty()).unwrap()).await.unwrap();
//!
//! assert_eq!(response.status(), 504);
//! assert_eq!(Rejection::of_response(&response).map(Rejection::kind), Some(Kind::TimedOut));
//! drop(response);
//! assert_eq!(counts.counts().bad, 1);
//! # }
//! ```
//!
//! # Features
//!
//! `axum` (on by default: route templates), `tonic` (a `Status` of the right code behind every
//! refusal), `tonic-transport` (channels), `hyper-util`, `reqwest`, `metrics` (on by default:
//! [`telemetry`]). A feature brings a dependency and changes nothing else.

pub mod guide;

pub use buttress_core::{
    Auto, BoxError, Case, Change, ClientError, Code, Criticality, Custom, Deadline, End, Event,
    ExpiredCap, Facts, Finish, Judge, Judgement, Kind, Leeway, Method, Observe, Observers, Plain,
    Protocol, Raise, Random, Rate, Ratio, Reason, Reject, Rejection, Remaining, Route,
    SaysCriticality, Side, Stage, TimeLimit, TimeLimitError, Timing, Typed, Verdict, Watch, With,
    cells, format_grpc_timeout, http, is_unreached, parse_grpc_timeout,
};
#[cfg(feature = "reqwest")]
pub use buttress_layers::reqwest;
pub use buttress_layers::{bulkhead, sli, timeout};

/// The circuit breaker: the layer, and what its core decides by.
pub mod breaker {
    pub use buttress_core::breaker::*;
    pub use buttress_layers::breaker::*;
}
/// The rate limit: the layer, and what its core decides by.
pub mod rate_limit {
    pub use buttress_core::rate_limit::*;
    pub use buttress_layers::rate_limit::*;
}

/// Answers in the service's stead: the layer, what its core decides by, and what it stores.
pub mod fallback {
    pub use buttress_core::{
        fallback::*,
        http::{
            Adopt, Asked, Degrade, FallbackBody, Outline, Remake, Replayable, StaleCache,
            StaleSettings, Stored, Target,
        },
    };
    pub use buttress_layers::fallback::*;
}

/// Retries: the layer, and what its core decides by.
pub mod retry {
    pub use buttress_core::{Kept, Peeked, Resend, retry::*};
    pub use buttress_layers::retry::*;
}

/// Hedges: the layer, and what its core decides by.
pub mod hedge {
    pub use buttress_core::hedge::*;
    pub use buttress_layers::hedge::*;
}

/// Client-side throttling: the layer, and what its core decides by.
pub mod throttle {
    pub use buttress_core::throttle::{Settings, Throttle as Rule};
    pub use buttress_layers::throttle::*;
}

/// Objectives, error budgets, burn rates, alerts and policy: the layer and its tracker, and what
/// they are told and tell.
pub mod slo {
    pub use buttress_layers::slo::*;
    pub use buttress_slo::*;
}
#[cfg(feature = "metrics")]
pub use buttress_metrics as telemetry;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
