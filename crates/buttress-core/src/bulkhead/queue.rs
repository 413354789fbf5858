use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

use super::Refusal;

/// Who waits, in order of arrival, in one lane for each kind of waiter.
///
/// A slab with a list through it for each lane: to come, to be let in, to leave from anywhere in
/// the middle and to be displaced all cost the same, whatever the length of the queue. Places are
/// used again, so a queue that has once been that long allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Queue {
    slots: Vec<Slot>,
    free: Vec<u32>,
    lanes: Vec<Lane>,
    waiting: u32,
    /// How many have come so far: who came earlier has the lower number.
    arrivals: u64,
}

#[derive(Debug)]
struct Slot {
    state: State,
    lane: u32,
    arrival: u64,
    /// Who came before, and who after, in the same lane.
    before: u32,
    after: u32,
    waker: Option<Waker>,
}

/// What has become of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    /// It has its permit and has not taken it along yet.
    Admitted,
    Displaced(Refusal),
}

/// Somebody whose wait is over. Who has not been polled yet has left no waker.
#[derive(Debug)]
#[must_use = "whoever waits has to be told"]
pub(super) struct Woken(Option<Waker>);

impl Woken {
    pub(super) const NOBODY: Self = Self(None);

    /// Wakes it. Not under a lock: a waker may do what it likes.
    ///
    /// One that panics must not keep whoever wakes it from waking the next, or from learning that
    /// it has a place in line itself. The hook has reported it.
    pub(super) fn wake(self) {
        if let Some(waker) = self.0 {
            drop(catch_unwind(AssertUnwindSafe(|| waker.wake())));
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Lane {
    first: u32,
    last: u32,
    length: u32,
}

/// No slot.
const NONE: u32 = u32::MAX;

impl Lane {
    const EMPTY: Self = Self { first: NONE, last: NONE, length: 0 };
}

impl Queue {
    /// Makes room for so many lanes. None is ever taken away.
    pub(super) fn widen(&mut self, lanes: usize) {
        if lanes > self.lanes.len() {
            self.lanes.resize(lanes, Lane::EMPTY);
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> u32 {
        self.waiting
    }

    /// How many wait in one lane.
    pub(super) fn len_of(&self, lane: usize) -> u32 {
        self.lanes.get(lane).map_or(0, |lane| lane.length)
    }

    /// When the first of a lane came; `None` for an empty one.
    pub(super) fn first_arrival(&self, lane: usize) -> Option<u64> {
        self.arrival(self.lanes.get(lane)?.first)
    }

    /// When the last of a lane came.
    pub(super) fn last_arrival(&self, lane: usize) -> Option<u64> {
        self.arrival(self.lanes.get(lane)?.last)
    }

    fn arrival(&self, slot: u32) -> Option<u64> {
        Some(self.slots.get(slot as usize)?.arrival)
    }

    /// Joins the end of a lane.
    pub(super) fn push(&mut self, lane: usize) -> u32 {
        let arrival = self.arrivals;
        self.arrivals += 1;
        let last = self.lanes[lane].last;
        let new = Slot {
            state: State::Waiting,
            lane: u32::try_from(lane).expect("a few lanes"),
            arrival,
            before: last,
            after: NONE,
            waker: None,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = new;
            slot
        } else {
            self.slots.push(new);
            u32::try_from(self.slots.len() - 1).expect("a queue is shorter than 2^32")
        };
        match self.slots.get_mut(last as usize) {
            Some(before) => before.after = slot,
            None => self.lanes[lane].first = slot,
        }
        self.lanes[lane].last = slot;
        self.lanes[lane].length += 1;
        self.waiting += 1;
        slot
    }

    /// Lets in the first of a lane.
    pub(super) fn admit_first(&mut self, lane: usize) -> Woken {
        let slot = self.lanes[lane].first;
        self.settle(slot, State::Admitted)
    }

    /// Turns away the last of a lane.
    pub(super) fn displace_last(&mut self, lane: usize, why: Refusal) -> Woken {
        let slot = self.lanes[lane].last;
        self.settle(slot, State::Displaced(why))
    }

    fn settle(&mut self, slot: u32, state: State) -> Woken {
        self.unlink(slot);
        let slot = &mut self.slots[slot as usize];
        slot.state = state;
        Woken(slot.waker.take())
    }

    /// What has become of a waiter.
    pub(super) fn state(&self, slot: u32) -> State {
        self.slots[slot as usize].state
    }

    pub(super) fn lane(&self, slot: u32) -> usize {
        self.slots[slot as usize].lane as usize
    }

    /// Whether this waker would be woken.
    pub(super) fn is_registered(&self, slot: u32, waker: &Waker) -> bool {
        self.slots[slot as usize].waker.as_ref().is_some_and(|known| known.will_wake(waker))
    }

    /// Wakes `waker` from now on; returns the one before, to be dropped without the lock.
    pub(super) fn register(&mut self, slot: u32, waker: Waker) -> Option<Waker> {
        self.slots[slot as usize].waker.replace(waker)
    }

    /// Forgets a waiter. Returns its waker, to be dropped without the lock.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Waker> {
        if self.slots[slot as usize].state == State::Waiting {
            self.unlink(slot);
        }
        self.free.push(slot);
        self.slots[slot as usize].waker.take()
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { before, after, lane, .. } = &mut self.slots[slot as usize];
        let lane = *lane as usize;
        let (before, after) = (mem::replace(before, NONE), mem::replace(after, NONE));
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.after = after,
            None => self.lanes[lane].first = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(slot) => slot.before = before,
            None => self.lanes[lane].last = before,
        }
        self.lanes[lane].length -= 1;
        self.waiting -= 1;
    }
}
