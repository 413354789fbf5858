use std::{fmt, hash::Hash, task::Waker, time::Instant};

use buttress_core::{
    Lease, Shared,
    rate_limit::{Ask, Entry, Place, Standing},
};

use super::{
    common::{Admission, Told},
    counts::Cell,
    keys::Keys,
    pool::{Pool, Seat},
};
use crate::clock::read;

/// A bucket, or one for each limit, for each key that `F` finds in a request.
pub struct Keyed<K, F> {
    pub(super) keys: Shared<Keys<K>>,
    pub(super) key: F,
}

impl<K, F: Clone> Clone for Keyed<K, F> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone(), key: self.key.clone() }
    }
}

impl<K, F> fmt::Debug for Keyed<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("common", &self.keys.common).finish_non_exhaustive()
    }
}

impl<Request, K, F> Pool<Request> for Keyed<K, F>
where
    K: Hash + Eq + Clone,
    F: Fn(&Request) -> K + Clone,
{
    type Seat = QueuedByKey<K>;

    #[inline]
    fn enter(&self, request: &Request, ask: Ask, now: Instant) -> Admission<QueuedByKey<K>> {
        let key = (self.key)(request);
        let keys = &*self.keys;
        keys.common.enter(
            now,
            || match keys.enter(&key, ask, None, now) {
                Entry::Refused(shortage) => Err(shortage),
                _ => Ok(()),
            },
            |patience| keys.enter(&key, ask, Some(patience), now),
            |place| QueuedByKey { keys: self.keys.lease(), key: key.clone(), place: Some(place) },
        )
    }

    fn name(&self) -> &str {
        &self.keys.common.name
    }

    fn standings(&self, request: &Request, now: Instant) -> Vec<Standing> {
        self.keys.standings(&(self.key)(request), now)
    }
}

/// A place in the queue of a key.
pub struct QueuedByKey<K: Hash + Eq + Clone> {
    keys: Lease<Keys<K>>,
    key: K,
    /// `None` once it is over.
    place: Option<Place>,
}

impl<K: Hash + Eq + Clone> Seat for QueuedByKey<K> {
    fn ask(&mut self, now: Instant, waker: &Waker) -> Told {
        let place = self.place.expect("polled after completion");
        let told = self.keys.common.tell(self.keys.ask(&self.key, place, now, waker));
        if !matches!(told, Told::Wait(_)) {
            self.place = None;
        }
        told
    }

    fn name(&self) -> &str {
        &self.keys.common.name
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        self.keys.standings(&self.key, now)
    }
}

impl<K: Hash + Eq + Clone> Drop for QueuedByKey<K> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.keys.leave(&self.key, place, read());
            self.keys.common.counts.add(Cell::Left);
        }
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for QueuedByKey<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedByKey").field("place", &self.place).finish_non_exhaustive()
    }
}
