use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use buttress_core::{
    Change, Event, Kind, Observers, Rejection, TimeLimit, clock,
    rate_limit::{Entry, Place, Shortage, Turn},
};

use super::counts::{Cell, Counts, Refusal};

/// What one layer shares with all that it builds, but for its buckets.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) name: Arc<str>,
    pub(super) counts: Counts,
    pub(super) observers: Observers,
    shadow: AtomicBool,
    /// How long requests wait, in nanoseconds; 0 for not at all.
    patience: AtomicU64,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Admission<Seat> {
    /// It passes.
    Admitted,
    /// It is refused.
    Refused(Rejection),
    /// It waits.
    Waiting(Seat),
}

/// What has become of somebody who waits.
#[derive(Debug)]
pub enum Told {
    /// It passes.
    Admitted,
    /// It is refused.
    Refused(Rejection),
    /// It has to wait, until then or until it is woken.
    Wait(Instant),
}

impl Common {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            counts: Counts::new(),
            observers: Observers::default(),
            shadow: AtomicBool::new(false),
            patience: AtomicU64::new(0),
        }
    }

    /// The same, for other buckets: nothing counted, and nobody told.
    pub(super) fn anew(&self) -> Self {
        let anew = Self::new(Arc::clone(&self.name));
        anew.set_patience(self.patience());
        anew.shadow.store(self.is_shadow(), Ordering::Relaxed);
        anew
    }

    /// Decides with a bucket that `take`s or lets wait.
    #[inline]
    pub(super) fn enter<Seat>(
        &self,
        now: Instant,
        take: impl FnOnce() -> Result<(), Shortage>,
        take_or_wait: impl FnOnce(Duration) -> Entry,
        seat: impl FnOnce(Place) -> Seat,
    ) -> Admission<Seat> {
        let patience = self.patience.load(Ordering::Relaxed);
        // In shadow mode nobody is kept waiting either.
        let entry = if patience == 0 || self.is_shadow() {
            match take() {
                Ok(()) => Entry::Admitted,
                Err(shortage) => Entry::Refused(shortage),
            }
        } else {
            // Nobody waits for what will be of no use any more.
            let deadline =
                clock::due().head.map(|deadline| deadline.saturating_duration_since(now));
            let patience = Duration::from_nanos(patience);
            take_or_wait(deadline.map_or(patience, |left| left.min(patience)))
        };
        match entry {
            Entry::Admitted => {
                self.counts.add(Cell::Admitted);
                Admission::Admitted
            }
            // It would have waited.
            Entry::Refused(shortage)
                if self.is_shadow()
                    && shortage
                        .retry_after()
                        .is_some_and(|wait| wait.as_nanos() <= patience.into()) =>
            {
                self.counts.add(Cell::Admitted);
                self.counts.add(Cell::Waited);
                Admission::Admitted
            }
            Entry::Refused(shortage) => match self.refuse(shortage, patience > 0) {
                Some(rejection) => Admission::Refused(rejection),
                None => Admission::Admitted,
            },
            Entry::Waiting(place) => Admission::Waiting(seat(place)),
        }
    }

    /// Counts a refusal; `None` in shadow mode.
    #[cold]
    pub(super) fn refuse(&self, shortage: Shortage, waits: bool) -> Option<Rejection> {
        let why = match shortage.retry_after() {
            None => Refusal::TooMuch,
            Some(_) if waits => Refusal::TooLong,
            Some(_) => Refusal::Empty,
        };
        self.counts.refuse(why);
        if self.is_shadow() {
            self.counts.add(Cell::Admitted);
            return None;
        }
        let rejection = Rejection::new(Kind::RateLimited, Arc::clone(&self.name));
        Some(match shortage.retry_after() {
            Some(wait) => rejection.with_retry_after(wait),
            None => rejection.because(TOO_MUCH),
        })
    }

    /// Counts what has become of somebody who waited.
    pub(super) fn tell(&self, turn: Turn<Instant>) -> Told {
        match turn {
            Turn::Wait(until) => Told::Wait(until),
            Turn::Admitted => {
                self.counts.add(Cell::Admitted);
                self.counts.add(Cell::Waited);
                Told::Admitted
            }
            Turn::Refused(shortage) => match self.refuse(shortage, true) {
                Some(rejection) => Told::Refused(rejection),
                None => Told::Admitted,
            },
        }
    }

    pub(super) fn set_patience(&self, patience: Option<TimeLimit>) {
        // A limit is a year at the most, which fits.
        let nanos = |limit: TimeLimit| u64::try_from(limit.get().as_nanos()).unwrap_or(u64::MAX);
        self.patience.store(patience.map_or(0, nanos), Ordering::Relaxed);
    }

    pub(super) fn patience(&self) -> Option<TimeLimit> {
        let nanos = self.patience.load(Ordering::Relaxed);
        TimeLimit::try_from(Duration::from_nanos(nanos)).ok()
    }

    #[inline]
    pub(super) fn is_shadow(&self) -> bool {
        self.shadow.load(Ordering::Relaxed)
    }

    pub(super) fn set_shadow(&self, shadow: bool) {
        if self.shadow.swap(shadow, Ordering::Relaxed) != shadow {
            self.emit(Change::Shadow(shadow));
        }
    }

    pub(super) fn emit(&self, change: Change) {
        let (layer, name) = ("rate_limit", &*self.name);
        self.observers.emit(&Event { layer, name, key: None, change });
    }
}

/// Told instead of "rate limit exceeded": to come again later does not help.
const TOO_MUCH: &str = "asks for more than the rate limit ever allows at once";
