//! The rings that windows are read from.
//!
//! Once a second the cumulative counts are laid down in rings of several steps: fine for the last
//! minutes, an hour for the rest. What a window holds is the difference of two cumulative counts,
//! so recording never rotates anything, nothing expires, a gap is zero events, and any window
//! costs two look-ups. Rotating buckets lose or misplace what is recorded while they rotate; a
//! log of events has no bound.
//!
//! | step | slots | covers | windows read from it | the edge is off by less than |
//! |---|---|---|---|---|
//! | 5 s | 74 | 6 min | 5 min | 1.34 % |
//! | 30 s | 250 | 2 h 5 min | 30 min, 1 h, 2 h | 1.62 % |
//! | 5 min | 292 | 24 h 20 min | 6 h, 1 d | 1.39 % |
//! | 1 h | 722 | 30 d 2 h | 3 d, 30 d | 1.39 % |
//!
//! A window of another length is read from the finest ring that covers it: one of 70 s is off by
//! less than 5.8 %, one of 366 s by less than 8 %. That is 21,408 bytes for 30 days. The start of a window seldom falls on a slot; the slot it
//! falls into is counted in part, as if its events had come evenly. The truth lies between the
//! counts without that slot and those with all of it, and both are told.

use std::time::Duration;

use crate::{Counts, burn::saturate};

/// What a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowCounts {
    /// The events, with those of the slot at its start counted in part; rather too many bad than
    /// too few.
    pub counts: Counts,
    /// The events without that slot: there were no fewer.
    pub least: Counts,
    /// The events with all of that slot: there were no more.
    pub most: Counts,
    /// How far the start of that slot lies before the start of the window.
    pub overshoot: Duration,
}

/// Cumulative counts at the steps of several tiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    /// The finest first.
    tiers: Box<[Tier]>,
    /// When it was told last, and what.
    now: i64,
    total: Counts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tier {
    step: i64,
    /// The number of the newest step that has passed.
    head: i64,
    slots: Box<[Counts]>,
}

impl Ring {
    /// Rings that cover windows up to `longest` seconds, as of `now`.
    pub(crate) fn new(longest: u64, now: i64, total: Counts) -> Self {
        let longest = i64::try_from(longest).unwrap_or(i64::MAX).min(LONGEST);
        let mut tiers = Vec::new();
        for (step, slots) in [(5, 74), (30, 250), (300, 292), (HOUR, longest / HOUR + 2)] {
            tiers.push(Tier::new(step, slots, now, total));
            if step * (slots - 1) >= longest {
                break;
            }
        }
        Self { tiers: tiers.into(), now, total }
    }

    /// Lays down the cumulative counts as of `now`. A `now` before the last one is the last one.
    pub(crate) fn advance(&mut self, now: i64, total: Counts) {
        let now = now.max(self.now);
        for tier in &mut self.tiers {
            tier.advance(now, self.total, total);
        }
        (self.now, self.total) = (now, total);
    }

    /// When it was told last.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// The cumulative counts as of then.
    pub(crate) fn total(&self) -> Counts {
        self.total
    }

    /// What the last `length` seconds hold; `None` for more than is kept.
    pub(crate) fn window(&self, length: u64) -> Option<WindowCounts> {
        self.since(self.now.checked_sub_unsigned(length)?)
    }

    /// What was counted from `start` on; `None` if that is further back than is kept.
    pub(crate) fn since(&self, start: i64) -> Option<WindowCounts> {
        let start = start.min(self.now);
        let edge = self.tiers.iter().find_map(|tier| tier.edge(start, self.now, self.total))?;
        let (way, length) = (seconds(edge.before, start), seconds(edge.before, edge.after));
        let at = edge.at_before.towards(edge.at_after, way, length);
        Some(WindowCounts {
            counts: self.total.since(at),
            least: self.total.since(if way == 0 { edge.at_before } else { edge.at_after }),
            most: self.total.since(edge.at_before),
            overshoot: Duration::from_secs(way),
        })
    }

    /// The tiers, the finest first.
    pub(crate) fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// Takes over what another ring knew of the time before `self.now`, whose counts are the
    /// first part of ours. What it does not know is zero events.
    pub(crate) fn adopt(&mut self, older: &[Tier], until: i64, total: Counts) {
        for tier in &mut self.tiers {
            // The oldest count of all: before it nothing is known to have happened.
            let floor = older.iter().filter_map(Tier::oldest).min_by_key(|(time, _)| *time);
            let floor = floor.map_or(total, |(_, counts)| counts);
            let places = 0..i64::try_from(tier.slots.len()).unwrap_or(i64::MAX);
            for place in places {
                let number = tier.head - place;
                let time = number * tier.step;
                let known = older.iter().find_map(|old| old.known(time, until, total));
                let slot = tier.place(number);
                tier.slots[slot] = known.unwrap_or(floor);
            }
        }
        self.total = total;
    }

    /// Takes what came from `from` on and before `until` out of all counts, or what is kept of it.
    /// The slots at both ends are taken in part, as if their events had come evenly.
    pub(crate) fn take_out(&mut self, from: i64, until: i64) -> TakenOut {
        let at = |time: i64| match self.since(time) {
            Some(window) => self.total.since(window.counts),
            None => self.tiers.last().and_then(Tier::oldest).map_or(self.total, |(_, old)| old),
        };
        let (until, at_from) = (until.min(self.now), at(from));
        let counts = if from < until { at(until).since(at_from) } else { Counts::default() };
        let taken = TakenOut { from, until, at_from, counts };
        for tier in &mut self.tiers {
            let kept = i64::try_from(tier.slots.len()).unwrap_or(i64::MAX);
            for number in tier.head - kept + 1..=tier.head {
                let (time, place) = (number * tier.step, tier.place(number));
                tier.slots[place] = taken.apply(time, tier.slots[place]);
            }
        }
        self.total = self.total.since(counts);
        taken
    }

    /// The bytes of all slots.
    pub(crate) fn bytes(&self) -> usize {
        self.tiers.iter().map(|tier| size_of_val(&*tier.slots)).sum()
    }
}

const HOUR: i64 = 3600;

/// Two years: more than any period, and far from overflowing.
const LONGEST: i64 = 2 * 366 * 24 * HOUR;

pub(crate) fn seconds(from: i64, until: i64) -> u64 {
    saturate(u128::from(until.saturating_sub(from).max(0).unsigned_abs()))
}

/// What was taken out of cumulative counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenOut {
    from: i64,
    until: i64,
    at_from: Counts,
    pub(crate) counts: Counts,
}

impl TakenOut {
    /// What a cumulative count of `time` is without it.
    pub(crate) fn apply(&self, time: i64, counts: Counts) -> Counts {
        if time <= self.from {
            return counts;
        }
        if time >= self.until {
            return counts.since(self.counts);
        }
        let Counts { good, bad } = counts.since(self.at_from);
        counts.since(Counts { good: good.min(self.counts.good), bad: bad.min(self.counts.bad) })
    }
}

/// The two known counts around a moment.
struct Edge {
    before: i64,
    at_before: Counts,
    after: i64,
    at_after: Counts,
}

impl Tier {
    fn new(step: i64, slots: i64, now: i64, total: Counts) -> Self {
        let slots = (0..slots).map(|_| total).collect();
        Self { step, head: now.div_euclid(step), slots }
    }

    /// A tier as a snapshot kept it: `slots` from the oldest to the one of `head`. `None` if it
    /// cannot be one.
    pub(crate) fn restored(step: i64, head: i64, slots: Vec<Counts>) -> Option<Self> {
        let length = i64::try_from(slots.len()).ok()?;
        if step < 1 || length == 0 || head.checked_mul(step)?.unsigned_abs() > i64::MAX as u64 / 4 {
            return None;
        }
        let mut tier = Self { step, head, slots: slots.into() };
        // The oldest came first; the rotation puts each into its own place.
        let oldest = tier.place(head - length + 1);
        tier.slots.rotate_right(oldest);
        Some(tier)
    }

    pub(crate) fn step(&self) -> i64 {
        self.step
    }

    pub(crate) fn head(&self) -> i64 {
        self.head
    }

    /// The counts from the oldest slot to the newest.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Counts> {
        let length = self.slots.len();
        let oldest = self.place(self.head + 1);
        (0..length).map(move |index| self.slots[(oldest + index) % length])
    }

    fn advance(&mut self, now: i64, before: Counts, total: Counts) {
        let passed = now.div_euclid(self.step);
        if passed <= self.head {
            return;
        }
        let kept = i64::try_from(self.slots.len()).unwrap_or(i64::MAX);
        for number in (self.head + 1).max(passed - kept + 1)..=passed {
            // What came since the last tick came after the steps that no tick met.
            let exact = number * self.step == now;
            let slot = self.place(number);
            self.slots[slot] = if exact { total } else { before };
        }
        self.head = passed;
    }

    fn edge(&self, time: i64, now: i64, total: Counts) -> Option<Edge> {
        let number = time.div_euclid(self.step);
        let at_before = self.at(number)?;
        let next = (number < self.head).then(|| self.at(number + 1)).flatten();
        let (after, at_after) = match next {
            Some(counts) => ((number + 1) * self.step, counts),
            None => (now, total),
        };
        Some(Edge { before: number * self.step, at_before, after, at_after })
    }

    /// The count at a step; `None` if it was too long ago.
    fn at(&self, number: i64) -> Option<Counts> {
        let kept = i64::try_from(self.slots.len()).ok()?;
        (number <= self.head && number > self.head - kept).then(|| self.slots[self.place(number)])
    }

    /// The count at `time`, if it falls on a step or after the end.
    fn known(&self, time: i64, until: i64, total: Counts) -> Option<Counts> {
        if time >= until {
            return Some(total);
        }
        let edge = self.edge(time, until, total)?;
        Some(edge.at_before.towards(
            edge.at_after,
            seconds(edge.before, time),
            seconds(edge.before, edge.after),
        ))
    }

    /// The oldest step that is kept, and the count at it.
    pub(crate) fn oldest(&self) -> Option<(i64, Counts)> {
        let number = self.head - i64::try_from(self.slots.len()).ok()? + 1;
        Some((number * self.step, self.at(number)?))
    }

    fn place(&self, number: i64) -> usize {
        let length = i64::try_from(self.slots.len()).unwrap_or(i64::MAX);
        usize::try_from(number.rem_euclid(length)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
