use std::{
    fmt,
    hash::Hash,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use buttress_core::{
    Rejection, Shared,
    rate_limit::{Ask, Standing},
};
use buttress_layers::rate_limit::{Admission, Pool};

use crate::{
    FleetKey, Source, Store,
    buckets::{Buckets, Many, Single},
    core::Core,
    purse::Said,
    scale::standings,
    seat::Asking,
};

/// The buckets of a fleet: the [`Pool`] of a [`FleetLimitLayer`](crate::FleetLimitLayer).
pub struct Fleet<St, B: Buckets = Single, F = Whole> {
    pub(crate) core: Shared<Core<St, B>>,
    pub(crate) find: F,
}

/// All requests draw from one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whole;

/// Each request draws from the bucket of its key.
#[derive(Clone, Copy)]
pub struct By<F>(pub(crate) F);

/// Which bucket a request draws from.
pub trait Find<Request, Key>: Clone {
    /// Its key.
    fn find(&self, request: &Request) -> Key;
}

impl<Request> Find<Request, ()> for Whole {
    #[inline]
    fn find(&self, _: &Request) {}
}

impl<Request, K, F: Fn(&Request) -> K + Clone> Find<Request, K> for By<F> {
    #[inline]
    fn find(&self, request: &Request) -> K {
        (self.0)(request)
    }
}

impl<Request, St, B, F> Pool<Request> for Fleet<St, B, F>
where
    St: Store,
    B: Buckets,
    F: Find<Request, B::Key>,
{
    type Seat = Asking<St, B>;

    #[inline]
    fn enter(&self, request: &Request, ask: Ask, now: Instant) -> Admission<Asking<St, B>> {
        let (core, key) = (&*self.core, self.find.find(request));
        if !core.allows(ask) {
            return decided(core.too_much());
        }
        // A batch is not taken for more than a batch may be.
        let lease = core.lease().filter(|lease| ask.weight() <= lease.most());
        let said = lease.map_or(Said::Alone, |lease| {
            let nanos = core.nanos(now);
            let reserve = core.reserve.load(Ordering::Relaxed);
            let (said, tell) = core.buckets.purse(&key, |purse| {
                // Nor of what is reserved: who may have that asks for itself.
                let said = if ask.kept() < reserve {
                    purse.take_held(ask, nanos)
                } else {
                    // The rates are of no interest as long as there is enough.
                    purse.take_ready(ask, nanos).unwrap_or_else(|| {
                        purse.again(ask, reserve, lease, &core.scales.load(), nanos)
                    })
                };
                let low = matches!(said, Said::Enough { low: true });
                (said, low && core.wishes.are_heard() && purse.want())
            });
            if tell {
                core.wishes.push(key.clone());
            }
            said
        });
        match said {
            Said::Enough { .. } => decided(core.admitted(Source::Lease)),
            Said::Dry(wait) => decided(core.refused(Source::Lease, || core.empty(wait))),
            // Who asks already may be the one that finds out whether the store is back.
            Said::Wait if !core.circuit.is_closed() => {
                decided(core.without_store(&key, ask, None, now))
            }
            Said::Wait => Admission::Waiting(Asking::behind(self.core.lease(), key, ask, now)),
            Said::Ask(_) | Said::Alone => {
                let mut asking = Asking::new(self.core.lease(), key, ask, now);
                match asking.send(said, &core.scales.load(), now) {
                    None => Admission::Waiting(asking),
                    Some(decision) => decided(decision),
                }
            }
        }
    }

    fn name(&self) -> &str {
        &self.core.name
    }

    fn standings(&self, request: &Request, now: Instant) -> Vec<Standing> {
        known(&self.core, &self.find.find(request), now)
    }
}

/// What was last heard of a bucket, by now; what is leased of it is still to be had. Nothing if
/// nothing was heard.
pub(crate) fn known<St, B: Buckets>(
    core: &Core<St, B>,
    key: &B::Key,
    now: Instant,
) -> Vec<Standing> {
    let nanos = core.nanos(now);
    let (known, left) = core.buckets.purse(key, |purse| (purse.known(), purse.left(nanos)));
    let Some(known) = known else { return Vec::new() };
    let ago = Duration::from_nanos(nanos.saturating_sub(known.at));
    let mut standings = standings(&core.scales.load(), &known.debts, ago);
    for standing in &mut standings {
        let most = standing.rate.most_at_once().get();
        standing.available = standing.available.saturating_add(left).min(most);
    }
    standings
}

fn decided<Seat>(decision: Result<(), Rejection>) -> Admission<Seat> {
    match decision {
        Ok(()) => Admission::Admitted,
        Err(rejection) => Admission::Refused(rejection),
    }
}

impl<St: Store, B: Buckets, F: Clone> Clone for Fleet<St, B, F> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), find: self.find.clone() }
    }
}

impl<St, B: Buckets, F> fmt::Debug for Fleet<St, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("core", &self.core).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for By<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("By(..)")
    }
}

impl<St, F> Fleet<St, Single, F> {
    /// The same with a bucket for each key, and nothing counted. What was said of it holds on.
    pub(crate) fn keyed<K, G>(self, find: G) -> Fleet<St, Many<K>, By<G>>
    where
        St: Store,
        K: Hash + Eq + Clone + FleetKey + Send + Sync + 'static,
    {
        let core = &*self.core;
        let capacity = core.settings.capacity;
        let many = |name, shares: &[_]| Many::new(name, shares, capacity);
        let anew = Core::new(
            Arc::clone(&core.name),
            core.store.clone(),
            core.settings.clone(),
            &core.rates(),
            many,
        );
        anew.reserve.store(core.reserve.load(Ordering::Relaxed), Ordering::Relaxed);
        anew.set_shadow(core.is_shadow());
        Fleet { core: Shared::new(anew), find: By(find) }
    }
}
