use std::{
    hash::BuildHasher,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use buttress_core::{Code, Facts, Judgement, Method, Protocol, Reason, Verdict, cells::Histogram};
use foldhash::fast::FixedState;

/// How many route templates an [`SliLayer`](super::SliLayer) has room for unless told otherwise.
pub const DEFAULT_ROUTES: usize = 100;

/// Longer templates than this are no templates.
const LONGEST: usize = 256;

/// The route under which calls count for whose route there was no more room.
pub const OTHER: &str = "__other__";

/// A bounded table of routes, each with its counts. Entries are added and never removed, so that
/// finding one takes no lock: a hash, an acquire load and a comparison.
#[derive(Debug)]
pub(super) struct Routes {
    slots: Box<[OnceLock<RouteCells>]>,
    capacity: usize,
    used: AtomicUsize,
    /// Whether somebody has been told that there is no more room.
    told: AtomicBool,
    /// Calls that nothing tells the route of.
    unknown: RouteCells,
    other: RouteCells,
}

/// Where a route was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Slot(u32),
    Unknown,
    Other,
    /// Not known yet. Whether it deserves room, the response will tell.
    New(Box<str>),
}

impl Routes {
    pub(super) fn new(capacity: usize) -> Self {
        // Half empty, so that a probe is short.
        let slots = (capacity * 2).next_power_of_two();
        Self {
            slots: (0..slots).map(|_| OnceLock::new()).collect(),
            capacity,
            used: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            unknown: RouteCells::new("".into()),
            other: RouteCells::new(OTHER.into()),
        }
    }

    /// Finds a route. Allocates only for one that has never been seen.
    #[inline]
    pub(super) fn find(&self, template: Option<&str>) -> Place {
        let Some(template) = template else { return Place::Unknown };
        if template.len() > LONGEST {
            return Place::Other;
        }
        for slot in self.probe(template) {
            match self.slots[slot].get() {
                Some(cells) if &*cells.template == template => return place(slot),
                Some(_) => {}
                None if self.is_full() => return Place::Other,
                None => return Place::New(template.into()),
            }
        }
        Place::Other
    }

    /// Gives a new route a place, if there is room.
    pub(super) fn add(&self, template: Box<str>) -> Place {
        let mut new = RouteCells::new(template);
        let mut reserved = false;
        for slot in self.probe(&new.template.clone()) {
            if let Some(cells) = self.slots[slot].get() {
                if cells.template == new.template {
                    if reserved {
                        self.used.fetch_sub(1, Ordering::Relaxed);
                    }
                    return place(slot);
                }
                continue;
            }
            if !reserved {
                let used = self.used.fetch_add(1, Ordering::Relaxed);
                reserved = true;
                if used >= self.capacity {
                    self.used.fetch_sub(1, Ordering::Relaxed);
                    return Place::Other;
                }
            }
            match self.slots[slot].set(new) {
                Ok(()) => return place(slot),
                // Somebody was faster; they may have added this very route.
                Err(back) => {
                    let theirs = self.slots[slot].get().expect("it was set");
                    if theirs.template == back.template {
                        self.used.fetch_sub(1, Ordering::Relaxed);
                        return place(slot);
                    }
                    new = back;
                }
            }
        }
        Place::Other
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.capacity
    }

    /// Whether there is no more room, and nobody has asked since.
    #[inline]
    pub(super) fn is_full_and_untold(&self) -> bool {
        self.is_full()
            && !self.told.load(Ordering::Relaxed)
            && !self.told.swap(true, Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    pub(super) fn cells(&self, place: &Place) -> &RouteCells {
        match place {
            Place::Slot(slot) => self.slots[*slot as usize].get().unwrap_or(&self.other),
            Place::Unknown => &self.unknown,
            Place::Other | Place::New(_) => &self.other,
        }
    }

    /// Those that were called, and those that were named beforehand.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RouteCells> {
        let named = self.slots.iter().filter_map(OnceLock::get);
        let rest = [&self.unknown, &self.other].into_iter();
        named.chain(rest.filter(|cells| cells.series().next().is_some()))
    }

    fn probe(&self, template: &str) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        let hash = hash(template);
        (0..self.slots.len()).map(move |step| hash.wrapping_add(step) & mask)
    }
}

#[inline]
fn place(slot: usize) -> Place {
    u32::try_from(slot).map_or(Place::Other, Place::Slot)
}

/// A fixed seed: a table holds few and trusted keys, and the worst a chosen key can do is to
/// probe a table of a few hundred slots.
#[inline]
fn hash(template: &str) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
    let hash = FixedState::with_seed(0).hash_one(template) as usize;
    hash
}

/// The counts of one route: a histogram for each kind of answer that it has given.
#[derive(Debug)]
pub(super) struct RouteCells {
    pub(super) template: Box<str>,
    slots: Box<[Cell]>,
    /// Where answers count that found no slot, by verdict, so that no verdict is ever lost.
    overflow: [Cell; Verdict::ALL.len()],
}

/// The durations of one kind of answer, once there is one.
type Cell = OnceLock<Box<(Series, Histogram)>>;

/// What tells one kind of answer from another. A closed set for each route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    /// How the caller spoke.
    pub protocol: Protocol,
    /// The method; `Other` past the room for kinds.
    pub method: Method,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The gRPC code.
    pub code: Option<Code>,
    /// What it counts as.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

impl Series {
    /// Where to look for it first. Few kinds share a slot: a multiplication spreads well enough.
    #[inline]
    fn hash(self) -> usize {
        let status = usize::from(self.status.unwrap_or_default());
        let code = self.code.map_or(31, |code| usize::from(code.number()));
        let kind = status << 8 | code << 3 | self.verdict as usize;
        (kind ^ (self.method as usize) << 18).wrapping_mul(0x9E37_79B1) >> 16
    }
}

impl RouteCells {
    fn new(template: Box<str>) -> Self {
        // A route has a method or two and a handful of statuses, each with few reasons.
        const KINDS: usize = 32;
        let slots = (0..KINDS).map(|_| OnceLock::new()).collect();
        Self { template, slots, overflow: Default::default() }
    }

    /// The histogram of one kind of answer. Allocates for a kind that is new to this route.
    #[inline]
    pub(super) fn histogram(&self, facts: Facts, judgement: Judgement) -> &Histogram {
        let Judgement { verdict, reason } = judgement;
        let Facts { protocol, method, status, code } = facts;
        let wanted = Series { protocol, method, status, code, verdict, reason };
        let mask = self.slots.len() - 1;
        let hash = wanted.hash();
        for step in 0..self.slots.len() {
            let slot = &self.slots[hash.wrapping_add(step) & mask];
            let (series, histogram) = &**slot.get_or_init(|| Box::new((wanted, Histogram::new())));
            if *series == wanted {
                return histogram;
            }
        }
        let (method, reason) = (Method::Other, Reason::Other);
        let other = Series { method, reason, status: None, code: None, ..wanted };
        let slot = &self.overflow[verdict as usize];
        &slot.get_or_init(|| Box::new((other, Histogram::new()))).1
    }

    pub(super) fn series(&self) -> impl Iterator<Item = (&Series, &Histogram)> {
        let slots = self.slots.iter().chain(&self.overflow);
        slots.filter_map(OnceLock::get).map(|entry| (&entry.0, &entry.1))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    fn add(routes: &Routes, template: &str) -> Place {
        match routes.find(Some(template)) {
            Place::New(template) => routes.add(template),
            place => place,
        }
    }

    #[test]
    fn a_route_keeps_its_place_and_the_one_too_many_is_other() {
        let routes = Routes::new(3);

        let places: HashSet<_> =
            ["/a", "/b", "/c"].map(|route| format!("{:?}", add(&routes, route))).into();

        assert_eq!(places.len(), 3);
        assert!(routes.is_full());
        assert_eq!(add(&routes, "/d"), Place::Other);
        assert_eq!(routes.find(Some("/d")), Place::Other);
        assert_eq!(&*routes.cells(&add(&routes, "/b")).template, "/b");
    }

    #[test]
    fn racing_threads_agree_on_places_and_keep_to_the_capacity() {
        let routes = Routes::new(50);
        let templates: Vec<_> = (0..80).map(|number| format!("/{number}")).collect();

        thread::scope(|scope| {
            for offset in 0..4 {
                let (routes, templates) = (&routes, &templates);
                scope.spawn(move || {
                    for number in 0..templates.len() {
                        let template = &templates[(number + offset * 20) % templates.len()];
                        let place = add(routes, template);
                        let found = &*routes.cells(&place).template;
                        assert!(found == template.as_str() || found == OTHER, "{found} {template}");
                    }
                });
            }
        });

        let kept: Vec<_> = routes.slots.iter().filter_map(OnceLock::get).collect();
        let distinct: HashSet<_> = kept.iter().map(|cells| &cells.template).collect();
        assert_eq!(kept.len(), distinct.len());
        assert_eq!(kept.len(), routes.used.load(Ordering::Relaxed));
        assert!(kept.len() <= 50);
    }

    #[test]
    fn more_kinds_of_answers_than_fit_lose_no_verdict() {
        let routes = Routes::new(1);
        let cells = routes.cells(&Place::Unknown);

        for status in 200..260 {
            let facts = Facts {
                protocol: Protocol::Http,
                method: Method::Get,
                status: Some(status),
                code: None,
            };
            let verdict = if status % 2 == 0 { Verdict::Good } else { Verdict::Bad };
            let judgement = Judgement::new(verdict, Reason::Status);
            cells.histogram(facts, judgement).record(std::time::Duration::ZERO);
        }

        let count = |verdict| -> u64 {
            let series = cells.series().filter(|(series, _)| series.verdict == verdict);
            series.map(|(_, histogram)| histogram.read().count()).sum()
        };
        assert_eq!((count(Verdict::Good), count(Verdict::Bad)), (30, 30));
    }
}
