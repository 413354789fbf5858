//! Retries around, and inside of, other layers.

use buttress_core::{
    Kind,
    breaker::{Settings as Trips, State},
};
use tokio::time::sleep;
use tower::{ServiceBuilder, timeout::error::Elapsed};

use super::*;
use crate::{breaker::BreakerLayer, timeout::TimeoutLayer};

fn kind(error: &BoxError) -> Option<Kind> {
    Rejection::find(&**error).map(Rejection::kind)
}

fn breaker(failures: u32) -> BreakerLayer<Plain> {
    BreakerLayer::new("b", Trips::consecutive(failures)).exchange(Plain)
}

fn timeout(limit: Duration) -> TimeoutLayer<Plain> {
    TimeoutLayer::new("t", TimeLimit::try_from(limit).unwrap()).exchange(Plain)
}

// R18
#[tokio::test(start_paused = true)]
async fn an_open_breaker_stops_the_retries_unless_refusals_are_retried() {
    for (settings, attempts, stop) in
        [(every(MS), 2, Stop::CircuitOpen), (every(MS).retry_rejections(), 3, Stop::Attempts)]
    {
        let (retry, calls) = (plain(settings), Calls::default());
        let stack = ServiceBuilder::new().layer(retry.clone()).layer(breaker(1));

        let error = stack.service(calls.fails(99)).oneshot(()).await.unwrap_err();

        assert_eq!((kind(&error), calls.made()), (Some(Kind::CircuitOpen), 1));
        let counts = retry.handle().snapshot();
        assert_eq!((1 + counts.retries(), counts.stopped(stop)), (attempts, 1));
    }
}

/// Lets so many calls through, which fail, and refuses the rest.
fn refusing(
    kind: Kind,
    room: u32,
    calls: &Calls,
) -> impl Service<(), Response = u32, Error = BoxError, Future: Send> + Clone + use<> {
    let (calls, inner) = (calls.clone(), calls.fails(99));
    service_fn(move |()| {
        let full = calls.made() >= room;
        let inner = inner.clone();
        async move {
            if full { Err(Rejection::new(kind, "inner").into()) } else { inner.oneshot(()).await }
        }
    })
}

// R18
#[tokio::test(start_paused = true)]
async fn a_rate_limit_or_a_full_bulkhead_refuses_each_attempt() {
    for (refusal, room) in [(Kind::RateLimited, 3), (Kind::Overloaded, 0)] {
        let calls = Calls::default();
        let retry = plain(every(MS).attempts(7).retry_rejections());
        let error = retry.layer(refusing(refusal, room, &calls)).oneshot(()).await.unwrap_err();
        assert_eq!((kind(&error), calls.made()), (Some(refusal), room));
        assert_eq!(retry.handle().snapshot().retries(), 6);

        let (calls, retry) = (Calls::default(), plain(every(MS).attempts(7)));
        let error = retry.layer(refusing(refusal, room, &calls)).oneshot(()).await.unwrap_err();
        assert_eq!(kind(&error), Some(refusal));
        assert_eq!(retry.handle().snapshot().retries(), u64::from(room), "a refusal is an answer");
        assert_eq!(retry.handle().snapshot().stopped(Stop::Rejected), 1);
    }
}

// R18
#[tokio::test(start_paused = true)]
async fn a_breaker_around_retries_sees_one_failure() {
    let (breaker, calls) = (breaker(3), Calls::default());
    let stack = ServiceBuilder::new().layer(breaker.clone()).layer(plain(every(MS)));

    assert!(stack.service(calls.fails(99)).oneshot(()).await.is_err());

    let state = breaker.handle();
    assert_eq!((calls.made(), state.state()), (3, State::Closed));
    assert_eq!(state.snapshot().totals.failures, 1);
}

// R18
#[tokio::test(start_paused = true)]
async fn a_breaker_inside_of_endless_retries_sees_each_attempt() {
    let (breaker, calls) = (breaker(3), Calls::default());
    let retry = plain(every(MS).unlimited_attempts());
    let stack = ServiceBuilder::new().layer(retry).layer(breaker.clone());

    assert_eq!(stack.service(calls.fails(2)).oneshot(()).await.unwrap(), 2);

    let totals = breaker.handle().snapshot().totals;
    assert_eq!((totals.successes, totals.failures), (1, 2));
}

// R18
#[tokio::test(start_paused = true)]
async fn what_never_fails_is_never_retried() {
    let (retry, calls) = (plain(every(MS)), Calls::default());
    let fallback = service_fn(|()| ready(Ok::<_, BoxError>("test")));
    let counted = calls.fails(0);
    let service = service_fn(move |()| {
        let (counted, fallback) = (counted.clone(), fallback);
        async move {
            let _ = counted.oneshot(()).await;
            fallback.oneshot(()).await
        }
    });

    assert_eq!(retry.layer(service).oneshot(()).await.unwrap(), "test");
    assert_eq!(calls.made(), 1);
}

/// Takes so long for each of its calls, one after the other, and then none; counts those that
/// come to their end.
fn slow(
    times: impl IntoIterator<Item = Duration>,
    ended: &Calls,
) -> impl Service<(), Response = (), Error = BoxError, Future: Send> + Clone {
    let times = Arc::new(Mutex::new(times.into_iter().collect::<VecDeque<_>>()));
    let ended = ended.clone();
    service_fn(move |()| {
        let (time, ended) = (times.lock().unwrap().pop_front(), ended.clone());
        async move {
            sleep(time.unwrap_or_default()).await;
            ended.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    })
}

// T01
#[tokio::test(start_paused = true)]
async fn attempts_that_time_out_are_dropped_and_tried_again() {
    let (retry, timeout, ended) = (plain(every(MS)), timeout(50 * MS), Calls::default());
    let stack = ServiceBuilder::new().layer(retry.clone()).layer(timeout.clone());

    let service = stack.service(slow([100 * MS, 100 * MS], &ended));
    assert!(service.oneshot(()).await.is_ok());

    let expired = timeout.handle().snapshot().expired(crate::timeout::Clock::Total);
    assert_eq!((expired, retry.handle().snapshot().retries()), (2, 2));
    assert_eq!(ended.made(), 1, "the others were dropped before their end");
}

// T01, by the layer itself
#[tokio::test(start_paused = true)]
async fn an_attempt_has_a_time_limit_of_its_own() {
    let retry = plain(every(MS).attempt_timeout(TimeLimit::from_millis(50)));
    let (ended, start) = (Calls::default(), Instant::now());

    assert!(retry.layer(slow([100 * MS, 100 * MS], &ended)).oneshot(()).await.is_ok());

    assert_eq!((start.elapsed(), ended.made()), (102 * MS, 1));
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_is_cut_only_where_nobody_else_would() {
    let limit = every(MS).attempts(2).attempt_timeout(TimeLimit::from_millis(50));
    let times = [100 * MS, 100 * MS];
    let ended = Calls::default();

    let error = plain(limit.clone()).layer(slow(times, &ended)).oneshot(()).await.unwrap_err();
    assert_eq!((kind(&error), ended.made()), (Some(Kind::TimedOut), 0));

    let stack = ServiceBuilder::new().layer(timeout(500 * MS)).layer(plain(limit));
    let start = Instant::now();
    assert!(stack.service(slow(times, &ended)).oneshot(()).await.is_ok());
    assert_eq!(start.elapsed(), 151 * MS, "50, a wait of 1 and 100");
}

// T02
#[tokio::test(start_paused = true)]
async fn a_timeout_around_retries_ends_them_all() {
    let calls = Calls::default();
    let (counted, outer) = (calls.fails(99), timeout(150 * MS));
    let service = service_fn(move |()| {
        let counted = counted.clone();
        async move {
            let failed = counted.oneshot(()).await;
            sleep(60 * MS).await;
            failed
        }
    });
    let stack = ServiceBuilder::new().layer(outer.clone()).layer(plain(every(Duration::ZERO)));
    let start = Instant::now();

    let error = stack.service(service).oneshot(()).await.unwrap_err();

    assert_eq!((kind(&error), start.elapsed()), (Some(Kind::TimedOut), 150 * MS));
    assert_eq!(calls.made(), 3);
    assert_eq!(outer.handle().snapshot().expired(crate::timeout::Clock::Total), 1);
}

// T02: ours does not even wait for what comes too late, and passes on what went wrong.
#[tokio::test(start_paused = true)]
async fn a_retry_that_would_come_after_the_deadline_is_not_waited_for() {
    let (calls, retry) = (Calls::default(), plain(every(Duration::from_secs(1))));
    let stack = ServiceBuilder::new().layer(timeout(100 * MS)).layer(retry.clone());
    let start = Instant::now();

    let error = stack.service(calls.fails(99)).oneshot(()).await.unwrap_err();

    assert_eq!((error.to_string(), calls.made()), ("down".to_owned(), 1));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(retry.handle().snapshot().stopped(Stop::Deadline), 1);
}

// T02, as it is written: somebody else's timeout tells nobody of its limit.
#[tokio::test(start_paused = true)]
async fn a_timeout_that_tells_nobody_ends_the_wait() {
    let calls = Calls::default();
    let stack = ServiceBuilder::new().timeout(100 * MS).layer(plain(every(Duration::from_secs(1))));
    let start = Instant::now();

    let error = stack.service(calls.fails(99)).oneshot(()).await.unwrap_err();

    assert!(error.is::<Elapsed>());
    assert_eq!((start.elapsed(), calls.made()), (100 * MS, 1));
}

// T02
#[tokio::test(start_paused = true)]
async fn a_timeout_inside_does_not_run_while_a_retry_waits() {
    let (calls, inner) = (Calls::default(), timeout(50 * MS));
    let stack = ServiceBuilder::new().layer(plain(every(100 * MS))).layer(inner.clone());

    let error = stack.service(calls.fails(99)).oneshot(()).await.unwrap_err();

    assert_eq!((error.to_string(), calls.made()), ("down".to_owned(), 3));
    assert_eq!(inner.handle().snapshot().expired(crate::timeout::Clock::Total), 0);
}
