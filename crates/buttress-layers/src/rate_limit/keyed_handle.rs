use std::{
    fmt,
    hash::Hash,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
};

use buttress_core::{
    Change, Observe, Rate, TimeLimit,
    rate_limit::{Ask, Peek},
};

use super::{Totals, keys::Keys, pool::is_last};
use crate::clock::read;

/// Reads and moves the state of a keyed [`RateLimitLayer`](super::RateLimitLayer) while it works.
pub struct KeyedRateLimitHandle<K> {
    pub(super) keys: Arc<Keys<K>>,
}

impl<K> Clone for KeyedRateLimitHandle<K> {
    fn clone(&self) -> Self {
        Self { keys: Arc::clone(&self.keys) }
    }
}

impl<K> fmt::Debug for KeyedRateLimitHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimitHandle")
            .field("common", &self.keys.common)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone> KeyedRateLimitHandle<K> {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.keys.common.name
    }

    /// What a request with this key would meet right now. Takes nothing. `None` for a key that is
    /// not known, or not any more: its bucket is as good as full.
    #[must_use]
    pub fn peek(&self, key: &K) -> Option<Peek> {
        self.keys.peek(key, read())
    }

    /// Everything counted since the layer was made, for all keys.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.keys.common.counts.totals()
    }

    /// How many keys are kept. Some of them may be idle.
    #[must_use]
    pub fn known(&self) -> usize {
        self.keys.known()
    }

    /// How many keys there is room for.
    #[must_use]
    pub fn capacity(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.keys.capacity()).expect("set to no less")
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.keys.waiting(read())
    }

    /// The memory that the buckets take, in bytes, but for what the keys themselves have on the
    /// heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.keys.bytes()
    }

    /// Forgets all keys whose buckets are full, and gives their memory back. New keys make room by
    /// themselves, a little with each; this is for after a flood, and locks one of 256 parts of
    /// the keys after the other.
    pub fn sweep(&self) {
        self.keys.sweep(read());
    }

    /// Does a sixteenth of a [`sweep`](Self::sweep): what is done once a tick where this handle is
    /// watched by telemetry.
    pub fn tidy(&self) {
        self.keys.tidy(read());
    }

    /// What a request would meet right now of what all keys have
    /// [together](super::RateLimitLayer::within). Takes nothing. `None` if that is not limited.
    #[must_use]
    pub fn peek_together(&self) -> Option<Peek> {
        Some(self.keys.together()?.peek(read()))
    }

    /// Gives back what a request with this key has cost, the key and all keys together. No bucket
    /// gets more than full.
    pub fn refund(&self, key: &K, cost: NonZeroU32) {
        self.keys.refund(key, Ask::cost(cost), read());
    }

    /// Empties the bucket of a key, known or not, as if a burst had come.
    pub fn drain(&self, key: &K) {
        self.keys.drain(key, read());
    }

    /// The rates in force, in the order in which they were named: those of each key, and then those
    /// of all [together](super::RateLimitLayer::within).
    #[must_use]
    pub fn rates(&self) -> Vec<Rate> {
        self.keys.rates()
    }

    /// Sets another rate, for all keys. Buckets hold what they held, as far as it fits: a change is
    /// no burst.
    pub fn set_rate(&self, rate: Rate) {
        self.set_rate_of(0, rate);
    }

    /// Sets another rate for one of [several](super::RateLimitLayer::several) limits, in the order
    /// of [`rates`](Self::rates).
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn set_rate_of(&self, limit: usize, rate: Rate) {
        self.keys.set_rate(limit, rate, read());
        self.keys.common.emit(Change::Rate { limit, rate });
    }

    /// How long requests wait; `None` if they do not.
    #[must_use]
    pub fn patience(&self) -> Option<TimeLimit> {
        self.keys.common.patience()
    }

    /// Sets how long requests wait that come from now on; `None` for not at all.
    pub fn set_patience(&self, limit: Option<TimeLimit>) {
        self.keys.common.set_patience(limit);
        self.keys.common.emit(Change::Patience(limit));
    }

    /// Whether it decides and counts but refuses nothing.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.keys.common.is_shadow()
    }

    /// Switches shadow mode, in which it decides and counts but refuses nothing, and nobody waits.
    pub fn set_shadow(&self, shadow: bool) {
        self.keys.common.set_shadow(shadow);
    }

    /// Tells `observer` of what is changed from now on.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.keys.common.observers.add(observer);
    }

    /// Whether nothing but this handle is left: no layer, no service, no call, no other handle.
    #[must_use]
    pub fn is_last(&self) -> bool {
        is_last(&self.keys)
    }

    /// What tells this layer from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.keys).addr()
    }
}
