use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use buttress_core::TimeLimit;

/// How long a response may take. Always ends: after a total, or head and then frame by frame.
///
/// ```
/// use buttress_core::TimeLimit;
/// use buttress_layers::timeout::Limits;
///
/// let page = Limits::total(TimeLimit::from_secs(5)).head(TimeLimit::from_secs(1));
/// let feed = Limits::streaming(TimeLimit::from_secs(1), TimeLimit::from_secs(30));
/// assert_eq!(feed.of_total(), None);
/// assert_eq!(page.of_head(), feed.of_head());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    total: Option<TimeLimit>,
    head: Option<TimeLimit>,
    idle: Option<TimeLimit>,
}

impl Limits {
    /// A limit from the call to the end of the body.
    #[must_use]
    pub const fn total(limit: TimeLimit) -> Self {
        Self { total: Some(limit), head: None, idle: None }
    }

    /// Limits of a body that may go on for as long as it has something to say: one to the head,
    /// one for each wait between frames.
    #[must_use]
    pub const fn streaming(head: TimeLimit, idle: TimeLimit) -> Self {
        Self { total: None, head: Some(head), idle: Some(idle) }
    }

    /// Adds a limit from the call to the response head.
    #[must_use]
    pub const fn head(mut self, limit: TimeLimit) -> Self {
        self.head = Some(limit);
        self
    }

    /// Adds a limit to each wait for the body's next frame.
    #[must_use]
    pub const fn idle(mut self, limit: TimeLimit) -> Self {
        self.idle = Some(limit);
        self
    }

    /// The limit from the call to the end of the body.
    #[must_use]
    #[inline]
    pub const fn of_total(&self) -> Option<TimeLimit> {
        self.total
    }

    /// The limit from the call to the response head.
    #[must_use]
    #[inline]
    pub const fn of_head(&self) -> Option<TimeLimit> {
        self.head
    }

    /// The limit to each wait for the body's next frame.
    #[must_use]
    #[inline]
    pub const fn of_idle(&self) -> Option<TimeLimit> {
        self.idle
    }
}

impl From<TimeLimit> for Limits {
    fn from(total: TimeLimit) -> Self {
        Self::total(total)
    }
}

/// What a request ran out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// The time to the response head.
    Head,
    /// The time to the end of the body.
    Total,
    /// The time between two frames.
    Idle,
    /// The time that its caller gave it.
    Deadline,
}

impl Clock {
    /// All clocks, each at the place of its number.
    pub const ALL: [Self; 4] = [Self::Head, Self::Total, Self::Idle, Self::Deadline];

    /// The value of the `clock` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Total => "total",
            Self::Idle => "idle",
            Self::Deadline => "deadline",
        }
    }

    pub(super) const fn why(self) -> &'static str {
        match self {
            Self::Head => "timed out waiting for the response",
            Self::Total => "timed out before the end of the response",
            Self::Idle => "timed out waiting for more of the response",
            Self::Deadline => "deadline exceeded",
        }
    }
}

/// An instant by which something must have happened, and the clock that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) clock: Clock,
}

impl Due {
    /// Due after a limit that starts to run at `from`.
    #[inline]
    pub(super) fn after(from: Instant, limit: Option<TimeLimit>, clock: Clock) -> Option<Self> {
        // A year at the most: the sum is there.
        Some(Self { at: from.checked_add(limit?.get())?, clock })
    }

    /// The sooner of two; the first of two at the same time.
    #[inline]
    pub(super) fn sooner(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// [`Limits`] that can be set while calls are made.
///
/// Each service keeps a copy and looks whether it is of today: one load of a line that hardly
/// ever changes.
#[derive(Debug)]
pub(super) struct LiveLimits {
    version: AtomicU64,
    limits: Mutex<Limits>,
}

/// A service's copy of the limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenLimits {
    version: u64,
    limits: Limits,
}

impl LiveLimits {
    pub(super) fn new(limits: Limits) -> Self {
        Self { version: AtomicU64::new(0), limits: Mutex::new(limits) }
    }

    pub(super) fn set(&self, limits: Limits) {
        let mut current = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        *current = limits;
        // Released with the lock held, so that a version and its limits are read as one.
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn see(&self) -> SeenLimits {
        let current = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        SeenLimits { version: self.version.load(Ordering::Relaxed), limits: *current }
    }
}

impl SeenLimits {
    /// The limits of now, from `live` if they have been set since.
    #[inline]
    pub(super) fn refreshed(&mut self, live: &LiveLimits) -> &Limits {
        if live.version.load(Ordering::Acquire) != self.version {
            *self = live.see();
        }
        &self.limits
    }

    pub(super) fn get(&self) -> Limits {
        self.limits
    }
}
