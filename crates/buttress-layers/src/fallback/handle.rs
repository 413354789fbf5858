use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    },
    time::Duration,
};

use buttress_core::{
    Change, Event, Observe, Observers, Reason, TimeLimit,
    cells::{Padded, stripe, stripes},
    fallback::{Skip, Triggers, Turn, Why},
    http::StaleCache,
};

use super::ladder::Cause;
use crate::{clock::read, told::Told};

/// What is said of a layer while it is built.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: Arc<str>,
    pub(super) header: Option<&'static str>,
    /// How many bytes of a request's body are kept.
    pub(super) body: usize,
    pub(super) triggers: Triggers,
    pub(super) tells_all: bool,
    pub(super) rungs: Vec<(Arc<str>, Option<TimeLimit>)>,
    pub(super) caches: Vec<StaleCache>,
}

/// What one layer shares with all that it builds.
pub(super) struct State {
    pub(super) name: Arc<str>,
    pub(super) header: Option<&'static str>,
    pub(super) body: usize,
    pub(super) rungs: Box<[RungState]>,
    caches: Vec<StaleCache>,
    triggers: AtomicU32,
    shadow: AtomicBool,
    tells_all: bool,
    reasons: Vec<Reason>,
    counts: Counts,
    told: Told,
    observers: Observers,
}

/// One rung.
#[derive(Debug)]
pub(super) struct RungState {
    pub(super) name: Arc<str>,
    /// In nanoseconds; 0 for none.
    limit: AtomicU64,
}

impl RungState {
    pub(super) fn limit(&self) -> Option<Duration> {
        let nanos = self.limit.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    fn set(&self, limit: Option<TimeLimit>) {
        // A year of nanoseconds fits.
        let nanos = limit.map_or(0, |limit| u64::try_from(limit.get().as_nanos()).unwrap_or(0));
        self.limit.store(nanos, Ordering::Relaxed);
    }
}

impl State {
    pub(super) fn new(plan: &Plan) -> Self {
        let rungs = plan.rungs.iter().map(|(name, limit)| {
            let rung = RungState { name: Arc::clone(name), limit: AtomicU64::new(0) };
            rung.set(*limit);
            rung
        });
        let reasons: Vec<_> = Reason::all().collect();
        let counts = reasons.len() + OF_LAYER + plan.rungs.len() * OF_RUNG;
        Self {
            name: Arc::clone(&plan.name),
            header: plan.header,
            body: plan.body,
            rungs: rungs.collect(),
            caches: plan.caches.clone(),
            triggers: AtomicU32::new(plan.triggers.to_bits()),
            shadow: AtomicBool::new(false),
            tells_all: plan.tells_all,
            reasons,
            counts: Counts::new(counts),
            told: Told::default(),
            observers: Observers::default(),
        }
    }

    pub(super) fn triggers(&self) -> Triggers {
        Triggers::from_bits(self.triggers.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn is_shadow(&self) -> bool {
        self.shadow.load(Ordering::Relaxed)
    }

    /// A call has failed, and is answered for.
    pub(super) fn triggered(&self, why: &Why) {
        let reason = self.reasons.iter().position(|reason| *reason == why.reason());
        let index = reason.unwrap_or_default();
        self.counts.add(index, 1);
        self.tell(index, Turn::Triggered(why.reason()), Some(&format_args!("{why}")));
    }

    /// A call would have been answered for.
    pub(super) fn would_trigger(&self) {
        self.counts.add(self.reasons.len() + WOULD, 1);
    }

    /// Nobody had an answer.
    pub(super) fn unanswered(&self) {
        let index = self.reasons.len() + UNANSWERED;
        self.counts.add(index, 1);
        self.tell(index, Turn::Unanswered, None);
    }

    pub(super) fn answered(&self, rung: usize, age: Option<Duration>) {
        let index = self.of_rung(rung);
        self.counts.add(index + ANSWERED, 1);
        if let Some(age) = age {
            self.counts.add(index + AGES, age.as_secs());
        }
        self.tell(index + ANSWERED, Turn::Answered { age }, Some(&self.rungs[rung].name));
    }

    /// `None` for a panic.
    pub(super) fn failed(&self, rung: usize, cause: Option<&Cause>) {
        let index = self.of_rung(rung) + FAILED;
        self.counts.add(index, 1);
        let name = &self.rungs[rung].name;
        let tell = |cause: fmt::Arguments<'_>| {
            self.tell(index, Turn::Failed, Some(&format_args!("{name}: {cause}")));
        };
        match cause {
            Some(Cause::Error(error)) => tell(format_args!("{}", Chain(&**error))),
            Some(Cause::Answer(why)) => tell(format_args!("{why}")),
            None => tell(format_args!("panicked")),
        }
    }

    pub(super) fn timed_out(&self, rung: usize) {
        let index = self.of_rung(rung) + TIMED_OUT;
        self.counts.add(index, 1);
        self.tell(index, Turn::TimedOut, Some(&self.rungs[rung].name));
    }

    pub(super) fn skipped(&self, rung: usize, skip: Skip) {
        let index = self.of_rung(rung) + SKIPPED + skip as usize;
        self.counts.add(index, 1);
        self.tell(index, Turn::Skipped(skip), Some(&self.rungs[rung].name));
    }

    fn of_rung(&self, rung: usize) -> usize {
        self.reasons.len() + OF_LAYER + rung * OF_RUNG
    }

    /// Tells observers, unless the same has happened within the last minute: `key` says with what
    /// cause.
    fn tell(&self, what: usize, turn: Turn, key: Option<&dyn fmt::Display>) {
        if !self.observers.any() {
            return;
        }
        let cause: &dyn fmt::Display = key.unwrap_or(&"");
        if self.tells_all || self.told.is_news(what, cause, read()) {
            self.emit(Change::Fallback(turn), key.map(ToString::to_string).as_deref());
        }
    }

    fn emit(&self, change: Change, key: Option<&str>) {
        self.observers.emit(&Event { layer: "fallback", name: &self.name, key, change });
    }
}

/// Counts of the layer, behind those of the reasons.
const UNANSWERED: usize = 0;
const WOULD: usize = 1;
const OF_LAYER: usize = 2;
/// Counts of each rung, behind those.
const ANSWERED: usize = 0;
const FAILED: usize = 1;
const TIMED_OUT: usize = 2;
const AGES: usize = 3;
const SKIPPED: usize = 4;
const OF_RUNG: usize = SKIPPED + Skip::ALL.len();

/// An error with what it came from.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

/// Counts in stripes.
struct Counts {
    stripes: Box<[Padded<Box<[AtomicU64]>>]>,
}

impl Counts {
    fn new(counts: usize) -> Self {
        let cells = |_| Padded((0..counts).map(|_| AtomicU64::new(0)).collect());
        Self { stripes: (0..stripes()).map(cells).collect() }
    }

    fn add(&self, count: usize, many: u64) {
        // Relaxed: nothing else is published through a count, and addition has no order.
        let stripe = &self.stripes[stripe() & (self.stripes.len() - 1)].0;
        stripe[count].fetch_add(many, Ordering::Relaxed);
    }

    fn total(&self, count: usize) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0[count].load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rungs: Vec<_> = self.rungs.iter().map(|rung| &*rung.name).collect();
        f.debug_struct("State")
            .field("name", &self.name)
            .field("rungs", &rungs)
            .finish_non_exhaustive()
    }
}

/// Reads and moves the state of a [`FallbackLayer`](super::FallbackLayer) while it works.
///
/// ```
/// use buttress_core::{Kind, Plain, TimeLimit, fallback::Triggers};
/// use buttress_layers::fallback::FallbackLayer;
///
/// let layer = FallbackLayer::new("prices").exchange(Plain).value(|| 7_u32).named("constant");
/// let handle = layer.handle();
///
/// handle.set_triggers(Triggers::new().on(Kind::RateLimited));
/// handle.set_limit("constant", Some(TimeLimit::from_secs(1))).unwrap();
/// assert_eq!(handle.snapshot().rung("constant").unwrap().answered, 0);
/// ```
#[derive(Clone, Debug)]
pub struct FallbackHandle {
    pub(super) state: Arc<State>,
}

impl FallbackHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// What has been counted so far, and what is stored.
    #[must_use]
    pub fn snapshot(&self) -> FallbackSnapshot {
        let state = &*self.state;
        let total = |count| state.counts.total(count);
        let reasons = state.reasons.iter().enumerate();
        let rungs = state.rungs.iter().enumerate().map(|(index, rung)| {
            let first = state.of_rung(index);
            RungCounts {
                name: Arc::clone(&rung.name),
                answered: total(first + ANSWERED),
                failed: total(first + FAILED),
                timed_out: total(first + TIMED_OUT),
                age_seconds: total(first + AGES),
                skipped: Skip::ALL.map(|skip| total(first + SKIPPED + skip as usize)),
            }
        });
        let now = read();
        state.caches.iter().for_each(|cache| cache.sweep(now));
        FallbackSnapshot {
            triggered: reasons.map(|(index, reason)| (*reason, total(index))).collect(),
            unanswered: total(state.reasons.len() + UNANSWERED),
            would_trigger: total(state.reasons.len() + WOULD),
            rungs: rungs.collect(),
            stored: state.caches.iter().map(StaleCache::len).sum(),
            stored_bytes: state.caches.iter().map(StaleCache::bytes).sum(),
        }
    }

    /// The caches of the rungs that hold good responses.
    #[must_use]
    pub fn caches(&self) -> &[StaleCache] {
        &self.state.caches
    }

    /// Forgets all responses that are stored.
    pub fn clear(&self) {
        self.state.caches.iter().for_each(StaleCache::clear);
    }

    /// What makes the layer answer.
    pub fn triggers(&self) -> Triggers {
        self.state.triggers()
    }

    /// Sets what makes the layer answer, for the calls that end from now on.
    pub fn set_triggers(&self, triggers: Triggers) {
        self.state.triggers.store(triggers.to_bits(), Ordering::Relaxed);
        self.state.emit(Change::Settings, None);
    }

    /// Sets how long the rung of that name may take; `None` for as long as it likes.
    ///
    /// # Errors
    ///
    /// If there is no such rung.
    pub fn set_limit(&self, rung: &str, limit: Option<TimeLimit>) -> Result<(), NoSuchRung> {
        let found = self.state.rungs.iter().find(|known| &*known.name == rung);
        let Some(found) = found else {
            let known = self.state.rungs.iter().map(|rung| rung.name.to_string()).collect();
            return Err(NoSuchRung { wanted: rung.to_owned(), known });
        };
        found.set(limit);
        self.state.emit(Change::Settings, Some(rung));
        Ok(())
    }

    /// Whether the layer decides and counts but answers nothing.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.state.is_shadow()
    }

    /// Switches shadow mode, in which the layer decides and counts but answers nothing.
    pub fn set_shadow(&self, shadow: bool) {
        if self.state.shadow.swap(shadow, Ordering::Relaxed) != shadow {
            self.state.emit(Change::Shadow(shadow), None);
        }
    }

    /// Tells `observer` of what happens from now on.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.state.observers.add(observer);
    }

    /// Whether nothing but this handle is left: no layer, no service, no call, no other handle.
    #[must_use]
    pub fn is_last(&self) -> bool {
        let last = Arc::strong_count(&self.state) == 1;
        // Who sees the 1 that a holder left must see what that one counted before.
        fence(Ordering::Acquire);
        last
    }

    /// What tells this layer from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.state).addr()
    }
}

/// There is no rung of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchRung {
    wanted: String,
    known: Vec<String>,
}

impl fmt::Display for NoSuchRung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no rung {:?}; the rungs are {}", self.wanted, self.known.join(", "))
    }
}

impl std::error::Error for NoSuchRung {}

/// What a [`FallbackLayer`](super::FallbackLayer) has counted.
#[derive(Clone, Debug)]
pub struct FallbackSnapshot {
    triggered: Vec<(Reason, u64)>,
    /// Calls that failed and were answered by no rung: their callers got the failure.
    pub unanswered: u64,
    /// Calls that would have been answered for, had the layer not been in shadow mode.
    pub would_trigger: u64,
    /// By rung, in their order.
    pub rungs: Vec<RungCounts>,
    /// Responses that are stored.
    pub stored: usize,
    /// And their bytes.
    pub stored_bytes: usize,
}

impl FallbackSnapshot {
    /// Calls that failed and were answered for, by what they ended in.
    pub fn triggered(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.triggered.iter().copied()
    }

    /// All calls that failed and were answered for.
    #[must_use]
    pub fn all_triggered(&self) -> u64 {
        self.triggered.iter().map(|(_, count)| count).sum()
    }

    /// What the rung of that name did.
    #[must_use]
    pub fn rung(&self, name: &str) -> Option<&RungCounts> {
        self.rungs.iter().find(|rung| &*rung.name == name)
    }
}

/// What one rung did.
#[derive(Clone, Debug)]
pub struct RungCounts {
    /// Its name.
    pub name: Arc<str>,
    /// Calls that it answered; with
    /// [`probe_alone`](buttress_core::http::StaleSettings::probe_alone) those as well that went no
    /// further, and so triggered nothing.
    pub answered: u64,
    /// Calls for which it failed, by a panic among others.
    pub failed: u64,
    /// Calls for which it took too long.
    pub timed_out: u64,
    /// How old its answers were together, in seconds.
    pub age_seconds: u64,
    skipped: [u64; Skip::ALL.len()],
}

impl RungCounts {
    /// Calls for which it was of no use, for this reason.
    #[must_use]
    pub const fn skipped(&self, skip: Skip) -> u64 {
        self.skipped[skip as usize]
    }

    /// Calls for which it was of no use.
    #[must_use]
    pub fn all_skipped(&self) -> u64 {
        self.skipped.iter().sum()
    }
}
