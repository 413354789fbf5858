//! Rate limits: they decide who is admitted, who waits, and for how long.
//!
//! The generic cell rate algorithm (ITU-T I.371), as a bucket of tokens: one number, the instant at
//! which the bucket would be full again. There is nothing to refill, and a quiet hour costs the
//! same as a quiet millisecond. [`Limiter`] is one bucket, or several that all must have enough;
//! who keeps very many of them, one for each key, decides with [`Limits`] and [`Queue`]. Nothing here knows what time it is, or waits.
//!
//! # What is promised
//!
//! In any span of time `t` no more is admitted than the burst and what the rate yields in `t`,
//! whatever the clock does: one that goes backwards mints nothing. What is refused is told the
//! time after which it would be admitted, rounded up to a nanosecond.

mod ask;
mod limiter;
mod limits;
mod origin;
mod queue;
mod scale;

#[cfg(all(test, buttress_loom))]
mod loom_tests;
#[cfg(all(test, not(buttress_loom)))]
mod tests;

pub use self::{
    ask::Ask,
    limiter::Limiter,
    limits::{Limits, Shortage, Standing},
    origin::Origin,
    queue::{Entry, Peek, Place, Queue, Turn, Woken},
};
