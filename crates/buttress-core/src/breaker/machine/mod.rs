mod hand;
mod shift;

use std::{
    sync::{Arc, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Cause, Outcome, Refusal, Refused, Rules, Settings, Transition, Why,
    cells::{Cell, Cells},
    half_open::Probing,
    word::{Phase, Word},
};
use crate::{
    Random, Ratio,
    atomic::{AtomicBool, AtomicU64, Ordering},
    sync::{Mutex, MutexGuard},
};

/// The state of one breaker: who is admitted, and what outcomes make of it.
///
/// While it is closed, admission is one load and an outcome one addition into a cell of its
/// thread. Only a state that moves, and a half-open one, takes a lock.
///
/// Every admission carries the *epoch* of the state that gave it, which is part of the one word
/// that says what that state is. An outcome of an older epoch is counted as void and changes
/// nothing: not a window, not a probe, not a permit. The one exception is a call whose epoch ends
/// between two instructions of its own thread, while it is being counted: it may count as one of
/// the next.
#[derive(Debug)]
pub struct Machine {
    /// The first instant that it was told: all others are kept as nanoseconds since.
    origin: OnceLock<Instant>,
    word: AtomicU64,
    /// Until when a call that succeeds in time changes nothing but its count; 0 where nobody
    /// knows. Relaxed all over: it speaks for itself, and who meets a new epoch meets the 0 that
    /// was written before it.
    calm: AtomicU64,
    /// Open: when a probe may pass. Recovering: when the ramp is over.
    until: AtomicU64,
    /// Recovering: when the ramp began.
    since: AtomicU64,
    /// In shadow mode: whether a condition is reached.
    over: AtomicBool,
    cells: Cells,
    random: Random,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    /// Which change of the settings these are.
    generation: u64,
    /// The shortest wait of a first opening.
    least: Duration,
    /// Since it was last closed.
    openings: u32,
    probing: Probing,
    /// Whether the last probes opened it.
    probed: bool,
    transitions: u64,
    /// What had been refused when it came into its state.
    refused_before: u64,
}

/// Leave to make one call. Must be settled, or the probe that it may be is out until its
/// deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket {
    epoch: u64,
    probe: Option<u16>,
}

impl Ticket {
    /// Whether the call is one of the few that decide over a half-open breaker.
    #[must_use]
    pub const fn is_probe(self) -> bool {
        self.probe.is_some()
    }
}

/// What is known of a call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What became of it.
    pub outcome: Outcome,
    /// How long its response head took, or its end where there was none. Only looked at when
    /// [`Rules::slower_than`] is something.
    pub to_head: Duration,
    /// What the server asked for in `Retry-After` or `grpc-retry-pushback-ms`.
    pub retry_after: Option<Duration>,
}

impl From<Outcome> for Report {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, to_head: Duration::ZERO, retry_after: None }
    }
}

/// What a call, or a hand, made of a breaker, in order: to be told to observers afterwards.
///
/// Allocates nothing while nothing happens.
pub type Moves = Vec<Move>;

/// Something about a breaker that its observers hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It went from one state to another.
    Transition(Transition),
    /// In shadow mode: a condition was reached. Said once, until it has been below again.
    WouldOpen(Cause),
}

impl Machine {
    /// A closed breaker with its windows. `seed` decides the jitter, and who passes on a ramp.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> (Self, Arc<Rules>) {
        Self::counting_into(Cells::new(), settings, seed)
    }

    pub(super) fn counting_into(cells: Cells, settings: Settings, seed: u64) -> (Self, Arc<Rules>) {
        let rules = Arc::new(Rules::new(settings.clone(), &cells, 0));
        let machine = Self {
            origin: OnceLock::new(),
            word: AtomicU64::new(Word::CLOSED.bits()),
            calm: AtomicU64::new(0),
            until: AtomicU64::new(0),
            since: AtomicU64::new(0),
            over: AtomicBool::new(false),
            cells,
            random: Random::seeded(seed),
            inner: Mutex::new(Inner {
                probing: Probing::begin(&settings, 0),
                least: settings.open_for.least(),
                settings,
                generation: 0,
                openings: 0,
                probed: false,
                transitions: 0,
                refused_before: 0,
            }),
        };
        (machine, rules)
    }

    /// Asks for leave to make a call. The clock is read only if the answer depends on it.
    ///
    /// # Errors
    ///
    /// If the call is refused.
    #[inline]
    pub fn admit(
        &self,
        rules: impl FnOnce() -> Arc<Rules>,
        now: impl FnOnce() -> Instant,
        moves: &mut Moves,
    ) -> Result<Ticket, Refused> {
        let word = self.word();
        if matches!(word.phase(), Phase::Closed | Phase::ForcedClosed) {
            return Ok(self.pass(word));
        }
        self.admit_or_refuse(rules, self.nanos(now()), moves)
    }

    /// Admits whoever comes.
    #[inline]
    fn pass(&self, word: Word) -> Ticket {
        if word.is_shadow() && self.over.load(Ordering::Relaxed) {
            self.cells.add(Cell::WouldRefuse);
        }
        Ticket { epoch: word.epoch(), probe: None }
    }

    #[inline(never)]
    fn admit_or_refuse(
        &self,
        rules: impl FnOnce() -> Arc<Rules>,
        now: u64,
        moves: &mut Moves,
    ) -> Result<Ticket, Refused> {
        let word = self.word();
        match word.phase() {
            Phase::Open if self.left(now) > Duration::ZERO => {
                return Err(self.refuse_open(now));
            }
            Phase::ForcedOpen => return Err(self.refuse(Refusal::Forced, None)),
            Phase::Recovering if now < self.until.load(Ordering::Acquire) => {
                return self.admit_on_ramp(word, now);
            }
            _ => {}
        }
        let mut inner = self.lock();
        let rules = rules();
        self.catch_up(&mut inner, &rules, now, moves);
        let word = self.word();
        match word.phase() {
            Phase::Closed | Phase::ForcedClosed => Ok(self.pass(word)),
            Phase::Recovering => self.admit_on_ramp(word, now),
            Phase::ForcedOpen => Err(self.refuse(Refusal::Forced, None)),
            Phase::Open if self.left(now) > Duration::ZERO => Err(self.refuse_open(now)),
            Phase::Open if word.is_shadow() => {
                inner.openings = 0;
                self.forget(&rules, now);
                self.go(&mut inner, Phase::Closed, Why::WaitOver, moves);
                Ok(self.pass(self.word()))
            }
            Phase::Open | Phase::HalfOpen => {
                if word.phase() == Phase::Open {
                    inner.probing = Probing::begin(&inner.settings, now);
                    self.forget(&rules, now);
                    self.go(&mut inner, Phase::HalfOpen, Why::WaitOver, moves);
                }
                let Some(probe) = inner.probing.admit(now) else {
                    return Err(self.refuse(Refusal::HalfOpen, Some(guess(&inner, now))));
                };
                Ok(Ticket { epoch: self.word().epoch(), probe: Some(probe) })
            }
        }
    }

    /// Admits as large a share of the calls as of the ramp has passed.
    fn admit_on_ramp(&self, word: Word, now: u64) -> Result<Ticket, Refused> {
        let since = self.since.load(Ordering::Acquire);
        let length = self.until.load(Ordering::Acquire).saturating_sub(since).max(1);
        let passed = u128::from(now.saturating_sub(since)) * 1_000_000_000 / u128::from(length);
        let share = u32::try_from(passed).ok().and_then(Ratio::per_billion).unwrap_or(Ratio::ONE);
        if Random::hits(self.random.draw(), share) {
            return Ok(Ticket { epoch: word.epoch(), probe: None });
        }
        Err(self.refuse(Refusal::Recovering, Some(self.left(now))))
    }

    /// A probe has got a response head that is not bad.
    pub fn head_came(&self, ticket: Ticket, now: Instant) {
        if let Some(probe) = ticket.probe {
            let mut inner = self.lock();
            if self.word().epoch() == ticket.epoch {
                let Inner { probing, settings, .. } = &mut *inner;
                probing.head_came(probe, self.nanos(now), |head| settings.is_slow(head));
            }
        }
    }

    /// Counts a call that succeeded, and that no condition takes for slow, if there is nothing
    /// else to do; says whether it did. If not it is still to be [settled](Self::settle).
    ///
    /// There is nothing else while all windows are of time and have held their minimum in this
    /// bucket: until the next one begins no success moves them, nor makes a rate rise.
    #[inline]
    #[must_use]
    pub fn count_success(&self, ticket: Ticket, now: Instant) -> bool {
        // The word first: what follows is then not older than its epoch.
        let word = self.word();
        let records = matches!(word.phase(), Phase::Closed | Phase::Recovering);
        if !records || word.is_shadow() || word.epoch() != ticket.epoch {
            return false;
        }
        let until = self.calm.load(Ordering::Relaxed);
        let calm = until > 0 && self.nanos(now) < until;
        if calm {
            self.cells.add(Cell::Success);
        }
        calm
    }

    /// Takes the outcome of a call that was admitted. Called once for each.
    #[inline]
    pub fn settle(
        &self,
        rules: &Rules,
        ticket: Ticket,
        report: Report,
        now: Instant,
        moves: &mut Moves,
    ) {
        let (word, now) = (self.word(), self.nanos(now));
        let Report { outcome, to_head, .. } = report;
        if word.epoch() != ticket.epoch {
            return self.cells.add(Cell::Void);
        }
        match word.phase() {
            Phase::Closed | Phase::Recovering if word.is_shadow() => {
                let crossed = |cause| moves.push(Move::WouldOpen(cause));
                let over = rules.record_shadow(&self.cells, outcome, to_head, now, crossed);
                self.over.store(over, Ordering::Relaxed);
            }
            Phase::Closed | Phase::Recovering => {
                if let Some(cause) = rules.record(&self.cells, outcome, to_head, now) {
                    self.trip(rules, ticket, report, cause, now, moves);
                } else if let Some(until) = rules.calm_until()
                    && self.calm.load(Ordering::Relaxed) != until
                {
                    self.calm_down(rules, ticket, until);
                }
            }
            Phase::HalfOpen => self.settle_probe(rules, ticket, report, now, moves),
            Phase::ForcedClosed | Phase::ForcedOpen | Phase::Open => self.cells.add(Cell::Void),
        }
    }

    /// Lets successes do without the rules for the rest of a bucket. Once in each, and by whoever
    /// need not wait for it.
    #[cold]
    fn calm_down(&self, rules: &Rules, ticket: Ticket, until: u64) {
        let Ok(inner) = self.inner.try_lock() else { return };
        // Whoever forgets or changes what the windows hold has the lock: these are still they.
        if inner.generation == rules.generation() && self.word().epoch() == ticket.epoch {
            self.calm.store(until, Ordering::Relaxed);
        }
    }

    /// Empties the windows. For who has the lock, before the new epoch begins.
    fn forget(&self, rules: &Rules, now: u64) {
        self.calm.store(0, Ordering::Relaxed);
        rules.clear(&self.cells, now);
    }

    #[cold]
    fn trip(
        &self,
        rules: &Rules,
        ticket: Ticket,
        report: Report,
        cause: Cause,
        now: u64,
        moves: &mut Moves,
    ) {
        let mut inner = self.lock();
        // A ramp that is over by now has ended well: this opening is the first again.
        self.catch_up(&mut inner, rules, now, moves);
        // Another call may have been faster.
        if self.word().epoch() == ticket.epoch {
            self.open(&mut inner, Why::Tripped(cause), report.retry_after, now, moves);
        }
    }

    fn settle_probe(
        &self,
        rules: &Rules,
        ticket: Ticket,
        report: Report,
        now: u64,
        moves: &mut Moves,
    ) {
        let mut inner = self.lock();
        // Whose time had run out by now has failed, whatever it says now.
        self.catch_up(&mut inner, rules, now, moves);
        let Some(probe) = ticket.probe.filter(|_| self.word().epoch() == ticket.epoch) else {
            drop(inner);
            return self.cells.add(Cell::Void);
        };
        self.cells.add(report.outcome.cell());
        let slow = rules.settings().is_slow(report.to_head);
        inner.probing.settle(probe, report.outcome, slow);
        self.judge_probes(&mut inner, rules, report.retry_after, now, moves);
    }

    /// Counts a refusal that a switch outside of this machine demands.
    pub fn isolated(&self) -> Refused {
        self.refuse(Refusal::Isolated, None)
    }

    fn refuse_open(&self, now: u64) -> Refused {
        self.refuse(Refusal::Open, Some(self.left(now)))
    }

    fn refuse(&self, why: Refusal, retry_after: Option<Duration>) -> Refused {
        self.cells.add(why.cell());
        Refused { why, retry_after }
    }

    fn refused(&self) -> u64 {
        Refusal::ALL.iter().map(|why| self.cells.sum(why.cell())).sum()
    }

    /// How long the state lasts that ends by itself.
    fn left(&self, now: u64) -> Duration {
        Duration::from_nanos(self.until.load(Ordering::Acquire).saturating_sub(now))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn word(&self) -> Word {
        Word::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Nanoseconds since the first instant; an earlier one is taken for that.
    #[inline]
    fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(*self.origin.get_or_init(|| now)))
    }
}

/// When to ask again while probes are out. Nobody knows; something will have changed once the
/// oldest has run out of time, and it is not worth asking before the shortest wait.
fn guess(inner: &Inner, now: u64) -> Duration {
    let change = inner.probing.next_change().map(|at| at.saturating_sub(now));
    change.map_or(inner.least, |left| Duration::from_nanos(left).min(inner.least))
}

impl Refusal {
    const fn cell(self) -> Cell {
        match self {
            Self::Open => Cell::RefusedOpen,
            Self::HalfOpen => Cell::RefusedHalfOpen,
            Self::Recovering => Cell::RefusedRecovering,
            Self::Forced => Cell::RefusedForced,
            Self::Isolated => Cell::RefusedIsolated,
        }
    }
}

/// Saturates after 584 years.
#[inline]
pub(super) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}
