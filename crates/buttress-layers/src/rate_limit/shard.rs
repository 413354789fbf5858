use std::{
    collections::HashMap,
    hash::Hash,
    slice,
    time::{Duration, Instant},
};

use buttress_core::rate_limit::{Ask, Entry, Limiter, Limits, Place, Queue, Shortage, Woken};
use hashbrown::HashTable;

use super::{
    WhenFull,
    words::{Held, Word, Words},
};

/// A part of the keys, behind one lock.
///
/// A key costs its own size, a word and a byte, at the load that the table happens to have; and
/// nothing that says when it was last used, because its word does: a bucket that is full is as
/// good as none.
///
/// What each request looks at is as long as a cache line, with the lock.
#[derive(Debug)]
pub(super) struct Shard<K> {
    limits: Limits,
    table: HashTable<(K, Word)>,
    rest: Box<Rest<K>>,
}

#[derive(Debug)]
struct Rest<K> {
    words: Words,
    /// Of those keys for which somebody waits.
    queues: HashMap<K, Queue>,
    /// The fullest that buckets can be whose keys were pushed out. Who is not known begins there,
    /// so that nobody gets a new bucket by being forgotten: [`WhenFull::Strict`].
    floor: Held,
    /// Where the table was last looked through.
    hand: usize,
}

/// How many slots are looked through for idle keys with each new key. So all are looked at each
/// time that an eighth as many have come, which is soon enough to find room, and quick.
const SWEEP: usize = 8;

/// Among how many slots the fullest bucket is looked for when no key is idle.
const CHOICE: usize = 64;

/// Among how many keys, where who is pushed out is forgotten. Among many the fullest would be one
/// that has just come, each time: newcomers would push each other out for ever, and each begin again
/// with a full bucket. Among few there is soon none of them.
pub(super) const FEW: usize = 8;

/// A key, and all that is asked of its bucket.
pub(super) struct Sought<'a, K, H> {
    pub(super) key: &'a K,
    pub(super) hash: u64,
    pub(super) hasher: H,
    pub(super) ask: Ask,
    /// `None` for not to wait.
    pub(super) patience: Option<Duration>,
    /// What all keys have together. It is asked while the bucket of a key is locked, so that a
    /// request gets of both or of neither.
    pub(super) together: Option<&'a Limiter>,
    pub(super) instant: Instant,
    /// The same, for buckets of keys.
    pub(super) now: u64,
}

/// What becomes of it.
#[derive(Debug)]
pub(super) enum Entered {
    Admitted,
    /// It would take what is asked for within its patience, and has taken it ahead of time.
    Ahead(Duration),
    Refused(Shortage),
    /// It waits for the bucket of its key.
    Waiting(Place),
    /// It has what it wants of its key, and waits for what all keys have together.
    WaitingForAll(Place),
}

impl<K: Hash + Eq + Clone> Shard<K> {
    pub(super) fn new(limits: &Limits) -> Self {
        let each = limits.count();
        let rest = Rest {
            words: Words::new(each),
            queues: HashMap::new(),
            floor: Held::new(each),
            hand: 0,
        };
        Self { limits: limits.clone(), table: HashTable::new(), rest: Box::new(rest) }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.rest.queues.values().map(Queue::len).sum()
    }

    /// Bytes of the heap, but for those of the keys.
    pub(super) fn bytes(&self) -> usize {
        self.table.allocation_size() + self.rest.words.bytes() + size_of::<Rest<K>>()
    }

    /// Takes from the bucket of a known key, where there is one limit and nobody waits; else, or
    /// if there is not enough, it is for [`enter`](Self::enter) to say what becomes of it.
    #[inline]
    pub(super) fn take(&mut self, hash: u64, key: &K, ask: Ask, now: u64) -> bool {
        let Some((_, word)) = self.table.find_mut(hash, |(known, _)| known == key) else {
            return false;
        };
        if word.is_waited() || self.limits.count() != 1 {
            return false;
        }
        let mut full_at = word.get();
        let taken = self.limits.take(slice::from_mut(&mut full_at), now, ask).is_ok();
        if taken {
            word.set(full_at);
        }
        taken
    }

    /// Draws from a bucket, or joins those who wait for it. Says whether the key is new: nothing
    /// is kept of a new one that is refused.
    pub(super) fn enter<H: Fn(&K) -> u64>(
        &mut self,
        sought: &Sought<'_, K, H>,
        woken: &mut Woken,
    ) -> (Entered, bool) {
        let Sought { key, hash, ask, instant, now, .. } = *sought;
        let known = self.table.find(hash, |(known, _)| known == key).map(|(_, word)| *word);
        let Rest { words, queues, floor, .. } = &mut *self.rest;
        let mut held = known.map_or(*floor, |word| words.load(word));
        let waited = known.is_some_and(Word::is_waited);
        let mut none = Queue::default();
        let queue = if waited { queues.get_mut(key) } else { None }.unwrap_or(&mut none);
        queue.settle(&self.limits, held.words(), now, woken);
        let settled = held;
        // Nobody waits for a key whose turn would be of no use.
        let hopeless = sought.hopeless(woken);
        let patience = if hopeless.is_some() { None } else { sought.patience.map(nanos) };
        let entry = queue.enter(ask, patience, (&self.limits, held.words()), now, woken);
        let entered = match (entry, sought.together) {
            (Entry::Waiting(place), _) => Entered::Waiting(place),
            (Entry::Refused(short), _) => {
                let other = hopeless.or_else(|| sought.shortage(woken));
                Entered::Refused(other.map_or(short, |other| short.longer(other)))
            }
            (Entry::Admitted, None) => Entered::Admitted,
            (Entry::Admitted, Some(together)) => {
                match together.enter_quietly(ask, sought.patience, instant, woken) {
                    Entry::Admitted => Entered::Admitted,
                    Entry::Waiting(place) => Entered::WaitingForAll(place),
                    Entry::Refused(short) => {
                        held = settled;
                        Entered::Refused(short)
                    }
                }
            }
        };
        if !none.is_over() {
            queues.insert(key.clone(), none);
        }
        let is_new = known.is_none() && !matches!(entered, Entered::Refused(_));
        self.keep(sought, held, is_new);
        (entered, is_new)
    }

    /// Takes from a bucket what will be there within the patience, as if it had been waited for.
    pub(super) fn enter_ahead<H: Fn(&K) -> u64>(
        &mut self,
        sought: &Sought<'_, K, H>,
        woken: &mut Woken,
    ) -> (Entered, bool) {
        let Sought { key, hash, ask, now, .. } = *sought;
        let known = self.table.find(hash, |(known, _)| known == key).map(|(_, word)| *word);
        let mut held = known.map_or(self.rest.floor, |word| self.rest.words.load(word));
        let before = held;
        let patience = sought.patience.unwrap_or_default();
        let taken = match self.limits.take_ahead(held.words(), now, ask, nanos(patience)) {
            Ok(wait) => match sought.together {
                None => Ok(wait),
                Some(together) => together
                    .take_ahead_quietly(ask, patience, sought.instant, woken)
                    .map(|other| wait.max(other)),
            },
            Err(short) => {
                let other = sought.shortage(woken);
                Err(other.map_or(short, |other| short.longer(other)))
            }
        };
        let entered = match taken {
            Ok(wait) => Entered::Ahead(wait),
            Err(short) => {
                held = before;
                Entered::Refused(short)
            }
        };
        let is_new = known.is_none() && !matches!(entered, Entered::Refused(_));
        self.keep(sought, held, is_new);
        (entered, is_new)
    }

    /// Stores the words of a key that is known, or is to be.
    fn keep<H: Fn(&K) -> u64>(&mut self, sought: &Sought<'_, K, H>, held: Held, is_new: bool) {
        let Sought { key, hash, .. } = *sought;
        let Rest { words, queues, .. } = &mut *self.rest;
        if is_new {
            let new = (key.clone(), words.keep(held));
            self.table.insert_unique(hash, new, |(key, _)| (sought.hasher)(key));
        }
        if let Some((_, word)) = self.table.find_mut(hash, |(known, _)| known == key) {
            words.store(word, held);
            word.set_waited(!queues.is_empty() && queues.contains_key(key));
        }
    }

    /// Does something with the words and the queue of a key, if it is known.
    pub(super) fn with<T>(
        &mut self,
        hash: u64,
        key: &K,
        work: impl FnOnce(&Limits, &mut [u64], &mut Queue) -> T,
    ) -> Option<T> {
        let Rest { words, queues, .. } = &mut *self.rest;
        let (_, word) = self.table.find_mut(hash, |(known, _)| known == key)?;
        let mut held = words.load(*word);
        let done = match queues.get_mut(key) {
            Some(queue) => {
                let done = work(&self.limits, held.words(), queue);
                if queue.is_over() {
                    queues.remove(key);
                    word.set_waited(false);
                }
                done
            }
            None => work(&self.limits, held.words(), &mut Queue::default()),
        };
        words.store(word, held);
        Some(done)
    }

    /// Does something with the words with which an unknown key begins.
    pub(super) fn with_floor<T>(&self, work: impl FnOnce(&Limits, &mut [u64]) -> T) -> T {
        work(&self.limits, { self.rest.floor }.words())
    }

    /// Empties the bucket of a key. Says whether that is new.
    pub(super) fn drain<H: Fn(&K) -> u64>(
        &mut self,
        sought: &Sought<'_, K, H>,
        woken: &mut Woken,
    ) -> bool {
        let drained = self.with(sought.hash, sought.key, |limits, words, queue| {
            queue.settle(limits, words, sought.now, woken);
            limits.drain(words, sought.now);
            queue.review(limits, words, sought.now, woken);
        });
        if drained.is_none() {
            let mut held = self.rest.floor;
            self.limits.drain(held.words(), sought.now);
            self.keep(sought, held, true);
        }
        drained.is_none()
    }

    /// Sets other rates. Buckets hold what they held, as far as it fits.
    pub(super) fn set_limits(&mut self, limits: Limits, now: u64, woken: &mut Woken) {
        let Rest { words, queues, floor, .. } = &mut *self.rest;
        for (key, word) in &mut self.table {
            let mut held = words.load(*word);
            limits.convert(held.words(), now, &self.limits);
            if word.is_waited()
                && let Some(queue) = queues.get_mut(key)
            {
                queue.settle(&limits, held.words(), now, woken);
                queue.review(&limits, held.words(), now, woken);
            }
            words.store(word, held);
        }
        // Who was never seen begins with all that the new rate allows.
        if self.limits.are_full(floor.words(), now) {
            *floor = Held::new(limits.count());
        } else {
            limits.convert(floor.words(), now, &self.limits);
        }
        self.limits = limits;
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
            self.rest.words.clear();
        }
        forgotten
    }

    /// Looks at the next slot, and forgets its key if it is idle.
    fn forget_idle(&mut self, now: u64) -> bool {
        let slot = self.step();
        let Some((_, word)) = self.table.get_bucket(slot) else { return false };
        let idle = self.limits.are_full(self.rest.words.load(*word).words(), now);
        if idle && !word.is_waited() {
            self.remove(slot);
            return true;
        }
        false
    }

    /// Pushes out the key with the fullest bucket among a few. Says whether there was one.
    ///
    /// A newcomer that pushed itself out would be new again, with a full bucket, each time that it
    /// comes. Strictly it would not, and who has the most left is missed the least.
    pub(super) fn push_out(&mut self, now: u64, newcomer: &K, when_full: WhenFull) -> bool {
        let (spared, mut few) = match when_full {
            WhenFull::Forget => (Some(newcomer), FEW),
            WhenFull::Strict => (None, CHOICE),
        };
        let mut fullest: Option<(usize, u64)> = None;
        for _ in 0..CHOICE.min(self.table.num_buckets()) {
            let slot = self.step();
            let Some((key, word)) = self.table.get_bucket(slot) else { continue };
            if word.is_waited() || spared == Some(key) {
                continue;
            }
            let available = self.limits.available(self.rest.words.load(*word).words(), now);
            if fullest.is_none_or(|(_, most)| available > most) {
                fullest = Some((slot, available));
            }
            few -= 1;
            if few == 0 {
                break;
            }
        }
        let Some((slot, _)) = fullest else { return false };
        if when_full == WhenFull::Strict
            && let Some((_, word)) = self.table.get_bucket(slot)
        {
            let mut held = self.rest.words.load(*word);
            for (floor, word) in self.rest.floor.words().iter_mut().zip(held.words()) {
                *floor = (*floor).max(*word);
            }
        }
        self.remove(slot);
        true
    }

    fn step(&mut self) -> usize {
        self.rest.hand = (self.rest.hand + 1) % self.table.num_buckets().max(1);
        self.rest.hand
    }

    fn remove(&mut self, slot: usize) {
        if let Ok(entry) = self.table.get_bucket_entry(slot) {
            let ((_, word), _) = entry.remove();
            self.rest.words.forget(word);
        }
    }
}

impl<K, H> Sought<'_, K, H> {
    /// Why all keys together do not have enough, if so.
    fn shortage(&self, woken: &mut Woken) -> Option<Shortage> {
        self.together?.shortage_quietly(self.ask, self.instant, woken)
    }

    /// Why they will not have enough in time, if so.
    fn hopeless(&self, woken: &mut Woken) -> Option<Shortage> {
        let patience = self.patience?;
        let short = self.shortage(woken)?;
        short.retry_after().is_none_or(|wait| wait > patience).then_some(short)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
