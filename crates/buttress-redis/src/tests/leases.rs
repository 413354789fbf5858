use std::sync::Arc;

use buttress_core::Random;
use tokio::time::advance;

use super::*;
use crate::{Lease, Outage, Source};

fn leased(most: u32) -> Settings {
    Settings::leased(Lease::new(n(most))).outage(Outage::Closed)
}

#[tokio::test(start_paused = true)]
async fn most_requests_ask_nobody() {
    let store = MemoryStore::new();
    let limit = process(per_second(1000), leased(100), &store);

    for _ in 0..1000 {
        assert!(call(&limit, 1).await.is_ok());
        advance(Duration::from_millis(1)).await;
    }

    assert!(store.asked() <= 30, "{}", store.asked());
    let totals = limit.handle().totals();
    assert_eq!(totals.admitted(Source::Lease) + totals.admitted(Source::Store), 1000);
    assert_eq!(totals.admitted(Source::Store), store.asked());
}

/// With a driver even the first request of a batch finds one there.
#[tokio::test(start_paused = true)]
async fn a_driver_refills_ahead_of_need_and_nobody_waits() {
    let store = MemoryStore::new();
    let limit = process(per_second(1000), leased(100), &store);
    let _driver = tokio::spawn(limit.handle().run());
    store.answer_after(millis(3));
    let mut waited = 0;

    for request in 0..2000 {
        let (admitted, took) = timed(call(&limit, 1)).await;
        assert!(admitted.is_ok());
        waited += u32::from(request >= 100 && took > Duration::ZERO);
        tokio::time::sleep(millis(2)).await;
    }

    assert_eq!(waited, 0);
    assert!(store.asked() <= 120, "{}", store.asked());
}

#[tokio::test(start_paused = true)]
async fn a_dry_bucket_is_asked_again_when_it_can_have_enough_and_not_before() {
    let store = MemoryStore::new();
    let limit = process(Rate::per_minute(n(6)), leased(3), &store);
    assert_eq!(admitted(&limit, 20).await, 6);
    let (asked, refused) = (store.asked(), call(&limit, 1).await.unwrap_err());

    advance(millis(900)).await;
    let still = admitted(&limit, 100).await;

    assert_eq!(refused.retry_after(), Some(Duration::from_secs(10)));
    assert_eq!((still, store.asked()), (0, asked));
    // What others may have given back is looked for once a second.
    advance(millis(200)).await;
    assert_eq!(call(&limit, 1).await.unwrap_err().retry_after(), Some(millis(8900)));
    assert_eq!(store.asked(), asked + 1);
    advance(millis(8900)).await;
    assert!(call(&limit, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_was_leased_goes_back_to_the_fleet() {
    let store = MemoryStore::new();
    let [one, two] = [(); 2].map(|()| process(Rate::per_hour(n(40)), leased(20), &store));
    admitted(&one, 12).await;
    let held = one.handle().leased();
    assert!(held > 0);

    let given = one.handle().give_back().await;
    let others = admitted(&two, 40).await;

    assert_eq!((given, one.handle().leased()), (held.into(), 0));
    assert_eq!(others, 28);
    assert_eq!(one.handle().totals().given_back, u64::from(held));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_not_used_in_time_lapse() {
    let store = MemoryStore::new();
    let limit = process(Rate::per_hour(n(100)), leased(50), &store);
    admitted(&limit, 12).await;
    let held = limit.handle().leased();

    advance(Duration::from_secs(1)).await;

    assert!(held > 0);
    assert_eq!(limit.handle().leased(), 0);
    assert!(call(&limit, 1).await.is_ok());
    assert_eq!(limit.handle().totals().lapsed, u64::from(held));
}

#[tokio::test(start_paused = true)]
async fn when_who_carries_a_batch_leaves_another_asks() {
    let store = MemoryStore::new();
    let limit = process(per_second(100), leased(10), &store);
    store.answer_after(millis(10));

    let carries = tokio::spawn({
        let limit = limit.clone();
        async move { call(&limit, 1).await }
    });
    tokio::task::yield_now().await;
    let waits = tokio::spawn({
        let limit = limit.clone();
        async move { timed(call(&limit, 1)).await }
    });
    tokio::time::sleep(millis(4)).await;
    assert_eq!(store.asked(), 1);
    carries.abort();
    let (admitted, took) = waits.await.unwrap();

    assert!(admitted.is_ok());
    assert_eq!(took, millis(14));
    assert_eq!(store.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_that_find_nothing_ask_once_between_them() {
    let store = MemoryStore::new();
    let limit = process(per_second(100), leased(50), &store);
    admitted(&limit, 1).await;
    // A second of nothing, in which demand is forgotten, and then many at once.
    let asked = store.asked();
    store.answer_after(millis(5));

    let calls: Vec<_> = (0..8)
        .map(|_| {
            let limit = limit.clone();
            tokio::spawn(async move { call(&limit, 1).await.is_ok() })
        })
        .collect();
    tokio::time::sleep(millis(1)).await;

    assert_eq!(store.asked(), asked + 1);
    for call in calls {
        assert!(call.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn batches_leave_what_is_reserved_to_the_critical() {
    let store = MemoryStore::new();
    let limit = process(Rate::per_hour(n(100)), leased(50), &store);
    let limit = limit.reserve(n(40), |request: &u32| *request == 99);

    let common = admitted(&limit, 200).await;
    let mut critical = 0;
    for _ in 0..100 {
        critical += u32::from(call(&limit, 99).await.is_ok());
    }

    assert_eq!((common, critical), (60, 40));
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_more_than_a_batch_asks_alone() {
    let store = MemoryStore::new();
    let limit = process(per_second(100), leased(10), &store).cost(|cost: &u32| n(*cost));

    let costly = call(&limit, 60).await;
    let too_soon = call(&limit, 60).await.unwrap_err();

    assert!(costly.is_ok());
    assert_eq!(too_soon.retry_after(), Some(millis(200)));
}

/// Three processes, random traffic, and every window of what they admit together: never more than
/// the burst, what the rate yields, and what may have been leased before it began.
#[tokio::test(start_paused = true)]
async fn no_window_holds_more_than_the_limit_and_the_leases_out() {
    for seed in 0..12 {
        let random = Random::seeded(seed);
        let mut drawn = 0;
        let mut draw = |below: u64| {
            drawn += 1;
            random.draw() % below
        };
        let store = MemoryStore::new();
        let (rate, lease) = (per_second(50).burst(n(20)), Lease::new(n(8)));
        let settings = Settings::leased(lease).outage(Outage::Closed);
        let processes: Vec<_> = (0..3).map(|_| process(rate, settings.clone(), &store)).collect();
        let start = Instant::now();
        let mut admitted = Vec::new();

        for _ in 0..4000 {
            let limit = &processes[usize::try_from(draw(3)).unwrap()];
            if call(limit, 1).await.is_ok() {
                admitted.push(start.elapsed());
            }
            // Bursts, and silences in which leases lapse or are kept for the next.
            let pause = match draw(100) {
                0 => draw(900_000),
                1..=30 => draw(20_000),
                _ => 0,
            };
            advance(Duration::from_micros(pause)).await;
        }

        let allowed = lease.over_admission(rate, n(3)) + 20;
        assert_eq!(allowed, 24 + 20);
        for (first, from) in admitted.iter().enumerate() {
            for (count, to) in (1_u64..).zip(&admitted[first..]) {
                let yielded = to.saturating_sub(*from).as_micros() * 50 / 1_000_000;
                let most = allowed + u64::try_from(yielded).unwrap();
                assert!(count <= most, "seed {seed}: {count} from {from:?} to {to:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_pushed_out_wake_who_waits() {
    let store = MemoryStore::new();
    let settings = leased(10).capacity(1.try_into().unwrap());
    let limit = process(per_second(100), settings, &store).keyed(|key: &u32| *key);
    store.answer_after(millis(5));
    let limit = Arc::new(limit);

    let calls: Vec<_> = (0..400)
        .map(|request| {
            let limit = Arc::clone(&limit);
            tokio::spawn(async move { call(&*limit, request % 200).await.is_ok() })
        })
        .collect();

    for call in calls {
        assert!(call.await.unwrap());
    }
}
