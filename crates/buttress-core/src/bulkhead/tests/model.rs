//! The gate beside the slowest and most obvious one there could be, under random steps.

use super::*;

/// Runs of the same seed are the same; together they make a million steps.
#[test]
fn a_million_random_steps_do_what_the_obvious_gate_does() {
    const RUNS: u64 = 1_000;
    const STEPS: u64 = 1_000;

    for seed in 0..RUNS {
        let mut run = Run::new(seed);
        for step in 0..STEPS {
            run.step();
            run.check(step);
        }
        run.drain();
    }
}

/// Who is inside or waits, in the order in which they came.
struct Model {
    limit: u32,
    bound: u32,
    /// Shares of the parts in tenths; the last has none. Empty for an undivided limit.
    shares: Vec<u32>,
    overcommit: bool,
    guests: Vec<Guest>,
    claims: Vec<(u32, Option<Instant>)>,
    now: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Guest {
    id: u64,
    part: usize,
    class: Criticality,
    state: Place,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Inside,
    Waits,
    Displaced(Refusal),
}

impl Model {
    fn count(&self, which: impl Fn(&&Guest) -> bool) -> u32 {
        u32::try_from(self.guests.iter().filter(which).count()).unwrap()
    }

    fn inside(&self) -> u32 {
        self.count(|guest| guest.state == Place::Inside)
    }

    fn waiting(&self) -> u32 {
        self.count(|guest| guest.state == Place::Waits)
    }

    fn guaranteed(&self, part: usize) -> u32 {
        self.shares.get(part).map_or(0, |tenths| self.limit * tenths / 10)
    }

    fn lacks(&self, part: usize) -> u32 {
        let inside = self.count(|guest| guest.state == Place::Inside && guest.part == part);
        self.guaranteed(part).saturating_sub(inside)
    }

    fn fits(&self, part: usize, queues: bool) -> bool {
        if self.inside() >= self.limit {
            return self.overcommit && self.lacks(part) > 0;
        }
        let kept = |other: usize| match self.claims[other] {
            (claims, Some(at)) if self.now < at + Duration::from_secs(1) => {
                claims.min(self.lacks(other))
            }
            _ => 0,
        };
        let others = (0..self.shares.len()).filter(|other| *other != part);
        queues || self.lacks(part) > 0 || others.map(kept).sum::<u32>() < self.limit - self.inside()
    }

    fn let_in(&mut self) {
        loop {
            let turns =
                self.guests.iter().enumerate().filter(|(_, guest)| {
                    guest.state == Place::Waits && self.fits(guest.part, true)
                });
            let Some((index, _)) =
                turns.min_by_key(|(_, guest)| (self.lacks(guest.part) == 0, guest.id))
            else {
                return;
            };
            self.guests[index].state = Place::Inside;
            self.took(self.guests[index].part);
        }
    }

    fn took(&mut self, part: usize) {
        if let Some((claims, _)) = self.claims.get_mut(part) {
            *claims = claims.saturating_sub(1);
        }
    }

    fn come(&mut self, id: u64, part: usize, class: Criticality, share: Ratio) -> Option<Refusal> {
        let room = u64::from(self.limit + self.bound);
        let ceiling = share.of(room).max(1);
        let taken = u64::from(self.inside() + self.waiting());
        if share != Ratio::ONE && taken >= ceiling {
            return Some(if taken < room { Refusal::Shed } else { Refusal::Full });
        }
        let passes = !self.shares.is_empty() || self.waiting() == 0;
        if passes && self.fits(part, self.bound > 0) {
            self.guests.push(Guest { id, part, class, state: Place::Inside });
            self.took(part);
            return None;
        }
        let arrives = Guest { id, part, class, state: Place::Waits };
        if self.limit > 0 && self.waiting() < self.bound {
            self.guests.push(arrives);
            return None;
        }
        if self.limit > 0 && self.bound > 0 {
            let waits =
                |of: usize| self.count(|guest| guest.state == Place::Waits && guest.part == of);
            let least =
                self.guests.iter().filter(|guest| guest.state == Place::Waits).map(|guest| {
                    let within = self.lacks(guest.part) > waits(guest.part) - 1;
                    (guest.class, within, std::cmp::Reverse(guest.id))
                });
            if let Some((lower, within, std::cmp::Reverse(whom))) = least.min()
                && (class, self.lacks(part) > waits(part)) > (lower, within)
            {
                let why = if lower < class { Refusal::Shed } else { Refusal::Full };
                let displaced = self.guests.iter_mut().find(|guest| guest.id == whom).unwrap();
                displaced.state = Place::Displaced(why);
                self.guests.push(arrives);
                return None;
            }
        }
        let lacks = self.lacks(part);
        if lacks > 0 && self.bound == 0 {
            let (claims, at) = self.claims[part];
            let stale = at.is_none_or(|at| self.now >= at + Duration::from_secs(1));
            let claims = if stale { 1 } else { (claims + 1).min(lacks) };
            self.claims[part] = (claims, Some(self.now));
        }
        Some(Refusal::Full)
    }

    fn goes(&mut self, id: u64) -> Guest {
        let index = self.guests.iter().position(|guest| guest.id == id).expect("it is known");
        self.guests.remove(index)
    }
}

/// One run of both side by side.
struct Run {
    random: Random,
    gate: Gate,
    model: Model,
    seats: Vec<(u64, Seat)>,
    places: Vec<(u64, super::Place)>,
    next: u64,
    /// What time it is; the gate and the model are told when somebody comes.
    clock: Instant,
    /// How many were inside at most when nobody exceeds the limit.
    most: u32,
}

impl Run {
    fn new(seed: u64) -> Self {
        let random = Random::seeded(seed);
        let (limit, bound) = (1 + draw(&random, 6), draw(&random, 6));
        let gate = gate(limit, bound);
        let (shares, overcommit) = match draw(&random, 4) {
            0 => (vec![3, 7, 0], false),
            1 => (vec![2, 5, 0], draw(&random, 2) == 0),
            _ => (vec![], false),
        };
        if !shares.is_empty() {
            let named = Partitions::new()
                .share("a", Ratio::percent(shares[0] * 10))
                .share("b", Ratio::percent(shares[1] * 10));
            gate.divide(&if overcommit { named.overcommit() } else { named });
        }
        let claims = vec![(0, None); shares.len()];
        let (guests, now) = (Vec::new(), origin());
        let model = Model { limit, bound, shares, overcommit, guests, claims, now };
        let (seats, places) = (Vec::new(), Vec::new());
        Self { random, gate, model, seats, places, next: 0, clock: now, most: 0 }
    }

    fn step(&mut self) {
        self.most = self.model.inside().max(self.model.limit);
        match draw(&self.random, 16) {
            0..6 => self.come(),
            6..9 => self.poll(),
            9..11 => self.give_up(),
            11..14 => self.leave(),
            14 => {
                self.model.limit = draw(&self.random, 9);
                self.gate.set_limit(self.model.limit);
                self.most = self.most.max(self.model.limit);
                self.model.let_in();
            }
            _ => {
                self.model.bound = draw(&self.random, 7);
                self.gate.set_bound(self.model.bound);
                self.clock += Duration::from_millis(300);
            }
        }
    }

    fn come(&mut self) {
        let parts = u32::try_from(self.model.shares.len()).unwrap();
        let part = draw(&self.random, parts.max(1)) as usize;
        let class = Criticality::ALL[draw(&self.random, 4) as usize];
        let share =
            [Ratio::percent(60), Ratio::percent(80), Ratio::ONE, Ratio::ONE][class as usize];
        let (id, now) = (self.next, self.clock);
        self.model.now = now;
        self.next += 1;

        let refused = self.model.come(id, part, class, share);
        let ask = Ask { partition: Some(part), criticality: class, share };
        match self.gate.enter(ask, || now) {
            Entry::Admitted(seat) => {
                assert_eq!(self.model.guests.last().unwrap().state, Place::Inside);
                self.seats.push((id, seat));
            }
            Entry::Waiting(place) => {
                assert_eq!(self.model.guests.last().unwrap().state, Place::Waits);
                self.places.push((id, place));
            }
            Entry::Refused(why) => {
                assert_eq!(Some(why), refused, "seed {}", self.random.seed());
                return;
            }
        }
        assert_eq!(refused, None, "seed {}", self.random.seed());
    }

    fn poll(&mut self) {
        let Some(index) = pick(&self.random, self.places.len()) else { return };
        let (id, place) = &self.places[index];
        let outcome = self.gate.poll(place, Waker::noop());
        let id = *id;
        self.settle(index, id, outcome);
    }

    fn settle(&mut self, index: usize, id: u64, outcome: Option<Outcome>) {
        let guest = *self.model.guests.iter().find(|guest| guest.id == id).unwrap();
        match outcome {
            None => assert_eq!(guest.state, Place::Waits, "seed {}", self.random.seed()),
            Some(Outcome::Admitted(seat)) => {
                assert_eq!(guest.state, Place::Inside, "seed {}", self.random.seed());
                drop(self.places.swap_remove(index));
                self.seats.push((id, seat));
            }
            Some(Outcome::Refused(why)) => {
                assert_eq!(guest.state, Place::Displaced(why), "seed {}", self.random.seed());
                drop(self.places.swap_remove(index));
                self.model.goes(id);
            }
        }
    }

    fn give_up(&mut self) {
        let Some(index) = pick(&self.random, self.places.len()) else { return };
        let (id, place) = self.places.swap_remove(index);
        let outcome = self.gate.give_up(place);
        let guest = self.model.goes(id);
        match outcome {
            None => assert_eq!(guest.state, Place::Waits, "seed {}", self.random.seed()),
            Some(Outcome::Refused(why)) => assert_eq!(guest.state, Place::Displaced(why)),
            Some(Outcome::Admitted(seat)) => {
                assert_eq!(guest.state, Place::Inside);
                self.gate.leave(seat);
                self.model.let_in();
            }
        }
    }

    fn leave(&mut self) {
        let Some(index) = pick(&self.random, self.seats.len()) else { return };
        let (id, seat) = self.seats.swap_remove(index);
        self.gate.leave(seat);
        self.model.goes(id);
        self.model.let_in();
    }

    fn check(&self, step: u64) {
        let at = || format!("seed {}, step {step}", self.random.seed());
        assert_eq!(self.gate.inside(), self.model.inside(), "{}", at());
        assert_eq!(self.gate.waiting(), self.model.waiting(), "{}", at());
        assert!(self.gate.inside() <= self.most || self.model.overcommit, "{}", at());
    }

    /// Nobody starves and no place is lost: all who wait come in, and then all is free.
    fn drain(mut self) {
        let limit = 1 + draw(&self.random, 5);
        self.model.limit = limit;
        self.gate.set_limit(limit);
        self.model.let_in();
        while !self.seats.is_empty() || !self.places.is_empty() {
            let before = self.seats.len() + self.places.len();
            for index in (0..self.places.len()).rev() {
                let outcome = self.gate.poll(&self.places[index].1, Waker::noop());
                self.settle(index, self.places[index].0, outcome);
            }
            self.leave();
            assert!(self.seats.len() + self.places.len() < before, "seed {}", self.random.seed());
        }
        assert_eq!((self.gate.inside(), self.gate.waiting()), (0, 0));
    }
}

fn draw(random: &Random, below: u32) -> u32 {
    u32::try_from(Random::below(random.draw(), below.into())).unwrap()
}

fn pick(random: &Random, length: usize) -> Option<usize> {
    let index = Random::below(random.draw(), length as u64);
    (length > 0).then(|| usize::try_from(index).unwrap())
}
