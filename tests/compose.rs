//! What layers make of each other, outer to inner, in exact numbers.

use std::{
    future::{Ready, pending, ready},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    BoxError, Kind, Plain, Rate, Rejection, TimeLimit,
    breaker::{BreakerLayer, Settings as Trips, State},
    bulkhead::{BulkheadLayer, Refusal},
    rate_limit::RateLimitLayer,
    retry::{Backoff, Budget, RetryLayer, Settings, Stop},
    throttle::{Settings as Excess, ThrottleLayer},
    timeout::TimeoutLayer,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// A service that fails so many times and then answers; its clones count together.
#[derive(Clone)]
struct Shaky {
    failures: u32,
    calls: Arc<AtomicU32>,
}

impl Shaky {
    fn failing(failures: u32) -> Self {
        Self { failures, calls: Arc::default() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Service<()> for Shaky {
    type Response = &'static str;
    type Error = BoxError;
    type Future = Ready<Result<&'static str, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        ready(if call < self.failures { Err("down".into()) } else { Ok("answer") })
    }
}

const ALWAYS: u32 = u32::MAX;

fn at_once() -> Settings {
    Settings::new(Backoff::constant(Duration::ZERO)).budget(Budget::unlimited())
}

fn retry(settings: Settings) -> RetryLayer<Plain> {
    RetryLayer::new("retry", settings).exchange(Plain)
}

fn breaker(failures: u32) -> BreakerLayer<Plain> {
    BreakerLayer::new("breaker", Trips::consecutive(failures)).exchange(Plain)
}

/// The kind of the refusal that an error is.
fn kind<T>(outcome: Result<T, BoxError>) -> Option<Kind> {
    Rejection::find(&*outcome.err()?).map(Rejection::kind)
}

/// How many attempts were made of one request.
fn attempts(layer: &RetryLayer<Plain>) -> u64 {
    1 + layer.handle().snapshot().retries()
}

// R18: Retry(3) -> Breaker(1).
#[tokio::test(start_paused = true)]
async fn retries_around_a_breaker_that_opens_at_the_first_failure() {
    for (settings, made, stop) in
        [(at_once(), 2, Stop::CircuitOpen), (at_once().retry_rejections(), 3, Stop::Attempts)]
    {
        let (retry, service) = (retry(settings), Shaky::failing(ALWAYS));
        let stack = ServiceBuilder::new().layer(retry.clone()).layer(breaker(1));

        let outcome = stack.service(service.clone()).oneshot(()).await;

        assert_eq!(kind(outcome), Some(Kind::CircuitOpen));
        assert_eq!((attempts(&retry), service.calls()), (made, 1));
        assert_eq!(retry.handle().snapshot().stopped(stop), 1);
    }
}

// R18: Retry(7) -> RateLimit(3 a second).
#[tokio::test(start_paused = true)]
async fn seven_attempts_around_three_a_second() {
    for (settings, made) in [(at_once(), 4), (at_once().retry_rejections(), 7)] {
        let (retry, service) = (retry(settings.attempts(7)), Shaky::failing(ALWAYS));
        let limit = Rate::per_second(NonZeroU32::new(3).unwrap());
        let limit = RateLimitLayer::new("limit", limit).exchange(Plain);
        let stack = ServiceBuilder::new().layer(retry.clone()).layer(limit);

        let outcome = stack.service(service.clone()).oneshot(()).await;

        assert_eq!(kind(outcome), Some(Kind::RateLimited));
        assert_eq!((attempts(&retry), service.calls()), (made, 3));
    }
}

// R18: Retry(7) -> Bulkhead(2), full.
#[tokio::test(start_paused = true)]
async fn seven_attempts_around_a_full_bulkhead() {
    for (settings, made) in [(at_once(), 1), (at_once().retry_rejections(), 7)] {
        let (retry, calls) = (retry(settings.attempts(7)), Arc::new(AtomicU32::new(0)));
        let bulkhead = BulkheadLayer::new("bulkhead", NonZeroU32::new(2).unwrap()).exchange(Plain);
        let count = Arc::clone(&calls);
        // Whoever got in stays there.
        let stuck = service_fn(move |()| {
            count.fetch_add(1, Ordering::Relaxed);
            pending::<Result<(), BoxError>>()
        });
        let full = ServiceBuilder::new().layer(bulkhead.clone()).service(stuck);
        let inside: Vec<_> = (0..2)
            .map(|_| {
                let mut call = tokio_test::task::spawn(full.clone().oneshot(()));
                tokio_test::assert_pending!(call.poll());
                call
            })
            .collect();

        let outcome = ServiceBuilder::new().layer(retry.clone()).service(full).oneshot(()).await;

        assert_eq!(kind(outcome), Some(Kind::Overloaded));
        assert_eq!(attempts(&retry), made);
        assert_eq!(calls.load(Ordering::Relaxed), 2, "those that are inside");
        assert_eq!(bulkhead.handle().snapshot().refused(Refusal::Full), made);
        drop(inside);
    }
}

// R18: Breaker(3) -> Retry(3).
#[tokio::test(start_paused = true)]
async fn a_breaker_around_retries_sees_one_failure() {
    let (breaker, service) = (breaker(3), Shaky::failing(ALWAYS));
    let stack = ServiceBuilder::new().layer(breaker.clone()).layer(retry(at_once()));

    assert!(stack.service(service.clone()).oneshot(()).await.is_err());

    let breaker = breaker.handle();
    assert_eq!((service.calls(), breaker.state()), (3, State::Closed));
    assert_eq!(breaker.totals().failures, 1);
}

// R18: Retry(unlimited) -> Breaker(3).
#[tokio::test(start_paused = true)]
async fn a_breaker_inside_of_endless_retries_sees_each_attempt() {
    let (breaker, service) = (breaker(3), Shaky::failing(2));
    let retry = retry(at_once().unlimited_attempts());
    let stack = ServiceBuilder::new().layer(retry.clone()).layer(breaker.clone());

    assert_eq!(stack.service(service.clone()).oneshot(()).await.unwrap(), "answer");

    let totals = breaker.handle().totals();
    assert_eq!((attempts(&retry), service.calls()), (3, 3));
    assert_eq!((totals.successes, totals.failures), (1, 2));
}

/// A service that never answers.
fn hanging()
-> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = BoxError, Future: Send>
+ Clone
+ Send {
    service_fn(|_: Request<()>| pending())
}

// A06: what did not answer in time was not accepted, whoever said that time was up; design.md, law 4.
#[tokio::test(start_paused = true)]
async fn a_throttle_learns_of_attempts_that_a_retry_cuts() {
    let throttle = ThrottleLayer::new("t", Excess::new().allowance(9));
    let retry = RetryLayer::new("r", at_once().attempt_timeout(TimeLimit::from_millis(50)));
    let stack = ServiceBuilder::new().layer(retry).layer(throttle.clone());

    assert!(stack.service(hanging()).oneshot(Request::new(())).await.is_err());

    assert_eq!(throttle.handle().window(), (3, 0));
}

// A06
#[tokio::test(start_paused = true)]
async fn a_throttle_learns_of_calls_that_a_timeout_around_it_cuts() {
    let throttle = ThrottleLayer::new("t", Excess::new().allowance(99));
    let limit = TimeoutLayer::new("t", TimeLimit::from_millis(50));
    let stack = ServiceBuilder::new().layer(limit).layer(throttle.clone()).service(hanging());

    for _ in 0..10 {
        assert!(stack.clone().oneshot(Request::new(())).await.is_err());
    }
    assert_eq!(throttle.handle().window(), (10, 0));

    let early = tokio::time::timeout(Duration::from_millis(49), stack.oneshot(Request::new(())));
    assert!(early.await.is_err());
    assert_eq!(throttle.handle().window(), (10, 0), "one that left in time says nothing");
}
