//! Inside and outside of other layers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::retry::{Backoff, Settings};

use super::*;
use crate::retry::RetryLayer;

/// Answers after so many milliseconds.
fn after(
    millis: u64,
) -> impl Service<Request<Full<Bytes>>, Response = Answer, Error = BoxError, Future: Send> + Clone {
    service_fn(move |_: Request<Full<Bytes>>| async move {
        sleep(Duration::from_millis(millis)).await;
        Ok::<_, BoxError>(answer(200, "the service"))
    })
}

fn timeout(millis: u64) -> (TimeoutLayer, TimeoutHandle) {
    let layer = TimeoutLayer::new("t", TimeLimit::from_millis(millis));
    let handle = layer.handle();
    (layer, handle)
}

fn expired(handle: &TimeoutHandle) -> u64 {
    use crate::timeout::Clock;
    Clock::ALL.iter().map(|clock| handle.snapshot().expired(*clock)).sum()
}

// T03, first.
#[tokio::test(start_paused = true)]
async fn outside_of_a_timeout_it_answers_for_a_call_that_takes_too_long() {
    let (limit, timeouts) = timeout(10);
    let layer = FallbackLayer::new("f").value(|| answer(200, "fallback"));
    let handle = layer.handle();
    let service = ServiceBuilder::new().layer(layer).layer(limit).service(after(100));

    let (status, body, note) = ask(service, get("/")).await;

    assert_eq!((status, body.as_str()), (200, "fallback"));
    assert_eq!(note.unwrap().why.reason(), Reason::Refused(Kind::TimedOut));
    assert_eq!(expired(&timeouts), 1);
    assert_eq!(handle.snapshot().rung("value").unwrap().answered, 1);
}

// T03, second.
#[tokio::test(start_paused = true)]
async fn inside_of_a_timeout_it_is_dropped_with_its_call_and_runs_no_rung() {
    let (limit, timeouts) = timeout(10);
    let layer = FallbackLayer::new("f").value(|| answer(200, "fallback"));
    let handle = layer.handle();
    let service = ServiceBuilder::new().layer(limit).layer(layer).service(after(100));

    let error = service.oneshot(get("/")).await.unwrap_err();

    assert_eq!(refused(&error), Some(Kind::TimedOut));
    assert_eq!(expired(&timeouts), 1);
    let seen = handle.snapshot();
    assert_eq!((seen.all_triggered(), seen.rung("value").unwrap().answered), (0, 0));
}

// T03, third.
#[tokio::test(start_paused = true)]
async fn a_rung_that_takes_too_long_is_cut_off_by_the_timeout_around_it() {
    let (limit, timeouts) = timeout(100);
    let layer = FallbackLayer::new("f").function(|_, _| async {
        sleep(Duration::from_millis(200)).await;
        Some(answer(200, "fallback"))
    });
    let handle = layer.handle();
    let service = ServiceBuilder::new().layer(limit).layer(layer).service(failing().service());

    let began = Instant::now();
    let error = service.oneshot(get("/")).await.unwrap_err();

    assert_eq!(refused(&error), Some(Kind::TimedOut));
    assert_eq!((expired(&timeouts), began.elapsed()), (1, Duration::from_millis(100)));
    let seen = handle.snapshot();
    assert_eq!((seen.all_triggered(), seen.rung("function").unwrap().answered), (1, 0));
}

// T03, fourth.
#[tokio::test(start_paused = true)]
async fn an_error_at_once_is_answered_for_without_a_timeout() {
    let (limit, timeouts) = timeout(10);
    let layer = FallbackLayer::new("f").value(|| answer(200, "fallback"));
    let handle = layer.handle();
    let service = ServiceBuilder::new().layer(layer).layer(limit).service(failing().service());

    let (_, body, note) = ask(service, get("/")).await;

    assert_eq!((body.as_str(), note.unwrap().why.reason()), ("fallback", Reason::Failed));
    assert_eq!(handle.snapshot().rung("value").unwrap().answered, 1);
    assert_eq!(expired(&timeouts), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_failed_holds_no_place_of_a_bulkhead_while_a_rung_is_at_work() {
    let bulkhead = crate::bulkhead::BulkheadLayer::new("b", 1.try_into().unwrap());
    let places = bulkhead.handle();
    let layer = FallbackLayer::new("f").function(move |_, _| {
        let taken = places.snapshot().in_flight;
        async move { Some(Response::new(Full::<Bytes>::from(format!("{taken} taken")))) }
    });
    let service = ServiceBuilder::new().layer(layer).layer(bulkhead).service(after_an_error());

    assert_eq!(ask(service, get("/")).await.1, "0 taken");
}

/// Fails after a while, and holds on to its future until that is dropped.
fn after_an_error()
-> impl Service<Request<Full<Bytes>>, Response = Answer, Error = BoxError, Future: Send> + Clone {
    service_fn(|_: Request<Full<Bytes>>| async {
        sleep(Duration::from_millis(1)).await;
        Err::<Answer, _>(BoxError::from("down"))
    })
}

#[tokio::test(start_paused = true)]
async fn the_future_of_a_call_that_failed_is_dropped_before_a_rung_is_asked() {
    /// Ready at once, and holds on to something until it is dropped.
    struct Holding(Arc<()>);
    impl Future for Holding {
        type Output = Result<Answer, BoxError>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            assert!(Arc::strong_count(&self.0) > 1);
            Poll::Ready(Err("down".into()))
        }
    }
    let held = Arc::new(());
    let seen = Arc::clone(&held);
    let layer = FallbackLayer::new("f").value(move || {
        Response::new(Full::<Bytes>::from(format!("{} hold on", Arc::strong_count(&seen) - 2)))
    });
    let inner = Arc::clone(&held);
    let service =
        layer.layer(service_fn(move |_: Request<Full<Bytes>>| Holding(Arc::clone(&inner))));

    assert_eq!(ask(service, get("/")).await.1, "0 hold on");
}

#[tokio::test(start_paused = true)]
async fn what_a_rung_asks_learns_by_when_it_must_have_answered() {
    use buttress_core::clock;

    let layer = FallbackLayer::new("f")
        .function(|_, _| async {
            let left = clock::due().head.map(|due| due - Instant::now().into_std());
            Some(Response::new(Full::<Bytes>::from(format!("{left:?}"))))
        })
        .within(TimeLimit::from_millis(70));
    let service = layer.layer(failing().service());

    assert_eq!(ask(service, get("/")).await.1, "Some(70ms)");
}

// R18.
#[tokio::test(start_paused = true)]
async fn a_retry_around_it_makes_one_attempt() {
    let script = failing();
    let retry = RetryLayer::new(
        "r",
        Settings::new(Backoff::constant(Duration::from_millis(1))).attempts(3),
    );
    let retries = retry.handle();
    let layer = FallbackLayer::new("f").value(|| answer(200, "test"));
    let service = ServiceBuilder::new().layer(retry).layer(layer).service(script.service());

    let (_, body, _) = ask(service, get("/")).await;

    assert_eq!((body.as_str(), script.calls()), ("test", 1));
    assert_eq!((retries.snapshot().requests(), retries.snapshot().retries()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_breaks_after_the_head_was_handed_out_is_not_answered_for() {
    let layer = FallbackLayer::new("f").exchange(Plain).value(|| 0);
    let handle = layer.handle();
    let service = layer.layer(service_fn(|()| ready(Ok::<_, BoxError>(7))));

    assert_eq!(service.oneshot(()).await.unwrap(), 7);
    assert_eq!(handle.snapshot().all_triggered(), 0);
}
