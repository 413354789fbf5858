use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use buttress_core::{
    Change, Event, Kind, Observe, Observers, Random, Ratio, Rejection, Shared,
    cells::Counter,
    throttle::{Settings, Throttle},
};

use crate::clock::read;

/// What one layer shares with all that it builds.
pub(super) struct State {
    name: Arc<str>,
    throttle: ArcSwap<Throttle>,
    random: Random,
    shadow: AtomicBool,
    /// Whether it refused anything when last an outcome was recorded.
    throttling: AtomicBool,
    accepted: Counter,
    unaccepted: Counter,
    refused: Counter,
    observers: Observers,
}

impl State {
    pub(super) fn new(name: Arc<str>, settings: Settings) -> Self {
        let seed = RandomState::new().hash_one(&name);
        Self {
            name,
            throttle: ArcSwap::from_pointee(Throttle::new(settings)),
            random: Random::seeded(seed),
            shadow: AtomicBool::new(false),
            throttling: AtomicBool::new(false),
            accepted: Counter::new(),
            unaccepted: Counter::new(),
            refused: Counter::new(),
            observers: Observers::default(),
        }
    }

    /// Lets a request pass, or says why not; in shadow mode it always passes.
    #[inline]
    pub(super) fn admit(&self, now: impl Fn() -> Instant) -> Option<Rejection> {
        // Nobody is refused while all is well, and then there is nothing more to look at.
        if !self.throttling.load(Ordering::Relaxed) {
            return None;
        }
        let throttle = self.throttle.load();
        if throttle.admits(&now, || self.random.draw()) {
            return None;
        }
        self.refused.increment();
        if self.is_shadow() {
            // It is recorded when it ends, as what it then is.
            return None;
        }
        throttle.record(false, now());
        Some(Rejection::new(Kind::Throttled, Arc::clone(&self.name)))
    }

    /// Notes what became of a request that passed.
    #[inline]
    pub(super) fn settle(&self, accepted: bool, now: Instant) {
        let counter = if accepted { &self.accepted } else { &self.unaccepted };
        counter.increment();
        let throttle = self.throttle.load();
        throttle.record(accepted, now);
        self.note(&throttle);
    }

    /// Notes whether it refuses anything, and tells when that is new.
    #[inline]
    fn note(&self, throttle: &Throttle) {
        let throttling = throttle.is_throttling();
        if self.throttling.load(Ordering::Relaxed) != throttling
            && self.throttling.swap(throttling, Ordering::Relaxed) != throttling
        {
            self.emit(Change::Throttling(throttling));
        }
    }

    fn is_shadow(&self) -> bool {
        self.shadow.load(Ordering::Relaxed)
    }

    fn emit(&self, change: Change) {
        self.observers.emit(&Event { layer: "throttle", name: &self.name, key: None, change });
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads and moves the state of a [`ThrottleLayer`](super::ThrottleLayer) while it works.
///
/// ```
/// use buttress_core::{Ratio, throttle::Settings};
/// use buttress_layers::throttle::ThrottleLayer;
///
/// let layer = ThrottleLayer::new("stock", Settings::new());
/// assert_eq!(layer.handle().probability(), Ratio::ZERO);
/// ```
#[derive(Clone, Debug)]
pub struct ThrottleHandle {
    pub(super) state: Shared<State>,
}

impl ThrottleHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// What has been counted so far.
    #[must_use]
    pub fn snapshot(&self) -> ThrottleSnapshot {
        ThrottleSnapshot {
            accepted: self.state.accepted.total(),
            unaccepted: self.state.unaccepted.total(),
            refused: self.state.refused.total(),
        }
    }

    /// The probability with which a request is refused just now.
    #[must_use]
    pub fn probability(&self) -> Ratio {
        self.state.throttle.load().probability(read())
    }

    /// How many requests the window holds, those refused here among them, and how many of them
    /// were accepted.
    #[must_use]
    pub fn window(&self) -> (u64, u64) {
        self.state.throttle.load().window(read())
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        *self.state.throttle.load().settings()
    }

    /// Sets other settings. What the window holds stays, unless they look back further or less
    /// far: then it begins empty.
    pub fn set_settings(&self, settings: Settings) {
        let state = &*self.state;
        let throttle = Arc::new(state.throttle.load().with_settings(settings, read()));
        state.throttle.store(Arc::clone(&throttle));
        state.emit(Change::Settings);
        state.note(&throttle);
    }

    /// Whether the layer decides and counts but refuses nothing.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.state.is_shadow()
    }

    /// Switches shadow mode, in which the layer decides and counts but refuses nothing.
    pub fn set_shadow(&self, shadow: bool) {
        if self.state.shadow.swap(shadow, Ordering::Relaxed) != shadow {
            self.state.emit(Change::Shadow(shadow));
        }
    }

    /// Tells `observer` of what happens from now on.
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

/// What a [`ThrottleLayer`](super::ThrottleLayer) has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleSnapshot {
    accepted: u64,
    unaccepted: u64,
    refused: u64,
}

impl ThrottleSnapshot {
    /// How many requests passed and were accepted.
    #[must_use]
    pub const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many passed and were not.
    #[must_use]
    pub const fn unaccepted(&self) -> u64 {
        self.unaccepted
    }

    /// How many did not pass; in shadow mode, how many would not have.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}
