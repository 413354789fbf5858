//! What people and programs do to a breaker from outside, and see of it.

use std::{sync::Arc, time::Instant};

use super::{Machine, Moves};
use crate::{
    atomic::Ordering,
    breaker::{Refusal, Rules, Settings, Snapshot, State, Totals, Why, cells::Cell, word::Phase},
};

impl Machine {
    /// Goes where somebody wants it to be.
    fn force(&self, rules: &Rules, to: Phase, until: u64, now: u64, moves: &mut Moves) {
        let mut inner = self.lock();
        self.catch_up(&mut inner, rules, now, moves);
        inner.probed = false;
        inner.openings = if to == Phase::Open { inner.openings.saturating_add(1) } else { 0 };
        self.until.store(until, Ordering::Release);
        // Before the new epoch begins, so that none of its calls adds to what was before.
        self.forget(rules, now);
        let word = self.word();
        if word.phase() == to {
            // The same state from now on: what was admitted before has no say in it.
            self.word.store(word.next(to).bits(), Ordering::Release);
            inner.refused_before = self.refused();
        } else {
            self.go(&mut inner, to, Why::ByHand, moves);
        }
        self.over.store(false, Ordering::Relaxed);
    }

    /// Refuses every call until somebody says otherwise.
    pub fn force_open(&self, rules: &Rules, now: Instant, moves: &mut Moves) {
        self.force(rules, Phase::ForcedOpen, u64::MAX, self.nanos(now), moves);
    }

    /// Admits every call and records nothing until somebody says otherwise.
    pub fn force_closed(&self, rules: &Rules, now: Instant, moves: &mut Moves) {
        self.force(rules, Phase::ForcedClosed, u64::MAX, self.nanos(now), moves);
    }

    /// Opens until `instant`, then lets probes pass.
    pub fn open_until(&self, rules: &Rules, instant: Instant, now: Instant, moves: &mut Moves) {
        // `now` first: the first instant that a breaker is told becomes its origin, and what lies
        // before that is taken for it.
        let now = self.nanos(now);
        self.force(rules, Phase::Open, self.nanos(instant), now, moves);
    }

    /// Closes, and forgets all that the windows hold.
    pub fn reset(&self, rules: &Rules, now: Instant, moves: &mut Moves) {
        self.force(rules, Phase::Closed, 0, self.nanos(now), moves);
    }

    /// Switches shadow mode, and forgets all that the windows hold. It is closed afterwards,
    /// whatever it was. Returns whether anything changed.
    ///
    /// What a hand does goes before shadow mode: a breaker that is forced open, or opened for a
    /// while, refuses. It closes when that is over, and probes nobody.
    pub fn set_shadow(&self, rules: &Rules, shadow: bool, now: Instant, moves: &mut Moves) -> bool {
        let now = self.nanos(now);
        let mut inner = self.lock();
        if self.word().is_shadow() == shadow {
            return false;
        }
        self.catch_up(&mut inner, rules, now, moves);
        inner.openings = 0;
        inner.refused_before = self.refused();
        // As in `force`, before the new epoch begins.
        self.forget(rules, now);
        self.over.store(false, Ordering::Relaxed);
        let word = self.word();
        if word.phase() != Phase::Closed {
            Self::tell(&mut inner, word.phase(), Phase::Closed, Why::ByHand, moves);
        }
        self.word.store(word.next(Phase::Closed).with_shadow(shadow).bits(), Ordering::Release);
        true
    }

    /// Takes other settings. The windows keep what fits into the new ones; what has been decided
    /// stays decided, an open breaker open for as long as it was told to be.
    ///
    /// Outcomes that are counted while a window of calls changes its length may be missed by it.
    #[must_use]
    pub fn change(
        &self,
        rules: &Rules,
        settings: Settings,
        now: Instant,
        moves: &mut Moves,
    ) -> Arc<Rules> {
        let now = self.nanos(now);
        // Without the lock: it may be a function of the user's own.
        let least = settings.open_for.least();
        let mut inner = self.lock();
        // What has happened by now has happened under the settings of then.
        self.catch_up(&mut inner, rules, now, moves);
        inner.least = least;
        inner.settings = settings.clone();
        inner.generation += 1;
        self.calm.store(0, Ordering::Relaxed);
        Arc::new(rules.changed(settings, inner.generation, &self.cells, now))
    }

    /// Where it stands now. Time alone may move it.
    pub fn state(&self, rules: &Rules, now: Instant, moves: &mut Moves) -> State {
        if matches!(self.word().phase(), Phase::HalfOpen | Phase::Recovering) {
            self.catch_up(&mut self.lock(), rules, self.nanos(now), moves);
        }
        self.word().phase().state()
    }

    /// Where it stood when last looked at. Moves nothing.
    #[must_use]
    pub fn last_state(&self) -> State {
        self.word().phase().state()
    }

    /// Whether it decides and records but refuses nothing.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.word().is_shadow()
    }

    /// Whether all calls pass: a closed breaker.
    #[must_use]
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.word().phase() == Phase::Closed
    }

    /// Whether it is closed and knows nothing, so that a new one would do as well.
    pub fn is_idle(&self, rules: &Rules, now: Instant) -> bool {
        self.is_closed() && rules.is_idle(&self.cells, self.nanos(now))
    }

    /// All there is to see.
    pub fn snapshot(&self, rules: &Rules, now: Instant, moves: &mut Moves) -> Snapshot {
        let now = self.nanos(now);
        let mut inner = self.lock();
        self.catch_up(&mut inner, rules, now, moves);
        let word = self.word();
        let is_open = word.phase() == Phase::Open;
        let probed = word.phase() == Phase::HalfOpen || (is_open && inner.probed);
        Snapshot {
            state: word.phase().state(),
            shadow: word.is_shadow(),
            would_refuse: word.is_shadow() && self.over.load(Ordering::Relaxed),
            conditions: rules.tallies(&self.cells, now),
            probes: probed.then(|| inner.probing.progress()),
            until_probe: is_open.then(|| self.left(now)),
            openings: inner.openings,
            refused: self.refused() - inner.refused_before,
            totals: self.totals(),
        }
    }

    /// Everything counted since it was made.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let sum = |cell| self.cells.sum(cell);
        Totals {
            successes: sum(Cell::Success),
            failures: sum(Cell::Failure),
            soft_failures: sum(Cell::Soft),
            ignored: sum(Cell::Ignored),
            cancelled: sum(Cell::Cancelled),
            void: sum(Cell::Void),
            refused: Refusal::ALL.map(|why| sum(why.cell())),
            would_refuse: sum(Cell::WouldRefuse),
        }
    }
}
