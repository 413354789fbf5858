//! What is done ahead of requests, by a future that the user spawns.

use std::{
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress_core::{Shared, breaker::Ticket};
use tokio::time::{Interval, MissedTickBehavior, Timeout, interval, timeout};

use crate::{
    Failure, Outage, Replicas, Store, Taken, buckets::Buckets, clock::read, core::Core,
    counts::Cell, purse::Purse,
};

/// The keys whose leases run low.
#[derive(Debug)]
pub(crate) struct Wishes<K> {
    /// How many drivers listen.
    heard: AtomicU32,
    list: Mutex<List<K>>,
}

#[derive(Debug)]
struct List<K> {
    keys: Vec<K>,
    driver: Option<Waker>,
}

impl<K> Wishes<K> {
    pub(crate) fn new() -> Self {
        Self { heard: AtomicU32::new(0), list: Mutex::new(List { keys: Vec::new(), driver: None }) }
    }

    pub(crate) fn are_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn push(&self, key: K) {
        let driver = {
            let mut list = self.lock();
            list.keys.push(key);
            list.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, List<K>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a process says that it is there.
const BEAT: Duration = Duration::from_secs(1);

/// After how long without a word it is gone: as many beats as may be lost in a restart of the store.
const GONE: Duration = Duration::from_secs(5);

/// Refills leases that run low, and says and asks how many share the limit.
pub(crate) struct Driver<St: Store, B: Buckets> {
    core: Shared<Core<St, B>>,
    refills: Vec<Refill<St, B::Key>>,
    beat: Option<Sent<St::Answer<u32>>>,
    ticks: Interval,
    group: Vec<u8>,
    member: String,
    /// What was wished for when it last looked: the room is used again.
    wished: Vec<B::Key>,
}

struct Refill<St: Store, K> {
    key: K,
    sent: Sent<St::Answer<Taken>>,
}

struct Sent<A> {
    answer: Pin<Box<Timeout<A>>>,
    ticket: Ticket,
    at: Instant,
}

impl<St: Store, B: Buckets> Driver<St, B> {
    pub(crate) fn new(core: Shared<Core<St, B>>) -> Self {
        let mut group = core.whole.clone();
        group.extend_from_slice(b":replicas");
        let mut ticks = interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let member = format!("{}-{random:016x}", std::process::id());
        core.wishes.heard.fetch_add(1, Ordering::Relaxed);
        let (refills, wished) = (Vec::new(), Vec::new());
        Self { core, refills, beat: None, ticks, group, member, wished }
    }

    pub(crate) async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.ticks.poll_tick(cx).is_ready() {
            self.tick();
        }
        self.listen(cx);
        self.poll_refills(cx);
        self.poll_beat(cx);
        Poll::Pending
    }

    fn tick(&mut self) {
        let (now, core) = (read(), &*self.core);
        // Time alone lets an open circuit be probed: it is seen, and told of.
        let (_, moved) = core.circuit.state(now);
        core.tell(moved);
        let counted = matches!(core.settings.outage, Outage::Share(Replicas::Counted(_)));
        if !counted || self.beat.is_some() {
            return;
        }
        let Ok(ticket) = core.admit(now) else { return };
        let answer = core.store.beat(&self.group, self.member.as_bytes(), GONE);
        let answer = Box::pin(timeout(core.settings.within.get(), answer));
        self.beat = Some(Sent { answer, ticket, at: now });
    }

    fn poll_beat(&mut self, cx: &mut Context<'_>) {
        let Some(beat) = &mut self.beat else { return };
        let Poll::Ready(answer) = beat.answer.as_mut().poll(cx) else { return };
        let (core, now) = (&*self.core, read());
        if let Some(replicas) = settle(core, answer, beat.ticket, beat.at, now) {
            core.set_replicas(replicas);
        }
        self.beat = None;
    }

    /// Asks for what runs low.
    fn listen(&mut self, cx: &mut Context<'_>) {
        {
            let mut list = self.core.wishes.lock();
            std::mem::swap(&mut list.keys, &mut self.wished);
            if !list.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
                list.driver = Some(cx.waker().clone());
            }
        }
        for key in self.wished.drain(..) {
            let (core, now) = (&*self.core, read());
            let (scales, nanos) = (core.scales.load(), core.nanos(now));
            let reserve = core.reserve.load(Ordering::Relaxed);
            let Some(lease) = core.lease() else { continue };
            let ahead = |purse: &mut Purse| purse.ahead(reserve, lease, &scales, nanos);
            let Some(take) = core.buckets.purse(&key, ahead) else { continue };
            let mut carrying = Carrying { core, key: Some(key), ticket: None };
            let key = carrying.key.as_ref().expect("put there");
            let name = B::name(&core.whole, key);
            let Ok(ticket) = core.admit(now) else { continue };
            carrying.ticket = Some(ticket);
            let answer = core.store.take(&name, &scales, take);
            let answer = Box::pin(timeout(core.settings.within.get(), answer));
            let key = carrying.key.take().expect("put there");
            self.refills.push(Refill { key, sent: Sent { answer, ticket, at: now } });
        }
    }

    fn poll_refills(&mut self, cx: &mut Context<'_>) {
        let core = &*self.core;
        self.refills.retain_mut(|Refill { key, sent }| {
            let Poll::Ready(answer) = sent.answer.as_mut().poll(cx) else { return true };
            let now = read();
            if let Some(taken) = settle(core, answer, sent.ticket, sent.at, now) {
                core.counts.add_many(Cell::Leased, taken.granted.into());
                let lasts = core.settings.lease.map_or(Duration::ZERO, |it| it.lasts().get());
                let (until, nanos) = (core.nanos(sent.at + lasts), core.nanos(now));
                let lapsed = core
                    .buckets
                    .purse(key, |purse| purse.receive(taken.granted, taken.debts, until, nanos));
                core.counts.add_many(Cell::Lapsed, lapsed.into());
            }
            put_down(core, key);
            false
        });
    }
}

pub(crate) fn settle<St: Store, B: Buckets, T>(
    core: &Core<St, B>,
    answer: Result<Result<T, crate::StoreError>, tokio::time::error::Elapsed>,
    ticket: Ticket,
    sent: Instant,
    now: Instant,
) -> Option<T> {
    let why = match answer {
        Ok(Ok(answer)) => {
            core.answered(ticket, sent, now);
            return Some(answer);
        }
        Ok(Err(error)) => core.why(&error),
        Err(_) => Failure::TimedOut,
    };
    core.failed(ticket, why, now);
    None
}

fn put_down<St, B: Buckets>(core: &Core<St, B>, key: &B::Key) {
    let waiting = core.buckets.purse(key, Purse::put_down);
    waiting.into_iter().for_each(Waker::wake);
}

/// Puts down what is carried should there be no asking, or should the store panic.
struct Carrying<'a, St, B: Buckets> {
    core: &'a Core<St, B>,
    /// `None` once another has taken it over.
    key: Option<B::Key>,
    ticket: Option<Ticket>,
}

impl<St, B: Buckets> Drop for Carrying<'_, St, B> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            put_down(self.core, key);
            if let Some(ticket) = self.ticket {
                self.core.failed(ticket, Failure::Refused, read());
            }
        }
    }
}

impl<St: Store, B: Buckets> Drop for Driver<St, B> {
    fn drop(&mut self) {
        self.core.wishes.heard.fetch_sub(1, Ordering::Relaxed);
        for Refill { key, sent } in self.refills.drain(..) {
            self.core.abandoned(sent.ticket, read());
            put_down(&self.core, &key);
        }
        if let Some(beat) = self.beat.take() {
            self.core.abandoned(beat.ticket, read());
        }
    }
}
