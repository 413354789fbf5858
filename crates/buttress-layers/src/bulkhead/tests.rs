use std::{
    convert::Infallible,
    future::{pending, ready},
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{
    BoxError, Change, Criticality, Deadline, Event, Kind, Observe, Plain, Raise, Ratio, Rejection,
    TimeLimit,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::time::{Instant, advance, timeout};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

use super::*;

mod random;
mod rules;

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn plain(limit: u32) -> BulkheadLayer<Plain> {
    BulkheadLayer::new("b", number(limit)).exchange(Plain)
}

fn kind(error: &BoxError) -> Option<Kind> {
    Rejection::find(&**error).map(Rejection::kind)
}

const MILLIS: Duration = Duration::from_millis(1);
const WAIT: TimeLimit = TimeLimit::from_millis(50);

type Mock = mock::Mock<&'static str, &'static str>;
type Calls = mock::Handle<&'static str, &'static str>;
type Answer = task::Spawn<<Bulkhead<Mock, Plain> as Service<&'static str>>::Future>;

/// A layered service, and what reaches the inner one.
fn mocked(layer: &BulkheadLayer<Plain>) -> (mock::Spawn<Bulkhead<Mock, Plain>>, Calls) {
    mock::spawn_with(|inner| layer.layer(inner))
}

/// Calls what is ready, as it must be whatever is under way.
fn call(service: &mut mock::Spawn<Bulkhead<Mock, Plain>>, request: &'static str) -> Answer {
    assert_ready_ok!(service.poll_ready());
    task::spawn(service.call(request))
}

/// K01: what is counted as what happens.
#[tokio::test(start_paused = true)]
async fn counts_who_comes_in_who_is_refused_and_who_goes() {
    let layer = plain(2);
    let handle = layer.handle();
    let (mut service, mut inner) = mocked(&layer);
    let seen = || {
        let now = handle.snapshot();
        (now.admitted, now.refused(Refusal::Full), now.finished(), now.available())
    };

    let mut first = call(&mut service, "first");
    let mut second = call(&mut service, "second");
    assert_eq!(seen(), (2, 0, 0, 0));
    assert_eq!(kind(&assert_ready_err!(call(&mut service, "no").poll())), Some(Kind::Overloaded));
    assert_eq!(seen(), (2, 1, 0, 0));
    assert_request_eq!(inner, "first").send_response("one");
    assert_eq!(assert_ready_ok!(first.poll()), "one");
    assert_eq!(seen(), (2, 1, 1, 1));
    assert_request_eq!(inner, "second").send_response("two");
    assert_eq!(assert_ready_ok!(second.poll()), "two");
    assert_eq!(seen(), (2, 1, 2, 2));
    let _third = call(&mut service, "third");
    assert_eq!(seen(), (3, 1, 2, 1));
}

/// K01: max 0.
#[tokio::test(start_paused = true)]
async fn a_limit_of_0_drains_a_service_queue_or_not() {
    let layer = plain(1).queue(5);
    let handle = layer.handle();
    let (mut service, mut inner) = mocked(&layer);
    let mut under_way = call(&mut service, "under way");

    handle.set_limit(0);

    assert_eq!(kind(&assert_ready_err!(call(&mut service, "no").poll())), Some(Kind::Overloaded));
    assert_request_eq!(inner, "under way").send_response("done");
    assert_eq!(assert_ready_ok!(under_way.poll()), "done");
    assert_eq!(kind(&assert_ready_err!(call(&mut service, "no").poll())), Some(Kind::Overloaded));
    handle.set_limit(1);
    let _again = call(&mut service, "again");
    assert_request_eq!(inner, "again");
}

/// K02 and X12: refused on the tick, with a kind of its own.
#[tokio::test(start_paused = true)]
async fn who_has_waited_as_long_as_it_may_is_refused_on_the_tick() {
    let layer = plain(1).queue(1).wait(WAIT);
    let handle = layer.handle();
    let (mut service, mut inner) = mocked(&layer);
    let _under_way = call(&mut service, "under way");
    let mut waits = call(&mut service, "waits");
    let full = assert_ready_err!(call(&mut service, "no").poll());
    assert_pending!(waits.poll());

    advance(MILLIS * 49).await;
    assert_pending!(waits.poll());
    advance(MILLIS).await;
    assert!(waits.is_woken());
    let late = assert_ready_err!(waits.poll());

    assert_eq!((kind(&full), kind(&late)), (Some(Kind::Overloaded), Some(Kind::QueueTimedOut)));
    assert_eq!(late.to_string(), "waited too long for other requests to end (b)");
    let now = handle.snapshot();
    assert_eq!((now.queued, now.waited, now.refused(Refusal::WaitedTooLong)), (0, 1, 1));
    assert_request_eq!(inner, "under way").send_response("done");
    assert_pending!(inner.poll_request(), "who was refused never reaches the inner service");
}

/// K02: the wait runs from the call and not from the first poll.
#[tokio::test(start_paused = true)]
async fn who_is_not_polled_waits_no_longer() {
    let layer = plain(1).queue(1).wait(WAIT);
    let (mut service, _inner) = mocked(&layer);
    let _under_way = call(&mut service, "under way");
    let mut forgotten = call(&mut service, "forgotten");

    advance(WAIT.get()).await;

    assert_eq!(kind(&assert_ready_err!(forgotten.poll())), Some(Kind::QueueTimedOut));
}

/// K03.
#[tokio::test(start_paused = true)]
async fn who_waits_comes_in_by_order_of_arrival() {
    let layer = plain(2).queue(2);
    let (mut service, mut inner) = mocked(&layer);
    let handle = layer.handle();
    let free = || {
        let now = handle.snapshot();
        (now.queue - now.queued, now.available())
    };
    let mut calls: Vec<_> =
        ["0", "1", "2", "3"].into_iter().map(|name| call(&mut service, name)).collect();
    assert_eq!(kind(&assert_ready_err!(call(&mut service, "4").poll())), Some(Kind::Overloaded));
    let (zero, one) = (assert_request_eq!(inner, "0"), assert_request_eq!(inner, "1"));
    for waiting in &mut calls[2..] {
        assert_pending!(waiting.poll());
    }
    assert_eq!(free(), (0, 0));

    zero.send_response("");
    assert_ready_ok!(calls[0].poll());
    assert!(calls[2].is_woken() && !calls[3].is_woken());
    assert_eq!(free(), (1, 0));
    assert_pending!(calls[2].poll());
    let two = assert_request_eq!(inner, "2");
    one.send_response("");
    assert_ready_ok!(calls[1].poll());
    assert_eq!(free(), (2, 0));
    assert_pending!(calls[3].poll());
    let three = assert_request_eq!(inner, "3");
    two.send_response("");
    assert_ready_ok!(calls[2].poll());
    assert_eq!(free(), (2, 1));
    three.send_response("");
    assert_ready_ok!(calls[3].poll());
    assert_eq!(free(), (2, 2));
}

/// K04 and X11: nothing is left of calls that were cancelled, waiting or not.
#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_is_skipped_and_leaves_nothing_behind() {
    let layer = plain(1).queue(10);
    let handle = layer.handle();
    let (mut service, mut inner) = mocked(&layer);
    let first = call(&mut service, "first");
    let mut second = call(&mut service, "second");
    let mut third = call(&mut service, "third");
    let _unanswered = assert_request_eq!(inner, "first");
    assert_pending!(second.poll());
    assert_pending!(third.poll());

    drop(second);
    drop(first);
    assert!(third.is_woken());
    assert_pending!(third.poll());

    assert_request_eq!(inner, "third");
    let now = handle.snapshot();
    assert_eq!((now.queue - now.queued, now.in_flight, now.abandoned), (10, 1, 1));
    drop(third);
    assert_eq!(handle.snapshot().in_flight, 0);
}

/// K04: its turn has come, and it is dropped before it is polled.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_when_its_turn_has_come_passes_it_on() {
    let layer = plain(1).queue(10);
    let handle = layer.handle();
    let (mut service, mut inner) = mocked(&layer);
    let first = call(&mut service, "first");
    let mut second = call(&mut service, "second");
    let mut third = call(&mut service, "third");
    assert_pending!(second.poll());
    assert_pending!(third.poll());

    drop(first);
    assert!(second.is_woken() && !third.is_woken());
    drop(second);
    assert!(third.is_woken());
    assert_pending!(third.poll());

    let _first = assert_request_eq!(inner, "first");
    assert_request_eq!(inner, "third").send_response("done");
    assert_eq!(assert_ready_ok!(third.poll()), "done");
    assert_eq!(handle.snapshot().in_flight, 0);
}

/// K08.
#[tokio::test(start_paused = true)]
async fn a_limit_that_is_raised_lets_in_at_once_and_a_lower_one_is_kept_when_calls_end() {
    let layer = plain(1).queue(4).wait(TimeLimit::from_secs(1));
    let handle = layer.handle();
    let (mut service, _inner) = mocked(&layer);
    let first = call(&mut service, "first");
    let mut second = call(&mut service, "second");
    assert_pending!(second.poll());

    handle.set_limit(2);
    assert!(second.is_woken());
    assert_pending!(second.poll());
    assert_eq!(handle.snapshot().in_flight, 2);

    handle.set_limit(1);
    let mut third = call(&mut service, "third");
    drop(first);
    assert_pending!(third.poll());
    assert_eq!(handle.snapshot().in_flight, 1, "the next still waits");
    advance(Duration::from_secs(1)).await;
    assert_eq!(kind(&assert_ready_err!(third.poll())), Some(Kind::QueueTimedOut));
}

/// K10 and X16.
#[tokio::test(start_paused = true)]
async fn readiness_takes_nothing_and_refuses_nothing() {
    let layer = plain(1);
    let handle = layer.handle();
    let (mut service, _inner) = mocked(&layer);
    for _ in 0..3 {
        let mut clone = service.clone();
        assert_ready_ok!(clone.poll_ready());
        drop(clone);
    }
    assert_eq!(handle.snapshot().in_flight, 0);

    let first = call(&mut service, "first");
    let mut clone = service.clone();
    assert_ready_ok!(clone.poll_ready());
    let refused = assert_ready_err!(call(&mut clone, "no").poll());
    assert_eq!(kind(&refused), Some(Kind::Overloaded));

    drop(first);
    let _second = call(&mut clone, "second");
    assert_eq!(handle.snapshot().in_flight, 1);
}

/// X20.
#[tokio::test(start_paused = true)]
async fn who_waits_is_polled_when_it_is_woken_and_not_in_between() {
    let layer = plain(1).queue(1).wait(TimeLimit::from_secs(60));
    let (mut service, _inner) = mocked(&layer);
    let first = call(&mut service, "first");
    let mut second = call(&mut service, "second");
    assert_pending!(second.poll());

    for _ in 0..100 {
        advance(Duration::from_millis(100)).await;
        assert!(!second.is_woken());
    }
    drop(first);

    assert!(second.is_woken());
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_is_not_ready_is_waited_for_outside() {
    let layer = plain(1);
    let (mut service, mut inner) = mocked(&layer);
    inner.allow(0);
    assert_pending!(service.poll_ready());
    assert_eq!(layer.handle().snapshot().in_flight, 0);

    inner.allow(1);
    let _call = call(&mut service, "now");

    assert_request_eq!(inner, "now");
}

#[tokio::test(start_paused = true)]
async fn who_waits_waits_no_longer_than_its_caller() {
    let layer = BulkheadLayer::new("b", number(1)).queue(2);
    let service = layer.layer(service_fn(|_: Request<()>| {
        pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    }));
    let mut under_way = task::spawn(service.clone().oneshot(Request::new(())));
    assert_pending!(under_way.poll());
    let mut request = Request::new(());
    let in_time = Instant::now() + WAIT.get();
    request.extensions_mut().insert(Deadline(in_time.into_std()));
    let started = Instant::now();

    let response = service.oneshot(request).await.unwrap();

    assert_eq!(started.elapsed(), WAIT.get());
    assert_eq!(response.status(), 503);
    let refused = Rejection::of_response(&response).map(Rejection::kind);
    assert_eq!(refused, Some(Kind::QueueTimedOut));
}

/// Its turn came in time, but nobody looked until its caller had given up.
#[tokio::test(start_paused = true)]
async fn work_that_nobody_waits_for_any_more_is_not_started() {
    let layer = BulkheadLayer::new("b", number(1)).queue(2);
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(|_: Request<()>| {
        pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    }));
    let first = service.call(Request::new(()));
    let mut request = Request::new(());
    request.extensions_mut().insert(Deadline((Instant::now() + WAIT.get()).into_std()));
    let mut second = task::spawn(service.call(request));

    drop(first);
    advance(WAIT.get()).await;

    assert_eq!(assert_ready_ok!(second.poll()).status(), 503);
    assert_eq!(handle.snapshot().in_flight, 0);
}

/// `retry_after`: honest before anything is measured, then what has been measured, rounded up.
#[tokio::test(start_paused = true)]
async fn who_is_refused_is_told_when_a_place_is_likely_to_be_free() {
    let layer = plain(1).queue(2).wait(TimeLimit::from_secs(600));
    let (mut service, _inner) = mocked(&layer);
    let mut under_way = call(&mut service, "first");
    let wait = |service: &mut _| {
        let _waiting = [call(service, "waits"), call(service, "waits")];
        let refused = assert_ready_err!(call(service, "no").poll());
        Rejection::find(&*refused).unwrap().retry_after().unwrap()
    };
    assert_eq!(wait(&mut service), Duration::from_secs(1));

    for _ in 0..9 {
        advance(Duration::from_millis(400)).await;
        drop(under_way);
        under_way = call(&mut service, "next");
    }

    // Nine in 3.6 s, and three to go.
    assert_eq!(wait(&mut service), Duration::from_millis(1200));
    drop(under_way);
}

/// X13.
#[tokio::test(start_paused = true)]
async fn a_place_is_held_to_the_end_of_the_body_or_to_its_head() {
    let stream = || {
        service_fn(|_: Request<()>| {
            let frames = futures_util::stream::iter([Ok::<_, Infallible>(http_body::Frame::data(
                Bytes::from_static(b"part"),
            ))]);
            ready(Ok::<_, Infallible>(Response::new(StreamBody::new(frames).boxed_unsync())))
        })
    };
    let layer = || BulkheadLayer::new("b", number(1)).on_reject(Raise);
    let (held, released) = (layer(), layer().until_head());

    for end in ["read", "dropped"] {
        let body = held.layer(stream()).oneshot(Request::new(())).await.unwrap().into_body();
        assert_eq!(held.handle().snapshot().in_flight, 1);
        assert!(held.layer(stream()).oneshot(Request::new(())).await.is_err());
        match end {
            "read" => drop(Box::pin(body).collect().await.unwrap()),
            _ => drop(body),
        }
        assert_eq!(held.handle().snapshot().in_flight, 0, "{end}");
    }
    let _body = released.layer(stream()).oneshot(Request::new(())).await.unwrap().into_body();
    assert_eq!(released.handle().snapshot().in_flight, 0);
}

/// However a call ends: who is let in for it must not meet what is left of it.
#[tokio::test(start_paused = true)]
async fn what_is_inside_is_gone_before_its_place_is_given_to_another() {
    /// Notes how many places are taken when what is inside goes.
    struct Inside(BulkheadHandle, Arc<Mutex<Vec<u32>>>);
    impl Drop for Inside {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0.snapshot().in_flight);
        }
    }
    let layer = plain(1);
    let (handle, taken) = (layer.handle(), Arc::new(Mutex::new(Vec::new())));
    let service = layer.layer(service_fn(|ending: &'static str| {
        let inside = Inside(handle.clone(), Arc::clone(&taken));
        // The future is over in its last poll, and what it holds goes with the future.
        let mut inside = Some(inside);
        std::future::poll_fn(move |_| {
            assert!(inside.is_some());
            match ending {
                "answer" => std::task::Poll::Ready(Ok::<_, BoxError>(())),
                "error" => std::task::Poll::Ready(Err("as it was told".into())),
                "panic" => std::panic::resume_unwind(Box::new("as it was told")),
                _ => {
                    let _ = &mut inside;
                    std::task::Poll::Pending
                }
            }
        })
    }));

    for ending in ["answer", "error", "panic", "drop"] {
        let mut call = task::spawn(service.clone().oneshot(ending));
        let _ = catch_unwind(AssertUnwindSafe(|| call.poll().is_ready()));
        drop(call);
        assert_eq!(taken.lock().unwrap().pop(), Some(1), "{ending}");
        assert_eq!(handle.snapshot().in_flight, 0, "{ending}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_its_place_back_before_the_future_is_dropped() {
    let layer = plain(1);
    let handle = layer.handle();
    let mut in_call = layer
        .layer(service_fn(|()| -> std::future::Ready<Result<(), BoxError>> { panic!("in call") }));
    let in_poll = layer.layer(service_fn(|()| async {
        assert!(std::hint::black_box(false), "in poll");
        Ok::<_, BoxError>(())
    }));

    assert!(catch_unwind(AssertUnwindSafe(|| in_call.call(()))).is_err());
    assert_eq!(handle.snapshot().in_flight, 0);
    let mut call = task::spawn(in_poll.oneshot(()));
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
    assert_eq!(handle.snapshot().in_flight, 0);
    drop(call);
    assert_eq!(handle.snapshot().finished(), 2);
}
