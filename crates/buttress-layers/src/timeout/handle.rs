use std::{
    array,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use buttress_core::{
    Change, Event, Expired, Kind, Observe, Observers, Rejection, Shared,
    cells::{Buckets, Counter},
};

use super::{Clock, Limits, limits::LiveLimits};

/// What one layer shares with all that it builds.
#[derive(Debug)]
pub(super) struct State {
    name: Arc<str>,
    pub(super) limits: LiveLimits,
    shadow: AtomicBool,
    expired: [Counter; Clock::ALL.len()],
    stillborn: Counter,
    /// Served though they came late, because of the cap.
    spared: Counter,
    pub(super) cap: OnceLock<Expired>,
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
            spared: Counter::new(),
            cap: OnceLock::new(),
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

    /// What becomes of a request whose caller waits until `deadline`.
    #[inline]
    pub(super) fn arrives(&self, deadline: Option<Instant>, now: Instant) -> Arrival {
        let is_late = deadline.is_some_and(|deadline| deadline <= now);
        if let Some(cap) = self.cap.get() {
            if let Some(deadline) = deadline {
                cap.came(deadline, now);
            }
            if !is_late || !cap.may_refuse(now) {
                cap.served(now);
                if is_late {
                    self.spared.increment();
                    return Arrival::Spared;
                }
            }
        }
        if is_late { self.refuse() } else { Arrival::InTime }
    }

    /// Counts a request whose deadline had passed before it came.
    fn refuse(&self) -> Arrival {
        self.stillborn.increment();
        if self.is_shadow() {
            return Arrival::Tried;
        }
        Arrival::Refused(Rejection::new(Kind::Expired, Arc::clone(&self.name)))
    }

    #[inline]
    pub(super) fn is_shadow(&self) -> bool {
        self.shadow.load(Ordering::Relaxed)
    }

    fn emit(&self, change: Change) {
        self.observers.emit(&Event { layer: "timeout", name: &self.name, key: None, change });
    }
}

/// Whether a request came before its deadline, and what becomes of it if not.
#[derive(Debug)]
pub(super) enum Arrival {
    InTime,
    /// It is refused before it starts.
    Refused(Rejection),
    /// It would have been, but for shadow mode.
    Tried,
    /// It is served all the same, because enough others were refused.
    Spared,
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
            spared: self.state.spared.total(),
        }
    }

    /// How long after their deadlines requests came, and how long before: counted where there is
    /// a [cap](super::TimeoutLayer::refuse_expired_at_most).
    #[must_use]
    pub fn arrivals(&self) -> Option<Arrivals> {
        let cap = self.state.cap.get()?;
        Some(Arrivals { late: cap.late(), left: cap.left() })
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
    spared: u64,
}

/// When requests came that had a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// How long after it.
    pub late: Buckets,
    /// How long before it.
    pub left: Buckets,
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

    /// How many were served though their deadline had passed, because enough others were refused.
    #[must_use]
    pub const fn spared(&self) -> u64 {
        self.spared
    }

    /// How many came when their deadline had passed: refused or served.
    #[must_use]
    pub const fn came_late(&self) -> u64 {
        self.refused + self.spared
    }
}
