use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use buttress_core::{Change, Event, Kind, Observe, Observers, Rejection, Shared, cells::Counter};

use super::{Clock, Limits, limits::LiveLimits};

/// What one layer shares with all that it builds.
#[derive(Debug)]
pub(super) struct State {
    name: Arc<str>,
    pub(super) limits: LiveLimits,
    shadow: AtomicBool,
    expired: [Counter; Clock::ALL.len()],
    stillborn: Counter,
    observers: Observers,
}

impl State {
    pub(super) fn new(name: Arc<str>, limits: Limits) -> Self {
        Self {
            name,
            limits: LiveLimits::new(limits),
            shadow: AtomicBool::new(false),
            expired: array::from_fn(|_| Counter::new()),
            stillborn: Counter::new(),
            observers: Observers::default(),
        }
    }

    /// Counts a request that ran out of time; `None` in shadow mode, where it goes on.
    pub(super) fn expire(&self, clock: Clock) -> Option<Rejection> {
        self.expired[clock as usize].increment();
        let rejection =
            || Rejection::new(Kind::TimedOut, Arc::clone(&self.name)).because(clock.why());
        (!self.is_shadow()).then(rejection)
    }

    /// Counts a request whose deadline had passed before it came; `None` in shadow mode.
    pub(super) fn refuse(&self) -> Option<Rejection> {
        self.stillborn.increment();
        let rejection = || Rejection::new(Kind::Expired, Arc::clone(&self.name));
        (!self.is_shadow()).then(rejection)
    }

    #[inline]
    pub(super) fn is_shadow(&self) -> bool {
        self.shadow.load(Ordering::Relaxed)
    }

    fn emit(&self, change: Change) {
        self.observers.emit(&Event { layer: "timeout", name: &self.name, key: None, change });
    }
}

/// Reads and moves the state of a [`TimeoutLayer`](super::TimeoutLayer) while it works.
///
/// ```
/// use buttress_core::TimeLimit;
/// use buttress_layers::timeout::{Clock, Limits, TimeoutLayer};
///
/// let layer = TimeoutLayer::new("checkout", TimeLimit::from_secs(2));
/// let handle = layer.handle();
///
/// handle.set_limits(Limits::total(TimeLimit::from_secs(1)));
/// assert_eq!(handle.limits().of_total(), Some(TimeLimit::from_secs(1)));
/// assert_eq!(handle.snapshot().expired(Clock::Total), 0);
/// ```
#[derive(Clone, Debug)]
pub struct TimeoutHandle {
    pub(super) state: Shared<State>,
}

impl TimeoutHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// What has been counted so far.
    #[must_use]
    pub fn snapshot(&self) -> TimeoutSnapshot {
        TimeoutSnapshot {
            expired: array::from_fn(|clock| self.state.expired[clock].total()),
            refused: self.state.stillborn.total(),
        }
    }

    /// The limits for the requests that come from now on.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.state.limits.see().get()
    }

    /// Sets other limits, for the requests that come from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.state.limits.set(limits);
        self.state.emit(Change::Limits {
            head: limits.of_head(),
            total: limits.of_total(),
            idle: limits.of_idle(),
        });
    }

    /// Whether the layer decides and counts but refuses nothing.
    #[must_use]
    #[inline]
    pub fn is_shadow(&self) -> bool {
        self.state.is_shadow()
    }

    /// Switches shadow mode, in which the layer decides and counts but refuses nothing.
    pub fn set_shadow(&self, shadow: bool) {
        if self.state.shadow.swap(shadow, Ordering::Relaxed) != shadow {
            self.state.emit(Change::Shadow(shadow));
        }
    }

    /// Tells `observer` of what is changed from now on.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.state.observers.add(observer);
    }

    /// Whether nothing but this handle is left: no layer, no service, no call, no other handle.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.state.is_last()
    }

    /// What tells this layer from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        self.state.id()
    }
}

/// What a [`TimeoutLayer`](super::TimeoutLayer) has counted. In shadow mode: what it would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutSnapshot {
    expired: [u64; Clock::ALL.len()],
    refused: u64,
}

impl TimeoutSnapshot {
    /// How many requests ran out of time by this clock.
    #[must_use]
    pub const fn expired(&self, clock: Clock) -> u64 {
        self.expired[clock as usize]
    }

    /// How many were refused before they started, because their deadline had passed.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}
