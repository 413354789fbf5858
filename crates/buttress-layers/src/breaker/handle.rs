use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use buttress_core::{
    Change, Observe, Shared, TimeLimit,
    breaker::{Machine, Settings, Snapshot, State, Totals},
};

use super::{circuit::Circuit, registry::Registry};

/// Reads and moves the state of a [`BreakerLayer`](super::BreakerLayer) while it works.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::{TimeLimit, breaker::{Settings, State}};
/// use buttress_layers::breaker::BreakerLayer;
///
/// let breaker = BreakerLayer::new("stock", Settings::rate()).handle();
///
/// breaker.open_for(TimeLimit::from_secs(60));
/// assert_eq!(breaker.state(), State::Open);
/// assert!(breaker.snapshot().until_probe <= Some(Duration::from_secs(60)));
///
/// breaker.reset();
/// assert_eq!(breaker.state(), State::Closed);
/// ```
#[derive(Clone, Debug)]
pub struct BreakerHandle {
    pub(super) circuit: Shared<Circuit>,
}

impl BreakerHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.circuit.common.name
    }

    /// The key, of one of the breakers of a keyed layer.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.circuit.key.as_deref()
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.circuit.state()
    }

    /// Where it stood when a call, or somebody, last looked: time may have moved it since. Moves
    /// nothing itself, and so tells no observer anything.
    #[must_use]
    pub fn last_state(&self) -> State {
        self.circuit.last_state()
    }

    /// All there is to see: rates, counts, time to the next probe.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.circuit.snapshot()
    }

    /// Everything counted since it was made.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.circuit.totals()
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.circuit.rules().settings().clone()
    }

    /// Sets other conditions, waits and probes. The windows keep what fits into the new ones; a
    /// breaker that is open stays so for as long as it was to be.
    pub fn set_settings(&self, settings: Settings) {
        self.circuit.odd.store(true, Ordering::Relaxed);
        self.circuit.set_settings(settings);
        self.circuit.common.emit(self.key(), Change::Settings);
    }

    /// Refuses every call until somebody says otherwise.
    pub fn force_open(&self) {
        self.circuit.by_hand(Machine::force_open);
    }

    /// Lets every call pass and records nothing until somebody says otherwise.
    pub fn force_closed(&self) {
        self.circuit.by_hand(Machine::force_closed);
    }

    /// Refuses every call for so long, and then lets probes pass.
    pub fn open_for(&self, wait: TimeLimit) {
        self.circuit.by_hand(|machine, rules, now, moves| {
            // As far ahead as the clock can count.
            let until = now.checked_add(wait.get()).unwrap_or(now);
            machine.open_until(rules, until, now, moves);
        });
    }

    /// Refuses every call until this instant of tokio's clock, and then lets probes pass.
    pub fn open_until(&self, until: Instant) {
        self.circuit.by_hand(|machine, rules, now, moves| {
            machine.open_until(rules, until, now, moves);
        });
    }

    /// Closes, and forgets all that the windows hold.
    pub fn reset(&self) {
        self.circuit.by_hand(Machine::reset);
    }

    /// Whether it decides and counts but refuses nothing.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.circuit.is_shadow()
    }

    /// Switches shadow mode, in which it decides and counts but refuses nothing. It is closed and
    /// its windows are empty afterwards.
    pub fn set_shadow(&self, shadow: bool) {
        self.circuit.odd.store(true, Ordering::Relaxed);
        if self.circuit.set_shadow(shadow) {
            self.circuit.common.emit(self.key(), Change::Shadow(shadow));
        }
    }

    /// Tells `observer` of what happens from now on; of all breakers of a keyed layer.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.circuit.common.observers.add(observer);
    }

    /// Whether nothing but this handle is left: no layer, no service, no call, no other handle.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.circuit.is_last()
    }

    /// What tells this breaker from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        self.circuit.id()
    }
}

/// Reads and moves the state of a keyed [`BreakerLayer`](super::BreakerLayer) while it works.
#[derive(Clone, Debug)]
pub struct KeyedBreakerHandle {
    pub(super) registry: Shared<Registry>,
}

impl KeyedBreakerHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.registry.common.name
    }

    /// The breaker of a key, if one is kept. Once it has been pushed out, its handle moves
    /// nothing any more.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<BreakerHandle> {
        self.registry.get(key).map(|circuit| BreakerHandle { circuit })
    }

    /// The breakers that are kept, those that are not closed first, then by their last use. A
    /// closed one whose windows are empty is not worth keeping, and may be missing.
    #[must_use]
    pub fn keys(&self) -> Vec<BreakerHandle> {
        self.registry.all().into_iter().map(|circuit| BreakerHandle { circuit }).collect()
    }

    /// How many breakers stand in each state.
    #[must_use]
    pub fn states(&self) -> [(State, usize); State::ALL.len()] {
        self.registry.states()
    }

    /// Everything that all breakers have counted, those that are gone included.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.registry.sweep()
    }

    /// The settings of new breakers.
    pub fn settings(&self) -> Settings {
        self.registry.settings()
    }

    /// Sets other conditions, waits and probes, for all keys, those to come included.
    pub fn set_settings(&self, settings: &Settings) {
        self.registry.set_settings(settings);
        self.registry.common.emit(None, Change::Settings);
    }

    /// Whether new breakers decide and count but refuse nothing.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.registry.is_shadow()
    }

    /// Switches shadow mode, for all keys, those to come included.
    pub fn set_shadow(&self, shadow: bool) {
        if self.registry.set_shadow(shadow) {
            self.registry.common.emit(None, Change::Shadow(shadow));
        }
    }

    /// Tells `observer` of what happens to any of them from now on.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.registry.common.observers.add(observer);
    }

    /// Whether nothing but this handle is left: no layer, no service, no call, no other handle.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.registry.is_last() && self.registry.is_unused()
    }

    /// What tells this layer from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        self.registry.id()
    }
}
