use std::{
    any::type_name,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use buttress_core::{
    Change, Rate,
    http::unknown::take_unknown,
    rate_limit::{
        Ask, Limiter, Limits, Origin, Peek, Place, Queue, Shortage, Standing, Turn, Woken,
    },
};

use super::{
    common::Common,
    shard::{Entered, FEW, Shard, Sought},
};

/// The buckets of a layer with keys.
#[derive(Debug)]
pub(super) struct Keys<K> {
    pub(super) common: Common,
    origin: Origin,
    /// Seeded at random, and no faster than it is safe: keys come from strangers, who would find
    /// those that meet in one slot. (foldhash does not claim to withstand those who can time us.)
    hasher: RandomState,
    shards: Box<[Line<K>]>,
    /// What all keys have together.
    together: OnceLock<Limiter>,
    capacity: AtomicUsize,
    /// How many keys there are.
    known: AtomicUsize,
    told_full: AtomicBool,
    told_unknown: AtomicBool,
    strict: AtomicBool,
    /// Where room was last made for a key whose own shard had none to give up.
    hand: AtomicUsize,
    /// How often a part has been swept.
    tidied: AtomicUsize,
    /// Held while a rate is changed in one shard after the other, so that all have the same.
    changing: Mutex<()>,
}

/// What a keyed [`RateLimitLayer`](super::RateLimitLayer) does where it has room for no more keys
/// and none is idle: whom it pushes out is the one with the fullest bucket among a few, and what
/// becomes of that one is said here.
///
/// | | who was pushed out and comes again | who has never come |
/// |---|---|---|
/// | `Forget` | has a full bucket: up to a burst more than the rate, each time | has a full bucket |
/// | `Strict` | has no more than it had | has no more than who was pushed out had, and so perhaps nothing |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It is forgotten. Nobody is by its own coming, and whom a newcomer pushes out is looked for
    /// among eight others at the most, all round: it takes about an eighth as many newcomers as there
    /// is [room](super::RateLimitLayer::capacity) for until the same key can be forgotten again, and
    /// each time it gets a burst at the most beyond its rate. Who has used up its bucket is forgotten
    /// only if the others that are looked at have used up theirs.
    ///
    /// Where more keys than there is room for come all the time, the limit so is as loose as that:
    /// give them room. Who can invent keys needs no such trick, as each is good for a burst; limit
    /// all of them [together](super::RateLimitLayer::within).
    #[default]
    Forget,
    /// Nobody is ever admitted beyond the rate of its key. While there is no room, all who are not
    /// known have the same, little or nothing, so that whoever can invent keys keeps newcomers out,
    /// and those who were pushed out, until buckets have filled up again: with a day's rate, for a
    /// day. For keys that are checked before, such as accounts, where there is room for all of them.
    Strict,
}

/// A shard on a cache line of its own. Not on two, for the sake of the pairs in which processors
/// fetch them: all together have to stay in the first cache, and neighbours seldom meet.
#[derive(Debug)]
#[repr(align(64))]
struct Line<K>(Mutex<Shard<K>>);

const UNKNOWN: &str = "nothing says who has connected, so all such clients share one limit: on axum \
    serve with into_make_service_with_connect_info::<SocketAddr>(), on tonic enable the feature \
    tonic-transport, elsewhere put a SocketAddr into the request's extensions";

/// Enough that threads seldom meet, and that nothing done with a whole shard takes long.
const SHARDS: usize = 256;

/// 3.4 megabytes of addresses at the most: see [`keyed`](super::RateLimitLayer::keyed).
pub(super) const DEFAULT_CAPACITY: usize = 65_536;

impl<K: Hash + Eq + Clone> Keys<K> {
    pub(super) fn new(common: Common, rates: impl IntoIterator<Item = Rate>) -> Self {
        let limits = Limits::new(rates);
        let shard = |_| Line(Mutex::new(Shard::new(&limits)));
        Self {
            common,
            origin: Origin::default(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(shard).collect(),
            together: OnceLock::new(),
            capacity: AtomicUsize::new(DEFAULT_CAPACITY),
            known: AtomicUsize::new(0),
            told_full: AtomicBool::new(false),
            told_unknown: AtomicBool::new(false),
            strict: AtomicBool::new(false),
            hand: AtomicUsize::new(0),
            tidied: AtomicUsize::new(0),
            changing: Mutex::new(()),
        }
    }

    /// Says what all keys have together. Whether that had not been said yet.
    pub(super) fn set_together(&self, limiter: Limiter) -> bool {
        self.together.set(limiter).is_ok()
    }

    pub(super) fn together(&self) -> Option<&Limiter> {
        self.together.get()
    }

    /// Draws from the bucket of a key, or joins those who wait for it.
    #[inline]
    pub(super) fn enter(
        &self,
        key: &K,
        ask: Ask,
        patience: Option<Duration>,
        instant: Instant,
    ) -> Entered {
        let now = self.origin.nanos(instant);
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let together = self.together();
        if together.is_none() && shard.take(hash, key, ask, now) {
            return Entered::Admitted;
        }
        let hasher = |key: &K| self.hasher.hash_one(key);
        let sought = Sought { key, hash, hasher, ask, patience, together, instant, now };
        self.decide(shard, &sought, Shard::enter)
    }

    /// Draws from the bucket of a key what will be there within `patience`.
    pub(super) fn enter_ahead(
        &self,
        key: &K,
        ask: Ask,
        patience: Duration,
        instant: Instant,
    ) -> Result<Duration, Shortage> {
        let sought = self.sought(key, ask, Some(patience), instant);
        match self.decide(self.shard(sought.hash), &sought, Shard::enter_ahead) {
            Entered::Ahead(wait) => Ok(wait),
            Entered::Refused(short) => Err(short),
            _ => Ok(Duration::ZERO),
        }
    }

    fn sought<'a>(
        &'a self,
        key: &'a K,
        ask: Ask,
        patience: Option<Duration>,
        instant: Instant,
    ) -> Sought<'a, K, impl Fn(&K) -> u64> {
        let hasher = |key: &K| self.hasher.hash_one(key);
        let (hash, now, together) =
            (self.hasher.hash_one(key), self.origin.nanos(instant), self.together());
        Sought { key, hash, hasher, ask, patience, together, instant, now }
    }

    #[cold]
    fn decide<H>(
        &self,
        mut shard: MutexGuard<'_, Shard<K>>,
        sought: &Sought<'_, K, H>,
        work: impl FnOnce(&mut Shard<K>, &Sought<'_, K, H>, &mut Woken) -> (Entered, bool),
    ) -> Entered {
        let mut woken = Woken::default();
        let (entered, is_new) = work(&mut shard, sought, &mut woken);
        let worn_out = shard.limits().worn_out(sought.now);
        if is_new {
            self.came(shard, sought.key, sought.now);
            self.look_for_unknown();
        } else {
            drop(shard);
        }
        woken.wake();
        if let Some((limit, rate)) = worn_out {
            self.set_rate(limit, rate, sought.instant);
        }
        entered
    }

    /// Counts a key that is new, and makes room.
    fn came(&self, mut shard: MutexGuard<'_, Shard<K>>, key: &K, now: u64) {
        // Relaxed: a count, which the locks of all shards could not make more exact.
        let swept = shard.sweep_some(now);
        let known = self.known.fetch_add(1, Ordering::Relaxed) + 1 - swept;
        self.known.fetch_sub(swept, Ordering::Relaxed);
        let capacity = self.capacity();
        if known <= capacity {
            return;
        }
        let when_full = self.when_full();
        // Two that meet in a small shard would push each other out time and again.
        let enough = match when_full {
            WhenFull::Forget => 4 * FEW,
            WhenFull::Strict => 1,
        };
        let mut made = shard.len() > enough && shard.push_out(now, key, when_full);
        drop(shard);
        for turn in 0..SHARDS + FEW {
            if made {
                break;
            }
            let next = self.hand.fetch_add(1, Ordering::Relaxed) % SHARDS;
            // Where there are at least two, somebody else may have more left.
            let least = if turn < FEW { 2 } else { 1 };
            made = self.shards[next]
                .0
                .try_lock()
                .is_ok_and(|mut shard| shard.len() >= least && shard.push_out(now, key, when_full));
        }
        self.known.fetch_sub(usize::from(made), Ordering::Relaxed);
        if !self.told_full.swap(true, Ordering::Relaxed) {
            self.common.emit(Change::KeysFull { capacity });
        }
    }

    /// Tells that clients share a key because nothing says who has connected.
    fn look_for_unknown(&self) {
        // Who goes by more than an address has other keys that differ.
        let told = || self.told_unknown.swap(true, Ordering::Relaxed);
        if by_address::<K>() && take_unknown() && !told() {
            self.common.emit(Change::Advice(UNKNOWN));
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

    /// Gives back to the bucket of a key, and to what all keys have together.
    pub(super) fn refund(&self, key: &K, ask: Ask, now: Instant) {
        self.refund_key(key, ask, now);
        if let Some(together) = self.together() {
            together.refund(ask.weight(), now);
        }
    }

    /// Gives back to the bucket of a key alone.
    pub(super) fn refund_key(&self, key: &K, ask: Ask, now: Instant) {
        let now = self.origin.nanos(now);
        self.with(key, |limits, words, queue, woken| {
            queue.settle(limits, words, now, woken);
            limits.give_back(words, now, u64::from(ask.weight().get()));
            queue.settle(limits, words, now, woken);
        });
    }

    /// Empties the bucket of a key, whether it is known or not.
    pub(super) fn drain(&self, key: &K, now: Instant) {
        // No request has asked who has connected.
        forget_unknown::<K>();
        let sought = self.sought(key, Ask::one(), None, now);
        let drain = |shard: &mut Shard<K>, sought: &Sought<'_, K, _>, woken: &mut Woken| {
            (Entered::Admitted, shard.drain(sought, woken))
        };
        self.decide(self.shard(sought.hash), &sought, drain);
    }

    /// What a request with this key would meet; `None` where the bucket is full, or as good as.
    pub(super) fn peek(&self, key: &K, now: Instant) -> Option<Peek> {
        let now = self.origin.nanos(now);
        self.with(key, |limits, words, queue, woken| {
            queue.settle(limits, words, now, woken);
            queue.peek(limits, words, now)
        })
    }

    /// What is in the bucket of a key. Not what all keys have together, which is no single one's to
    /// know.
    pub(super) fn standings(&self, key: &K, instant: Instant) -> Vec<Standing> {
        let now = self.origin.nanos(instant);
        let known = self.with(key, |limits, words, _, _| limits.standings(Some(words), now));
        known.unwrap_or_else(|| {
            let shard = self.shard(self.hasher.hash_one(key));
            shard.with_floor(|limits, words| limits.standings(Some(words), now))
        })
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

    /// Sets the rate of one of the limits of keys, or of those of all together, which come after.
    pub(super) fn set_rate(&self, limit: usize, rate: Rate, instant: Instant) {
        let changing = lock(&self.changing);
        let limits = lock(&self.shards[0].0).limits().clone();
        if let (Some(limit), Some(together)) = (limit.checked_sub(limits.count()), self.together())
        {
            drop(changing);
            return together.set_rate(limit, rate, instant);
        }
        let now = self.origin.nanos(instant);
        let limits = limits.with_rate(limit, rate, now, 0);
        let mut woken = Woken::default();
        for shard in &self.shards {
            lock(&shard.0).set_limits(limits.clone(), now, &mut woken);
        }
        drop(changing);
        woken.wake();
    }

    /// Those of keys, and then those of all together.
    pub(super) fn rates(&self) -> Vec<Rate> {
        let mut rates: Vec<_> = lock(&self.shards[0].0).limits().rates().collect();
        rates.extend(self.together().map(Limiter::rates).unwrap_or_default());
        rates
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

    fn sweep_part(&self, shards: &[Line<K>], now: Instant) {
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

    pub(super) fn when_full(&self) -> WhenFull {
        if self.strict.load(Ordering::Relaxed) { WhenFull::Strict } else { WhenFull::Forget }
    }

    pub(super) fn set_when_full(&self, when_full: WhenFull) {
        self.strict.store(when_full == WhenFull::Strict, Ordering::Relaxed);
    }

    pub(super) fn known(&self) -> usize {
        self.known.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self, now: Instant) -> usize {
        let keys = self.shards.iter().map(|shard| lock(&shard.0).waiting()).sum::<usize>();
        keys + self.together().map_or(0, |together| together.peek(now).waiting)
    }

    pub(super) fn bytes(&self) -> usize {
        let fixed = SHARDS * size_of::<Line<K>>();
        fixed + self.shards.iter().map(|shard| lock(&shard.0).bytes()).sum::<usize>()
    }

    #[inline]
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K>> {
        // Bits that the table does not look at: it takes the lowest, and the highest seven.
        lock(&self.shards[(hash >> 40) as usize % SHARDS].0)
    }
}

/// Says that what is found from here on is of the request whose key comes next: other layers ask on
/// this thread as well.
#[inline]
pub(super) fn forget_unknown<K>() {
    if by_address::<K>() {
        let _ = take_unknown();
    }
}

/// Whether keys can be those of [`client_address`](buttress_core::http::key::client_address). Known
/// when this is compiled.
#[inline]
fn by_address<K>() -> bool {
    type_name::<K>() == type_name::<Option<IpAddr>>()
}

#[inline]
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
