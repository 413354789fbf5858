use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use buttress_core::{
    Change, Event, Observe, Observers, Shared,
    cells::Counters,
    hedge::{Settings, Unhedged},
    retry::Budget,
};

use crate::clock::read;

/// What one layer shares with all that it builds.
pub(super) struct State {
    pub(super) name: Arc<str>,
    pub(super) settings: ArcSwap<Settings>,
    /// Counts how often they were set.
    pub(super) version: AtomicU64,
    shadow: AtomicBool,
    /// Whether the budget refused when it was last asked.
    dry: AtomicBool,
    counts: Counters<COUNTS>,
    observers: Observers,
}

impl State {
    pub(super) fn new(name: Arc<str>, settings: Settings) -> Self {
        Self {
            name,
            settings: ArcSwap::from_pointee(settings),
            version: AtomicU64::new(0),
            shadow: AtomicBool::new(false),
            dry: AtomicBool::new(false),
            counts: Counters::new(),
            observers: Observers::default(),
        }
    }

    #[inline]
    pub(super) fn count(&self, what: Count) {
        self.counts.increment(what as usize);
    }

    #[inline]
    pub(super) fn unhedged(&self, why: Unhedged) {
        self.counts.increment(FIRST_REASON + why as usize);
    }

    pub(super) fn ended(&self, fate: Fate) {
        self.counts.increment(FIRST_FATE + fate as usize);
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
        self.observers.emit(&Event { layer: "hedge", name: &self.name, key: None, change });
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is counted besides how hedges end and why there are none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Request,
    Fired,
    WouldFire,
}

const FIRST_FATE: usize = 3;
const FIRST_REASON: usize = FIRST_FATE + Fate::ALL.len();
const COUNTS: usize = FIRST_REASON + Unhedged::ALL.len();

/// What became of an attempt after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Its answer was handed out.
    Won,
    /// That of another was, before its own was there.
    Lost,
    /// It failed: by its answer, by an error, or because the service failed before it was ready,
    /// or was ready only when the caller had gone.
    Failed,
    /// A layer of ours further in refused it: an open breaker, a full bulkhead.
    Refused,
    /// The caller dropped it, with all others.
    Dropped,
}

impl Fate {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 5] = [Self::Won, Self::Lost, Self::Failed, Self::Refused, Self::Dropped];

    /// The value of the `outcome` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
        }
    }
}

/// Reads and moves the state of a [`HedgeLayer`](super::HedgeLayer) while it works.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::hedge::{Delay, Settings};
/// use buttress_layers::hedge::{Fate, HedgeLayer};
///
/// let layer = HedgeLayer::new("stock", Settings::default());
/// let handle = layer.handle();
///
/// assert_eq!(handle.delay(), None, "nothing was learned yet");
/// handle.set_settings(handle.settings().delay(Delay::fixed(Duration::from_millis(50))));
/// assert_eq!(handle.delay(), Some(Duration::from_millis(50)));
/// assert_eq!(handle.snapshot().ended(Fate::Won), 0);
/// ```
#[derive(Clone, Debug)]
pub struct HedgeHandle {
    pub(super) state: Shared<State>,
}

impl HedgeHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// What has been counted so far.
    #[must_use]
    pub fn snapshot(&self) -> HedgeSnapshot {
        HedgeSnapshot { counts: self.state.counts.totals() }
    }

    /// After what time a request that begins now is hedged; `None` if it is not, because that is
    /// switched off, or not learned yet.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.state.settings.load().of_delay().at(read()).ok()
    }

    /// The budget of the settings in force.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.state.settings.load().of_budget().clone()
    }

    /// How many hedges, or retries, there is leave for just now; `None` if there is no limit.
    #[must_use]
    pub fn balance(&self) -> Option<u64> {
        self.state.settings.load().of_budget().balance(read())
    }

    /// The settings in force. What they have learned and their budget go with them.
    pub fn settings(&self) -> Settings {
        self.state.settings.load().as_ref().clone()
    }

    /// Sets other settings, for the requests that come from now on. What was learned of a window
    /// of the same length is kept; hand on [`HedgeHandle::budget`], or the new settings' own
    /// begins anew.
    pub fn set_settings(&self, settings: Settings) {
        let settings = settings.inheriting(&self.state.settings.load());
        self.state.settings.store(Arc::new(settings));
        // Released after the settings, so that who sees the version finds them.
        self.state.version.fetch_add(1, Ordering::Release);
        self.state.emit(Change::Settings);
    }

    /// Whether the layer decides and counts but sends nothing twice.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.state.is_shadow()
    }

    /// Switches shadow mode, in which the layer learns, decides and counts but sends nothing
    /// twice, for the requests that come from now on.
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

/// What a [`HedgeLayer`](super::HedgeLayer) has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeSnapshot {
    counts: [u64; COUNTS],
}

impl HedgeSnapshot {
    /// How many requests came, each with its first attempt.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.counts[Count::Request as usize]
    }

    /// How many attempts were sent after a first one. All have ended, or are under way.
    #[must_use]
    pub const fn fired(&self) -> u64 {
        self.counts[Count::Fired as usize]
    }

    /// How many of them ended so.
    #[must_use]
    pub const fn ended(&self, fate: Fate) -> u64 {
        self.counts[FIRST_FATE + fate as usize]
    }

    /// How many requests would have been sent again, had the layer not been in shadow mode.
    #[must_use]
    pub const fn would_fire(&self) -> u64 {
        self.counts[Count::WouldFire as usize]
    }

    /// How many requests were not sent again, or not once more, for this reason: known when the
    /// request came, or when the time for it had come.
    #[must_use]
    pub const fn unhedged(&self, why: Unhedged) -> u64 {
        self.counts[FIRST_REASON + why as usize]
    }
}
