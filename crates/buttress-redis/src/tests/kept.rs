//! What is kept, and what adds up: by keys that are pushed out, by drains, by panics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use buttress_core::{Shared, TimeLimit, rate_limit::Ask};
use buttress_layers::rate_limit::{Admission, Pool, Seat, Told};
use tokio::time::advance;

use super::*;
use crate::{
    Failure, Lease, MemoryAnswer, Outage, Scale, Single, Source, Store, Take, Taken, Totals, Whole,
    buckets::{Buckets, Many},
    core::Core,
    purse::Said,
};

fn leased(most: u32) -> Settings {
    Settings::leased(Lease::new(n(most))).outage(Outage::Closed)
}

fn adds_up(totals: &Totals) {
    let used = totals.admitted(Source::Lease) + totals.admitted(Source::Store);
    assert_eq!(totals.leased, used + totals.lapsed + totals.given_back, "{totals:?}");
}

/// A second batch for the same key would be held beside the first: more than one process may.
#[test]
fn a_key_for_which_a_batch_is_carried_is_not_pushed_out() {
    let many = Many::<u32>::new("api".into(), &[per_second(100)], 1.try_into().unwrap());
    let (scales, lease) = ([Scale::new(per_second(100))], Lease::new(n(10)));
    let ask = |key: u32| {
        many.purse(&key, |purse| purse.take(Ask::one(), 0, &lease, &scales, 1_000_000_000))
    };
    assert!(matches!(ask(0), Said::Ask(_)));

    for other in 1..2000 {
        many.purse(&other, |_| ());
    }

    assert_eq!(ask(0), Said::Wait);
    let mut kept = 0;
    many.each_purse(|_, _| kept += 1);
    assert!(kept <= 65, "{kept}");
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_out_with_its_key_counts_as_lapsed() {
    let store = MemoryStore::new();
    let settings = leased(20).capacity(1.try_into().unwrap());
    let limit = process(Rate::per_hour(n(40)), settings, &store).keyed(|key: &u32| *key);
    admitted(&limit, 12).await;
    assert!(limit.handle().leased(&1) > 0);

    for other in 2..1000 {
        call(&limit, other).await.unwrap();
    }
    limit.handle().give_back().await;

    adds_up(&limit.handle().totals());
}

#[tokio::test(start_paused = true)]
async fn a_drain_counts_what_had_lapsed_before() {
    let store = MemoryStore::new();
    let limit = process(Rate::per_hour(n(100)), leased(50), &store);
    admitted(&limit, 12).await;
    assert!(limit.handle().leased() > 0);
    advance(Duration::from_secs(2)).await;

    let given = limit.handle().give_back().await;

    assert_eq!(given, 0);
    adds_up(&limit.handle().totals());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_under_way_is_given_back_by_a_drain_as_well() {
    let store = MemoryStore::new();
    let limit = process(Rate::per_hour(n(100)), leased(50), &store);
    let _driver = tokio::spawn(limit.handle().run());
    tokio::task::yield_now().await;
    // A batch of 16 is used up to the half, and the driver asks for more.
    store.answer_after(millis(10));
    while store.asked() < 6 {
        call(&limit, 1).await.unwrap();
        tokio::time::sleep(millis(1)).await;
    }

    limit.handle().give_back().await;
    tokio::time::sleep(millis(30)).await;

    assert_eq!(limit.handle().leased(), 0);
    adds_up(&limit.handle().totals());
    let other = process(Rate::per_hour(n(100)), Settings::strict(), &store);
    store.mend();
    let used = limit.handle().totals().all_admitted();
    assert_eq!(u64::from(admitted(&other, 100).await), 100 - used);
}

/// What is over is not given back: it could be more than was leased at any time, later on.
#[tokio::test(start_paused = true)]
async fn a_drain_of_many_keys_ends_with_their_leases() {
    let store = MemoryStore::new();
    let limit = process(Rate::per_hour(n(100)), leased(50), &store).keyed(|key: &u32| *key);
    for key in 0..500 {
        for _ in 0..4 {
            call(&limit, key).await.unwrap();
        }
    }
    store.answer_after(millis(10));

    let (given, took) = timed(limit.handle().give_back()).await;

    assert!(given > 0);
    assert!(took <= millis(1050), "{took:?}");
    adds_up(&limit.handle().totals());
}

#[tokio::test(start_paused = true)]
async fn a_check_of_a_store_that_is_silent_ends() {
    let store = MemoryStore::new();
    store.hang();
    let limit = process(per_second(1), Settings::strict(), &store);

    let checked = tokio::time::timeout(Duration::from_secs(60), limit.handle().check()).await;

    let error = checked.expect("it ends").unwrap_err();
    assert_eq!(error.failure(), Failure::TimedOut);
    assert!(error.to_string().contains("has not answered within 5 s"), "{error}");
}

#[test]
fn two_rates_set_at_once_both_hold() {
    let rates = [per_second(1), per_second(1)];
    for round in 0..300 {
        let limit =
            FleetLimitLayer::several("api", rates, Settings::strict(), Forgetful(Arc::default()));
        std::thread::scope(|scope| {
            for place in 0..2 {
                let handle = limit.handle();
                scope.spawn(move || {
                    for events in 2..20 {
                        handle.set_rate(place, per_second(events));
                    }
                });
            }
        });
        assert_eq!(limit.handle().rates(), [per_second(19); 2], "round {round}");
    }
}

/// A store that grants what is asked for, and panics when it is told to.
#[derive(Clone, Debug)]
struct Forgetful(Arc<AtomicBool>);

impl Store for Forgetful {
    type Answer<T: Send + 'static> = MemoryAnswer<T>;

    fn take(&self, key: &[u8], limits: &[Scale], take: Take) -> MemoryAnswer<Taken> {
        assert!(!self.0.load(Ordering::SeqCst), "as it was told");
        MemoryStore::new().take(key, limits, take)
    }

    fn give(&self, key: &[u8], limits: &[Scale], tokens: u32) -> MemoryAnswer<()> {
        MemoryStore::new().give(key, limits, tokens)
    }

    fn beat(&self, group: &[u8], member: &[u8], lasting: Duration) -> MemoryAnswer<u32> {
        MemoryStore::new().beat(group, member, lasting)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_under_the_driver_wedges_nothing() {
    let panics = Arc::new(AtomicBool::new(false));
    let limit =
        FleetLimitLayer::new("api", per_second(1000), leased(100), Forgetful(Arc::clone(&panics)));
    let limit = limit.exchange(Plain);
    let driver = tokio::spawn(limit.handle().run());
    tokio::task::yield_now().await;
    // Until a batch is half used, and the driver is told.
    while limit.handle().leased() < 4 {
        call(&limit, 1).await.unwrap();
    }
    panics.store(true, Ordering::SeqCst);
    while limit.handle().leased() > 0 {
        call(&limit, 1).await.unwrap();
    }
    assert!(driver.await.unwrap_err().is_panic());
    panics.store(false, Ordering::SeqCst);

    let (after, took) = timed(call(&limit, 1)).await;

    assert!(after.is_ok(), "{after:?}");
    assert_eq!(took, Duration::ZERO);
}

/// Ten thousand that wait for one batch are ten thousand steps, and not their square.
#[test]
fn who_waits_is_found_at_once() {
    let (scales, lease) = ([Scale::new(per_second(100))], Lease::new(n(10)));
    let mut purse = crate::purse::Purse::default();
    let _ = purse.take(Ask::one(), 0, &lease, &scales, 1_000_000_000);
    let (first, second) = (Arc::new(Wake), Arc::new(Wake));
    let (first, second) = (first.into(), second.into());

    let mut places = [None; 2];
    for _ in 0..3 {
        purse.wait(&mut places[0], &first);
        purse.wait(&mut places[1], &second);
    }
    // Another task has taken over the second.
    purse.wait(&mut places[1], &first);
    let woken = purse.put_down();
    let again = {
        let _ = purse.take(Ask::one(), 0, &lease, &scales, 1_000_000_000);
        purse.wait(&mut places[1], &first);
        purse.put_down().len()
    };

    assert_eq!((woken.len(), again), (2, 1));
    assert!(woken.iter().all(|waker| waker.will_wake(&first)));
}

struct Wake;

impl std::task::Wake for Wake {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_a_request_is_decided_and_not_before() {
    for settings in [Settings::strict().outage(Outage::Closed), leased(5)] {
        let store = MemoryStore::new();
        store.hang();
        let core = Core::new("api".into(), store, settings, &[per_second(1)], Single::new);
        let fleet = Fleet { core: Shared::new(core), find: Whole };
        let now = crate::clock::read();
        let enter = || match fleet.enter(&1_u32, Ask::one(), now) {
            Admission::Waiting(seat) => seat,
            decided => panic!("{decided:?}"),
        };

        // One that asks, and another that does so too, or waits behind it.
        for mut seat in [enter(), enter()] {
            let nearly = seat.ask(now + Duration::from_nanos(19_999_999), Waker::noop());
            let then = seat.ask(now + WITHIN, Waker::noop());

            assert!(matches!(nearly, Told::Wait(until) if until == now + WITHIN), "{nearly:?}");
            assert!(matches!(then, Told::Refused(_)), "{then:?}");
        }
    }
}

/// As after a process was stopped, with a request under way.
#[tokio::test(start_paused = true)]
async fn what_comes_after_its_lease_is_over_is_not_used() {
    let store = MemoryStore::new();
    let lease = Lease::new(n(50)).lasting(TimeLimit::from_millis(5));
    let settings = Settings::leased(lease).outage(Outage::Closed);
    let limit = process(Rate::per_hour(n(1000)), settings, &store);
    admitted(&limit, 12).await;
    advance(millis(5)).await;
    store.answer_after(millis(10));

    let late = call(&limit, 1).await;

    assert!(late.is_err());
    assert_eq!(limit.handle().leased(), 0);
}

#[tokio::test(start_paused = true)]
async fn nor_is_what_a_driver_hears_of_too_late() {
    let store = MemoryStore::new();
    let lease = Lease::new(n(50)).lasting(TimeLimit::from_millis(5));
    let settings = Settings::leased(lease).outage(Outage::Closed);
    let limit = process(Rate::per_hour(n(1000)), settings, &store);
    let _driver = tokio::spawn(limit.handle().run());
    tokio::task::yield_now().await;
    while limit.handle().leased() < 8 {
        call(&limit, 1).await.unwrap();
    }
    tokio::task::yield_now().await;
    store.answer_after(millis(10));
    let asked = store.asked();
    while limit.handle().leased() > 0 {
        call(&limit, 1).await.unwrap();
    }

    tokio::time::sleep(millis(12)).await;

    assert!(store.asked() > asked);
    assert_eq!(limit.handle().leased(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_leaves_its_place_to_the_next_caller() {
    let store = MemoryStore::new();
    let limit = process(per_second(100), Settings::strict().outage(Outage::Open), &store);
    store.fail();
    admitted(&limit, 3).await;
    advance(millis(501)).await;
    store.hang();

    let gone = tokio::time::timeout(millis(2), call(&limit, 1)).await;
    store.mend();
    call(&limit, 1).await.unwrap();

    assert!(gone.is_err());
    assert_eq!(limit.handle().totals().admitted(Source::Store), 1);
}
