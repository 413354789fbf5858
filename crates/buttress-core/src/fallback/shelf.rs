use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, mem,
    sync::Arc,
    time::{Duration, Instant},
};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes in all: of keys, heads and bodies, and a flat sum for what keeping one takes.
    pub bytes: usize,
    /// Bytes of one entry. What is longer is not kept.
    pub entry: usize,
    /// Entries in all.
    pub entries: usize,
    /// The age past which nothing is kept, whatever else is said about it.
    pub age: Duration,
}

/// What was good, kept for when it is not: bounded in bytes, entries and age.
///
/// Who would exceed a bound pushes out what was stored or used least recently. Under one key there may be
/// several variants of a thing. One caller at a time stores under a key.
///
/// What is pushed out is returned, so that whoever holds a lock drops it later.
pub struct Shelf<T> {
    bounds: Bounds,
    places: HashMap<Arc<str>, Place>,
    entries: HashMap<u64, Entry<T>>,
    /// By when they were stored or used: numbers, not instants, so that none are equal.
    recent: BTreeMap<u64, u64>,
    expiring: BTreeSet<(Instant, u64)>,
    bytes: usize,
    /// Counts up: ids, turns and claims.
    count: u64,
}

/// What there is under one key.
#[derive(Debug, Default)]
struct Place {
    /// Ids of entries, the newest last.
    variants: Vec<u64>,
    storing: Option<Taken>,
    health: Health,
}

/// How the last call under a key went.
#[derive(Clone, Copy, Debug, Default)]
enum Health {
    #[default]
    Well,
    /// It failed, and somebody may look whether it does so still.
    Failing(Option<Taken>),
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    claim: Claim,
    since: Instant,
}

#[derive(Debug)]
struct Entry<T> {
    key: Arc<str>,
    size: usize,
    until: Instant,
    turn: u64,
    item: T,
}

/// Leave to be the one who stores, or looks, under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim(u64);

/// Whether a call may go on to where the last one failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Nothing speaks against it.
    Free,
    /// It is the one that looks whether things are well again.
    Probe(Claim),
    /// Another one is looking.
    Held,
}

/// For how long a claim keeps others out. Who takes longer has a stream without an end, or was
/// forgotten; what he stores then counts no more.
const CLAIM: Duration = Duration::from_secs(10);

/// What keeping an entry takes besides what is kept: a rough sum, so that a million empty ones
/// are not for nothing.
const FLAT: usize = 256;

/// Variants of one thing, past which the oldest makes room: whoever makes up values of a header
/// that varies pushes out his own.
const VARIANTS: usize = 8;

impl<T> Shelf<T> {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            places: HashMap::new(),
            entries: HashMap::new(),
            recent: BTreeMap::new(),
            expiring: BTreeSet::new(),
            bytes: 0,
            count: 0,
        }
    }

    /// The bounds in force.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Sets other bounds. Returns what they push out; ages hold for what is stored from now on.
    pub fn set_bounds(&mut self, bounds: Bounds) -> Vec<T> {
        self.bounds = bounds;
        self.make_room(0, 0)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Claims to be the one who stores under `key`. `None` while another does.
    pub fn claim(&mut self, key: &Arc<str>, now: Instant) -> Option<Claim> {
        let claim = self.next_claim();
        let place = self.places.entry(Arc::clone(key)).or_default();
        if place.storing.is_some_and(|taken| taken.holds(now)) {
            return None;
        }
        place.storing = Some(Taken { claim, since: now });
        Some(claim)
    }

    /// Gives a claim to store back.
    pub fn give_up(&mut self, key: &str, claim: Claim) {
        if let Some(place) = self.places.get_mut(key)
            && place.storing.is_some_and(|taken| taken.claim == claim)
        {
            place.storing = None;
            self.tidy(key);
        }
    }

    /// Stores `item` of so many bytes under the claimed `key`, until `until`, instead of the variants
    /// that it `replaces`. Returns what is pushed out by that, and the item itself where the claim
    /// is another's by now, or where it is too big.
    pub fn put(
        &mut self,
        key: &Arc<str>,
        claim: Claim,
        (size, until): (usize, Instant),
        item: T,
        replaces: impl Fn(&T) -> bool,
        now: Instant,
    ) -> Vec<T> {
        let size = size.saturating_add(key.len()).saturating_add(FLAT);
        let mine = self
            .places
            .get_mut(key)
            .filter(|place| place.storing.is_some_and(|taken| taken.claim == claim));
        let Some(place) = mine else { return vec![item] };
        place.storing = None;
        let latest = now.checked_add(self.bounds.age).unwrap_or(until);
        let until = until.min(latest);
        let fits = size <= self.bounds.bytes.min(self.bounds.entry) && self.bounds.entries > 0;
        if !fits || until < now {
            self.tidy(key);
            return vec![item];
        }
        let (variants, entries) = (&place.variants, &self.entries);
        let mut out: Vec<u64> = variants
            .iter()
            .filter(|id| entries.get(id).is_some_and(|entry| replaces(&entry.item)))
            .copied()
            .collect();
        let left = variants.len() - out.len();
        let oldest = variants.iter().filter(|id| !out.contains(id)).copied();
        let oldest: Vec<u64> = oldest.take((left + 1).saturating_sub(VARIANTS)).collect();
        out.extend(oldest);
        let mut removed: Vec<T> = out.into_iter().filter_map(|id| self.remove(id)).collect();
        removed.extend(self.sweep(now));
        removed.extend(self.make_room(size, 1));

        let id = self.next();
        self.bytes += size;
        self.recent.insert(id, id);
        self.expiring.insert((until, id));
        self.entries.insert(id, Entry { key: Arc::clone(key), size, until, turn: id, item });
        self.places.entry(Arc::clone(key)).or_default().variants.push(id);
        removed
    }

    /// The newest variant under `key` that `fits`, and is not over. Using it keeps it longer.
    pub fn find(&mut self, key: &str, now: Instant, fits: impl Fn(&T) -> bool) -> Option<&T> {
        let variants = &self.places.get(key)?.variants;
        let id = *variants.iter().rev().find(|id| {
            let entry = self.entries.get(id);
            entry.is_some_and(|entry| entry.until >= now && fits(&entry.item))
        })?;
        let turn = self.next();
        let entry = self.entries.get_mut(&id)?;
        self.recent.remove(&mem::replace(&mut entry.turn, turn));
        self.recent.insert(turn, id);
        Some(&entry.item)
    }

    /// The last call under `key` failed. Nothing is noted where there is nothing to answer with.
    /// Whoever looks already goes on doing so, for calls of before may end after he set out.
    pub fn failed(&mut self, key: &str) {
        if let Some(place) = self.places.get_mut(key)
            && !place.variants.is_empty()
            && matches!(place.health, Health::Well)
        {
            place.health = Health::Failing(None);
        }
    }

    /// A call under `key` went well.
    pub fn went_well(&mut self, key: &str) {
        if let Some(place) = self.places.get_mut(key) {
            place.health = Health::Well;
        }
    }

    /// Whether a call under `key` may go on, or is to wait until another one, which looks whether
    /// things are well again, is back.
    pub fn pass(&mut self, key: &str, now: Instant) -> Passage {
        let claim = self.next_claim();
        let Some(Place { health: Health::Failing(probe), .. }) = self.places.get_mut(key) else {
            return Passage::Free;
        };
        if probe.is_some_and(|taken| taken.holds(now)) {
            return Passage::Held;
        }
        *probe = Some(Taken { claim, since: now });
        Passage::Probe(claim)
    }

    /// Who looked has left without an answer.
    pub fn left(&mut self, key: &str, claim: Claim) {
        if let Some(Place { health: Health::Failing(probe), .. }) = self.places.get_mut(key)
            && probe.is_some_and(|taken| taken.claim == claim)
        {
            *probe = None;
        }
    }

    /// Takes out what is over.
    pub fn sweep(&mut self, now: Instant) -> Vec<T> {
        let mut removed = Vec::new();
        while let Some(&(until, id)) = self.expiring.first()
            && until < now
        {
            removed.extend(self.remove(id));
        }
        removed
    }

    /// Takes out everything, and what is on its way in: all claims are void.
    pub fn clear(&mut self) -> Vec<T> {
        self.places.clear();
        self.recent.clear();
        self.expiring.clear();
        self.bytes = 0;
        self.entries.drain().map(|(_, entry)| entry.item).collect()
    }

    /// Pushes out the least recent until so much more fits.
    fn make_room(&mut self, bytes: usize, entries: usize) -> Vec<T> {
        let mut removed = Vec::new();
        while self.bytes.saturating_add(bytes) > self.bounds.bytes
            || self.entries.len() + entries > self.bounds.entries
        {
            let Some((_, &id)) = self.recent.first_key_value() else { break };
            removed.extend(self.remove(id));
        }
        removed
    }

    fn remove(&mut self, id: u64) -> Option<T> {
        let entry = self.entries.remove(&id)?;
        self.bytes -= entry.size;
        self.recent.remove(&entry.turn);
        self.expiring.remove(&(entry.until, id));
        if let Some(place) = self.places.get_mut(&entry.key) {
            place.variants.retain(|variant| *variant != id);
        }
        self.tidy(&entry.key);
        Some(entry.item)
    }

    /// Forgets a key under which there is nothing any more, and nothing to come.
    fn tidy(&mut self, key: &str) {
        let Some(place) = self.places.get_mut(key) else { return };
        if place.variants.is_empty() {
            place.health = Health::Well;
            if place.storing.is_none() {
                self.places.remove(key);
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn next_claim(&mut self) -> Claim {
        Claim(self.next())
    }

    /// How many keys are known.
    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.places.len()
    }
}

impl Taken {
    fn holds(self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < CLAIM
    }
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("bounds", &self.bounds)
            .field("entries", &self.entries.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
