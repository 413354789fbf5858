use buttress_core::{Kind, breaker::State};
use tokio::time::advance;

use super::*;
use crate::{Failure, Lease, Outage, Replicas, Source};

/// Each of these calls waits no longer than it may, and soon none waits at all.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_silent_costs_three_callers_their_wait_and_then_nobody() {
    let store = MemoryStore::new();
    store.hang();
    let outage = Outage::Share(Replicas::Given(n(2)));
    let limit = process(per_second(100), Settings::strict().outage(outage), &store);
    let mut waits = Vec::new();

    for _ in 0..60 {
        let (_, took) = timed(call(&limit, 1)).await;
        waits.push(took);
    }

    assert_eq!(waits[..3], [WITHIN; 3]);
    assert_eq!(waits[3..], [Duration::ZERO; 57]);
    let totals = limit.handle().totals();
    assert_eq!((store.asked(), totals.failed(Failure::TimedOut)), (3, 3));
    // Half of the burst, and what half of the rate yields in 40 ms.
    assert_eq!((totals.admitted(Source::Local), totals.refused(Source::Local)), (52, 8));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_left_alone_and_asked_again_until_it_is_back() {
    let store = MemoryStore::new();
    let limit = process(per_second(1000), Settings::strict().outage(Outage::Open), &store);
    store.fail();
    let mut asked = Vec::new();
    let mut sources = Vec::new();

    for step in 0..100 {
        if step == 60 {
            store.mend();
        }
        assert!(call(&limit, 1).await.is_ok());
        sources.push(limit.handle().totals().admitted(Source::Store));
        asked.push(store.asked());
        advance(millis(100)).await;
    }

    assert_eq!(asked[2], 3);
    // Waits of 0.4 to 0.5 s, 0.8 to 1 s, and 1.6 to 2 s from then on.
    let while_it_was_away = asked[59] - asked[2];
    assert!((3..=6).contains(&while_it_was_away), "{asked:?}");
    assert_eq!(sources[59], 0);
    let back = sources.iter().position(|admitted| *admitted > 0).expect("it is back");
    assert!(back - 60 <= 20, "back {} steps after it was mended", back - 60);
    assert_eq!(sources[99] - sources[back], 99 - u64::try_from(back).unwrap());
    assert_eq!(limit.handle().store_state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_closed_limit_refuses_as_unavailable_and_says_when_it_will_ask_again() {
    let store = MemoryStore::new();
    store.fail();
    let limit = process(per_second(1000), Settings::strict().outage(Outage::Closed), &store);

    let mut last = None;
    for _ in 0..4 {
        last = Some(call(&limit, 1).await.unwrap_err());
    }

    let last = last.unwrap();
    assert_eq!((last.kind(), last.http_status()), (Kind::RateLimited, 503));
    let again = last.retry_after().unwrap();
    assert!((millis(400)..=millis(500)).contains(&again), "{again:?}");
    assert_eq!(limit.handle().totals().refused(Source::Closed), 4);
    assert_eq!(limit.handle().last_error().as_deref(), Some("the store was told to fail"));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_for_a_share_is_not_called_hopeless() {
    let store = MemoryStore::new();
    store.fail();
    let outage = Outage::Share(Replicas::Given(n(10)));
    let limit = process(per_second(10), Settings::strict().outage(outage), &store);
    let limit = limit.cost(|cost: &u32| n(*cost));

    let refused = call(&limit, 5).await.unwrap_err();

    assert_eq!(refused.http_status(), 503);
    assert!(refused.retry_after().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_answers_those_it_answers_in_time() {
    let store = MemoryStore::new();
    let limit = process(per_second(1000), Settings::strict().outage(Outage::Closed), &store);

    store.answer_after(millis(19));
    let (in_time, took) = timed(call(&limit, 1)).await;
    store.answer_after(millis(30));
    let (late, waited) = timed(call(&limit, 1)).await;

    assert!(in_time.is_ok() && late.is_err());
    assert_eq!((took, waited), (millis(19), WITHIN));
    let answers = limit.handle().answers();
    assert_eq!(answers.0.iter().map(|bucket| bucket.count).sum::<u64>(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_that_never_wait_to_the_end_do_not_hide_that_the_store_is_dead() {
    let store = MemoryStore::new();
    store.hang();
    let limit = process(per_second(1000), Settings::strict().outage(Outage::Open), &store);

    for _ in 0..3 {
        let gone = tokio::time::timeout(millis(12), call(&limit, 1)).await;
        assert!(gone.is_err());
    }
    let (then, took) = timed(call(&limit, 1)).await;

    assert!(then.is_ok());
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn leases_last_into_an_outage_and_then_the_share_decides() {
    let store = MemoryStore::new();
    let outage = Outage::Share(Replicas::Given(n(4)));
    let settings = Settings::leased(Lease::new(n(8))).outage(outage);
    let limit = process(per_second(100), settings, &store);
    admitted(&limit, 6).await;
    let leased = limit.handle().leased();
    assert!(leased > 0);
    store.fail();

    let before = limit.handle().totals();
    admitted(&limit, leased + 40).await;

    let totals = limit.handle().totals();
    assert_eq!(totals.admitted(Source::Lease) - before.admitted(Source::Lease), u64::from(leased));
    assert_eq!(totals.admitted(Source::Local), 25);
}

/// A single caller finds out whether the store is back; those who come meanwhile do not wait.
#[tokio::test(start_paused = true)]
async fn nobody_waits_behind_a_probe() {
    let store = MemoryStore::new();
    let settings = Settings::leased(Lease::new(n(8))).outage(Outage::Open);
    let limit = process(per_second(100), settings, &store);
    store.fail();
    admitted(&limit, 4).await;
    store.hang();
    advance(millis(501)).await;

    let probe = tokio::spawn({
        let limit = limit.clone();
        async move { timed(call(&limit, 1)).await.1 }
    });
    tokio::task::yield_now().await;
    let (_, took) = timed(call(&limit, 1)).await;

    assert_eq!(took, Duration::ZERO);
    assert_eq!(probe.await.unwrap(), WITHIN);
}

#[tokio::test(start_paused = true)]
async fn replicas_are_counted_by_their_drivers_and_remembered_through_an_outage() {
    let store = MemoryStore::new();
    let limits: Vec<_> =
        (0..4).map(|_| process(per_second(100), Settings::strict(), &store)).collect();
    let drivers: Vec<_> = limits.iter().map(|limit| tokio::spawn(limit.handle().run())).collect();

    advance(millis(2500)).await;
    tokio::time::sleep(millis(1500)).await;
    let counted: Vec<_> = limits.iter().map(|limit| limit.handle().replicas().get()).collect();
    drivers[3].abort();
    tokio::time::sleep(Duration::from_secs(7)).await;
    let after_one_left = limits[0].handle().replicas().get();
    store.fail();
    tokio::time::sleep(Duration::from_secs(60)).await;

    assert_eq!(counted, [4; 4]);
    assert_eq!(after_one_left, 3);
    assert_eq!(limits[0].handle().replicas().get(), 3);
    // A third of the burst of a hundred.
    assert_eq!(admitted(&limits[0], 100).await, 33);
}

#[tokio::test(start_paused = true)]
async fn a_driver_finds_out_without_any_traffic_that_the_store_is_back() {
    let store = MemoryStore::new();
    let limit = process(per_second(100), Settings::strict(), &store);
    let _driver = tokio::spawn(limit.handle().run());
    store.fail();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let away = limit.handle().store_state();

    store.mend();
    tokio::time::sleep(Duration::from_secs(4)).await;

    assert_ne!(away, State::Closed);
    assert_eq!(limit.handle().store_state(), State::Closed);
}
