use std::{num::NonZeroU32, sync::Arc};

use buttress_core::{Change, Observe, Rate, TimeLimit, rate_limit::Peek};

use super::{
    Totals,
    pool::{Bucket, is_last},
};
use crate::clock::read;

/// Reads and moves the state of a [`RateLimitLayer`](super::RateLimitLayer) while it works.
///
/// ```
/// use buttress_core::Rate;
/// use buttress_layers::rate_limit::RateLimitLayer;
///
/// let limit = RateLimitLayer::new("api", Rate::per_second(10.try_into().unwrap())).handle();
/// assert_eq!(limit.peek().available, 10);
///
/// limit.drain();
/// assert!(limit.peek().available <= 1);
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitHandle {
    pub(super) bucket: Arc<Bucket>,
}

impl RateLimitHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.bucket.common.name
    }

    /// What a request would meet right now. Takes nothing.
    #[must_use]
    pub fn peek(&self) -> Peek {
        self.bucket.limiter.peek(read())
    }

    /// Everything counted since the layer was made.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.bucket.common.counts.totals()
    }

    /// Gives back what a request has cost that turned out not to count. No bucket gets more than
    /// full.
    pub fn refund(&self, cost: NonZeroU32) {
        self.bucket.limiter.refund(cost, read());
    }

    /// Empties the bucket, as if a burst had come.
    pub fn drain(&self) {
        self.bucket.limiter.drain(read());
    }

    /// The rates in force, in the order in which they were named.
    #[must_use]
    pub fn rates(&self) -> Vec<Rate> {
        self.bucket.limiter.rates()
    }

    /// Sets another rate. The bucket holds what it held, as far as it fits: a change is no burst.
    /// Who waits goes on waiting, unless it would now wait for too long.
    pub fn set_rate(&self, rate: Rate) {
        self.set_rate_of(0, rate);
    }

    /// Sets another rate for one of [several](super::RateLimitLayer::several) limits, in the order
    /// in which they were named.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn set_rate_of(&self, limit: usize, rate: Rate) {
        self.bucket.limiter.set_rate(limit, rate, read());
        self.bucket.common.emit(Change::Rate { limit, rate });
    }

    /// How long requests wait; `None` if they do not.
    #[must_use]
    pub fn patience(&self) -> Option<TimeLimit> {
        self.bucket.common.patience()
    }

    /// Sets how long requests wait that come from now on; `None` for not at all.
    pub fn set_patience(&self, limit: Option<TimeLimit>) {
        self.bucket.common.set_patience(limit);
        self.bucket.common.emit(Change::Patience(limit));
    }

    /// Whether it decides and counts but refuses nothing.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.bucket.common.is_shadow()
    }

    /// Switches shadow mode, in which it decides and counts but refuses nothing, and nobody waits.
    pub fn set_shadow(&self, shadow: bool) {
        self.bucket.common.set_shadow(shadow);
    }

    /// Tells `observer` of what is changed from now on.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.bucket.common.observers.add(observer);
    }

    /// Whether nothing but this handle is left: no layer, no service, no call, no other handle.
    #[must_use]
    pub fn is_last(&self) -> bool {
        is_last(&self.bucket)
    }

    /// What tells this layer from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.bucket).addr()
    }
}
