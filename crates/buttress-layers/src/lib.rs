//! The Tower layers of buttress: they wait and share, `buttress-core` decides.
//!
//! Each layer is a module, and each module is the same files: the manual, the layer, its service,
//! the response future and what is kept with a body. Most users name the `buttress` crate, which
//! re-exports what is here.

pub mod breaker;
pub mod bulkhead;
mod clock;
pub mod fallback;
mod header;
pub mod hedge;
mod kept_back;
pub mod rate_limit;
pub mod retry;
pub mod sli;
pub mod slo;
pub mod throttle;
pub mod timeout;
mod told;

#[cfg(feature = "reqwest")]
pub mod reqwest;
