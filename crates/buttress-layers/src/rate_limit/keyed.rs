use std::{
    fmt,
    hash::Hash,
    mem,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use buttress_core::rate_limit::{Ask, Entry, Place, Standing, Turn};

use super::{
    common::{Admission, Decided, Told},
    counts::Cell,
    keys::{Keys, forget_unknown},
    pool::{Pool, Seat},
    shard::Entered,
};
use crate::clock::read;

/// A bucket, or one for each limit, for each key that `F` finds in a request.
pub struct Keyed<K, F> {
    pub(super) keys: Arc<Keys<K>>,
    pub(super) key: F,
}

impl<K, F: Clone> Clone for Keyed<K, F> {
    fn clone(&self) -> Self {
        Self { keys: Arc::clone(&self.keys), key: self.key.clone() }
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
        forget_unknown::<K>();
        let key = (self.key)(request);
        let keys = &*self.keys;
        let enter = |patience: Option<Duration>| {
            let line = match keys.enter(&key, ask, patience, now) {
                Entered::Admitted | Entered::Ahead(_) => return Decided::Admitted,
                Entered::Refused(shortage) => return Decided::Refused(shortage),
                Entered::Waiting(place) => Line::Key(place),
                Entered::WaitingForAll(place) => Line::All(place),
            };
            // As far ahead as the clock can count.
            let limit = patience.and_then(|patience| now.checked_add(patience)).unwrap_or(now);
            let (keys, key) = (Arc::clone(&self.keys), key.clone());
            Decided::Waiting(QueuedByKey { keys, key, ask, limit, line })
        };
        keys.common.enter(now, enter, |patience| keys.enter_ahead(&key, ask, patience, now))
    }

    fn name(&self) -> &str {
        &self.keys.common.name
    }

    fn standings(&self, request: &Request, now: Instant) -> Vec<Standing> {
        self.keys.standings(&(self.key)(request), now)
    }
}

/// A place in the queue of a key, and then in that of all keys together.
pub struct QueuedByKey<K: Hash + Eq + Clone> {
    keys: Arc<Keys<K>>,
    key: K,
    ask: Ask,
    /// When it has waited for long enough.
    limit: Instant,
    line: Line,
}

/// What it stands in line for.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// The bucket of its key.
    Key(Place),
    /// What all keys have together; it has what it wants of its key.
    All(Place),
    /// It is over.
    Over,
}

impl<K: Hash + Eq + Clone> QueuedByKey<K> {
    fn turn(&mut self, now: Instant, waker: &Waker) -> Turn<Instant> {
        let Self { keys, key, ask, limit, line } = self;
        if let Line::Key(place) = *line {
            match keys.ask(key, place, now, waker) {
                Turn::Admitted => *line = Line::Over,
                other => return other,
            }
            let Some(together) = keys.together() else { return Turn::Admitted };
            let patience = limit.saturating_duration_since(now);
            match together.take_or_wait(*ask, patience, now) {
                Entry::Admitted => return Turn::Admitted,
                Entry::Waiting(place) => *line = Line::All(place),
                Entry::Refused(shortage) => {
                    keys.refund_key(key, *ask, now);
                    return Turn::Refused(shortage);
                }
            }
        }
        let (Line::All(place), Some(together)) = (*line, keys.together()) else {
            panic!("polled after completion")
        };
        let turn = together.ask(place, now, waker);
        if let Turn::Refused(_) = turn {
            keys.refund_key(key, *ask, now);
        }
        turn
    }
}

impl<K: Hash + Eq + Clone> Seat for QueuedByKey<K> {
    fn ask(&mut self, now: Instant, waker: &Waker) -> Told {
        let turn = self.turn(now, waker);
        if !matches!(turn, Turn::Wait(_)) {
            self.line = Line::Over;
        }
        self.keys.common.tell(turn)
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
        let Self { keys, key, ask, .. } = self;
        match (mem::replace(&mut self.line, Line::Over), keys.together()) {
            (Line::Key(place), _) => keys.leave(key, place, read()),
            (Line::All(place), Some(together)) => {
                let now = read();
                together.leave(place, now);
                keys.refund_key(key, *ask, now);
            }
            _ => return,
        }
        keys.common.counts.add(Cell::Left);
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for QueuedByKey<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedByKey").field("line", &self.line).finish_non_exhaustive()
    }
}
