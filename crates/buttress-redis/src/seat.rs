use std::{
    fmt,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress_core::{
    Lease, Rejection,
    breaker::Ticket,
    rate_limit::{Ask, Standing},
};
use buttress_layers::rate_limit::{Seat, Told};

use crate::{
    Debt, Failure, Scale, Source, Store, Take, Taken,
    buckets::Buckets,
    clock::read,
    core::Core,
    counts::Cell,
    fleet::known,
    purse::{Place, Purse, Said},
    scale::{standings, wait},
    store::MOST,
};

/// A request that waits for the store, or for another that asks it.
pub struct Asking<St: Store, B: Buckets> {
    core: Lease<Core<St, B>>,
    key: B::Key,
    ask: Ask,
    /// By when it is decided without the store.
    deadline: Instant,
    stage: Stage<St>,
    /// Whether it carries a batch, on which others wait.
    carries: bool,
    /// Where it waits for another's.
    place: Option<Place>,
    heard: Option<([Debt; MOST], Instant)>,
}

enum Stage<St: Store> {
    /// Another asks.
    Behind,
    Asked(Asked<St::Answer<Taken>>),
    Decided,
}

struct Asked<A> {
    answer: A,
    ticket: Ticket,
    sent: Instant,
}

type Decision = Result<(), Rejection>;

impl<St: Store, B: Buckets> Asking<St, B> {
    pub(crate) fn new(core: Lease<Core<St, B>>, key: B::Key, ask: Ask, now: Instant) -> Self {
        let deadline = now + core.settings.within.get();
        let stage = Stage::Decided;
        Self { core, key, ask, deadline, stage, carries: false, place: None, heard: None }
    }

    pub(crate) fn behind(core: Lease<Core<St, B>>, key: B::Key, ask: Ask, now: Instant) -> Self {
        let mut asking = Self::new(core, key, ask, now);
        asking.stage = Stage::Behind;
        asking
    }

    /// Asks the store; decides without it if it is left alone.
    pub(crate) fn send(&mut self, said: Said, scales: &[Scale], now: Instant) -> Option<Decision> {
        self.carries = matches!(said, Said::Ask(_));
        // Before there is a ticket: it is a user's code.
        let whole = B::name(&self.core.whole, &self.key);
        let ticket = match self.core.admit(now) {
            Ok(ticket) => ticket,
            Err(refused) => {
                drop(whole);
                return Some(self.without_store(refused.retry_after, now));
            }
        };
        let cost = self.ask.weight().get();
        let take = match said {
            Said::Ask(take) => take,
            _ => Take { least: cost, most: cost, left: self.ask.kept() },
        };
        let settled = Settled { core: &self.core, ticket: Some(ticket) };
        let answer = self.core.store.take(&whole, scales, take);
        settled.by_another();
        self.stage = Stage::Asked(Asked { answer, ticket, sent: now });
        None
    }

    fn hear(&mut self, taken: &Taken, sent: Instant, now: Instant) -> Option<Decision> {
        self.heard = Some((taken.debts, now));
        if self.carries {
            return self.receive(taken, sent, now);
        }
        if taken.granted >= self.ask.weight().get() {
            return Some(self.core.admitted(Source::Store));
        }
        let rest = wait(&self.core.scales.load(), &taken.debts, Duration::ZERO, self.ask);
        Some(self.refused(Source::Store, rest))
    }

    /// Puts a batch into the purse, and takes of it.
    fn receive(&mut self, taken: &Taken, sent: Instant, now: Instant) -> Option<Decision> {
        let core = &*self.core;
        core.counts.add_many(Cell::Leased, taken.granted.into());
        let lasts = core.settings.lease.map_or(Duration::ZERO, |lease| lease.lasts().get());
        // From when they were asked for: the store has granted them later than that.
        let (until, nanos) = (core.nanos(sent + lasts), core.nanos(now));
        let waiting = core.buckets.purse(&self.key, |purse| {
            let lapsed = purse.receive(taken.granted, taken.debts, until, nanos);
            core.counts.add_many(Cell::Lapsed, lapsed.into());
            // Before any other.
            let cost = self.ask.weight().get();
            let took = purse.take_received(cost, nanos);
            (took, purse.put_down())
        });
        self.carries = false;
        let (took, waiting) = waiting;
        waiting.into_iter().for_each(Waker::wake);
        if took {
            return Some(self.core.admitted(Source::Store));
        }
        let reserve = self.core.reserve.load(Ordering::Relaxed);
        let ask = self.ask.leaving(self.ask.kept().max(reserve));
        match wait(&self.core.scales.load(), &taken.debts, Duration::ZERO, ask) {
            // What it had counted on has lapsed, or gone to others, meanwhile.
            Some(Duration::ZERO) => {
                self.stage = Stage::Behind;
                None
            }
            rest => Some(self.refused(Source::Store, rest)),
        }
    }

    fn refused(&self, source: Source, rest: Option<Duration>) -> Decision {
        let core = &*self.core;
        match rest {
            Some(rest) => core.refused(source, || core.empty(rest)),
            // The rate has been changed since.
            None => core.too_much(),
        }
    }

    fn without_store(&mut self, asked_again_in: Option<Duration>, now: Instant) -> Decision {
        self.put_down();
        self.core.without_store(&self.key, self.ask, asked_again_in, now)
    }

    /// Lets others ask who waited for what was carried.
    fn put_down(&mut self) {
        if std::mem::take(&mut self.carries) {
            let waiting = self.core.buckets.purse(&self.key, Purse::put_down);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    fn poll(&mut self, now: Instant, waker: &Waker) -> Poll<Decision> {
        loop {
            let decision = match &mut self.stage {
                Stage::Asked(asked) => {
                    let answer = Pin::new(&mut asked.answer).poll(&mut Context::from_waker(waker));
                    let (ticket, sent) = (asked.ticket, asked.sent);
                    match answer {
                        Poll::Pending if now < self.deadline => return Poll::Pending,
                        Poll::Ready(Ok(taken)) => {
                            self.stage = Stage::Decided;
                            self.core.answered(ticket, sent, now);
                            self.hear(&taken, sent, now)
                        }
                        failed => {
                            self.stage = Stage::Decided;
                            let why = match failed {
                                Poll::Ready(Err(error)) => self.core.why(&error),
                                _ => Failure::TimedOut,
                            };
                            self.core.failed(ticket, why, now);
                            Some(self.without_store(None, now))
                        }
                    }
                }
                Stage::Behind => match self.ask_purse(now, waker) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(decision) => decision,
                },
                Stage::Decided => panic!("polled after completion"),
            };
            if let Some(decision) = decision {
                self.stage = Stage::Decided;
                return Poll::Ready(decision);
            }
        }
    }

    /// Asks the purse again: `None` if it is asked for something, or has to be asked once more.
    fn ask_purse(&mut self, now: Instant, waker: &Waker) -> Poll<Option<Decision>> {
        let core = &*self.core;
        let (scales, nanos) = (core.scales.load_full(), core.nanos(now));
        let said = core.lease().map_or(Said::Alone, |lease| {
            let reserve = core.reserve.load(Ordering::Relaxed);
            core.buckets.purse(&self.key, |purse| {
                let said = purse.again(self.ask, reserve, lease, &scales, nanos);
                if said == Said::Wait && now < self.deadline {
                    purse.wait(&mut self.place, waker);
                }
                said
            })
        });
        Poll::Ready(match said {
            Said::Enough { .. } => Some(core.admitted(Source::Lease)),
            Said::Dry(rest) => Some(self.refused(Source::Lease, Some(rest))),
            Said::Wait if now < self.deadline && core.circuit.is_closed() => return Poll::Pending,
            Said::Wait => Some(self.without_store(None, now)),
            Said::Ask(_) if now >= self.deadline => {
                self.carries = true;
                Some(self.without_store(None, now))
            }
            Said::Ask(_) | Said::Alone => self.send(said, &scales, now),
        })
    }
}

impl<St: Store, B: Buckets> Seat for Asking<St, B> {
    fn ask(&mut self, now: Instant, waker: &Waker) -> Told {
        match self.poll(now, waker) {
            Poll::Pending => Told::Wait(self.deadline),
            Poll::Ready(Ok(())) => Told::Admitted,
            Poll::Ready(Err(rejection)) => Told::Refused(rejection),
        }
    }

    fn name(&self) -> &str {
        &self.core.name
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        if self.core.lease().is_some() {
            return known(&self.core, &self.key, now);
        }
        let Some((debts, at)) = &self.heard else { return Vec::new() };
        standings(&self.core.scales.load(), debts, now.saturating_duration_since(*at))
    }
}

impl<St: Store, B: Buckets> Drop for Asking<St, B> {
    fn drop(&mut self) {
        match &self.stage {
            Stage::Decided => {}
            Stage::Behind => self.core.counts.add(Cell::Left),
            Stage::Asked(asked) => {
                let now = read();
                self.core.counts.add(Cell::Left);
                // Callers that never wait to the end would hide that the store is dead.
                if now >= asked.sent + self.core.settings.within.get() / 2 {
                    self.core.failed(asked.ticket, Failure::TimedOut, now);
                } else {
                    self.core.abandoned(asked.ticket, now);
                }
            }
        }
        self.put_down();
    }
}

/// Settles a ticket should the store panic while it is asked.
struct Settled<'a, St, B: Buckets> {
    core: &'a Core<St, B>,
    ticket: Option<Ticket>,
}

impl<St, B: Buckets> Settled<'_, St, B> {
    fn by_another(mut self) {
        self.ticket = None;
    }
}

impl<St, B: Buckets> Drop for Settled<'_, St, B> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.core.failed(ticket, Failure::Refused, read());
        }
    }
}

impl<St: Store, B: Buckets> fmt::Debug for Asking<St, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("ask", &self.ask).finish_non_exhaustive()
    }
}
