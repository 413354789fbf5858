use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
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
    pub const fn of_total(&self) -> Option<TimeLimit> {
        self.total
    }

    /// The limit from the call to the response head.
    #[must_use]
    pub const fn of_head(&self) -> Option<TimeLimit> {
        self.head
    }

    /// The limit to each wait for the body's next frame.
    #[must_use]
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
    pub(super) fn after(from: Instant, limit: Option<TimeLimit>, clock: Clock) -> Option<Self> {
        // A year at the most: the sum is there.
        Some(Self { at: from.checked_add(limit?.get())?, clock })
    }

    /// The sooner of two; the first of two at the same time.
    pub(super) fn sooner(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// [`Limits`] that can be set while calls read them. Nanoseconds; 0 is a clock that is not there.
#[derive(Debug)]
pub(super) struct LiveLimits {
    total: AtomicU64,
    head: AtomicU64,
    idle: AtomicU64,
}

impl LiveLimits {
    pub(super) fn new(limits: Limits) -> Self {
        let cell = |limit| AtomicU64::new(nanos(limit));
        Self { total: cell(limits.total), head: cell(limits.head), idle: cell(limits.idle) }
    }

    /// A reader beside this may see some clocks as they were and some as they are, but never
    /// none: it looks again.
    pub(super) fn set(&self, limits: Limits) {
        self.total.store(nanos(limits.total), Ordering::Relaxed);
        self.head.store(nanos(limits.head), Ordering::Relaxed);
        self.idle.store(nanos(limits.idle), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Limits {
        let read = |cell: &AtomicU64| {
            TimeLimit::try_from(Duration::from_nanos(cell.load(Ordering::Relaxed))).ok()
        };
        loop {
            let limits =
                Limits { total: read(&self.total), head: read(&self.head), idle: read(&self.idle) };
            if limits.total.is_some() || limits.head.is_some() {
                return limits;
            }
            std::hint::spin_loop();
        }
    }
}

fn nanos(limit: Option<TimeLimit>) -> u64 {
    // A year is 3.2 * 10^16 ns.
    limit.map_or(0, |limit| u64::try_from(limit.get().as_nanos()).unwrap_or(u64::MAX))
}
