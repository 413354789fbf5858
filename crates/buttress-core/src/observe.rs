use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    Rate, TimeLimit,
    breaker::{Cause, Transition},
    fallback::Turn,
    retry::Stop,
};

/// Hears of what rarely happens to a layer: a state that moved, a limit that changed.
///
/// Implemented by whatever tells people: a log, a journal, a subscriber. Requests are not events;
/// they are counted, and the counts are read.
pub trait Observe: Send + Sync + 'static {
    /// Takes note of `event`. Called without any lock held, on the thread that caused it; what
    /// takes long belongs elsewhere.
    fn observe(&self, event: &Event<'_>);
}

/// Something that happened to one layer.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The kind of layer: `timeout`, `breaker`.
    pub layer: &'static str,
    /// The name that its user gave it.
    pub name: &'a str,
    /// Which one it is of those that a keyed layer holds; of an objective its rule or its level.
    pub key: Option<&'a str>,
    /// What happened.
    pub change: Change,
}

/// What can happen to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Somebody set new time limits; `None` for a clock that does not run.
    Limits {
        /// To the response head.
        head: Option<TimeLimit>,
        /// To the end of the body.
        total: Option<TimeLimit>,
        /// Between two frames of the body.
        idle: Option<TimeLimit>,
    },
    /// Somebody set how many requests may be under way, how many may wait, and for how long.
    Room {
        /// Under way at once.
        limit: u32,
        /// In the queue.
        queue: u32,
        /// In the queue at most.
        wait: TimeLimit,
    },
    /// A limit that moves by itself has gone a long way since it was last told of.
    Adapted {
        /// What it was then.
        from: u32,
        /// What it is.
        to: u32,
    },
    /// Shadow mode was switched: on, the layer decides and counts but refuses nothing.
    Shadow(bool),
    /// A breaker went from one state to another.
    Breaker(Transition),
    /// A breaker in shadow mode would open now. Said once, until it would no longer.
    WouldOpen(Cause),
    /// A breaker was isolated, by a switch that others may share; or is so no longer.
    Isolated(bool),
    /// Somebody set other conditions, waits or probes.
    Settings,
    /// Somebody set another rate for one of the limits of a rate limit.
    Rate {
        /// Which of them, in the order in which they were named.
        limit: usize,
        /// The rate from now on.
        rate: Rate,
    },
    /// Somebody set how long requests wait for a rate limit; `None` for not at all.
    Patience(Option<TimeLimit>),
    /// A keyed layer has no room for more keys: from now on new ones push out old ones.
    KeysFull {
        /// How many keys it holds.
        capacity: usize,
    },
    /// Something does not work as it was probably meant to, and what to do about it. Told once.
    Advice(&'static str),
    /// A retry budget refused for the first time since it last granted; or grants again.
    BudgetDry(bool),
    /// A request failed and is not tried again. Told once for each reason, and again when that
    /// comes back after a minute.
    Stopped(Stop),
    /// A throttle began to refuse; or refuses nothing any more.
    Throttling(bool),
    /// A table of labels is full: what is new from now on is counted under `__other__`.
    LabelsFull {
        /// How many labels it holds.
        capacity: usize,
    },
    /// A rule of alerting of an objective, the event's key, moved.
    Alert {
        /// Whom it tells.
        severity: &'static str,
        /// How it stood.
        from: &'static str,
        /// How it stands.
        to: &'static str,
    },
    /// The policy of an objective moved, to the level that is the event's key.
    Level {
        /// What is left of the budget, in billionths.
        remaining: i64,
    },
    /// An incident is over that spent so much of a budget that it has to be written up.
    PostmortemDue {
        /// What it spent, in billionths.
        spent: i64,
    },
    /// Somebody excused an objective for a time that has passed.
    Excused {
        /// How many good events are taken out of its windows.
        good: u64,
        /// How many bad ones are.
        bad: u64,
    },
    /// The calendar gave an objective a new budget.
    NewPeriod,
    /// Maintenance began, or ended.
    Maintenance(bool),
    /// The clocks did more than to go on.
    Clock {
        /// What they did.
        what: &'static str,
        /// By how much, or for how long.
        by: Duration,
    },
    /// Something happened in a fallback. What comes often is told once, and again when it comes
    /// back after a minute.
    Fallback(Turn),
    /// Something became of a snapshot; the event's key says to which, and why.
    Snapshot(&'static str),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limits { head, total, idle } => {
                f.write_str("time limits set:")?;
                for (clock, limit) in [("head", head), ("total", total), ("idle", idle)] {
                    if let Some(limit) = limit {
                        write!(f, " {clock} {:?}", limit.get())?;
                    }
                }
                Ok(())
            }
            Self::Room { limit, queue, wait } => write!(
                f,
                "room set: {limit} under way, {queue} waiting for {:?} at most",
                wait.get()
            ),
            Self::Adapted { from, to } => write!(f, "limit adapted from {from} to {to}"),
            Self::Shadow(true) => f.write_str("shadow mode on: counts, refuses nothing"),
            Self::Shadow(false) => f.write_str("shadow mode off"),
            Self::Breaker(transition) => transition.fmt(f),
            Self::WouldOpen(cause) => write!(f, "would open: {cause}"),
            Self::Isolated(true) => f.write_str("isolated"),
            Self::Isolated(false) => f.write_str("no longer isolated"),
            Self::Settings => f.write_str("settings changed"),
            Self::Rate { limit, rate } => write!(
                f,
                "rate {} set: {} in {:?}, {} at once",
                limit + 1,
                rate.events(),
                rate.period(),
                rate.most_at_once()
            ),
            Self::Patience(Some(limit)) => write!(f, "requests wait for {:?}", limit.get()),
            Self::Patience(None) => f.write_str("requests do not wait"),
            Self::KeysFull { capacity } => {
                write!(f, "{capacity} keys known and no room for more: new ones push out old ones")
            }
            Self::Stopped(stop) => write!(f, "a request was not tried again: {}", stop.as_str()),
            Self::Throttling(true) => f.write_str("throttling"),
            Self::Throttling(false) => f.write_str("no longer throttling"),
            Self::BudgetDry(true) => f.write_str("retry budget spent: failures are passed on"),
            Self::BudgetDry(false) => f.write_str("retry budget grants again"),
            Self::LabelsFull { capacity } => write!(
                f,
                "{capacity} routes known and no room for more: new ones count as __other__"
            ),
            Self::Alert { severity, from, to } => write!(f, "{severity} is {to}, was {from}"),
            Self::Level { remaining } => {
                write!(
                    f,
                    "the policy is on this level; {} of the budget is left",
                    Percent(*remaining)
                )
            }
            Self::PostmortemDue { spent } => {
                write!(f, "an incident spent {} of the budget; write it up", Percent(*spent))
            }
            Self::Excused { good, bad } => {
                write!(f, "{good} good and {bad} bad events are excused, and out of all windows")
            }
            Self::NewPeriod => f.write_str("a new budget"),
            Self::Maintenance(true) => f.write_str("maintenance began: events are excluded"),
            Self::Maintenance(false) => f.write_str("maintenance ended"),
            Self::Clock { what, by } => write!(f, "{what}: {by:?}"),
            Self::Fallback(turn) => turn.fmt(f),
            Self::Snapshot(what) | Self::Advice(what) => f.write_str(what),
        }
    }
}

/// Billionths as a percentage of three decimals, rounded down as a budget is.
struct Percent(i64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = self.0.div_euclid(10_000);
        let sign = if thousandths < 0 { "-" } else { "" };
        let (whole, rest) = (thousandths.unsigned_abs() / 1000, thousandths.unsigned_abs() % 1000);
        write!(f, "{sign}{whole}.{rest:03}%")
    }
}

/// Who hears of the events of one layer.
#[derive(Default)]
pub struct Observers {
    /// So that a layer which nobody observes builds no event and takes no lock.
    any: AtomicBool,
    list: RwLock<Vec<Arc<dyn Observe>>>,
}

impl Observers {
    /// Adds an observer, for good.
    pub fn add(&self, observer: Arc<dyn Observe>) {
        self.list.write().unwrap_or_else(PoisonError::into_inner).push(observer);
        self.any.store(true, Ordering::Release);
    }

    /// Whether there is any. Who builds an event at some expense asks first.
    #[must_use]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Tells every observer, also where one of them panics.
    ///
    /// # Panics
    ///
    /// If an observer does, once all of them have been told.
    pub fn emit(&self, event: &Event<'_>) {
        if !self.any() {
            return;
        }
        // Copied, because an observer may do what it likes, adding an observer included.
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut panicked = None;
        for observer in list {
            let told = catch_unwind(AssertUnwindSafe(|| observer.observe(event)));
            panicked = told.err().or(panicked);
        }
        // Beside a panic that unwinds already it would be an abort, so that one is enough.
        if let Some(payload) = panicked.filter(|_| !thread::panicking()) {
            resume_unwind(payload);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Observers").field("count", &list.len()).finish_non_exhaustive()
    }
}
