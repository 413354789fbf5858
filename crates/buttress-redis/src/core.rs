use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use buttress_core::{
    Change, Code, Event, Kind, Observers, Rate, Rejection,
    breaker::{Outcome, Refused, Ticket},
    rate_limit::{Ask, Origin},
};

use crate::{
    Failure, Lease, Outage, Replicas, Scale, Settings, Source, StoreError,
    buckets::Buckets,
    circuit::{Circuit, Moved},
    counts::{Cell, Counts},
    driver::Wishes,
    key, share_of,
};

const UNCOUNTED: &str = "the store does not answer, and nobody has counted among how many the rate \
    is shared: each process admits as much as if there were as many as was said at first, by default \
    one; spawn handle.run(), or say Replicas::Given";

/// What one layer shares with all that it builds.
pub(crate) struct Core<St, B: Buckets> {
    pub(crate) name: Arc<str>,
    pub(crate) store: St,
    pub(crate) buckets: B,
    pub(crate) settings: Settings,
    pub(crate) scales: ArcSwap<Vec<Scale>>,
    /// The smallest burst of those.
    burst: AtomicU32,
    /// What the bucket is called in the store, or what its buckets' names begin with.
    pub(crate) whole: Vec<u8>,
    pub(crate) counts: Counts,
    pub(crate) observers: Observers,
    pub(crate) circuit: Circuit,
    pub(crate) wishes: Wishes<B::Key>,
    pub(crate) origin: Origin,
    /// What is not leased in batches, because only some may have it.
    pub(crate) reserve: AtomicU32,
    /// Among how many the rates are shared in an outage.
    pub(crate) replicas: AtomicU32,
    /// Leases have been given back, and no more are taken.
    pub(crate) drained: AtomicBool,
    pub(crate) last_error: Mutex<Option<String>>,
    told_uncounted: AtomicBool,
    shadow: AtomicBool,
    /// Rates and shares are set by one at a time.
    setting: Mutex<()>,
}

impl<St, B: Buckets> Core<St, B> {
    pub(crate) fn new(
        name: Arc<str>,
        store: St,
        settings: Settings,
        rates: &[Rate],
        buckets: impl FnOnce(Arc<str>, &[Rate]) -> B,
    ) -> Self {
        let replicas = match settings.outage {
            Outage::Share(replicas) => replicas.at_first(),
            Outage::Open | Outage::Closed => std::num::NonZeroU32::MIN,
        };
        let shares: Vec<_> = rates.iter().map(|rate| share_of(*rate, replicas)).collect();
        let scales: Vec<_> = rates.iter().copied().map(Scale::new).collect();
        Self {
            whole: key::whole(&settings.prefix, &name),
            buckets: buckets(Arc::clone(&name), &shares),
            name,
            store,
            burst: AtomicU32::new(smallest_burst(&scales)),
            scales: ArcSwap::from_pointee(scales),
            counts: Counts::new(),
            observers: Observers::default(),
            circuit: Circuit::new(settings.circuit.clone()),
            wishes: Wishes::new(),
            origin: Origin::default(),
            reserve: AtomicU32::new(0),
            replicas: AtomicU32::new(replicas.get()),
            drained: AtomicBool::new(false),
            last_error: Mutex::new(None),
            told_uncounted: AtomicBool::new(false),
            shadow: AtomicBool::new(false),
            setting: Mutex::new(()),
            settings,
        }
    }

    pub(crate) fn rates(&self) -> Vec<Rate> {
        self.scales.load().iter().map(Scale::rate).collect()
    }

    pub(crate) fn set_rate(&self, limit: usize, rate: Rate) {
        {
            let _alone = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
            let mut scales = Vec::clone(&self.scales.load());
            scales[limit] = Scale::new(rate);
            self.burst.store(smallest_burst(&scales), Ordering::Relaxed);
            self.scales.store(Arc::new(scales));
            self.share_anew();
        }
        self.emit(None, Change::Rate { limit, rate });
    }

    /// Whether a request may ever be admitted.
    #[inline]
    pub(crate) fn allows(&self, ask: Ask) -> bool {
        let burst = self.burst.load(Ordering::Relaxed);
        ask.weight().get() <= burst.saturating_sub(ask.kept())
    }

    pub(crate) fn set_replicas(&self, replicas: u32) {
        let replicas = replicas.max(1);
        let _alone = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.replicas.swap(replicas, Ordering::Relaxed) != replicas {
            self.share_anew();
        }
    }

    fn share_anew(&self) {
        let replicas = self.replicas.load(Ordering::Relaxed).try_into().expect("one at the least");
        for (limit, scale) in self.scales.load().iter().enumerate() {
            self.buckets.set_share(limit, share_of(scale.rate(), replicas));
        }
    }

    /// The leases, unless they have been given back for good.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        let drained = || self.drained.load(Ordering::Relaxed);
        self.settings.lease.as_ref().filter(|_| !drained())
    }

    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        self.origin.nanos(now)
    }

    /// Leave to ask the store, or how long there will be none.
    pub(crate) fn admit(&self, now: Instant) -> Result<Ticket, Refused> {
        let (admitted, moved) = self.circuit.admit(now);
        self.tell(moved);
        admitted
    }

    /// Takes note of an answer that came.
    pub(crate) fn answered(&self, ticket: Ticket, sent: Instant, now: Instant) {
        self.counts.answered(now.saturating_duration_since(sent));
        self.tell(self.circuit.settle(ticket, Outcome::Success, now));
    }

    /// Takes note of one that did not.
    pub(crate) fn failed(&self, ticket: Ticket, why: Failure, now: Instant) {
        self.counts.add(Cell::Failed(why));
        self.tell(self.circuit.settle(ticket, Outcome::Failure, now));
    }

    /// Why there was no answer. What it says is kept, for whoever looks for the reason.
    pub(crate) fn why(&self, error: &StoreError) -> Failure {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        error.failure()
    }

    /// Takes note of one that nobody waited for.
    pub(crate) fn abandoned(&self, ticket: Ticket, now: Instant) {
        self.tell(self.circuit.settle(ticket, Outcome::Cancelled, now));
    }

    pub(crate) fn tell(&self, moved: Moved) {
        for transition in moved {
            self.emit(Some("store"), Change::Breaker(transition));
        }
    }

    /// Decides without the store.
    #[cold]
    pub(crate) fn without_store(
        &self,
        key: &B::Key,
        ask: Ask,
        asked_again_in: Option<Duration>,
        now: Instant,
    ) -> Result<(), Rejection> {
        self.look_for_driver();
        match self.settings.outage {
            Outage::Open => self.admitted(Source::Open),
            Outage::Closed => self.refused(Source::Closed, || self.unavailable(asked_again_in)),
            Outage::Share(_) => match self.buckets.take_share(key, ask, now) {
                Ok(()) => self.admitted(Source::Local),
                // What is too much for a share is not too much for the limit.
                Err(refused) if refused.retry_after().is_none() => {
                    self.refused(Source::Local, || self.unavailable(asked_again_in))
                }
                Err(refused) => self.refused(Source::Local, || refused),
            },
        }
    }

    /// Tells that nobody counts the replicas among which the rate is shared.
    fn look_for_driver(&self) {
        let counted = matches!(self.settings.outage, Outage::Share(Replicas::Counted(_)));
        if counted && !self.wishes.are_heard() && !self.told_uncounted.swap(true, Ordering::Relaxed)
        {
            self.emit(Some("store"), Change::Advice(UNCOUNTED));
        }
    }

    fn unavailable(&self, asked_again_in: Option<Duration>) -> Rejection {
        let rejection = Rejection::new(Kind::RateLimited, Arc::clone(&self.name))
            .because("the rate limit cannot be asked right now")
            .surfacing_as(503, Code::Unavailable);
        // Before the next probe it makes no sense to come again.
        rejection.with_retry_after(asked_again_in.unwrap_or(self.settings.within.get()))
    }

    /// Counts a request that is admitted.
    #[expect(clippy::unnecessary_wraps, reason = "a decision, as a refusal is one")]
    #[inline]
    pub(crate) fn admitted(&self, source: Source) -> Result<(), Rejection> {
        self.counts.add(Cell::Admitted(source));
        Ok(())
    }

    /// Counts a request that is refused; not so in shadow mode.
    #[cold]
    pub(crate) fn refused(
        &self,
        source: Source,
        rejection: impl FnOnce() -> Rejection,
    ) -> Result<(), Rejection> {
        self.counts.add(Cell::Refused(source));
        if self.is_shadow() { Ok(()) } else { Err(rejection()) }
    }

    /// The refusal of a request for which there is not enough, for so long.
    pub(crate) fn empty(&self, wait: Duration) -> Rejection {
        Rejection::new(Kind::RateLimited, Arc::clone(&self.name)).with_retry_after(wait)
    }

    /// Refuses a request that asks for more than may ever come at once.
    #[cold]
    pub(crate) fn too_much(&self) -> Result<(), Rejection> {
        self.counts.add(Cell::TooMuch);
        if self.is_shadow() {
            return Ok(());
        }
        let rejection = Rejection::new(Kind::RateLimited, Arc::clone(&self.name));
        Err(rejection.because("asks for more than the rate limit ever allows at once").for_good())
    }

    pub(crate) fn is_shadow(&self) -> bool {
        self.shadow.load(Ordering::Relaxed)
    }

    pub(crate) fn set_shadow(&self, shadow: bool) {
        if self.shadow.swap(shadow, Ordering::Relaxed) != shadow {
            self.emit(None, Change::Shadow(shadow));
        }
    }

    fn emit(&self, key: Option<&str>, change: Change) {
        let event = Event { layer: "fleet_limit", name: &self.name, key, change };
        self.observers.emit(&event);
    }
}

fn smallest_burst(scales: &[Scale]) -> u32 {
    scales.iter().map(Scale::burst).min().unwrap_or(u32::MAX)
}

impl<St, B: Buckets> fmt::Debug for Core<St, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .field("rates", &self.rates())
            .finish_non_exhaustive()
    }
}
