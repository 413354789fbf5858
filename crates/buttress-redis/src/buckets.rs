use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use buttress_core::{Rate, Rejection, cells::Padded, rate_limit::Ask};
use buttress_layers::rate_limit::{
    Admission, Keyed, KeyedRateLimitHandle, One, Pool, RateLimitHandle, RateLimitLayer,
};
use lru::LruCache;

use crate::{FleetKey, key, purse::Purse};

/// What a process keeps of the buckets of a layer: what it has leased of them, and its own share
/// for an outage. [`Single`] or [`Many`].
pub trait Buckets: Send + Sync + 'static {
    /// What tells one bucket from another.
    type Key: Clone + Send + Sync + 'static;

    /// The name of a bucket in the store.
    #[doc(hidden)]
    fn name<'a>(whole: &'a [u8], key: &Self::Key) -> Cow<'a, [u8]>;

    /// Does something with what is held of a bucket.
    #[doc(hidden)]
    fn purse<T>(&self, key: &Self::Key, with: impl FnOnce(&mut Purse) -> T) -> T;

    /// Does something with all that is held.
    #[doc(hidden)]
    fn each_purse(&self, with: impl FnMut(&Self::Key, &mut Purse));

    /// Takes from the share of an outage.
    #[doc(hidden)]
    fn take_share(&self, key: &Self::Key, ask: Ask, now: Instant) -> Result<(), Rejection>;

    #[doc(hidden)]
    fn set_share(&self, limit: usize, share: Rate);

    /// How many leased tokens went with keys for which there was no room.
    #[doc(hidden)]
    fn pushed_out(&self) -> u64;
}

/// The one bucket of a layer without keys.
#[derive(Debug)]
pub struct Single {
    purse: Padded<Mutex<Purse>>,
    share: One,
    handle: RateLimitHandle,
}

impl Single {
    pub(crate) fn new(name: Arc<str>, shares: &[Rate]) -> Self {
        let layer = RateLimitLayer::several(name, shares.iter().copied());
        let purse = Padded(Mutex::new(Purse::default()));
        Self { purse, share: layer.pool().clone(), handle: layer.handle() }
    }
}

impl Buckets for Single {
    type Key = ();

    fn name<'a>(whole: &'a [u8], (): &()) -> Cow<'a, [u8]> {
        whole.into()
    }

    #[inline]
    fn purse<T>(&self, (): &(), with: impl FnOnce(&mut Purse) -> T) -> T {
        with(&mut lock(&self.purse.0))
    }

    fn each_purse(&self, mut with: impl FnMut(&(), &mut Purse)) {
        with(&(), &mut lock(&self.purse.0));
    }

    fn take_share(&self, key: &(), ask: Ask, now: Instant) -> Result<(), Rejection> {
        admitted(self.share.enter(key, ask, now))
    }

    fn set_share(&self, limit: usize, share: Rate) {
        self.handle.set_rate_of(limit, share);
    }

    fn pushed_out(&self) -> u64 {
        0
    }
}

/// The buckets of a layer with keys.
pub struct Many<K> {
    shards: Box<[Shard<K>]>,
    /// For how many keys a shard has room.
    room: usize,
    pushed_out: AtomicU64,
    /// Seeded at random: keys come from strangers, who would find those that meet in one slot.
    hasher: RandomState,
    share: Keyed<K, fn(&K) -> K>,
    handle: KeyedRateLimitHandle<K>,
}

type Shard<K> = Padded<Mutex<LruCache<K, Purse>>>;

/// Enough that threads seldom meet, and few enough that a small capacity can be cut into them.
const SHARDS: usize = 64;

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Many<K> {
    pub(crate) fn new(name: Arc<str>, shares: &[Rate], capacity: NonZeroUsize) -> Self {
        let layer = RateLimitLayer::several(name, shares.iter().copied());
        let layer = layer.keyed(K::clone as fn(&K) -> K).capacity(capacity);
        let room = capacity.get().div_ceil(SHARDS);
        // Without a capacity, for some stay longer than there is room: see `make_room`.
        let shard = |_| Padded(Mutex::new(LruCache::unbounded()));
        let (share, handle) = (layer.pool().clone(), layer.handle());
        let shards = (0..SHARDS).map(shard).collect();
        let (pushed_out, hasher) = (AtomicU64::new(0), RandomState::new());
        Self { shards, room, pushed_out, hasher, share, handle }
    }

    /// Lets those go that have not been used for longest, but for those for which a batch is under
    /// way: another would be asked for besides, and more be held than may be.
    fn make_room(&self, keys: &mut LruCache<K, Purse>) {
        for _ in 0..LOOKED_AT {
            if keys.len() <= self.room {
                return;
            }
            let Some((key, mut purse)) = keys.pop_lru() else { return };
            if purse.is_carried() {
                keys.push(key, purse);
            } else {
                self.pushed_out.fetch_add(purse.throw_away().into(), Ordering::Relaxed);
            }
        }
    }
}

/// How many may have to stay before it is left to the next who comes.
const LOOKED_AT: usize = 4;

impl<K> Buckets for Many<K>
where
    K: Hash + Eq + Clone + FleetKey + Send + Sync + 'static,
{
    type Key = K;

    fn name<'a>(whole: &'a [u8], key: &K) -> Cow<'a, [u8]> {
        key::of(whole, key).into()
    }

    #[inline]
    fn purse<T>(&self, key: &K, with: impl FnOnce(&mut Purse) -> T) -> T {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        let mut keys = lock(&self.shards[shard].0);
        if let Some(purse) = keys.get_mut(key) {
            return with(purse);
        }
        let mut purse = Purse::default();
        let out = with(&mut purse);
        keys.push(key.clone(), purse);
        self.make_room(&mut keys);
        out
    }

    fn each_purse(&self, mut with: impl FnMut(&K, &mut Purse)) {
        for shard in &self.shards {
            lock(&shard.0).iter_mut().for_each(|(key, purse)| with(key, purse));
        }
    }

    fn take_share(&self, key: &K, ask: Ask, now: Instant) -> Result<(), Rejection> {
        admitted(self.share.enter(key, ask, now))
    }

    fn set_share(&self, limit: usize, share: Rate) {
        self.handle.set_rate_of(limit, share);
    }

    fn pushed_out(&self) -> u64 {
        self.pushed_out.load(Ordering::Relaxed)
    }
}

impl<K> fmt::Debug for Many<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Many").field("share", &self.handle).finish_non_exhaustive()
    }
}

fn admitted<Seat>(admission: Admission<Seat>) -> Result<(), Rejection> {
    match admission {
        Admission::Refused(rejection) => Err(rejection),
        // Nobody waits for a share: its layer has no patience.
        Admission::Admitted | Admission::Waiting(_) => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
