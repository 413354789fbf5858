//! Who may have what: reserves, what is free, and what a handle asks and gives back.

use buttress_core::{Change, Event, Observe};
use std::sync::{Arc, Mutex};

use super::*;
use crate::{Lease, Outage, Replicas};

const CRITICAL: u32 = 99;

fn leased(store: &MemoryStore) -> Limit {
    process(Rate::per_hour(n(100)), Settings::leased(Lease::new(n(50))), store)
}

/// Requests of some in turn with those of others who may have less, until nobody gets anything; how
/// many were admitted of each.
async fn in_turn<L, const N: usize>(layer: &L, requests: [u32; N]) -> [u32; N]
where
    L: Layer<Echo>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    let mut admitted = [0; N];
    for _ in 0..200 {
        for (admitted, request) in admitted.iter_mut().zip(requests) {
            *admitted += u32::from(call(layer, request).await.is_ok());
        }
    }
    admitted
}

#[tokio::test(start_paused = true)]
async fn a_reserve_holds_whether_keys_are_named_before_it_or_after() {
    let critical = |request: &u32| *request == CRITICAL;
    let [one, two] = [(); 2].map(|()| leased(&MemoryStore::new()));
    let before = one.reserve(n(40), critical).keyed(|_: &u32| 1_u32);
    let after = two.keyed(|_: &u32| 1_u32).reserve(n(40), critical);

    let after = in_turn(&after, [CRITICAL, 1]).await;
    let before = in_turn(&before, [CRITICAL, 1]).await;

    // In turn they take sixty, and the rest is for who is critical.
    assert_eq!((after, before), ([70, 30], [70, 30]));
}

#[tokio::test(start_paused = true)]
async fn of_two_reserves_the_greater_holds_in_whichever_order() {
    let (most, some) = (|it: &u32| *it == CRITICAL, |it: &u32| *it >= 50);
    let [one, two] = [(); 2].map(|()| leased(&MemoryStore::new()));
    let ascending = one.reserve(n(10), most).reserve(n(40), some);
    let descending = two.reserve(n(40), some).reserve(n(10), most);

    // Who may have all but ten, and who may have all but forty.
    let ascending = in_turn(&ascending, [50, 1]).await;
    let descending = in_turn(&descending, [50, 1]).await;

    assert_eq!((ascending, descending), ([60, 30], [60, 30]));
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_stays_on_when_keys_are_named() {
    let limit = process(Rate::per_hour(n(1)), Settings::strict(), &MemoryStore::new());
    limit.handle().set_shadow(true);

    let limit = limit.keyed(|request: &u32| *request);

    assert!(limit.handle().is_shadow());
    assert_eq!(admitted(&limit, 3).await, 3);
}

#[tokio::test(start_paused = true)]
async fn what_bypasses_asks_nobody() {
    let store = MemoryStore::new();
    let limit = process(Rate::per_hour(n(1)), Settings::strict(), &store);
    let limit = limit.bypass(|request: &u32| *request == 7);

    for _ in 0..3 {
        assert!(call(&limit, 7).await.is_ok());
    }

    assert_eq!((store.asked(), limit.handle().totals()), (0, crate::Totals::default()));
}

#[tokio::test(start_paused = true)]
async fn a_handle_reads_the_bucket_and_gives_back_to_it() {
    let store = MemoryStore::new();
    let limit = process(Rate::per_hour(n(5)), Settings::strict(), &store);
    let keyed = process(Rate::per_hour(n(5)), Settings::strict(), &store).keyed(|it: &u32| *it);
    assert_eq!((admitted(&limit, 3).await, admitted(&keyed, 2).await), (3, 2));
    let (handle, by_key) = (limit.handle(), keyed.handle());
    let left = |standings: Vec<buttress_core::rate_limit::Standing>| standings[0].available;

    let before = left(handle.peek().await.unwrap());
    handle.refund(n(2)).await.unwrap();
    let after = left(handle.peek().await.unwrap());
    by_key.refund(&1, n(9)).await.unwrap();

    assert_eq!((before, after), (2, 4));
    assert_eq!(left(by_key.peek(&1).await.unwrap()), 5);
    assert_eq!(left(by_key.peek(&2).await.unwrap()), 5);
    store.hang();
    let (silent, took) = timed(handle.peek()).await;
    assert_eq!((silent.unwrap_err().failure(), took), (crate::Failure::TimedOut, WITHIN));
    store.fail();
    assert!(handle.refund(n(1)).await.is_err());
}

#[derive(Default)]
struct Advised(Mutex<Vec<&'static str>>);

impl Observe for Advised {
    fn observe(&self, event: &Event<'_>) {
        if let Change::Advice(what) = event.change {
            self.0.lock().unwrap().push(what);
        }
    }
}

/// Without a driver nobody counts, and each process admits the whole rate.
#[tokio::test(start_paused = true)]
async fn an_outage_in_which_nobody_has_counted_the_replicas_is_told_of_once() {
    let given = Outage::Share(Replicas::Given(n(2)));
    for (outage, driven, expected) in [(None, false, 1), (None, true, 0), (Some(given), false, 0)] {
        let store = MemoryStore::new();
        let settings = Settings::strict();
        let settings = outage.map_or(settings.clone(), |outage| settings.outage(outage));
        let limit = process(per_second(10), settings, &store);
        let (handle, advised) = (limit.handle(), Arc::new(Advised::default()));
        handle.observe(Arc::<Advised>::clone(&advised));
        let driver = driven.then(|| tokio::spawn(limit.handle().run()));
        tokio::task::yield_now().await;
        store.fail();

        admitted(&limit, 5).await;

        let told = advised.0.lock().unwrap().clone();
        assert_eq!(told.len(), expected, "{outage:?}, driven {driven}: {told:?}");
        assert!(told.iter().all(|told| told.contains("handle.run()")));
        if let Some(driver) = driver {
            driver.abort();
        }
    }
}
