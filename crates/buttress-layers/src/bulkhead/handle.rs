use std::{
    array,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use buttress_core::{
    Change, Criticality, Event, Kind, Leeway, Observe, Observers, Ratio, Rejection, Shared,
    TimeLimit,
    bulkhead::{Adaptive, Ask, Control, Drain, Entry, Gate, Refusal, Sample, Seat, Would},
    cells::Counter,
};

use super::BulkheadLayer;
use crate::kept_back::KeptBack;

/// What one layer shares with all that it builds.
#[derive(Debug)]
pub(super) struct State {
    name: Arc<str>,
    pub(super) gate: Gate,
    /// In nanoseconds.
    wait: AtomicU64,
    shadow: AtomicBool,
    adaptive: AtomicBool,
    control: Mutex<Option<Control>>,
    /// The limit that observers were last told of.
    told: AtomicU32,
    drain: Mutex<Drain>,
    /// How much of its share of the room a class has that is shed.
    leeway: ArcSwapOption<Leeway>,
    pub(super) admitted: Counter,
    waited: Counter,
    /// Those who left the queue by themselves.
    pub(super) abandoned: Counter,
    pub(super) bypassed: Counter,
    refused: [Counter; Refusal::ALL.len()],
    shed: [Counter; Criticality::ALL.len()],
    observers: Observers,
}

impl State {
    pub(super) fn new(name: Arc<str>, limit: u32) -> Self {
        let state = Self {
            name,
            gate: Gate::new(limit),
            wait: AtomicU64::new(0),
            shadow: AtomicBool::new(false),
            adaptive: AtomicBool::new(false),
            control: Mutex::new(None),
            told: AtomicU32::new(limit),
            drain: Mutex::default(),
            leeway: ArcSwapOption::empty(),
            admitted: Counter::new(),
            waited: Counter::new(),
            abandoned: Counter::new(),
            bypassed: Counter::new(),
            refused: array::from_fn(|_| Counter::new()),
            shed: array::from_fn(|_| Counter::new()),
            observers: Observers::default(),
        };
        state.set_wait(BulkheadLayer::DEFAULT_WAIT);
        state
    }

    /// Asks for a place, and takes one anyway in shadow mode.
    #[inline]
    pub(super) fn enter(&self, ask: Ask, now: impl FnOnce() -> Instant) -> Entry {
        let entry = if self.is_shadow() {
            Entry::Admitted(self.enter_in_shadow(ask, now))
        } else {
            self.gate.enter(ask, now)
        };
        match entry {
            Entry::Admitted(_) => self.admitted.increment(),
            Entry::Waiting(_) => self.waited.increment(),
            Entry::Refused(_) => {}
        }
        entry
    }

    #[cold]
    fn enter_in_shadow(&self, ask: Ask, now: impl FnOnce() -> Instant) -> Seat {
        let (seat, would) = self.gate.enter_anyway(ask, now);
        match would {
            Would::Enter => {}
            Would::Wait => self.waited.increment(),
            Would::Refuse(why) => self.count(why, ask.criticality),
        }
        seat
    }

    fn count(&self, why: Refusal, criticality: Criticality) {
        self.refused[why as usize].increment();
        if why == Refusal::Shed {
            self.shed[criticality as usize].increment();
        }
    }

    /// Counts a request that is refused, and tells it when to come back.
    #[cold]
    pub(super) fn refuse(&self, why: Refusal, criticality: Criticality, now: Instant) -> Rejection {
        self.count(why, criticality);
        let inside = u64::from(self.gate.inside());
        let left = self.admitted.total().saturating_sub(inside);
        let ahead = u64::from(self.gate.waiting()) + 1;
        let wait = lock(&self.drain).wait(now, left, ahead);
        let rejection = match why {
            Refusal::Full => Rejection::new(Kind::Overloaded, Arc::clone(&self.name)),
            Refusal::Shed => Rejection::new(Kind::Overloaded, Arc::clone(&self.name))
                .because("shed in favour of more critical requests"),
            Refusal::WaitedTooLong => Rejection::new(Kind::QueueTimedOut, Arc::clone(&self.name)),
        };
        rejection.with_retry_after(wait)
    }

    /// Until when a request waits that comes now.
    pub(super) fn due(&self, now: Instant, deadline: Option<Instant>) -> Instant {
        // A year at the most: the sum is there.
        let due = now + self.wait().get();
        deadline.map_or(due, |deadline| deadline.min(due))
    }

    /// Gives a place back that was measured.
    pub(super) fn leave(&self, seat: Seat, sample: Option<Sample>, now: Instant) {
        let moved = sample.and_then(|sample| self.feed(sample, now));
        self.gate.leave(seat);
        if let Some(limit) = moved.filter(|limit| self.gate.move_limit(*limit)) {
            self.tell(limit);
        }
    }

    fn feed(&self, sample: Sample, now: Instant) -> Option<u32> {
        let mut control = match (sample, self.control.try_lock()) {
            (_, Ok(control)) => control,
            (_, Err(TryLockError::Poisoned(poisoned))) => poisoned.into_inner(),
            // One answer more or less changes no mean. A drop is not to be missed.
            (Sample::Answered(_), Err(TryLockError::WouldBlock)) => return None,
            (Sample::Dropped, Err(TryLockError::WouldBlock)) => lock(&self.control),
        };
        control.as_mut()?.feed(sample, self.gate.inside(), now)
    }

    /// Tells observers of a limit that has gone a long way.
    fn tell(&self, limit: u32) {
        /// A quarter: a limit that hovers about the right value is no news.
        const FAR: u32 = 4;
        let told = self.told.load(Ordering::Relaxed);
        if limit.abs_diff(told) <= told / FAR {
            return;
        }
        let swapped = self.told.compare_exchange(told, limit, Ordering::Relaxed, Ordering::Relaxed);
        if swapped.is_err() {
            return;
        }
        // A place may be given back while a panic unwinds, and a second one would abort.
        let mut panic = KeptBack::default();
        panic.run(|| self.emit(Change::Adapted { from: told, to: limit }));
        panic.go_on();
    }

    pub(super) fn adapt(&self, adaptive: Adaptive) {
        *lock(&self.control) = Some(Control::new(adaptive, self.gate.limit()));
        self.adaptive.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_adaptive(&self) -> bool {
        self.adaptive.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn is_shadow(&self) -> bool {
        self.shadow.load(Ordering::Relaxed)
    }

    pub(super) fn set_leeway(&self, leeway: Option<Leeway>) {
        self.leeway.store(leeway.map(Arc::new));
    }

    /// What is left just now of a share of the room.
    #[inline]
    pub(super) fn leave_of(&self, share: Ratio) -> Ratio {
        let leeway = self.leeway.load();
        let Some(leeway) = &*leeway else { return share };
        let parts = leeway.share().of(share.parts_per_billion().into());
        // A part of what fits does so.
        u32::try_from(parts).ok().and_then(Ratio::per_billion).unwrap_or(share)
    }

    fn wait(&self) -> TimeLimit {
        let wait = Duration::from_nanos(self.wait.load(Ordering::Relaxed));
        TimeLimit::try_from(wait).expect("it was a time limit when it was set")
    }

    pub(super) fn set_wait(&self, limit: TimeLimit) {
        let nanos = u64::try_from(limit.get().as_nanos()).expect("a year fits");
        self.wait.store(nanos, Ordering::Relaxed);
    }

    fn emit(&self, change: Change) {
        self.observers.emit(&Event { layer: "bulkhead", name: &self.name, key: None, change });
    }

    fn emit_room(&self) {
        let (limit, queue, wait) = (self.gate.limit(), self.gate.bound(), self.wait());
        self.emit(Change::Room { limit, queue, wait });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads and moves the state of a [`BulkheadLayer`] while it works.
///
/// ```
/// use buttress_layers::bulkhead::BulkheadLayer;
///
/// let layer = BulkheadLayer::new("reports", 8.try_into().unwrap()).queue(16);
/// let handle = layer.handle();
///
/// handle.set_limit(4);
/// let snapshot = handle.snapshot();
/// assert_eq!((snapshot.limit, snapshot.queue, snapshot.in_flight), (4, 16, 0));
/// ```
#[derive(Clone, Debug)]
pub struct BulkheadHandle {
    pub(super) state: Shared<State>,
}

impl BulkheadHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// What is under way, and what has been counted so far.
    #[must_use]
    pub fn snapshot(&self) -> BulkheadSnapshot {
        let State { gate, .. } = &*self.state;
        let mut partitions = Vec::new();
        gate.parts(|name, guaranteed, in_flight, queued| {
            partitions.push(PartitionSnapshot { name, guaranteed, in_flight, queued });
        });
        let in_flight = gate.inside();
        BulkheadSnapshot {
            limit: gate.limit(),
            in_flight,
            queue: gate.bound(),
            queued: gate.waiting(),
            admitted: self.state.admitted.total().max(in_flight.into()),
            waited: self.state.waited.total(),
            abandoned: self.state.abandoned.total(),
            bypassed: self.state.bypassed.total(),
            refused: array::from_fn(|why| self.state.refused[why].total()),
            shed: array::from_fn(|class| self.state.shed[class].total()),
            partitions,
        }
    }

    /// How many requests may be under way at once.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.state.gate.limit()
    }

    /// Sets how many requests may be under way at once. Those that are stay; those that wait come
    /// in as far as there is room now. At 0 every request is refused that comes, be there a queue
    /// or not: so a service is drained.
    ///
    /// An adaptive limit goes on from there.
    pub fn set_limit(&self, limit: u32) {
        // 0 is no limit that it could go on from, and would pull its floor down.
        if let Some(control) = lock(&self.state.control).as_mut().filter(|_| limit > 0) {
            control.restart(limit);
        }
        self.state.told.store(limit, Ordering::Relaxed);
        self.state.gate.set_limit(limit);
        self.state.emit_room();
    }

    /// How many requests may wait in line.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.state.gate.bound()
    }

    /// Sets how many requests may wait in line. Those that wait already stay.
    pub fn set_queue(&self, waiters: u32) {
        self.state.gate.set_bound(waiters);
        self.state.emit_room();
    }

    /// How long a request waits at most.
    #[must_use]
    pub fn wait(&self) -> TimeLimit {
        self.state.wait()
    }

    /// Sets how long a request waits that comes from now on.
    pub fn set_wait(&self, limit: TimeLimit) {
        self.state.set_wait(limit);
        self.state.emit_room();
    }

    /// Sheds as [`BulkheadLayer::leeway`] says, by this one from now on; `None` for as much room
    /// as the classes were given.
    pub fn set_leeway(&self, leeway: impl Into<Option<Leeway>>) {
        self.state.set_leeway(leeway.into());
        self.state.emit(Change::Settings);
    }

    /// Whether the layer decides and counts but refuses nothing, and lets nobody wait.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.state.is_shadow()
    }

    /// Switches shadow mode, in which the layer decides and counts but refuses nothing and lets
    /// nobody wait. Who waits when it is switched on goes on at once.
    pub fn set_shadow(&self, shadow: bool) {
        if self.state.shadow.swap(shadow, Ordering::Relaxed) != shadow {
            if shadow {
                self.state.gate.let_all_in();
            }
            self.state.emit(Change::Shadow(shadow));
        }
    }

    /// Tells `observer` of what is changed from now on.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.state.observers.add(observer);
    }

    /// Whether nothing but this handle is left: no layer, no service, no call, no other handle.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.state.is_last()
    }

    /// What tells this layer from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        self.state.id()
    }
}

/// What is under way in a [`BulkheadLayer`], and what it has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadSnapshot {
    /// How many requests may be under way at once.
    pub limit: u32,
    /// How many are. More than the limit after it was lowered, in shadow mode, and where
    /// partitions overcommit.
    pub in_flight: u32,
    /// How many may wait.
    pub queue: u32,
    /// How many do.
    pub queued: u32,
    /// How many have been let in so far.
    pub admitted: u64,
    /// How many have had to wait. In shadow mode: would have had to.
    pub waited: u64,
    /// How many were dropped while they waited.
    pub abandoned: u64,
    /// How many took no place, because they may bypass.
    pub bypassed: u64,
    /// Each partition, in the order in which they were named.
    pub partitions: Vec<PartitionSnapshot>,
    refused: [u64; Refusal::ALL.len()],
    shed: [u64; Criticality::ALL.len()],
}

/// What is under way in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionSnapshot {
    /// Its name.
    pub name: &'static str,
    /// How many requests it may always have under way.
    pub guaranteed: u32,
    /// How many it has.
    pub in_flight: u32,
    /// How many of it wait.
    pub queued: u32,
}

impl BulkheadSnapshot {
    /// How many more may come in.
    #[must_use]
    pub const fn available(&self) -> u32 {
        self.limit.saturating_sub(self.in_flight)
    }

    /// How many have been let in and have ended.
    #[must_use]
    pub const fn finished(&self) -> u64 {
        self.admitted.saturating_sub(self.in_flight as u64)
    }

    /// How many were refused for this reason. In shadow mode: would have been.
    #[must_use]
    pub const fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize]
    }

    /// How many of one class were shed.
    #[must_use]
    pub const fn shed(&self, class: Criticality) -> u64 {
        self.shed[class as usize]
    }

    /// How many were refused.
    #[must_use]
    pub fn all_refused(&self) -> u64 {
        self.refused.iter().sum()
    }
}
