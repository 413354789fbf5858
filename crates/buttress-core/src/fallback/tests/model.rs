//! The shelf beside the slowest and most obvious one there could be, under random steps.

use super::*;

/// Runs of the same seed are the same.
#[test]
fn random_steps_keep_all_bounds_and_do_what_the_obvious_shelf_does() {
    for seed in 0..300 {
        let mut run = Run::new(seed);
        for step in 0..400 {
            run.step();
            run.check(seed, step);
        }
    }
}

/// Entries, the least recently stored or used first.
#[derive(Default)]
struct Model(Vec<Stored>);

#[derive(Clone, Debug, PartialEq)]
struct Stored {
    key: Arc<str>,
    item: u64,
    size: usize,
    until: Instant,
}

struct Run {
    random: Random,
    now: Instant,
    bounds: Bounds,
    shelf: Shelf<u64>,
    model: Model,
    count: u64,
}

const FLAT: usize = 256;

impl Run {
    fn new(seed: u64) -> Self {
        let bounds = Bounds { bytes: 5_000, entry: 2_000, entries: 9, age: 30 * SECOND };
        let random = Random::seeded(seed);
        let (shelf, model) = (Shelf::new(bounds), Model::default());
        Self { random, now: origin(), bounds, shelf, model, count: 0 }
    }

    fn below(&self, end: u64) -> u64 {
        Random::below(self.random.draw(), end)
    }

    fn key(&self) -> Arc<str> {
        ["a", "bb", "ccc", "dddd", "e", "f"][usize::try_from(self.below(6)).unwrap()].into()
    }

    fn step(&mut self) {
        match self.below(10) {
            0..=4 => self.put(),
            5..=6 => self.find(),
            7 => self.now += Duration::from_millis(self.below(5_000)),
            8 => {
                self.model.0.retain(|stored| stored.until >= self.now);
                self.shelf.sweep(self.now);
            }
            _ => {
                self.bounds.entries = usize::try_from(4 + self.below(6)).unwrap();
                self.bounds.bytes = usize::try_from(2_500 + self.below(3_000)).unwrap();
                self.shelf.set_bounds(self.bounds);
                self.model.make_room(self.bounds, 0, 0);
            }
        }
    }

    /// Items of one parity replace each other: two variants of each key.
    fn put(&mut self) {
        let (key, now) = (self.key(), self.now);
        self.count += 1;
        let item = self.count * 2 + self.below(2);
        let size = usize::try_from(self.below(2_200)).unwrap();
        let until = now + Duration::from_millis(self.below(40_000));
        let claim = self.shelf.claim(&key, now).expect("one at a time");
        let same = |other: &u64| other % 2 == item % 2;
        self.shelf.put(&key, claim, (size, until), item, same, now);

        let size = size + key.len() + FLAT;
        if size > self.bounds.entry.min(self.bounds.bytes) {
            return;
        }
        self.model
            .0
            .retain(|stored| stored.until >= now && !(stored.key == key && same(&stored.item)));
        self.model.make_room(self.bounds, size, 1);
        let until = until.min(now + self.bounds.age);
        self.model.0.push(Stored { key, item, size, until });
    }

    fn find(&mut self) {
        let (key, now, parity) = (self.key(), self.now, self.below(3));
        let fits = |item: &u64| parity == 2 || item % 2 == parity;
        let found = self.shelf.find(&key, now, fits).copied();

        let fitting =
            |stored: &&Stored| stored.key == key && stored.until >= now && fits(&stored.item);
        let newest = self.model.0.iter().filter(fitting).max_by_key(|stored| stored.item).cloned();
        assert_eq!(found, newest.as_ref().map(|stored| stored.item));
        if let Some(stored) = newest {
            self.model.0.retain(|other| *other != stored);
            self.model.0.push(stored);
        }
    }

    fn check(&self, seed: u64, step: u32) {
        let bytes: usize = self.model.0.iter().map(|stored| stored.size).sum();
        assert_eq!(self.shelf.bytes(), bytes, "seed {seed}, step {step}");
        assert_eq!(self.shelf.len(), self.model.0.len(), "seed {seed}, step {step}");
        assert!(bytes <= self.bounds.bytes && self.shelf.len() <= self.bounds.entries);
        assert!(self.shelf.keys() <= self.shelf.len());
    }
}

impl Model {
    fn make_room(&mut self, bounds: Bounds, bytes: usize, entries: usize) {
        let taken = |stored: &[Stored]| stored.iter().map(|stored| stored.size).sum::<usize>();
        while taken(&self.0) + bytes > bounds.bytes || self.0.len() + entries > bounds.entries {
            self.0.remove(0);
        }
    }
}
