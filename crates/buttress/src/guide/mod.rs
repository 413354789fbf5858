//! How it all hangs together, and why.
//!
//! - [`placing`]: where layers go in axum, tonic, hyper and reqwest, and in what order.
//! - [`verdicts`]: what counts as good, bad and excluded, and what the numbers are called.
//! - [`objectives`]: what to promise, who is told, what follows, and how exact the numbers are.
//! - [`fleets`]: limits that many processes share, and what they do without their server.
//! - [`design`]: the decisions behind the code, with their reasons.

#[doc = include_str!("placing.md")]
pub mod placing {}

#[doc = include_str!("verdicts.md")]
pub mod verdicts {}

#[doc = include_str!("objectives.md")]
pub mod objectives {}

#[doc = include_str!("fleets.md")]
pub mod fleets {}

#[doc = include_str!("design.md")]
pub mod design {}
