use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use buttress_core::{
    Change, Lease, Shared,
    breaker::{Refusal, Settings, State, Totals},
};
use foldhash::fast::RandomState;
use lru::LruCache;

use super::circuit::{Circuit, Common};
use crate::clock::read;

/// The breakers of a keyed layer, one for each key that it has seen of late.
///
/// One lock for a look-up, held for a hash and a few pointers. A breaker that is pushed out while
/// calls are under way, or while somebody holds its handle, is kept until they are done, so that
/// what they count is not lost.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) common: Arc<Common>,
    kept: Mutex<Kept>,
    told_full: AtomicBool,
}

#[derive(Debug)]
struct Kept {
    capacity: usize,
    settings: Settings,
    shadow: bool,
    /// Those that were closed when last looked at, the least recently used last.
    closed: Entries,
    /// The others: a breaker that has closed again is one of the closed from its next use on.
    moved: Entries,
    /// How many transitions there had been when `moved` was last looked through.
    looked_at: u64,
    /// Pushed out, and still in use.
    leaving: Vec<Shared<Circuit>>,
    /// At how many of them it is time to look which are done.
    crowded: usize,
    /// What those counted that are gone.
    gone: Totals,
}

type Entries = LruCache<Arc<str>, Shared<Circuit>, RandomState>;

impl Registry {
    pub(super) fn new(common: Arc<Common>, settings: Settings, shadow: bool) -> Self {
        let entries = || LruCache::unbounded_with_hasher(RandomState::default());
        let kept = Kept {
            capacity: DEFAULT_CAPACITY,
            settings,
            shadow,
            closed: entries(),
            moved: entries(),
            looked_at: 0,
            leaving: Vec::new(),
            crowded: FEW,
            gone: Totals::default(),
        };
        Self { common, kept: Mutex::new(kept), told_full: AtomicBool::new(false) }
    }

    pub(super) fn set_capacity(&self, capacity: usize) {
        self.lock().capacity = capacity;
    }

    /// The breaker of a key, made if there is none.
    pub(super) fn pick(&self, key: &str) -> Lease<Circuit> {
        let (lease, full) = {
            let kept = &mut *self.lock();
            if let Some(circuit) = kept.find(key) {
                return circuit.lease();
            }
            let full = kept.make_room(&self.common);
            let key: Arc<str> = key.into();
            let circuit = kept.make(&self.common, &key);
            let lease = circuit.lease();
            kept.closed.put(key, circuit);
            (lease, full.then_some(kept.capacity))
        };
        if let Some(capacity) = full.filter(|_| !self.told_full.swap(true, Ordering::Relaxed)) {
            self.common.emit(None, Change::KeysFull { capacity });
        }
        lease
    }

    /// The breaker of a key, if there is one. Not a use of it.
    pub(super) fn get(&self, key: &str) -> Option<Shared<Circuit>> {
        let kept = self.lock();
        kept.closed.peek(key).or_else(|| kept.moved.peek(key)).cloned()
    }

    /// All breakers there are, those that are not closed first, the most recently used of each
    /// before the others.
    pub(super) fn all(&self) -> Vec<Shared<Circuit>> {
        let mut all: Vec<_> = self.lock().kept().map(|(_, circuit)| circuit.clone()).collect();
        all.sort_by_key(|circuit| circuit.is_closed());
        all
    }

    /// Lets go of breakers that know nothing: the next call with their key makes one as good.
    /// Returns all that has been counted so far.
    pub(super) fn sweep(&self) -> Totals {
        let now = read();
        let kept = &mut *self.lock();
        let idle = kept.kept().filter(|(_, circuit)| circuit.is_last() && circuit.is_idle(now));
        let idle: Vec<_> = idle.map(|(key, _)| Arc::clone(key)).collect();
        for key in idle {
            if let Some(circuit) = kept.closed.pop(&key).or_else(|| kept.moved.pop(&key)) {
                kept.retire(circuit);
            }
        }
        kept.forget_unused();
        let all = kept.kept().map(|(_, circuit)| circuit);
        all.chain(&kept.leaving).fold(kept.gone, |sum, circuit| add(sum, circuit.totals()))
    }

    pub(super) fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    pub(super) fn set_settings(&self, settings: &Settings) {
        self.lock().settings = settings.clone();
        for circuit in self.all() {
            circuit.set_settings(settings.clone());
        }
    }

    pub(super) fn is_shadow(&self) -> bool {
        self.lock().shadow
    }

    /// Returns whether that is anything new.
    pub(super) fn set_shadow(&self, shadow: bool) -> bool {
        let changed = std::mem::replace(&mut self.lock().shadow, shadow) != shadow;
        for circuit in self.all() {
            circuit.set_shadow(shadow);
        }
        changed
    }

    /// Whether no call holds on to any of them.
    pub(super) fn is_unused(&self) -> bool {
        let kept = &mut *self.lock();
        kept.forget_unused();
        kept.leaving.is_empty() && kept.kept().all(|(_, circuit)| circuit.is_last())
    }

    /// How many breakers stand in each state.
    pub(super) fn states(&self) -> [(State, usize); State::ALL.len()] {
        let mut counts = State::ALL.map(|state| (state, 0));
        for circuit in self.all() {
            let state = circuit.state();
            if let Some(count) = counts.iter_mut().find(|(other, _)| *other == state) {
                count.1 += 1;
            }
        }
        counts
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many routes or peers as most services know, in a few megabytes.
const DEFAULT_CAPACITY: usize = 1024;

/// So many that have been pushed out are looked through in no time.
const FEW: usize = 64;

impl Kept {
    fn find(&mut self, key: &str) -> Option<&Shared<Circuit>> {
        // Twice, because a borrow that is returned from one branch lasts for both.
        if self.closed.contains(key) {
            return self.closed.get(key);
        }
        if !self.moved.peek(key)?.is_closed() {
            return self.moved.get(key);
        }
        let (key, circuit) = self.moved.pop_entry(key)?;
        Some(self.closed.get_or_insert(key, || circuit))
    }

    fn kept(&self) -> impl Iterator<Item = (&Arc<str>, &Shared<Circuit>)> {
        self.moved.iter().chain(self.closed.iter())
    }

    fn make(&self, common: &Arc<Common>, key: &Arc<str>) -> Shared<Circuit> {
        let key = Some(Arc::clone(key));
        let circuit = Circuit::new(Arc::clone(common), key, self.settings.clone());
        if self.shadow {
            circuit.set_shadow(true);
        }
        Shared::new(circuit)
    }

    /// Pushes out the least recently used, a closed one if there is any. Says whether it had to.
    fn make_room(&mut self, common: &Common) -> bool {
        if self.closed.len() + self.moved.len() < self.capacity {
            return false;
        }
        // While nothing has moved since they were last looked at, none of them has closed.
        let transitions = common.transitions.load(Ordering::Acquire);
        if self.looked_at != transitions {
            self.looked_at = transitions;
            // Not used since they closed, and so they know nothing: these go first. The last of
            // them last, which is then the first to go.
            let closed = self.moved.iter().filter(|(_, circuit)| circuit.is_closed());
            let closed: Vec<_> = closed.map(|(key, _)| Arc::clone(key)).collect();
            for key in closed {
                if let Some((key, circuit)) = self.moved.pop_entry(&key) {
                    self.closed.put(Arc::clone(&key), circuit);
                    self.closed.demote(&key);
                }
            }
        }
        while let Some((key, circuit)) = self.closed.pop_lru() {
            if circuit.is_closed() {
                self.retire(circuit);
                return true;
            }
            self.moved.put(key, circuit);
        }
        if let Some((_, circuit)) = self.moved.pop_lru() {
            self.retire(circuit);
        }
        true
    }

    fn retire(&mut self, circuit: Shared<Circuit>) {
        self.leaving.push(circuit);
        // As many new ones as were left the last time: on average a look at two of them each.
        if self.leaving.len() >= self.crowded {
            self.forget_unused();
        }
    }

    fn forget_unused(&mut self) {
        let gone = &mut self.gone;
        self.leaving.retain(|circuit| {
            let last = circuit.is_last();
            if last {
                *gone = add(*gone, circuit.totals());
            }
            !last
        });
        self.crowded = (2 * self.leaving.len()).max(FEW);
    }
}

fn add(mut sum: Totals, other: Totals) -> Totals {
    sum.successes += other.successes;
    sum.failures += other.failures;
    sum.soft_failures += other.soft_failures;
    sum.ignored += other.ignored;
    sum.cancelled += other.cancelled;
    sum.void += other.void;
    sum.would_refuse += other.would_refuse;
    for why in Refusal::ALL {
        sum.refused[why as usize] += other.refused(why);
    }
    sum
}
