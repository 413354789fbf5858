mod keyed;
mod model;
mod told;
mod within;

use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use buttress_core::{
    BoxError, Change, Event, Kind, Observe, Plain, Rate, Rejection, TimeLimit, clock,
};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_test::{assert_request_eq, mock};

use super::*;

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn layer(rate: Rate) -> RateLimitLayer<Plain> {
    RateLimitLayer::new("limit", rate).exchange(Plain)
}

fn one_a_second() -> RateLimitLayer<Plain> {
    layer(Rate::per_second(n(1)))
}

/// Answers each request with itself.
fn echo() -> impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone {
    service_fn(|request: u32| async move { Ok::<_, BoxError>(request) })
}

fn call<S>(service: &mut S, request: u32) -> task::Spawn<Pin<Box<S::Future>>>
where
    S: Service<u32, Error = BoxError>,
{
    assert!(service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    task::spawn(Box::pin(service.call(request)))
}

fn refusal(error: &BoxError) -> (Kind, Option<Duration>) {
    let rejection = Rejection::find(&**error).expect("a refusal");
    (rejection.kind(), rejection.retry_after())
}

#[tokio::test(start_paused = true)]
async fn refuses_until_the_next_token() {
    let (mut service, mut inner) = mock::spawn_layer::<_, (), _>(one_a_second());

    assert_ready_ok!(service.poll_ready());
    let mut first = task::spawn(service.call("first"));
    assert_request_eq!(inner, "first").send_response(());
    assert_ready_ok!(first.poll());

    assert_ready_ok!(service.poll_ready());
    let error = assert_ready_err!(task::spawn(service.call("second")).poll());
    assert_eq!(refusal(&error), (Kind::RateLimited, Some(ms(1000))));
    assert_pending!(inner.poll_request(), "the refused request must not reach the inner service");
}

/// X16.
#[tokio::test(start_paused = true)]
async fn a_clone_that_was_made_ready_and_is_dropped_costs_no_token() {
    let layer = one_a_second();
    let mut service = layer.layer(echo());

    for _ in 0..100 {
        let mut clone = service.clone();
        assert!(clone.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    assert_eq!(layer.handle().peek().available, 1);
    assert_ready_ok!(call(&mut service, 1).poll());
}

/// L13: tower's is not `Clone`.
#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_one_bucket() {
    let layer = layer(Rate::per_second(n(20)));
    let mut service = layer.layer(echo());
    let mut others = [service.clone(), layer.layer(echo())];

    let mut admitted = 0;
    for request in 0..20 {
        for service in others.iter_mut().chain([&mut service]) {
            admitted += u32::from(assert_ready!(call(service, request).poll()).is_ok());
        }
    }

    let totals = layer.handle().totals();
    assert_eq!((admitted, totals.admitted, totals.refused(Refusal::Empty)), (20, 20, 40));
}

/// X14.
#[tokio::test(start_paused = true)]
async fn twenty_who_wait_are_called_by_arrival_and_newcomers_do_not_pass() {
    let layer = layer(Rate::per_second(n(10)).burst(n(1))).wait(TimeLimit::from_secs(60));
    let handle = layer.handle();
    let order = Arc::new(Mutex::new(Vec::new()));
    let called = Arc::clone(&order);
    let mut service = layer.layer(service_fn(move |request: u32| {
        called.lock().unwrap().push(request);
        async move { Ok::<_, BoxError>(request) }
    }));
    let start = Instant::now();

    // One is admitted, twenty queue, and newcomers come at each token, first in line to be polled.
    assert_ready_ok!(call(&mut service, 0).poll());
    let mut waiting: Vec<_> = (1..=20).map(|request| call(&mut service, request)).collect();
    for future in &mut waiting {
        assert_pending!(future.poll());
    }
    let mut newcomers = Vec::new();
    for newcomer in 21..=40 {
        advance(ms(100)).await;
        let mut future = call(&mut service, newcomer);
        assert_pending!(future.poll(), "a newcomer passed");
        newcomers.push(future);
        for future in &mut waiting {
            if future.is_woken() {
                let _ = future.poll();
            }
        }
    }

    let called = order.lock().unwrap().clone();
    assert_eq!(called, (0..=20).collect::<Vec<_>>());
    assert_eq!(start.elapsed(), ms(2000));
    assert_eq!((handle.totals().waited, handle.peek().waiting), (20, 20));
}

/// X15.
#[tokio::test(start_paused = true)]
async fn a_hopeless_wait_is_refused_at_once_with_the_time_it_would_take() {
    let layer = layer(Rate::per_minute(n(1))).wait(TimeLimit::from_millis(500));
    let mut service = layer.layer(echo());
    assert_ready_ok!(call(&mut service, 1).poll());

    let error = assert_ready_err!(call(&mut service, 2).poll());

    assert_eq!(refusal(&error), (Kind::RateLimited, Some(Duration::from_secs(60))));
    assert_eq!(layer.handle().totals().refused(Refusal::TooLong), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_let_in_to_the_millisecond_and_not_polled_before() {
    let layer = layer(Rate::per_second(n(4)).burst(n(1))).wait(TimeLimit::from_secs(9));
    let mut service = layer.layer(echo());
    assert_ready_ok!(call(&mut service, 1).poll());
    let start = Instant::now();

    let mut second = call(&mut service, 2);
    assert_pending!(second.poll());
    advance(ms(249)).await;
    let early = second.is_woken();
    let answer = second.into_inner().await;

    assert!(!early, "woken before its time");
    assert_eq!((answer.unwrap(), start.elapsed()), (2, ms(250)));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_while_it_waits_gives_its_place_to_the_next() {
    let layer = one_a_second().wait(TimeLimit::from_secs(60));
    let handle = layer.handle();
    let mut service = layer.layer(echo());
    assert_ready_ok!(call(&mut service, 1).poll());
    let start = Instant::now();
    let mut leaves = call(&mut service, 2);
    let mut stays = call(&mut service, 3);
    assert_pending!(leaves.poll());
    assert_pending!(stays.poll());

    drop(leaves);

    assert!(stays.is_woken(), "nobody told it that its turn comes sooner");
    assert_eq!(stays.into_inner().await.unwrap(), 3);
    assert_eq!(start.elapsed(), ms(1000));
    assert_eq!((handle.totals().left, handle.peek().waiting), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_dropped_has_started_and_gives_nothing_back() {
    let layer = one_a_second();
    let mut service =
        layer.layer(service_fn(|_: u32| std::future::pending::<Result<u32, BoxError>>()));

    let mut hanging = call(&mut service, 1);
    assert_pending!(hanging.poll());
    drop(hanging);

    assert_ready_err!(call(&mut service, 2).poll());
    layer.handle().refund(n(1));
    assert_pending!(call(&mut service, 3).poll());
}

#[tokio::test(start_paused = true)]
async fn a_cost_over_the_burst_is_refused_in_words_of_its_own_and_for_good() {
    let layer = layer(Rate::per_second(n(5))).cost(|request: &u32| n(*request));
    let mut service = layer.layer(echo());

    let error = assert_ready_err!(call(&mut service, 6).poll());
    let rejection = Rejection::find(&*error).unwrap();

    assert_eq!((rejection.kind(), rejection.retry_after()), (Kind::RateLimited, None));
    assert_eq!(rejection.why(), "asks for more than the rate limit ever allows at once");
    assert_eq!(layer.handle().totals().refused(Refusal::TooMuch), 1);
    assert_ready_ok!(call(&mut service, 5).poll());
    let error = assert_ready_err!(call(&mut service, 2).poll());
    assert_eq!(refusal(&error).1, Some(ms(400)));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_the_caller_will() {
    let layer = one_a_second().wait(TimeLimit::from_secs(60));
    let timeout = crate::timeout::TimeoutLayer::new("t", TimeLimit::from_millis(900));
    let mut service =
        ServiceBuilder::new().layer(timeout.exchange(Plain)).layer(layer).service(echo());
    assert_ready_ok!(call(&mut service, 1).poll());

    let error = assert_ready_err!(call(&mut service, 2).poll());

    assert_eq!(refusal(&error), (Kind::RateLimited, Some(ms(1000))));
}

#[tokio::test(start_paused = true)]
async fn in_shadow_mode_it_counts_what_it_would_refuse_and_refuses_nothing() {
    let layer = one_a_second();
    let handle = layer.handle();
    handle.set_shadow(true);
    let mut service = layer.layer(echo());

    for request in 0..5 {
        assert_ready_ok!(call(&mut service, request).poll());
    }

    assert!(handle.is_shadow());
    assert_eq!((handle.totals().admitted, handle.totals().refused(Refusal::Empty)), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn in_shadow_mode_nobody_waits_and_who_would_have_is_counted() {
    let layer = one_a_second().wait(TimeLimit::from_secs(60));
    let handle = layer.handle();
    handle.set_shadow(true);
    let mut service = layer.layer(echo());

    for request in 0..5 {
        assert_ready_ok!(call(&mut service, request).poll());
    }

    let totals = handle.totals();
    assert_eq!((totals.admitted, totals.waited, totals.all_refused()), (5, 4, 0));
}

/// Two of the five would wait, one and two seconds; the others would be refused.
#[tokio::test(start_paused = true)]
async fn in_shadow_mode_those_who_would_wait_are_before_those_who_come_after() {
    let layer = one_a_second().wait(TimeLimit::from_secs(2));
    let handle = layer.handle();
    handle.set_shadow(true);
    let mut service = layer.layer(echo());

    for request in 0..5 {
        assert_ready_ok!(call(&mut service, request).poll());
    }

    let totals = handle.totals();
    let counts = (totals.admitted, totals.waited, totals.refused(Refusal::TooLong));
    assert_eq!(counts, (5, 2, 2));
    // They leave the bucket as those would who had waited.
    assert_eq!(handle.peek().next_in, ms(3000));
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_changed_holds_at_once_and_is_announced() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<Change>>);
    impl Observe for Heard {
        fn observe(&self, event: &Event<'_>) {
            assert_eq!((event.layer, event.name), ("rate_limit", "limit"));
            self.0.lock().unwrap().push(event.change);
        }
    }
    let layer = one_a_second();
    let (handle, heard) = (layer.handle(), Arc::new(Heard::default()));
    handle.observe(Arc::<Heard>::clone(&heard));
    let mut service = layer.layer(echo());
    assert_ready_ok!(call(&mut service, 1).poll());

    let faster = Rate::per_second(n(10));
    handle.set_rate(faster);
    let error = assert_ready_err!(call(&mut service, 2).poll());
    handle.set_patience(Some(TimeLimit::from_secs(1)));
    assert_pending!(call(&mut service, 3).poll());
    handle.set_shadow(true);

    assert_eq!(refusal(&error).1, Some(ms(100)));
    assert_eq!(handle.rates(), [faster]);
    let expected = [
        Change::Rate { limit: 0, rate: faster },
        Change::Patience(Some(TimeLimit::from_secs(1))),
        Change::Shadow(true),
    ];
    assert_eq!(*heard.0.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_idle_handle_is_not_stale() {
    let layer = one_a_second();
    let handle = layer.handle();
    let mut service = layer.layer(echo());
    assert_ready_ok!(call(&mut service, 1).poll());

    let used = handle.peek();
    advance(ms(10_000)).await;
    let idle = handle.peek();

    assert_eq!((used.available, used.next_in), (0, ms(1000)));
    assert_eq!((idle.available, idle.next_in), (1, ms(0)));
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_read_once_for_all_layers_around_a_call() {
    let layer = one_a_second();
    let mut service = layer.layer(service_fn(|_: u32| {
        let _ = clock::arrive(|| unreachable!("it has been read"));
        async { Ok::<_, BoxError>(0) }
    }));

    assert_ready_ok!(call(&mut service, 1).poll());
}
