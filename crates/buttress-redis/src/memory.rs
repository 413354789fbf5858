use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use crate::{
    Failure, Scale, Store, StoreError, Take, Taken,
    bucket::{self, Bucket},
    store::MOST,
};

/// A [`Store`] in memory, that does as it is told: for tests of what stands on a limit.
///
/// It decides as Redis does, by tokio's clock, which a paused test moves. Clones are the same
/// store, as if they were clients of one server.
///
/// ```
/// # use std::time::Duration;
/// # use buttress_core::Rate;
/// # use buttress_redis::{MemoryStore, Scale, Store, Take};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let limits = [Scale::new(Rate::per_second(2.try_into()?))];
/// let all = Take { least: 1, most: 5, left: 0 };
///
/// assert_eq!(store.take(b"key", &limits, all).await?.granted, 2);
/// assert_eq!(store.take(b"key", &limits, all).await?.granted, 0);
/// tokio::time::advance(Duration::from_millis(500)).await;
/// assert_eq!(store.take(b"key", &limits, all).await?.granted, 1);
///
/// store.fail();
/// assert!(store.take(b"key", &limits, all).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    origin: Instant,
    mood: Mood,
    buckets: HashMap<Vec<u8>, [Bucket; MOST]>,
    members: HashMap<Vec<u8>, HashMap<Vec<u8>, u64>>,
    asked: u64,
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Well,
    After(Duration),
    Silent,
    Failing,
}

impl MemoryStore {
    /// An empty store, which is well.
    ///
    /// # Panics
    ///
    /// Never, within a tokio runtime or without one.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared {
            origin: Instant::now(),
            mood: Mood::Well,
            buckets: HashMap::new(),
            members: HashMap::new(),
            asked: 0,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// From now on answers are errors.
    pub fn fail(&self) {
        self.lock().mood = Mood::Failing;
    }

    /// From now on there are no answers.
    pub fn hang(&self) {
        self.lock().mood = Mood::Silent;
    }

    /// From now on answers take so long. What is taken is taken at once.
    pub fn answer_after(&self, time: Duration) {
        self.lock().mood = Mood::After(time);
    }

    /// From now on all is well.
    pub fn mend(&self) {
        self.lock().mood = Mood::Well;
    }

    /// Forgets everything, as a server does that was started again.
    pub fn forget(&self) {
        let mut shared = self.lock();
        (shared.buckets, shared.members) = (HashMap::new(), HashMap::new());
    }

    /// How often it has been asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.lock().asked
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<T>(&self, decide: impl FnOnce(&mut Shared, u64) -> T) -> MemoryAnswer<T> {
        let mut shared = self.lock();
        shared.asked += 1;
        let micros = shared.origin.elapsed().as_micros();
        let now = EPOCH + u64::try_from(micros).unwrap_or(u64::MAX / 2);
        match shared.mood {
            Mood::Well => MemoryAnswer { result: Some(Ok(decide(&mut shared, now))), after: None },
            Mood::After(time) => {
                let after = Some(Box::pin(sleep(time)));
                MemoryAnswer { result: Some(Ok(decide(&mut shared, now))), after }
            }
            Mood::Silent => MemoryAnswer { result: None, after: None },
            Mood::Failing => {
                let error = StoreError::new(Failure::Unreachable, "the store was told to fail");
                MemoryAnswer { result: Some(Err(error)), after: None }
            }
        }
    }
}

/// Some time after 1970.
const EPOCH: u64 = 1_000_000_000_000_000;

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    type Answer<T: Send + 'static> = MemoryAnswer<T>;

    fn take(&self, key: &[u8], limits: &[Scale], take: Take) -> MemoryAnswer<Taken> {
        self.answer(|shared, now| {
            if !shared.buckets.contains_key(key) {
                shared.buckets.insert(key.to_owned(), Default::default());
            }
            let buckets = shared.buckets.get_mut(key).expect("it was put there");
            let granted = bucket::take(&mut buckets[..limits.len()], limits, now, take);
            Taken { granted, debts: bucket::debts(&buckets[..], limits, now) }
        })
    }

    fn give(&self, key: &[u8], limits: &[Scale], tokens: u32) -> MemoryAnswer<()> {
        self.answer(|shared, now| {
            if let Some(buckets) = shared.buckets.get_mut(key) {
                bucket::give(&mut buckets[..], limits, now, tokens);
            }
        })
    }

    fn beat(&self, group: &[u8], member: &[u8], lasting: Duration) -> MemoryAnswer<u32> {
        self.answer(|shared, now| {
            let members = shared.members.entry(group.to_owned()).or_default();
            members.insert(member.to_owned(), now);
            let lasting = u64::try_from(lasting.as_micros()).unwrap_or(u64::MAX);
            members.retain(|_, seen| now.saturating_sub(*seen) < lasting);
            u32::try_from(members.len()).unwrap_or(u32::MAX)
        })
    }
}

/// An answer of a [`MemoryStore`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct MemoryAnswer<T> {
    /// `None` for a store that is silent.
    result: Option<Result<T, StoreError>>,
    after: Option<Pin<Box<Sleep>>>,
}

impl<T> Unpin for MemoryAnswer<T> {}

impl<T> Future for MemoryAnswer<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(after) = &mut self.after {
            ready!(after.as_mut().poll(cx));
        }
        self.result.take().map_or(Poll::Pending, Poll::Ready)
    }
}
