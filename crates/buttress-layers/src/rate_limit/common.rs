use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use buttress_core::{
    Change, Event, Kind, Observers, Rejection, TimeLimit, clock,
    rate_limit::{Shortage, Turn},
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

/// What a bucket has decided.
#[derive(Debug)]
pub(super) enum Decided<Seat> {
    Admitted,
    Refused(Shortage),
    Waiting(Seat),
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

    /// Decides with a bucket: `enter` draws from it or lets wait, for so long at the most; `ahead`
    /// draws what will be there within that time, as if it had been waited for.
    #[inline]
    pub(super) fn enter<Seat>(
        &self,
        now: Instant,
        enter: impl FnOnce(Option<Duration>) -> Decided<Seat>,
        ahead: impl FnOnce(Duration) -> Result<Duration, Shortage>,
    ) -> Admission<Seat> {
        let patience = self.patience.load(Ordering::Relaxed);
        let patience = (patience > 0).then(|| {
            // Nobody waits for what will be of no use any more.
            let patience = Duration::from_nanos(patience);
            let deadline = clock::due().head;
            deadline.map_or(patience, |due| patience.min(due.saturating_duration_since(now)))
        });
        if self.is_shadow() {
            return self.enter_in_shadow(patience, ahead);
        }
        match enter(patience) {
            Decided::Admitted => {
                self.counts.add(Cell::Admitted);
                Admission::Admitted
            }
            Decided::Refused(shortage) => self.turn_away(shortage, patience.is_some()),
            Decided::Waiting(seat) => Admission::Waiting(seat),
        }
    }

    /// Keeps nobody waiting either. Who would have waited has its place before those who come
    /// after, or they would seem to find what it had taken.
    #[cold]
    fn enter_in_shadow<Seat>(
        &self,
        patience: Option<Duration>,
        ahead: impl FnOnce(Duration) -> Result<Duration, Shortage>,
    ) -> Admission<Seat> {
        match ahead(patience.unwrap_or_default()) {
            Ok(wait) => {
                self.counts.add(Cell::Admitted);
                if !wait.is_zero() {
                    self.counts.add(Cell::Waited);
                }
                Admission::Admitted
            }
            Err(shortage) => self.turn_away(shortage, patience.is_some()),
        }
    }

    fn turn_away<Seat>(&self, shortage: Shortage, waits: bool) -> Admission<Seat> {
        match self.refuse(shortage, waits) {
            Some(rejection) => Admission::Refused(rejection),
            None => Admission::Admitted,
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
            None => rejection.because(TOO_MUCH).for_good(),
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
