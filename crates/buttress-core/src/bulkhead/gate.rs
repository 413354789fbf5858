use std::{sync::PoisonError, task::Waker, time::Instant};

use super::{
    Ask, Entry, Outcome, Partitions, Place, Refusal, Seat, Would,
    partitions::Parts,
    queue::{Queue, State, Woken},
    word::Word,
};
use crate::{
    Criticality,
    atomic::{AtomicU32, Ordering},
    sync::{Mutex, MutexGuard},
};

/// Lets in as many as the limit says, and lets the others wait in line or go.
///
/// While nobody waits, to come in and to leave are one atomic step each. As soon as somebody
/// waits, and always with [`Partitions`], both go through a lock, and a place that is given back
/// is handed to the waiter whose turn it is: no newcomer takes it from under its nose.
///
/// Wakers are woken, cloned and dropped without the lock.
#[derive(Debug)]
pub struct Gate {
    word: Word,
    /// How many may wait. Read without the lock by those who only want to know that none may.
    bound: AtomicU32,
    locked: Mutex<Locked>,
}

#[derive(Debug, Default)]
struct Locked {
    queue: Queue,
    parts: Parts,
}

/// How many classes there are: as many lanes has each part.
const CLASSES: usize = Criticality::ALL.len();

/// What shall happen to somebody who comes.
enum Step {
    Taken(Seat),
    Wait,
    /// In the place of the last of this lane.
    Displace(usize, Refusal),
    Refuse(Refusal),
}

impl Gate {
    /// A gate that lets in so many, and lets nobody wait. A limit of 0 lets in nobody.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let mut locked = Locked::default();
        locked.queue.widen(CLASSES);
        Self { word: Word::new(limit), bound: AtomicU32::new(0), locked: Mutex::new(locked) }
    }

    /// Divides the limit. To be said before anybody comes: who is inside by then belongs to no part.
    pub fn divide(&self, partitions: &Partitions) {
        let mut locked = self.lock();
        locked.parts = Parts::new(partitions);
        let lanes = locked.parts.count() * CLASSES;
        locked.queue.widen(lanes);
        self.word.lock();
    }

    /// How many may be inside.
    #[must_use]
    #[inline]
    pub fn limit(&self) -> u32 {
        self.word.see().limit()
    }

    /// Sets another limit. Who is inside stays; who waits comes in as far as there is room now.
    pub fn set_limit(&self, limit: u32) {
        self.word.set_limit(limit);
        self.let_in();
    }

    /// As [`set_limit`](Self::set_limit), unless the limit is 0: what is being drained stays shut.
    /// Says whether it was set.
    pub fn move_limit(&self, limit: u32) -> bool {
        let moved = self.word.move_limit(limit);
        self.let_in();
        moved
    }

    /// How many may wait.
    #[must_use]
    #[inline]
    pub fn bound(&self) -> u32 {
        self.bound.load(Ordering::Relaxed)
    }

    /// Sets how many may wait from now on. Who waits already stays in line.
    pub fn set_bound(&self, bound: u32) {
        self.bound.store(bound, Ordering::Relaxed);
    }

    /// How many are inside.
    #[must_use]
    pub fn inside(&self) -> u32 {
        self.word.see().inside()
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        // Nobody waits unless the word says so; then there is no need to disturb those who do.
        if self.word.see().is_locked() { self.lock().queue.len() } else { 0 }
    }

    /// Name, guaranteed share, and how many are inside and wait, of each part.
    pub fn parts(&self, mut tell: impl FnMut(&'static str, u32, u32, u32)) {
        let Locked { queue, parts } = &*self.lock();
        for (part, (name, guaranteed, inside)) in parts.named(self.limit()).enumerate() {
            tell(name, guaranteed, inside, waiting_of(queue, part));
        }
    }

    /// Asks for a place.
    ///
    /// `now` is read only where the limit is divided.
    #[inline]
    pub fn enter(&self, ask: Ask, now: impl FnOnce() -> Instant) -> Entry {
        match self.enter_at_once(ask) {
            Some(Ok(seat)) => Entry::Admitted(seat),
            Some(Err(why)) => Entry::Refused(why),
            None => self.enter_locked(ask, now),
        }
    }

    /// Decides without the lock, if that can be.
    #[inline]
    fn enter_at_once(&self, ask: Ask) -> Option<Result<Seat, Refusal>> {
        let bound = self.bound();
        match self.word.try_take(|limit| ask.ceiling(limit, bound).min(limit)) {
            Ok(()) => Some(Ok(Seat { part: None })),
            Err(seen) if seen.is_locked() || bound > 0 => None,
            Err(seen) if seen.inside() < seen.limit() => Some(Err(Refusal::Shed)),
            Err(_) => Some(Err(Refusal::Full)),
        }
    }

    #[cold]
    fn enter_locked(&self, ask: Ask, now: impl FnOnce() -> Instant) -> Entry {
        let (mut locked, step) = self.decide(ask, now);
        let (entry, displaced) = match step {
            Step::Taken(seat) => (Entry::Admitted(seat), Woken::NOBODY),
            Step::Refuse(why) => (Entry::Refused(why), Woken::NOBODY),
            Step::Wait | Step::Displace(..) => {
                let displaced = match step {
                    Step::Displace(lane, why) => locked.queue.displace_last(lane, why),
                    _ => Woken::NOBODY,
                };
                let lane = locked.lane(ask);
                (Entry::Waiting(Place { slot: locked.queue.push(lane) }), displaced)
            }
        };
        self.unlock_word(&locked);
        drop(locked);
        displaced.wake();
        entry
    }

    /// Takes a place whether there is one or not, and says what would have happened without that.
    pub fn enter_anyway(&self, ask: Ask, now: impl FnOnce() -> Instant) -> (Seat, Would) {
        if let Some(Ok(seat)) = self.enter_at_once(ask) {
            return (seat, Would::Enter);
        }
        let (mut locked, step) = self.decide(ask, now);
        let would = match step {
            Step::Taken(seat) => {
                self.unlock_word(&locked);
                return (seat, Would::Enter);
            }
            Step::Wait | Step::Displace(..) => Would::Wait,
            Step::Refuse(why) => Would::Refuse(why),
        };
        self.word.take_anyway();
        let seat = locked.seat(ask);
        self.unlock_word(&locked);
        (seat, would)
    }

    /// Locks, lets in who waits and fits, and decides about who comes after them.
    fn decide(&self, ask: Ask, now: impl FnOnce() -> Instant) -> (MutexGuard<'_, Locked>, Step) {
        let now = (!self.lock().parts.is_whole()).then(now);
        loop {
            let mut locked = self.lock();
            if let Some(now) = now {
                locked.parts.tick(now);
            }
            // From here on whoever leaves asks the lock: between our look for a place and our
            // joining the queue none can be given back without our being told.
            self.word.lock();
            let Some(woken) = self.let_one_in(&mut locked) else {
                let step = self.step(&mut locked, ask);
                return (locked, step);
            };
            drop(locked);
            woken.wake();
        }
    }

    /// What shall happen to somebody who comes, when nobody who waits can be let in.
    fn step(&self, locked: &mut Locked, ask: Ask) -> Step {
        let (seen, bound) = (self.word.see(), self.bound());
        let (limit, waiting) = (seen.limit(), locked.queue.len());
        let taken = seen.inside().saturating_add(waiting);
        if taken >= ask.ceiling(limit, bound) {
            let left = limit.saturating_add(bound).saturating_sub(taken);
            return Step::Refuse(if left > 0 { Refusal::Shed } else { Refusal::Full });
        }
        if locked.parts.is_whole() {
            if waiting == 0 && self.word.try_take_locked() {
                return Step::Taken(Seat { part: None });
            }
        } else if locked.parts.fits(locked.parts.of(ask.partition), seen.inside(), limit, bound > 0)
        {
            self.word.take_anyway();
            return Step::Taken(locked.seat(ask));
        }
        // A queue that is not served is not to be joined.
        if limit > 0 && waiting < bound {
            return Step::Wait;
        }
        if let Some(step) = locked.displace(ask, limit).filter(|_| limit > 0 && bound > 0) {
            return step;
        }
        // Where there is a queue, who has less than its share gets what is given back by waiting.
        if bound == 0 {
            let part = locked.parts.of(ask.partition);
            locked.parts.refused(part, limit);
        }
        Step::Refuse(Refusal::Full)
    }

    /// Lets in the waiter whose turn it is, if it fits. Whom it returns is to be woken.
    fn let_one_in(&self, locked: &mut Locked) -> Option<Woken> {
        let Locked { queue, parts } = locked;
        if queue.len() == 0 {
            return None;
        }
        let lane = if parts.is_whole() {
            if !self.word.try_take_locked() {
                return None;
            }
            (0..CLASSES).filter_map(|lane| Some((queue.first_arrival(lane)?, lane))).min()?.1
        } else {
            let seen = self.word.see();
            let (inside, limit) = (seen.inside(), seen.limit());
            // Who has less than its share comes before who borrows, and then who came first.
            let turns = (0..parts.count() * CLASSES).filter_map(|lane| {
                let (arrival, part) = (queue.first_arrival(lane)?, lane / CLASSES);
                let borrows = !parts.is_within(part, limit, 0);
                let fits = parts.fits(part, inside, limit, true);
                fits.then_some((borrows, arrival, lane))
            });
            let (_, _, lane) = turns.min()?;
            self.word.take_anyway();
            parts.came(lane / CLASSES);
            lane
        };
        Some(queue.admit_first(lane))
    }

    /// Lets in all who wait and fit.
    fn let_in(&self) {
        if !self.word.see().is_locked() {
            return;
        }
        loop {
            let mut locked = self.lock();
            let Some(woken) = self.let_one_in(&mut locked) else {
                return self.unlock_word(&locked);
            };
            drop(locked);
            woken.wake();
        }
    }

    /// Lets in all who wait, whether they fit or not.
    pub fn let_all_in(&self) {
        loop {
            let mut locked = self.lock();
            let Locked { queue, parts } = &mut *locked;
            let lanes = 0..parts.count() * CLASSES;
            let Some((_, lane)) =
                lanes.filter_map(|lane| Some((queue.first_arrival(lane)?, lane))).min()
            else {
                return self.unlock_word(&locked);
            };
            self.word.take_anyway();
            parts.came(lane / CLASSES);
            let woken = queue.admit_first(lane);
            drop(locked);
            woken.wake();
        }
    }

    /// Gives a place back: to the waiter whose turn it is, if somebody waits.
    #[expect(clippy::needless_pass_by_value, reason = "what is given back is gone")]
    #[inline]
    pub fn leave(&self, seat: Seat) {
        match seat.part {
            None => {
                if self.word.give().is_locked() {
                    self.let_in();
                }
            }
            Some(part) => {
                let mut locked = self.lock();
                locked.parts.left(part);
                self.word.give();
                drop(locked);
                self.let_in();
            }
        }
    }

    /// What has become of a waiter; `None` while it waits, to be woken when that changes. Once it is
    /// known the place is gone.
    pub fn poll(&self, place: &Place, waker: &Waker) -> Option<Outcome> {
        let mut ours = None;
        loop {
            let mut locked = self.lock();
            let outcome = locked.outcome(place);
            let former = if outcome.is_some() {
                locked.queue.remove(place.slot)
            } else if locked.queue.is_registered(place.slot, waker) {
                None
            } else if let Some(ours) = ours.take() {
                locked.queue.register(place.slot, ours)
            } else {
                // Cloned without the lock: what a waker does then is its own affair.
                drop(locked);
                ours = Some(waker.clone());
                continue;
            };
            drop(locked);
            drop(former);
            return outcome;
        }
    }

    /// Leaves the queue; what has become of it meanwhile, if it does not wait any more.
    #[expect(clippy::needless_pass_by_value, reason = "what is given back is gone")]
    pub fn give_up(&self, place: Place) -> Option<Outcome> {
        let mut locked = self.lock();
        let outcome = locked.outcome(&place);
        let former = locked.queue.remove(place.slot);
        self.unlock_word(&locked);
        drop(locked);
        drop(former);
        outcome
    }

    /// Nobody waits and nothing is divided: from here on the lock need not be asked.
    fn unlock_word(&self, locked: &Locked) {
        if locked.queue.len() == 0 && locked.parts.is_whole() {
            self.word.unlock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locked {
    fn lane(&self, ask: Ask) -> usize {
        let part = if self.parts.is_whole() { 0 } else { self.parts.of(ask.partition) };
        part * CLASSES + ask.criticality as usize
    }

    /// Counts a place that has been taken for its part.
    fn seat(&mut self, ask: Ask) -> Seat {
        if self.parts.is_whole() {
            return Seat { part: None };
        }
        let part = self.parts.of(ask.partition);
        self.parts.came(part);
        Seat { part: Some(part) }
    }

    /// What has become of a waiter; `None` while it waits.
    fn outcome(&self, place: &Place) -> Option<Outcome> {
        let part = self.queue.lane(place.slot) / CLASSES;
        match self.queue.state(place.slot) {
            State::Waiting => None,
            State::Admitted => {
                let part = (!self.parts.is_whole()).then_some(part);
                Some(Outcome::Admitted(Seat { part }))
            }
            State::Displaced(why) => Some(Outcome::Refused(why)),
        }
    }

    /// Whom a newcomer displaces from a queue that is full: the last of the least critical, and
    /// among those the last who would borrow, unless the newcomer is no better itself.
    fn displace(&self, ask: Ask, limit: u32) -> Option<Step> {
        let Self { queue, parts } = self;
        let rank = |lane: usize, waiting: u32| {
            (lane % CLASSES, parts.is_within(lane / CLASSES, limit, waiting))
        };
        let lanes = (0..parts.count() * CLASSES).filter_map(|lane| {
            let arrival = queue.last_arrival(lane)?;
            let others = waiting_of(queue, lane / CLASSES) - 1;
            Some((rank(lane, others), std::cmp::Reverse(arrival), lane))
        });
        let (least, _, lane) = lanes.min()?;
        let ours = self.lane(ask);
        let newcomer = rank(ours, waiting_of(queue, ours / CLASSES));
        let why = if least.0 < newcomer.0 { Refusal::Shed } else { Refusal::Full };
        (newcomer > least).then_some(Step::Displace(lane, why))
    }
}

/// How many of one part wait.
fn waiting_of(queue: &Queue, part: usize) -> u32 {
    (0..CLASSES).map(|class| queue.len_of(part * CLASSES + class)).sum()
}
