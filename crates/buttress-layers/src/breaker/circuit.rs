use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use buttress_core::{
    Change, Event, Kind, Observers, Rejection,
    breaker::{
        Machine, Move, Moves, Outcome, Refused, Report, Rules, Settings, Snapshot, State, Ticket,
        Totals,
    },
    clock,
};
use foldhash::quality::FixedState;

use super::Isolation;
use crate::{clock::read, kept_back::KeptBack};

/// One breaker: what a layer shares with all that it builds, or one of those of a keyed layer.
#[derive(Debug)]
pub struct Circuit {
    pub(super) common: Arc<Common>,
    pub(super) key: Option<Arc<str>>,
    machine: Machine,
    /// Of a keyed layer: unlike the others, because somebody said so.
    pub(super) odd: AtomicBool,
    rules: ArcSwap<Rules>,
    /// What the shortest of the slow calls lasts, in nanoseconds: read with each call.
    slower_than: AtomicU64,
    /// Held while settings change, so that one change follows the other.
    changing: Mutex<()>,
}

/// What all breakers of one layer have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) name: Arc<str>,
    pub(super) observers: Arc<Observers>,
    pub(super) switch: OnceLock<Isolation>,
    /// Counts the transitions of all of them.
    pub(super) transitions: AtomicU64,
}

/// No call is slow.
const NEVER: u64 = u64::MAX;

impl Common {
    pub(super) fn new(name: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            name,
            observers: Arc::default(),
            switch: OnceLock::new(),
            transitions: AtomicU64::new(0),
        })
    }

    #[inline]
    pub(super) fn is_isolated(&self) -> bool {
        self.switch.get().is_some_and(Isolation::is_isolated)
    }

    pub(super) fn emit(&self, key: Option<&str>, change: Change) {
        self.observers.emit(&Event { layer: "breaker", name: &self.name, key, change });
    }
}

impl Circuit {
    pub(super) fn new(common: Arc<Common>, key: Option<Arc<str>>, settings: Settings) -> Self {
        // Breakers that all draw the same would probe in step, those of one layer included.
        let seed = match (settings.seed(), &key) {
            (None, _) => RandomState::new().hash_one(&common.name),
            (Some(seed), None) => seed,
            (Some(seed), Some(key)) => FixedState::with_seed(seed).hash_one(key),
        };
        let (machine, rules) = Machine::new(settings, seed);
        let slower_than = AtomicU64::new(rules.slower_than().map_or(NEVER, nanos));
        let (rules, changing) = (ArcSwap::new(rules), Mutex::new(()));
        let odd = AtomicBool::new(false);
        Self { common, key, machine, odd, rules, slower_than, changing }
    }

    /// Asks for leave to make a call.
    #[inline]
    pub(super) fn admit(&self, moves: &mut Moves) -> Result<Ticket, Rejection> {
        if self.common.is_isolated() {
            return Err(self.reject(self.machine.isolated()));
        }
        let now = || clock::enter(read).now();
        let admitted = self.machine.admit(|| self.rules.load_full(), now, moves);
        admitted.map_err(|refused| self.reject(refused))
    }

    #[cold]
    fn reject(&self, refused: Refused) -> Rejection {
        let rejection = Rejection::new(Kind::CircuitOpen, Arc::clone(&self.common.name));
        let rejection = rejection.because(refused.why.message());
        match refused.retry_after {
            Some(wait) => rejection.with_retry_after(wait),
            None => rejection,
        }
    }

    #[inline]
    pub(super) fn settle(&self, ticket: Ticket, report: Report, now: Instant) {
        // Most calls are over with that, and have not touched the rules.
        if report.outcome == Outcome::Success
            && self.slower_than().is_none_or(|slow| report.to_head <= slow)
            && self.machine.count_success(ticket, now)
        {
            return;
        }
        self.settle_by_rules(ticket, report, now);
    }

    #[inline(never)]
    fn settle_by_rules(&self, ticket: Ticket, report: Report, now: Instant) {
        let mut moves = Moves::new();
        self.machine.settle(&self.rules.load(), ticket, report, now, &mut moves);
        self.tell(&moves);
    }

    pub(super) fn head_came(&self, ticket: Ticket, now: Instant) {
        self.machine.head_came(ticket, now);
    }

    /// What the shortest of the slow calls lasts.
    #[inline]
    pub(super) fn slower_than(&self) -> Option<Duration> {
        let slower_than = self.slower_than.load(Ordering::Relaxed);
        (slower_than != NEVER).then(|| Duration::from_nanos(slower_than))
    }

    #[inline]
    pub(super) fn rules(&self) -> Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// Tells observers what happened.
    #[inline]
    pub(super) fn tell(&self, moves: &[Move]) {
        if !moves.is_empty() {
            self.tell_each(moves);
        }
    }

    /// An observer that panics keeps nobody from hearing the rest, and does not turn a panic that
    /// unwinds already into an abort.
    #[cold]
    fn tell_each(&self, moves: &[Move]) {
        let mut panic = KeptBack::default();
        for what in moves {
            let change = match *what {
                Move::Transition(transition) => {
                    self.common.transitions.fetch_add(1, Ordering::Release);
                    Change::Breaker(transition)
                }
                Move::WouldOpen(cause) => Change::WouldOpen(cause),
            };
            panic.run(|| self.common.emit(self.key.as_deref(), change));
        }
        panic.go_on();
    }

    /// Does something by hand, and tells what came of it.
    pub(super) fn by_hand<T>(
        &self,
        act: impl FnOnce(&Machine, &Rules, Instant, &mut Moves) -> T,
    ) -> T {
        let mut moves = Moves::new();
        let done = act(&self.machine, &self.rules.load(), read(), &mut moves);
        self.tell(&moves);
        done
    }

    pub(super) fn state(&self) -> State {
        if self.common.is_isolated() {
            return State::Isolated;
        }
        self.by_hand(Machine::state)
    }

    pub(super) fn last_state(&self) -> State {
        if self.common.is_isolated() { State::Isolated } else { self.machine.last_state() }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.by_hand(Machine::snapshot);
        if self.common.is_isolated() {
            snapshot.state = State::Isolated;
            snapshot.until_probe = None;
        }
        snapshot
    }

    pub(super) fn totals(&self) -> Totals {
        self.machine.totals()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }

    /// Whether a new one would do as well.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        !self.odd.load(Ordering::Relaxed) && self.machine.is_idle(&self.rules.load(), now)
    }

    pub(super) fn is_shadow(&self) -> bool {
        self.machine.is_shadow()
    }

    pub(super) fn set_shadow(&self, shadow: bool) -> bool {
        self.by_hand(|machine, rules, now, moves| machine.set_shadow(rules, shadow, now, moves))
    }

    pub(super) fn set_settings(&self, settings: Settings) {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moves = Moves::new();
        let rules = self.machine.change(&self.rules.load(), settings, read(), &mut moves);
        self.slower_than.store(rules.slower_than().map_or(NEVER, nanos), Ordering::Relaxed);
        self.rules.store(rules);
        drop(changing);
        self.tell(&moves);
    }
}

/// A limit is a year at the most, which fits.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER - 1)
}
