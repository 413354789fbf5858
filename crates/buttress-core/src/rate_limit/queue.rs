use std::{
    collections::BTreeMap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
    time::Duration,
};

use super::{
    Ask,
    limits::{Due, Limits, Shortage},
};

/// Who waits for one bucket: first those who may take the last of it, each in order of arrival.
///
/// Whoever comes by lets in all whose time has come, so nobody depends on the task before it to be
/// polled. A place is a number; what it is worth is taken from the bucket when its time has come,
/// and not before, so a place that is given up moves all behind it forward.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<Place, Waiter>,
    /// Let in or refused, and not asked since.
    decided: BTreeMap<Place, Verdict>,
    /// What those ask for who wait and would leave so many.
    costs: BTreeMap<u32, u64>,
    arrivals: u64,
}

/// A place in the queue: no two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// How many it leaves for others: who leaves fewer cannot be kept waiting by who leaves more.
    kept: u32,
    arrival: u64,
}

#[derive(Debug)]
struct Waiter {
    ask: Ask,
    /// For when its timer is set, or will be when it is next polled.
    until: u64,
    /// When it has waited for long enough.
    limit: u64,
    waker: Option<Waker>,
}

impl Waiter {
    /// Lets it wait until then. Its waker, if that is sooner than it thinks, because somebody
    /// before it has left: who has to wait for longer finds out when it wakes by itself.
    fn put_off(&mut self, until: u64) -> Option<Waker> {
        if until < mem::replace(&mut self.until, until) { self.waker.take() } else { None }
    }
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Admitted(Ask),
    Refused(Due),
}

/// How a request that would wait if it must is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It is admitted.
    Admitted,
    /// It would have to wait for too long.
    Refused(Shortage),
    /// It waits in this place, which it must [ask](Queue::ask) after or [leave](Queue::leave).
    Waiting(Place),
}

/// What a request would meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// How many events may come at once, less what those ask for who wait.
    pub available: i64,
    /// The time until one more is admitted, rounded up.
    pub next_in: Duration,
    /// How many requests wait.
    pub waiting: usize,
}

/// What has become of somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<At> {
    /// It is admitted.
    Admitted,
    /// It will not be admitted in time any more.
    Refused(Shortage),
    /// It has to wait until then, and to ask again.
    Wait(At),
}

/// Tasks to be woken, once no lock is held: a waker may do what it likes.
#[derive(Debug, Default)]
#[must_use = "whoever waits has to be told"]
pub struct Woken(Vec<Waker>);

impl Woken {
    /// Wakes them. One that panics keeps nobody else asleep, and is not what brought them here.
    #[inline]
    pub fn wake(self) {
        for waker in self.0 {
            drop(catch_unwind(AssertUnwindSafe(|| waker.wake())));
        }
    }

    fn add(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }
}

impl Queue {
    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether somebody waits whom a newcomer that leaves so many must not pass.
    fn is_before(&self, kept: u32) -> bool {
        self.waiting.first_key_value().is_some_and(|(first, _)| first.kept <= kept)
    }

    /// What those ask for whom a newcomer that leaves so many must not pass.
    #[must_use]
    pub fn cost_before(&self, kept: u32) -> u64 {
        self.costs.range(..=kept).map(|(_, cost)| cost).sum()
    }

    /// Takes what is asked for if nobody is before it, or joins those who wait, once all whose time
    /// has come are let in. Without `patience`, in nanoseconds, nobody joins.
    pub fn enter(
        &mut self,
        ask: Ask,
        patience: Option<u64>,
        (limits, words): (&Limits, &mut [u64]),
        now: u64,
        woken: &mut Woken,
    ) -> Entry {
        let due = if self.is_before(ask.kept) {
            // Who is first could not be let in, and nobody before this one leaves more than it
            // does; so it cannot be let in either.
            let due = limits.due(words, now, ask, self.cost_before(ask.kept));
            due.unwrap_or(Due { limit: 0, at: Some(now + 1) })
        } else {
            match limits.draw(words, now, ask) {
                Ok(()) => return Entry::Admitted,
                Err(due) => due,
            }
        };
        let limit = patience.map(|patience| now.saturating_add(patience));
        match (due.at, limit) {
            (Some(at), Some(limit)) if at <= limit => {
                let (place, passes) = self.join(ask, at, limit);
                if passes {
                    self.review(limits, words, now, woken);
                }
                Entry::Waiting(place)
            }
            _ => Entry::Refused(due.from(now)),
        }
    }

    /// Why a request that comes now would not be admitted; `None` if it would.
    #[must_use]
    pub fn shortage(&self, ask: Ask, limits: &Limits, words: &[u64], now: u64) -> Option<Shortage> {
        let due = limits.due(words, now, ask, self.cost_before(ask.kept));
        let due =
            due.or_else(|| self.is_before(ask.kept).then_some(Due { limit: 0, at: Some(now + 1) }));
        due.map(|due| due.from(now))
    }

    /// Joins the end of those who leave as many. Says whether others are behind it.
    fn join(&mut self, ask: Ask, until: u64, limit: u64) -> (Place, bool) {
        let place = Place { kept: ask.kept, arrival: self.arrivals };
        self.arrivals += 1;
        *self.costs.entry(ask.kept).or_default() += u64::from(ask.cost.get());
        self.waiting.insert(place, Waiter { ask, until, limit, waker: None });
        (place, self.waiting.last_key_value().is_some_and(|(last, _)| *last > place))
    }

    fn remove(&mut self, place: Place) -> Option<Waiter> {
        let waiter = self.waiting.remove(&place)?;
        if let Some(cost) = self.costs.get_mut(&place.kept) {
            *cost -= u64::from(waiter.ask.cost.get());
        }
        Some(waiter)
    }

    /// Whether nobody waits, and nobody will ask what became of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.decided.is_empty()
    }

    /// Lets in all whose time has come.
    pub fn settle(&mut self, limits: &Limits, words: &mut [u64], now: u64, woken: &mut Woken) {
        while let Some(mut first) = self.waiting.first_entry() {
            let place = *first.key();
            let waiter = first.get_mut();
            let verdict = match limits.draw(words, now, waiter.ask) {
                Ok(()) => Verdict::Admitted(waiter.ask),
                Err(due) => match due.at {
                    Some(at) if at <= waiter.limit => {
                        return woken.add(waiter.put_off(at));
                    }
                    // Its limit is past what the rate that is now in force would take.
                    _ => Verdict::Refused(due),
                },
            };
            self.decide(place, verdict, woken);
        }
    }

    fn decide(&mut self, place: Place, verdict: Verdict, woken: &mut Woken) {
        if let Some(waiter) = self.remove(place) {
            self.decided.insert(place, verdict);
            woken.add(waiter.waker);
        }
    }

    /// Refuses all who would have to wait for too long, after something has changed.
    pub fn review(&mut self, limits: &Limits, words: &[u64], now: u64, woken: &mut Woken) {
        let mut ahead = 0;
        let mut hopeless = Vec::new();
        for (place, waiter) in &mut self.waiting {
            match limits.due(words, now, waiter.ask, ahead) {
                Some(due) if due.at.is_none_or(|at| at > waiter.limit) => {
                    hopeless.push((*place, due));
                    continue;
                }
                Some(Due { at: Some(at), .. }) => woken.add(waiter.put_off(at)),
                _ => {}
            }
            ahead += u64::from(waiter.ask.cost.get());
        }
        for (place, due) in hopeless {
            self.decide(place, Verdict::Refused(due), woken);
        }
    }

    /// What has become of a place, once all whose time has come are let in.
    ///
    /// Takes `waker`, if it is to be woken, and leaves the one that it had: to be dropped when no
    /// lock is held, because with its last waker a task may go, and all that waits in it.
    ///
    /// # Panics
    ///
    /// If it has been told before that its wait is over.
    pub fn ask(
        &mut self,
        place: Place,
        limits: &Limits,
        words: &[u64],
        now: u64,
        waker: &mut Option<Waker>,
    ) -> Turn<u64> {
        match self.decided.remove(&place) {
            Some(Verdict::Admitted(_)) => return Turn::Admitted,
            Some(Verdict::Refused(due)) => return Turn::Refused(due.from(now)),
            None => {}
        }
        let ahead = self.waiting.range(..place);
        let ahead = ahead.map(|(_, other)| u64::from(other.ask.cost.get()));
        let waiter = self.waiting.get(&place).expect("it asks until it is decided, and not after");
        let mut until = waiter.until;
        if until <= now {
            // Time did not pass as it was thought to.
            match limits.due(words, now, waiter.ask, ahead.sum()) {
                Some(Due { at: Some(at), .. }) if at <= waiter.limit => until = at,
                Some(due) => {
                    *waker = self.remove(place).and_then(|waiter| waiter.waker);
                    return Turn::Refused(due.from(now));
                }
                // Who is first was not let in, so there is something to wait for.
                None => until = now + 1,
            }
        }
        let waiter = self.waiting.get_mut(&place).expect("it was there");
        waiter.until = until;
        mem::swap(&mut waiter.waker, waker);
        Turn::Wait(until)
    }

    /// What a request would meet that comes last of all.
    #[must_use]
    pub fn peek(&self, limits: &Limits, words: &[u64], now: u64) -> Peek {
        let waiting = self.cost_before(u32::MAX);
        let due = limits.due(words, now, Ask::one(), waiting);
        let next_in = due.and_then(|due| due.from(now).retry_after()).unwrap_or_default();
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let available = signed(limits.available(words, now)).saturating_sub(signed(waiting));
        Peek { available, next_in, waiting: self.len() }
    }

    /// Gives a place up, and what it had been given. Returns its waker, to be dropped when no lock
    /// is held.
    pub fn leave(
        &mut self,
        place: Place,
        limits: &Limits,
        words: &mut [u64],
        now: u64,
    ) -> Option<Waker> {
        let waiter = self.remove(place);
        if let Some(Verdict::Admitted(ask)) = self.decided.remove(&place) {
            limits.give_back(words, now, u64::from(ask.cost.get()));
        }
        waiter?.waker
    }
}
