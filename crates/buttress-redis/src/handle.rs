use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use buttress_core::{
    Observe, Rate, Shared, breaker::State, cells::Buckets as Durations, rate_limit::Standing,
};
use tokio::time::{sleep, timeout};

use crate::{
    Failure, FleetKey, Many, Settings, Single, Store, StoreError, Take, Totals, buckets::Buckets,
    clock::read, core::Core, counts::Cell, driver::Driver, fleet::known, scale::standings,
};

/// How often batches are looked for that were under way when leases are given back: a request that is not polled would
/// keep it for ever.
const ROUNDS: u32 = 3;

/// How long a check waits.
const CHECK: Duration = Duration::from_secs(5);

/// Reads and moves the state of a [`FleetLimitLayer`](crate::FleetLimitLayer) while it works.
pub struct FleetLimitHandle<St, B: Buckets = Single> {
    pub(crate) core: Shared<Core<St, B>>,
}

impl<St, B: Buckets> Clone for FleetLimitHandle<St, B> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl<St: Store, B: Buckets> FleetLimitHandle<St, B> {
    /// Refills leases before they run out, counts the replicas, and looks after a store that is
    /// away, for ever: spawn it. Without it a limit works as well: a request that finds a lease
    /// used up asks for the next, the replicas are as many as was said at first, and requests find
    /// out when the store is back.
    ///
    /// It holds on to the layer's state until it is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its time driver enabled.
    pub async fn run(self) {
        Driver::new(self.core).run().await;
    }

    /// Gives back to the fleet what is leased, and leases no more: requests that still come ask the
    /// store each. To be awaited when a process shuts down. How many tokens were given back; those
    /// of buckets for which the store did not answer lapse.
    ///
    /// Not to be confused with the `drain` of a local limit's handle, which empties a bucket.
    pub async fn give_back(&self) -> u64 {
        let core = &*self.core;
        core.drained.store(true, Ordering::Relaxed);
        let mut given = 0;
        for _ in 0..ROUNDS {
            let (mut held, mut under_way) = (Vec::new(), false);
            core.buckets.each_purse(|key, purse| {
                held.push(key.clone());
                under_way |= purse.is_carried();
            });
            given += self.return_all(held).await;
            if !under_way {
                break;
            }
            // Batches that were asked for before come by then, or never.
            sleep(core.settings.within.get()).await;
        }
        given
    }

    async fn return_all(&self, keys: Vec<B::Key>) -> u64 {
        let core = &*self.core;
        let (scales, mut given) = (core.scales.load_full(), 0);
        for key in keys {
            let now = read();
            // Not before its turn: what has lapsed by then is not given back, or there might be more
            // to be had at once than was ever leased.
            let (tokens, lapsed) = core.buckets.purse(&key, |purse| purse.empty(core.nanos(now)));
            core.counts.add_many(Cell::Lapsed, lapsed.into());
            if tokens == 0 {
                continue;
            }
            let answer = match core.admit(now) {
                Err(_) => None,
                Ok(ticket) => {
                    let asked = core.store.give(&B::name(&core.whole, &key), &scales, tokens);
                    let answer = timeout(core.settings.within.get(), asked).await;
                    crate::driver::settle(core, answer, ticket, now, read())
                }
            };
            let cell = if answer.is_some() { Cell::GivenBack } else { Cell::Lapsed };
            core.counts.add_many(cell, tokens.into());
            given += answer.map_or(0, |()| u64::from(tokens));
        }
        given
    }

    async fn peek_at(&self, key: &B::Key) -> Result<Vec<Standing>, StoreError> {
        let core = &*self.core;
        let scales = core.scales.load_full();
        // More than any bucket holds, of which nothing is taken.
        let nothing = Take { least: u32::MAX, most: u32::MAX, left: 1 };
        let asked = core.store.take(&B::name(&core.whole, key), &scales, nothing);
        let taken = self.hear(asked).await?;
        Ok(standings(&scales, &taken.debts, Duration::ZERO))
    }

    async fn refund_to(&self, key: &B::Key, cost: NonZeroU32) -> Result<(), StoreError> {
        let core = &*self.core;
        let name = B::name(&core.whole, key);
        self.hear(core.store.give(&name, &core.scales.load_full(), cost.get())).await
    }

    async fn hear<T: Send + 'static>(&self, asked: St::Answer<T>) -> Result<T, StoreError> {
        let silent =
            |_| Err(StoreError::new(Failure::TimedOut, "the store has not answered in time"));
        timeout(self.core.settings.within.get(), asked).await.unwrap_or_else(silent)
    }

    /// Asks the store for its word on nothing, through no circuit: whether it can be reached, and
    /// if not, why. For a start-up that shall fail with a wrong password. Waits for five seconds at
    /// the most.
    ///
    /// # Errors
    ///
    /// What the store said, with what to do about it, or that it said nothing.
    pub async fn check(&self) -> Result<(), StoreError> {
        let core = &*self.core;
        let mut probe = core.whole.clone();
        probe.extend_from_slice(b":check");
        let take = Take { least: 1, most: 1, left: 0 };
        let answer = core.store.take(&probe, &core.scales.load_full(), take);
        let silent = |_| {
            let what = "the store has not answered within 5 s: is it overloaded, stopped, or out of reach?";
            Err(StoreError::new(Failure::TimedOut, what))
        };
        timeout(CHECK, answer).await.unwrap_or_else(silent).map(|_| ())
    }
}

impl<St, B: Buckets> FleetLimitHandle<St, B> {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Everything counted in this process since the layer was made.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = self.core.counts.totals();
        totals.lapsed += self.core.buckets.pushed_out();
        totals
    }

    /// How long the store took to answer, where it did.
    #[must_use]
    pub fn answers(&self) -> Durations {
        self.core.counts.answers()
    }

    /// Where the circuit around the store stands: requests ask it while it is closed.
    #[must_use]
    pub fn store_state(&self) -> State {
        let (state, moved) = self.core.circuit.state(read());
        self.core.tell(moved);
        state
    }

    /// What the store last said instead of an answer.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.core.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Among how many the rates are shared when the store does not answer.
    #[must_use]
    pub fn replicas(&self) -> NonZeroU32 {
        NonZeroU32::new(self.core.replicas.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }

    /// Says among how many. Those that are counted are heard of again within a second.
    pub fn set_replicas(&self, replicas: NonZeroU32) {
        self.core.set_replicas(replicas.get());
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// The rates in force, in the order in which they were named.
    #[must_use]
    pub fn rates(&self) -> Vec<Rate> {
        self.core.rates()
    }

    /// Sets another rate for one of the limits, in the order in which they were named, in this
    /// process. The buckets hold what they held, as far as it fits: a change is no burst, though
    /// processes change one after the other. What is leased stays so until it lapses.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn set_rate(&self, limit: usize, rate: Rate) {
        self.core.set_rate(limit, rate);
    }

    /// Whether it decides and counts but refuses nothing.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.core.is_shadow()
    }

    /// Switches shadow mode, in which it decides and counts but refuses nothing. Requests wait for
    /// the store all the same.
    pub fn set_shadow(&self, shadow: bool) {
        self.core.set_shadow(shadow);
    }

    /// Tells `observer` of what happens from now on.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.core.observers.add(observer);
    }

    /// Whether nothing but this handle is left: no layer, no service, no call, no other handle, no
    /// [`run`](Self::run).
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.core.is_last()
    }

    /// What tells this layer from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        self.core.id()
    }
}

impl<St: Store> FleetLimitHandle<St> {
    /// How many tokens are leased.
    #[must_use]
    pub fn leased(&self) -> u32 {
        leased(&self.core, &())
    }

    /// What the fleet's buckets hold, by the store's own word. Takes nothing; what is
    /// [leased](Self::leased) has been taken. Asked through no circuit, for
    /// [`Settings::within`] at the most.
    ///
    /// # Errors
    ///
    /// What the store said instead, or that it said nothing in time.
    pub async fn peek(&self) -> Result<Vec<Standing>, StoreError> {
        self.peek_at(&()).await
    }

    /// Gives back to the fleet what a request has cost that turned out not to count. No bucket gets
    /// more than full. Asked through no circuit, for [`Settings::within`] at the most.
    ///
    /// # Errors
    ///
    /// What the store said instead, or that it said nothing in time: it may have been given back
    /// all the same, so do not try again.
    pub async fn refund(&self, cost: NonZeroU32) -> Result<(), StoreError> {
        self.refund_to(&(), cost).await
    }

    /// What was last heard of the fleet's buckets; nothing before that, and nothing in strict mode.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        known(&self.core, &(), read())
    }
}

impl<St: Store, K> FleetLimitHandle<St, Many<K>>
where
    K: std::hash::Hash + Eq + Clone + FleetKey + Send + Sync + 'static,
{
    /// What the fleet's buckets of this key hold, by the store's own word. Takes nothing; what is
    /// [leased](Self::leased) has been taken. Asked through no circuit, for [`Settings::within`] at
    /// the most.
    ///
    /// # Errors
    ///
    /// What the store said instead, or that it said nothing in time.
    pub async fn peek(&self, key: &K) -> Result<Vec<Standing>, StoreError> {
        self.peek_at(key).await
    }

    /// Gives back to the fleet what a request with this key has cost that turned out not to count.
    /// No bucket gets more than full. Asked through no circuit, for [`Settings::within`] at the most.
    ///
    /// # Errors
    ///
    /// What the store said instead, or that it said nothing in time: it may have been given back
    /// all the same, so do not try again.
    pub async fn refund(&self, key: &K, cost: NonZeroU32) -> Result<(), StoreError> {
        self.refund_to(key, cost).await
    }

    /// How many tokens of this key are leased.
    #[must_use]
    pub fn leased(&self, key: &K) -> u32 {
        leased(&self.core, key)
    }
}

fn leased<St, B: Buckets>(core: &Core<St, B>, key: &B::Key) -> u32 {
    let now = core.nanos(read());
    core.buckets.purse(key, |purse| purse.left(now))
}

impl<St, B: Buckets> fmt::Debug for FleetLimitHandle<St, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetLimitHandle").field("core", &self.core).finish()
    }
}
