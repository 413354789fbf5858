use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use buttress_core::{
    Change, Event, Observe, Observers, Random, Shared,
    cells::Counters,
    retry::{Budget, Settings, Stop},
};

use crate::{clock::read, told::Told};

/// What one layer shares with all that it builds.
pub(super) struct State {
    pub(super) name: Arc<str>,
    pub(super) settings: ArcSwap<Settings>,
    /// Counts how often they were set.
    pub(super) version: AtomicU64,
    shadow: AtomicBool,
    /// Whether the budget refused when it was last asked.
    dry: AtomicBool,
    pub(super) random: Random,
    counts: Counters<COUNTS>,
    told: Told,
    observers: Observers,
}

impl State {
    pub(super) fn new(name: Arc<str>, settings: Settings) -> Self {
        // Clients that all draw the same would come again in step.
        let seed = settings.of_seed().unwrap_or_else(|| RandomState::new().hash_one(&name));
        Self {
            name,
            settings: ArcSwap::from_pointee(settings),
            version: AtomicU64::new(0),
            shadow: AtomicBool::new(false),
            dry: AtomicBool::new(false),
            random: Random::seeded(seed),
            counts: Counters::new(),
            told: Told::default(),
            observers: Observers::default(),
        }
    }

    #[inline]
    pub(super) fn count(&self, what: Count) {
        self.counts.increment(what as usize);
    }

    pub(super) fn stopped(&self, stop: Stop) {
        self.counts.increment(FIRST_STOP + stop as usize);
        if self.observers.any() && self.told.is_news(stop as usize, "", read()) {
            self.emit(Change::Stopped(stop));
        }
    }

    /// Tells observers when the budget runs dry, and when it grants again: once each.
    pub(super) fn budget_said(&self, granted: bool) {
        // Looked at before it is written, so that many grants do not fight over the line.
        if self.dry.load(Ordering::Relaxed) == granted
            && self.dry.swap(!granted, Ordering::Relaxed) == granted
        {
            self.emit(Change::BudgetDry(!granted));
        }
    }

    #[inline]
    pub(super) fn is_shadow(&self) -> bool {
        self.shadow.load(Ordering::Relaxed)
    }

    fn emit(&self, change: Change) {
        self.observers.emit(&Event { layer: "retry", name: &self.name, key: None, change });
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is counted besides the reasons to stop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Request,
    Retry,
    Transparent,
    WouldRetry,
}

const FIRST_STOP: usize = 4;
const COUNTS: usize = FIRST_STOP + Stop::ALL.len();

/// Reads and moves the state of a [`RetryLayer`](super::RetryLayer) while it works.
///
/// ```
/// use buttress_core::retry::{Settings, Stop};
/// use buttress_layers::retry::RetryLayer;
///
/// let layer = RetryLayer::new("stock", Settings::default());
/// let handle = layer.handle();
///
/// handle.set_settings(Settings::default().attempts(5).budget(handle.budget()));
/// assert_eq!(handle.balance(), Some(100));
/// assert_eq!(handle.snapshot().stopped(Stop::Budget), 0);
/// ```
#[derive(Clone, Debug)]
pub struct RetryHandle {
    pub(super) state: Shared<State>,
}

impl RetryHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// What has been counted so far.
    #[must_use]
    pub fn snapshot(&self) -> RetrySnapshot {
        RetrySnapshot { counts: self.state.counts.totals() }
    }

    /// The budget of the settings in force.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.state.settings.load().of_budget().clone()
    }

    /// How many retries there is leave for just now; `None` if there is no limit.
    #[must_use]
    pub fn balance(&self) -> Option<u64> {
        self.state.settings.load().of_budget().balance(read())
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.state.settings.load().as_ref().clone()
    }

    /// Sets other settings: for the requests that come from now on, and for what becomes of those
    /// that are under way. Hand on [`RetryHandle::budget`], or the new settings' own begins anew.
    pub fn set_settings(&self, settings: Settings) {
        self.state.settings.store(Arc::new(settings));
        // Released after the settings, so that who sees the version finds them.
        self.state.version.fetch_add(1, Ordering::Release);
        self.state.emit(Change::Settings);
    }

    /// Whether the layer decides and counts but retries nothing.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.state.is_shadow()
    }

    /// Switches shadow mode, in which the layer decides and counts but retries nothing, for the
    /// requests that come from now on.
    pub fn set_shadow(&self, shadow: bool) {
        if self.state.shadow.swap(shadow, Ordering::Relaxed) != shadow {
            self.state.emit(Change::Shadow(shadow));
        }
    }

    /// Tells `observer` of what happens from now on.
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

/// What a [`RetryLayer`](super::RetryLayer) has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySnapshot {
    counts: [u64; COUNTS],
}

impl RetrySnapshot {
    /// How many requests came, each with its first attempt.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.counts[Count::Request as usize]
    }

    /// How many attempts followed upon a first one, and were paid for.
    #[must_use]
    pub const fn retries(&self) -> u64 {
        self.counts[Count::Retry as usize]
    }

    /// How many attempts were for nothing, because the one before had not reached the server.
    #[must_use]
    pub const fn transparent(&self) -> u64 {
        self.counts[Count::Transparent as usize]
    }

    /// How many requests would have been tried again, had the layer not been in shadow mode.
    #[must_use]
    pub const fn would_retry(&self) -> u64 {
        self.counts[Count::WouldRetry as usize]
    }

    /// How many requests failed and were not tried again for this reason.
    #[must_use]
    pub const fn stopped(&self, stop: Stop) -> u64 {
        self.counts[FIRST_STOP + stop as usize]
    }
}
