use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use buttress_core::Kind;
use tokio::time::advance;

use super::*;
use crate::{MemoryAnswer, Outage, Scale, Source, Store, Take, Taken};

#[tokio::test(start_paused = true)]
async fn processes_share_one_bucket_and_are_told_exactly_when_to_come_again() {
    let store = MemoryStore::new();
    let [one, two] = [(); 2].map(|()| process(per_second(4), Settings::strict(), &store));

    let together = admitted(&one, 3).await + admitted(&two, 3).await;
    let refused = call(&one, 1).await.unwrap_err();
    advance(Duration::from_micros(249_999)).await;
    let early = call(&two, 1).await.unwrap_err();
    advance(Duration::from_micros(1)).await;
    let then = call(&two, 1).await;

    assert_eq!(together, 4);
    assert_eq!(refused.kind(), Kind::RateLimited);
    assert_eq!(refused.retry_after(), Some(millis(250)));
    assert_eq!(early.retry_after(), Some(Duration::from_micros(1)));
    assert!(then.is_ok());
}

#[tokio::test(start_paused = true)]
async fn several_limits_admit_together_or_take_nothing() {
    let store = MemoryStore::new();
    let rates = [per_second(2), Rate::per_minute(n(3))];
    let limit = FleetLimitLayer::several("api", rates, Settings::strict(), store).exchange(Plain);

    let first = admitted(&limit, 3).await;
    advance(Duration::from_secs(1)).await;
    let second = admitted(&limit, 1).await;
    let refused = call(&limit, 1).await.unwrap_err();

    assert_eq!((first, second), (2, 1));
    // A token of the minute comes every twenty seconds, the first of them nineteen from now.
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(19)));
}

#[tokio::test(start_paused = true)]
async fn what_costs_more_than_ever_comes_at_once_is_told_so_and_asks_nobody() {
    let store = MemoryStore::new();
    let limit = process(per_second(5), Settings::strict(), &store).cost(|cost: &u32| n(*cost));

    let all = call(&limit, 5).await;
    let never = call(&limit, 6).await.unwrap_err();

    assert!(all.is_ok());
    assert_eq!(never.retry_after(), None);
    assert_eq!((store.asked(), limit.handle().totals().too_much), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_last_tokens_are_for_the_critical() {
    let store = MemoryStore::new();
    let limit = process(per_second(10), Settings::strict(), &store);
    let limit = limit.reserve(n(4), |request: &u32| *request == 99);

    let common = admitted(&limit, 10).await;
    let mut critical = 0;
    for _ in 0..10 {
        critical += u32::from(call(&limit, 99).await.is_ok());
    }

    assert_eq!((common, critical), (6, 4));
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_bucket_of_its_own_across_processes() {
    let store = MemoryStore::new();
    let keyed = || process(per_second(2), Settings::strict(), &store).keyed(|key: &u32| *key);
    let (one, two) = (keyed(), keyed());

    let first = [call(&one, 7).await, call(&two, 7).await, call(&one, 7).await];
    let other = [call(&one, 8).await, call(&two, 8).await, call(&two, 8).await];

    for calls in [first, other] {
        assert_eq!(calls.map(|call| call.is_ok()), [true, true, false]);
    }
}

#[tokio::test(start_paused = true)]
async fn in_shadow_mode_nothing_is_refused_and_all_is_counted() {
    let store = MemoryStore::new();
    let limit = process(per_second(2), Settings::strict(), &store);
    limit.handle().set_shadow(true);

    assert_eq!(admitted(&limit, 5).await, 5);

    let totals = limit.handle().totals();
    assert_eq!((totals.admitted(Source::Store), totals.refused(Source::Store)), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_new_rate_holds_at_once_and_is_no_burst() {
    let store = MemoryStore::new();
    let limit = process(per_second(10), Settings::strict(), &store);
    assert_eq!(admitted(&limit, 20).await, 10);

    limit.handle().set_rate(0, per_second(100));
    let at_once = admitted(&limit, 100).await;
    advance(Duration::from_secs(1)).await;
    let later = admitted(&limit, 200).await;

    assert!(at_once <= 90, "{at_once}");
    assert_eq!(later, 100);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_is_counted_and_costs_what_was_taken() {
    let store = MemoryStore::new();
    let limit = process(per_second(2), Settings::strict(), &store);
    store.answer_after(millis(5));

    let dropped = tokio::time::timeout(millis(2), call(&limit, 1)).await;
    let left = admitted(&limit, 2).await;

    assert!(dropped.is_err());
    assert_eq!(left, 1);
    assert_eq!(limit.handle().totals().left, 1);
}

/// A store that panics when it is told to.
#[derive(Clone)]
struct Panicking(MemoryStore, Arc<AtomicBool>);

impl Store for Panicking {
    type Answer<T: Send + 'static> = MemoryAnswer<T>;

    fn take(&self, key: &[u8], limits: &[Scale], take: Take) -> MemoryAnswer<Taken> {
        assert!(!self.1.load(Ordering::SeqCst), "as it was told");
        self.0.take(key, limits, take)
    }

    fn give(&self, key: &[u8], limits: &[Scale], tokens: u32) -> MemoryAnswer<()> {
        self.0.give(key, limits, tokens)
    }

    fn beat(&self, group: &[u8], member: &[u8], lasting: Duration) -> MemoryAnswer<u32> {
        self.0.beat(group, member, lasting)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_wedges_nothing() {
    for settings in [Settings::strict(), Settings::leased(crate::Lease::new(n(5)))] {
        let panics = Arc::new(AtomicBool::new(true));
        let store = Panicking(MemoryStore::new(), Arc::clone(&panics));
        let settings = settings.outage(Outage::Closed);
        let limit = FleetLimitLayer::new("api", per_second(10), settings, store).exchange(Plain);

        let service = limit.layer(Echo);
        let unwound = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut service = service;
            drop(service.call(1));
        }));
        panics.store(false, Ordering::SeqCst);
        let (after, took) = timed(call(&limit, 1)).await;

        assert!(unwound.is_err());
        assert!(after.is_ok(), "{after:?}");
        assert_eq!(took, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn every_response_says_what_is_left_across_the_fleet() {
    let store = MemoryStore::new();
    let limit = FleetLimitLayer::new("api", per_second(4), Settings::strict(), store).headers();
    let service = tower::service_fn(|_: http::Request<()>| {
        let body = http_body_util::Full::new(bytes::Bytes::new());
        ready(Ok::<_, std::convert::Infallible>(http::Response::new(body)))
    });
    let mut heads = Vec::new();

    for _ in 0..5 {
        let response = limit.layer(service).oneshot(http::Request::new(())).await.unwrap();
        let header = |name| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
        heads.push((response.status().as_u16(), header("ratelimit"), header("retry-after")));
        assert_eq!(header("ratelimit-policy").as_deref(), Some(r#""api";q=4;w=1"#));
    }

    assert_eq!(heads[0], (200, Some(r#""api";r=3;t=1"#.to_owned()), None));
    assert_eq!(heads[4], (429, Some(r#""api";r=0;t=1"#.to_owned()), Some("1".to_owned())));
}
