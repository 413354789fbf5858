use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::HeaderMap;

use super::{Asked, StaleSettings, Stored, Tape, Target};
use crate::{
    Facts,
    fallback::{Bounds, Claim, Lifetime, Passage, Shelf, Skip},
    http::{ResponseHead, resend::promised},
};

/// The last good responses of a service. Clones are the same.
///
/// It is no cache: nothing is answered from it but what would else have failed.
///
/// ```
/// use buttress_core::http::{StaleCache, StaleSettings};
///
/// let cache = StaleCache::new(StaleSettings::new());
/// assert_eq!((cache.len(), cache.bytes()), (0, 0));
/// ```
#[derive(Clone)]
pub struct StaleCache(Arc<Stock>);

pub(super) struct Stock {
    settings: StaleSettings,
    shelf: Mutex<Shelf<Arc<Kept>>>,
}

/// A response that was good.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) stored: Arc<Stored>,
    pub(super) life: Lifetime,
    pub(super) mask: u16,
    pub(super) fields: Vec<(usize, http::HeaderValue)>,
}

/// What is stored, and how old it is.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The response.
    pub stored: Arc<Stored>,
    /// Its age.
    pub age: Duration,
    /// Whether it is not fresh any more.
    pub stale: bool,
}

impl StaleCache {
    /// An empty one.
    #[must_use]
    pub fn new(settings: StaleSettings) -> Self {
        let shelf = Mutex::new(Shelf::new(settings.bounds()));
        Self(Arc::new(Stock { settings, shelf }))
    }

    /// How many responses are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelf().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shelf().bytes()
    }

    /// The bounds in force.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.shelf().bounds()
    }

    /// Sets other bounds. What they leave no room for goes; ages hold for what is stored from now
    /// on.
    pub fn set_bounds(&self, bounds: Bounds) {
        let removed = self.shelf().set_bounds(bounds);
        drop(removed);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let removed = self.shelf().clear();
        drop(removed);
    }

    /// Forgets what is over.
    pub fn sweep(&self, now: Instant) {
        let removed = self.shelf().sweep(now);
        drop(removed);
    }

    /// What has to be known of a request; `None` of one that takes no part.
    #[must_use]
    pub fn asked(&self, target: &Target<'_>, facts: Facts) -> Option<Asked> {
        self.0.settings.asked(target, facts)
    }

    /// Begins to store a good response to what was asked. `None` if it is not to be kept, or
    /// another one of its key is being stored.
    #[must_use]
    pub fn store(
        &self,
        asked: &Asked,
        head: ResponseHead<'_>,
        empty: bool,
        now: Instant,
    ) -> Option<Tape> {
        let Bounds { age, entry, .. } = self.bounds();
        let (life, mask) = self.0.settings.keeps(asked, head, age, now)?;
        let room = entry.checked_sub(size_of_head(head.headers))?;
        let bodyless = asked.is_bodyless(head.status);
        let owed = if bodyless || asked.is_grpc() { None } else { promised(head.headers) };
        if owed.is_some_and(|owed| owed > room as u64 || (empty && owed > 0)) {
            return None;
        }
        let claim = self.shelf().claim(&asked.key, now)?;
        let (stored, grpc) = (Stored::begin(head), asked.is_grpc());
        let fields = asked.fields(mask);
        let kept = Kept { stored: Arc::new(stored), life, mask, fields };
        let tape = Tape::new(self.clone(), Arc::clone(&asked.key), claim, kept, (room, owed, grpc));
        if bodyless || (empty && !grpc) {
            tape.finish(None);
            return None;
        }
        Some(tape)
    }

    /// What a request may be answered with.
    ///
    /// # Errors
    ///
    /// With why there is nothing.
    pub fn find(&self, asked: &Asked, now: Instant) -> Result<Entry, Skip> {
        if !asked.answer {
            return Err(Skip::NotStored);
        }
        let found = self
            .shelf()
            .find(&asked.key, now, |kept| asked.is_like(kept.mask, &kept.fields))
            .map(Arc::clone);
        let kept = found.ok_or(Skip::NotStored)?;
        let too_stale = asked.if_error.is_some_and(|most| kept.life.staleness(now) > most);
        if !kept.life.is_usable(now) || too_stale {
            return Err(Skip::TooOld);
        }
        let (age, stale) = (kept.life.age(now), kept.life.is_stale(now));
        Ok(Entry { stored: Arc::clone(&kept.stored), age, stale })
    }

    /// Whether one caller looks for all, once a call has failed.
    #[must_use]
    pub fn probes_alone(&self) -> bool {
        self.0.settings.probes_alone()
    }

    /// Whether one caller looks for all, and whether this one is it.
    #[must_use]
    pub fn pass(&self, asked: &Asked, now: Instant) -> Passage {
        if self.0.settings.probes_alone() {
            self.shelf().pass(&asked.key, now)
        } else {
            Passage::Free
        }
    }

    /// A call failed, and was answered from here.
    pub fn failed(&self, asked: &Asked) {
        if self.0.settings.probes_alone() {
            self.shelf().failed(&asked.key);
        }
    }

    /// A call went well.
    pub fn went_well(&self, asked: &Asked) {
        if self.0.settings.probes_alone() {
            self.shelf().went_well(&asked.key);
        }
    }

    /// Who looked has left without an answer.
    pub fn left(&self, asked: &Asked, claim: Claim) {
        self.shelf().left(&asked.key, claim);
    }

    pub(super) fn shelf(&self) -> MutexGuard<'_, Shelf<Arc<Kept>>> {
        // No code of anybody else's runs while it is locked.
        self.0.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names and values, and what it takes to keep them apart.
pub(super) fn size_of_head(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER).sum()
}

/// What a map of headers takes for each besides its text, roughly.
const HEADER: usize = 128;

impl fmt::Debug for StaleCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaleCache").field("shelf", &*self.shelf()).finish_non_exhaustive()
    }
}
