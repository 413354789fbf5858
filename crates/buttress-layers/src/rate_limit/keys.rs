use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use buttress_core::{
    Change, Rate,
    cells::Padded,
    rate_limit::{Ask, Entry, Limits, Origin, Peek, Place, Queue, Standing, Turn, Woken},
};

use super::{
    common::Common,
    shard::{Shard, Sought},
};

/// The buckets of a layer with keys.
#[derive(Debug)]
pub(super) struct Keys<K> {
    pub(super) common: Common,
    origin: Origin,
    /// Seeded at random, and no faster than it is safe: keys come from strangers, who would find
    /// those that meet in one slot.
    hasher: RandomState,
    shards: Box<[Padded<Mutex<Shard<K>>>]>,
    capacity: AtomicUsize,
    /// How many keys there are.
    known: AtomicUsize,
    told_full: AtomicBool,
    /// Where room was last made for a key whose own shard had none to give up.
    hand: AtomicUsize,
    /// How often a part has been swept.
    tidied: AtomicUsize,
}

/// Enough that threads seldom meet, and that nothing done with a whole shard takes long.
const SHARDS: usize = 256;

/// Two megabytes of addresses.
pub(super) const DEFAULT_CAPACITY: usize = 65_536;

impl<K: Hash + Eq + Clone> Keys<K> {
    pub(super) fn new(common: Common, rates: impl IntoIterator<Item = Rate>) -> Self {
        let limits = Limits::new(rates);
        let shard = |_| Padded(Mutex::new(Shard::new(&limits)));
        Self {
            common,
            origin: Origin::default(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(shard).collect(),
            capacity: AtomicUsize::new(DEFAULT_CAPACITY),
            known: AtomicUsize::new(0),
            told_full: AtomicBool::new(false),
            hand: AtomicUsize::new(0),
            tidied: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn enter(
        &self,
        key: &K,
        ask: Ask,
        patience: Option<Duration>,
        now: Instant,
    ) -> Entry {
        let now = self.origin.nanos(now);
        let patience = patience.map(nanos);
        let hash = self.hasher.hash_one(key);
        let sought = Sought { key, hash, hasher: |key: &K| self.hasher.hash_one(key) };
        let mut woken = Woken::default();
        let entry = {
            let mut shard = self.shard(hash);
            let known = shard.enter(&sought, ask, patience, now, &mut woken);
            known.unwrap_or_else(|| {
                let entry = shard.insert(&sought, ask, patience, now, &mut woken);
                if !matches!(entry, Entry::Refused(_)) {
                    self.came(shard, now);
                }
                entry
            })
        };
        woken.wake();
        entry
    }

    /// Counts a key that is new, and makes room.
    #[cold]
    fn came(&self, mut shard: MutexGuard<'_, Shard<K>>, now: u64) {
        // Relaxed: a count, which the locks of all shards could not make more exact.
        let swept = shard.sweep_some(now);
        let known = self.known.fetch_add(1, Ordering::Relaxed) + 1 - swept;
        self.known.fetch_sub(swept, Ordering::Relaxed);
        let capacity = self.capacity();
        if known <= capacity {
            return;
        }
        let mut made = shard.len() > 1 && shard.push_out(now);
        drop(shard);
        for _ in 0..SHARDS {
            if made {
                break;
            }
            let next = self.hand.fetch_add(1, Ordering::Relaxed) % SHARDS;
            made = self.shards[next].0.try_lock().is_ok_and(|mut shard| shard.push_out(now));
        }
        self.known.fetch_sub(usize::from(made), Ordering::Relaxed);
        if !self.told_full.swap(true, Ordering::Relaxed) {
            self.common.emit(Change::KeysFull { capacity });
        }
    }

    pub(super) fn ask(
        &self,
        key: &K,
        place: Place,
        instant: Instant,
        waker: &Waker,
    ) -> Turn<Instant> {
        let now = self.origin.nanos(instant);
        let mut waker = Some(waker.clone());
        let turn = self.with(key, |limits, words, queue, woken| {
            queue.settle(limits, words, now, woken);
            queue.ask(place, limits, words, now, &mut waker)
        });
        match turn.expect("who is waited for is not forgotten") {
            Turn::Admitted => Turn::Admitted,
            Turn::Refused(shortage) => Turn::Refused(shortage),
            Turn::Wait(until) => {
                // As far ahead as the clock can count.
                let until = instant.checked_add(Duration::from_nanos(until.saturating_sub(now)));
                Turn::Wait(until.unwrap_or(instant))
            }
        }
    }

    pub(super) fn leave(&self, key: &K, place: Place, now: Instant) {
        let now = self.origin.nanos(now);
        let waker = self.with(key, |limits, words, queue, woken| {
            let waker = queue.leave(place, limits, words, now);
            queue.settle(limits, words, now, woken);
            waker
        });
        drop(waker);
    }

    pub(super) fn refund(&self, key: &K, cost: u32, now: Instant) {
        let now = self.origin.nanos(now);
        self.with(key, |limits, words, queue, woken| {
            queue.settle(limits, words, now, woken);
            limits.give_back(words, now, u64::from(cost));
            queue.settle(limits, words, now, woken);
        });
    }

    /// What a request with this key would meet; `None` where the bucket is full, or as good as.
    pub(super) fn peek(&self, key: &K, now: Instant) -> Option<Peek> {
        let now = self.origin.nanos(now);
        self.with(key, |limits, words, queue, woken| {
            queue.settle(limits, words, now, woken);
            queue.peek(limits, words, now)
        })
    }

    pub(super) fn standings(&self, key: &K, now: Instant) -> Vec<Standing> {
        let now = self.origin.nanos(now);
        let known = self.with(key, |limits, words, _, _| limits.standings(Some(words), now));
        known.unwrap_or_else(|| lock(&self.shards[0].0).limits.standings(None, now))
    }

    fn with<T>(
        &self,
        key: &K,
        work: impl FnOnce(&Limits, &mut [u64], &mut Queue, &mut Woken) -> T,
    ) -> Option<T> {
        let hash = self.hasher.hash_one(key);
        let mut woken = Woken::default();
        let done = self
            .shard(hash)
            .with(hash, key, |limits, words, queue| work(limits, words, queue, &mut woken));
        woken.wake();
        done
    }

    pub(super) fn set_rate(&self, limit: usize, rate: Rate, now: Instant) {
        let now = self.origin.nanos(now);
        for shard in &self.shards {
            let mut woken = Woken::default();
            {
                let mut shard = lock(&shard.0);
                let limits = shard.limits.with_rate(limit, rate, now, 0);
                shard.set_limits(limits, now, &mut woken);
            }
            woken.wake();
        }
    }

    pub(super) fn rates(&self) -> Vec<Rate> {
        lock(&self.shards[0].0).limits.rates().collect()
    }

    /// Forgets all who are idle, one shard after the other, and gives memory back.
    pub(super) fn sweep(&self, now: Instant) {
        self.sweep_part(&self.shards, now);
    }

    /// Does a sixteenth of that, each time another.
    pub(super) fn tidy(&self, now: Instant) {
        const PART: usize = SHARDS / 16;
        let from = self.tidied.fetch_add(1, Ordering::Relaxed) % 16 * PART;
        self.sweep_part(&self.shards[from..from + PART], now);
    }

    fn sweep_part(&self, shards: &[Padded<Mutex<Shard<K>>>], now: Instant) {
        let now = self.origin.nanos(now);
        for shard in shards {
            let swept = lock(&shard.0).sweep(now, |key| self.hasher.hash_one(key));
            self.known.fetch_sub(swept, Ordering::Relaxed);
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    pub(super) fn set_capacity(&self, capacity: usize) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    pub(super) fn known(&self) -> usize {
        self.known.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> usize {
        self.shards.iter().map(|shard| lock(&shard.0).waiting()).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        let fixed = SHARDS * size_of::<Padded<Mutex<Shard<K>>>>();
        fixed + self.shards.iter().map(|shard| lock(&shard.0).bytes()).sum::<usize>()
    }

    #[inline]
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K>> {
        // Bits that the table does not look at: it takes the lowest, and the highest seven.
        lock(&self.shards[(hash >> 40) as usize % SHARDS].0)
    }
}

#[inline]
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
