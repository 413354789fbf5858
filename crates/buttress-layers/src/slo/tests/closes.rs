//! The loop closes: layers do less of what can be done without while a budget burns.

use std::future::pending;

use buttress_core::{Criticality, Leeway, Plain, Ratio, retry};
use buttress_slo::{Burn, Combine, Composite, Name, Policy, Release, Signals};
use tokio_test::task;

use super::*;
use crate::{
    bulkhead::{BulkheadLayer, Shedding},
    retry::{RetryHandle, RetryLayer},
};

/// A second of these events, and its tick.
async fn second(tracker: &SloTracker, good: u64, bad: u64) {
    tracker.recorder("up").unwrap().add(Counts { good, bad });
    advance(Duration::from_secs(1)).await;
    tracker.tick();
}

async fn seconds(tracker: &SloTracker, times: u64, good: u64, bad: u64) {
    for _ in 0..times {
        second(tracker, good, bad).await;
    }
}

/// How many seconds of good traffic it takes until `done`.
async fn until(tracker: &SloTracker, done: impl Fn() -> bool) -> u64 {
    for passed in 1..10_000 {
        second(tracker, 10, 0).await;
        if done() {
            return passed;
        }
    }
    panic!("never");
}

fn retries(signals: &Signals) -> RetryHandle {
    let budget = retry::Budget::percent(20).leeway(signals.retries(Burn::times(14)));
    RetryLayer::new("stock", retry::Settings::default().budget(budget)).handle()
}

#[tokio::test(start_paused = true)]
async fn a_retry_budget_shrinks_while_the_objective_burns_and_comes_back_with_the_policy() {
    let tracker = tracker([up()]);
    let signals = tracker.signals();
    let retries = retries(&signals);
    seconds(&tracker, 300, 10, 0).await;
    assert_eq!(retries.balance(), Some(100), "all is well");

    seconds(&tracker, 60, 0, 10).await;
    assert!(signals.is_paging());
    // A fifth of the five minutes is bad: two hundred times what lasts, and 14 are let be.
    assert_eq!(signals.burn().unwrap(), Burn::times(200));
    assert_eq!(retries.balance(), Some(7));

    // The short window has recovered by then, and the page with it; the level has not.
    let cleared = until(&tracker, || !signals.is_paging()).await;
    assert_eq!(cleared, 296);
    assert_eq!(signals.release(), Release::Carefully);
    seconds(&tracker, 10, 10, 0).await;
    assert_eq!(retries.balance(), Some(50));

    let risen = until(&tracker, || retries.balance() == Some(100)).await;
    // An hour on its level, which began when the page fired: 52 s into the outage.
    assert_eq!(risen, 3_600 - 8 - 296 - 10);
    assert_eq!(signals.release(), Release::Freely);
}

const ROOM: u32 = 100;

/// How many requests of one class come in when there are no others.
fn fit(bulkhead: &BulkheadLayer, class: Criticality) -> usize {
    let mut service = bulkhead
        .layer(service_fn(|_: Request<()>| pending::<Result<Response<Full<Bytes>>, Infallible>>()));
    let mut held = Vec::new();
    loop {
        let request = Request::get("/").header(Criticality::HEADER, class.as_str()).body(());
        let mut call = task::spawn(tower::Service::call(&mut service, request.unwrap()));
        if call.poll().is_ready() {
            return held.len();
        }
        held.push(call);
    }
}

#[tokio::test(start_paused = true)]
async fn sheddable_work_goes_first_while_a_budget_burns() {
    let tracker = tracker([up()]);
    let signals = tracker.signals();
    let bulkhead = BulkheadLayer::new("shop", ROOM.try_into().unwrap())
        .criticality(Shedding::new())
        .leeway(signals.optional_work());
    let fits = || Criticality::ALL.map(|class| fit(&bulkhead, class));
    assert_eq!(fits(), [60, 80, 100, 100]);

    seconds(&tracker, 60, 0, 10).await;
    assert_eq!(fits(), [15, 20, 100, 100], "what is critical keeps its room");

    until(&tracker, || !signals.is_paging()).await;
    assert_eq!(fits(), [30, 40, 100, 100], "slow");

    until(&tracker, || signals.release() < Release::Carefully).await;
    assert_eq!(fits(), [60, 80, 100, 100]);

    bulkhead.handle().set_leeway(Leeway::by(|| Ratio::ZERO));
    assert_eq!(fits(), [1, 1, 100, 100], "somebody else may decide; one always fits");
    bulkhead.handle().set_leeway(None);
    assert_eq!(fits(), [60, 80, 100, 100]);
}

#[tokio::test(start_paused = true)]
async fn retries_of_a_service_in_trouble_are_those_that_the_leeway_leaves() {
    let tracker = tracker([up()]);
    let budget = retry::Budget::from(retry::Percentage::new(Ratio::ZERO).floor(2))
        .leeway(tracker.signals().retries(Burn::times(14)));
    let settings = retry::Settings::new(retry::Backoff::constant(Duration::ZERO)).budget(budget);
    let layer = RetryLayer::new("stock", settings).exchange(Plain);
    let service = layer.layer(service_fn(|()| ready(Err::<(), _>(BoxError::from("down")))));
    let attempts = async || {
        let before = layer.handle().snapshot().retries();
        for _ in 0..20 {
            service.clone().oneshot(()).await.unwrap_err();
        }
        layer.handle().snapshot().retries() - before
    };

    // Two a second, for ten seconds.
    assert_eq!(attempts().await, 20);
    seconds(&tracker, 60, 0, 10).await;
    assert_eq!(attempts().await, 1, "7 % of 20");
}

#[tokio::test(start_paused = true)]
async fn chaos_is_let_be_only_while_there_is_traffic_and_all_is_well() {
    let tracker = tracker([up()]);
    let signals = tracker.signals();
    let limit = Burn::times(5);
    assert!(!signals.allows_chaos(limit), "nobody would see what it does");

    seconds(&tracker, 300, 1_000, 0).await;
    assert!(signals.allows_chaos(limit));
    let ticks = tracker.signal("up").unwrap().ticks();
    second(&tracker, 994, 6).await;
    assert_eq!(tracker.signal("up").unwrap().ticks(), ticks + 1, "and somebody watches");

    // Two of 299 s fail all their calls: 6.7 times what lasts, long before a page.
    seconds(&tracker, 2, 0, 1_000).await;
    assert!(!signals.allows_chaos(limit) && !signals.is_paging());
}

#[tokio::test(start_paused = true)]
async fn a_layer_may_answer_for_some_objectives_or_for_a_composite() {
    let name = |name: &str| name.parse::<Name>().unwrap();
    let tracker = tracker([up(), objective("stock", Sli::Availability, "99%")]);
    let both = Composite::new(name("both"), Combine::All, ["up", "stock"].map(name));
    tracker.compose(both.with_policy(Policy::escalating())).unwrap();

    seconds(&tracker, 60, 0, 10).await;

    let of = |name: &str| tracker.signal(name).unwrap();
    assert_eq!((of("up").leeway(), of("stock").leeway()), (Ratio::percent(25), Ratio::ONE));
    assert!(of("both").is_paging(), "a part of it pages");
    assert_eq!(of("both").remaining(), of("stock").remaining(), "and all have to burn");
    assert_eq!(of("both").burn(), of("up").burn());
    assert_eq!(Signals::of([of("stock")]).leeway(), Ratio::ONE);
    assert_eq!(tracker.signals().leeway(), Ratio::percent(25));
    assert!(tracker.signal("nobody").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_asks_keeps_no_tracker_alive() {
    let tracker = tracker([up()]);
    let retries = retries(&tracker.signals());

    assert!(tracker.is_last());
    drop(tracker);
    assert_eq!(retries.balance(), Some(100), "what was said last");
}
