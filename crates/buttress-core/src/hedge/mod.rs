//! Hedges: whether a request that takes long is sent a second time, when, and which answer counts.
//!
//! [`Settings`] say what is hedged, and after what [`Delay`]; [`Quantile`] is a delay that is
//! learned from the traffic. [`Race`] is one request on its way: its first attempt and those that
//! were sent after it. Nothing here knows what time it is, or waits. What may be sent twice and
//! who pays for it are those of [`retry`](crate::retry).
//!
//! ```
//! use std::time::{Duration, Instant};
//! use buttress_core::hedge::{Next, Race, Unhedged};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
//! let now = Instant::now();
//! let mut race = Race::new(now, Duration::from_millis(50), 1, None).unwrap();
//! assert_eq!(race.due(), Some(now + Duration::from_millis(50)));
//!
//! // Nobody answered in time, the body is there as a whole, and the budget grants it.
//! let later = now + Duration::from_millis(50);
//! assert_eq!(race.fire(later, Ok(()), || true), Ok(1));
//!
//! // The first attempt fails, and the other is still under way; then that one answers.
//! assert_eq!(race.failed(0, None, later), (Next::Wait, None));
//! assert_eq!(race.failed(1, None, later), (Next::PassOn, None));
//! ```

mod delay;
mod latencies;
mod race;
mod settings;
mod unhedged;

pub use self::{
    delay::{Delay, Quantile},
    race::{Next, Pushback, Race},
    settings::{Settings, Switch},
    unhedged::Unhedged,
};
