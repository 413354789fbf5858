use std::{collections::HashMap, hash::Hash};

use buttress_core::rate_limit::{Ask, Entry, Limits, Queue, Woken};
use hashbrown::HashTable;

use super::words::{Held, Word, Words};

/// A part of the keys, behind one lock.
///
/// A key costs its own size, a word and a byte, at the load that the table happens to have; and
/// nothing that says when it was last used, because its word does: a bucket that is full is as
/// good as none.
#[derive(Debug)]
pub(super) struct Shard<K> {
    pub(super) limits: Limits,
    table: HashTable<(K, Word)>,
    words: Words,
    /// Of those keys for which somebody waits.
    queues: HashMap<K, Queue>,
    /// The fullest that buckets can be whose keys were pushed out. Who is not known begins there,
    /// so that nobody gets a new bucket by being forgotten.
    floor: Held,
    /// Where the table was last looked through.
    hand: usize,
}

/// How many slots are looked through for idle keys with each new key. So all are looked at each
/// time that an eighth as many have come, which is soon enough to find room, and quick.
const SWEEP: usize = 8;

/// Among how many the fullest bucket is looked for when no key is idle.
const CHOICE: usize = 64;

/// Finds a key in a table.
pub(super) struct Sought<'a, K, H> {
    pub(super) key: &'a K,
    pub(super) hash: u64,
    pub(super) hasher: H,
}

impl<K: Hash + Eq + Clone> Shard<K> {
    pub(super) fn new(limits: &Limits) -> Self {
        let several = limits.rates().count();
        Self {
            limits: limits.clone(),
            table: HashTable::new(),
            words: Words::new(several),
            queues: HashMap::new(),
            floor: Held::new(several),
            hand: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.queues.values().map(Queue::len).sum()
    }

    /// Bytes of the heap, but for those of the keys.
    pub(super) fn bytes(&self) -> usize {
        self.table.allocation_size() + self.words.bytes()
    }

    /// Draws from the bucket of a known key; `None` if it is not known.
    #[inline]
    pub(super) fn enter<H>(
        &mut self,
        sought: &Sought<'_, K, H>,
        ask: Ask,
        patience: Option<u64>,
        now: u64,
        woken: &mut Woken,
    ) -> Option<Entry> {
        let Self { limits, table, words, queues, .. } = self;
        let (_, word) = table.find_mut(sought.hash, |(key, _)| key == sought.key)?;
        let mut held = words.load(*word);
        let waiting = if queues.is_empty() { None } else { queues.get_mut(sought.key) };
        let entry = match waiting {
            Some(queue) => {
                queue.settle(limits, held.words(), now, woken);
                queue.enter(ask, patience, (limits, held.words()), now, woken)
            }
            None => match limits.take(held.words(), now, ask) {
                Ok(()) => Entry::Admitted,
                Err(shortage) if patience.is_none() => Entry::Refused(shortage),
                Err(_) => {
                    let mut queue = Queue::default();
                    let entry = queue.enter(ask, patience, (limits, held.words()), now, woken);
                    if !queue.is_over() {
                        queues.insert(sought.key.clone(), queue);
                    }
                    entry
                }
            },
        };
        words.store(word, held);
        Some(entry)
    }

    /// Makes a bucket for a key that is not known, and draws from it. Nothing is kept of one that
    /// is refused.
    pub(super) fn insert<H: Fn(&K) -> u64>(
        &mut self,
        sought: &Sought<'_, K, H>,
        ask: Ask,
        patience: Option<u64>,
        now: u64,
        woken: &mut Woken,
    ) -> Entry {
        let mut held = self.floor;
        let mut queue = Queue::default();
        let entry = queue.enter(ask, patience, (&self.limits, held.words()), now, woken);
        if matches!(entry, Entry::Refused(_)) {
            return entry;
        }
        if !queue.is_over() {
            self.queues.insert(sought.key.clone(), queue);
        }
        let new = (sought.key.clone(), self.words.keep(held));
        self.table.insert_unique(sought.hash, new, |(key, _)| (sought.hasher)(key));
        entry
    }

    /// Does something with the words and the queue of a key, if it is known.
    pub(super) fn with<T>(
        &mut self,
        hash: u64,
        key: &K,
        work: impl FnOnce(&Limits, &mut [u64], &mut Queue) -> T,
    ) -> Option<T> {
        let Self { limits, table, words, queues, .. } = self;
        let (_, word) = table.find_mut(hash, |(other, _)| other == key)?;
        let mut held = words.load(*word);
        let done = match queues.get_mut(key) {
            Some(queue) => {
                let done = work(limits, held.words(), queue);
                if queue.is_over() {
                    queues.remove(key);
                }
                done
            }
            None => work(limits, held.words(), &mut Queue::default()),
        };
        words.store(word, held);
        Some(done)
    }

    /// Sets other rates. Buckets hold what they held, as far as it fits.
    pub(super) fn set_limits(&mut self, limits: Limits, now: u64, woken: &mut Woken) {
        let Self { limits: old, table, words, queues, floor, .. } = self;
        for (key, word) in table.iter_mut() {
            let mut held = words.load(*word);
            limits.convert(held.words(), now, old);
            if let Some(queue) = queues.get_mut(key) {
                queue.settle(&limits, held.words(), now, woken);
                queue.review(&limits, held.words(), now, woken);
            }
            words.store(word, held);
        }
        // Who was never seen begins with all that the new rate allows.
        if old.are_full(floor.words(), now) {
            *floor = Held::new(floor.words().len());
        } else {
            limits.convert(floor.words(), now, old);
        }
        *old = limits;
    }

    /// Looks through a few slots and forgets who is idle there, if the table is about to grow.
    /// Returns how many.
    pub(super) fn sweep_some(&mut self, now: u64) -> usize {
        // Keys whose buckets fill up fast would else come and go with nearly every request.
        if self.table.len() * 8 < self.table.capacity() * 7 {
            return 0;
        }
        let slots = SWEEP.min(self.table.num_buckets());
        (0..slots).filter(|_| self.forget_idle(now)).count()
    }

    /// Forgets all who are idle, and gives memory back. Returns how many.
    pub(super) fn sweep(&mut self, now: u64, hasher: impl Fn(&K) -> u64) -> usize {
        let slots = self.table.num_buckets();
        let forgotten = (0..slots).filter(|_| self.forget_idle(now)).count();
        // Half of what is there may come again before the table grows.
        self.table.shrink_to(self.table.len() * 3 / 2, |(key, _)| hasher(key));
        if self.table.is_empty() {
            self.words.clear();
        }
        forgotten
    }

    /// Looks at the next slot, and forgets its key if it is idle.
    fn forget_idle(&mut self, now: u64) -> bool {
        let slot = self.step();
        let Some((key, word)) = self.table.get_bucket(slot) else { return false };
        let idle = self.limits.are_full(self.words.load(*word).words(), now);
        if idle && !self.queues.contains_key(key) {
            self.remove(slot);
            return true;
        }
        false
    }

    /// Pushes out the key with the fullest bucket among a few. Says whether there was one.
    pub(super) fn push_out(&mut self, now: u64) -> bool {
        let mut fullest: Option<(usize, u64)> = None;
        for _ in 0..CHOICE.min(self.table.num_buckets()) {
            let slot = self.step();
            let Some((key, word)) = self.table.get_bucket(slot) else { continue };
            let available = self.limits.available(self.words.load(*word).words(), now);
            if !self.queues.contains_key(key) && fullest.is_none_or(|(_, most)| available > most) {
                fullest = Some((slot, available));
            }
        }
        let Some((slot, _)) = fullest else { return false };
        if let Some((_, word)) = self.table.get_bucket(slot) {
            let mut held = self.words.load(*word);
            for (floor, word) in self.floor.words().iter_mut().zip(held.words()) {
                *floor = (*floor).max(*word);
            }
        }
        self.remove(slot);
        true
    }

    fn step(&mut self) -> usize {
        self.hand = (self.hand + 1) % self.table.num_buckets().max(1);
        self.hand
    }

    fn remove(&mut self, slot: usize) {
        if let Ok(entry) = self.table.get_bucket_entry(slot) {
            let ((_, word), _) = entry.remove();
            self.words.forget(word);
        }
    }
}
