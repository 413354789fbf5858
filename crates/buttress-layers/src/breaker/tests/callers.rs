//! Callers that leave, give up, hang and panic.

use buttress_core::{Raise, breaker::Dropped};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::service_fn;

use super::*;
use crate::timeout::{Limits, TimeoutLayer};

/// Half of 10 calls, within 30 seconds.
fn half_of_ten() -> Settings {
    Settings::new(Trip::failure_rate(Ratio::percent(50)).minimum(10)).open_for(OpenFor::fixed(WAIT))
}

fn never_opens() -> Settings {
    Settings::new(Trip::consecutive(1_000_000))
}

fn limit(millis: u64) -> TimeoutLayer<Plain> {
    TimeoutLayer::new("t", TimeLimit::from_millis(millis)).exchange(Plain)
}

// X04
#[tokio::test(start_paused = true)]
async fn a_hundred_calls_that_time_out_outside_are_a_hundred_failures() {
    let layer = plain(never_opens());
    let handle = layer.handle();
    let service = limit(10).layer(layer.layer(Scripted::default()));

    for _ in 0..100 {
        service.clone().oneshot(Do::Hang).await.unwrap_err();
    }

    assert_eq!(handle.totals().failures, 100);
}

// X04, where nobody says how long callers wait: a timeout of somebody else's.
#[tokio::test(start_paused = true)]
async fn what_a_dropped_call_counts_as_is_a_matter_of_policy() {
    let slower_than = |millis| {
        let limit = TimeLimit::from_millis(millis);
        never_opens().or(Trip::slow_rate(Ratio::ONE, limit).minimum(1_000))
    };
    let (slow, fast) = (slower_than(9), slower_than(10));
    let policies = [
        (never_opens(), 0),
        (slow.clone(), 100),
        (fast, 0),
        (slow.dropped(Dropped::Ignored), 0),
        (never_opens().dropped(Dropped::Failure), 100),
    ];

    for (settings, failures) in policies {
        let layer = plain(settings);
        let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));
        for _ in 0..100 {
            let mut response = task::spawn(service.clone().oneshot(Do::Hang));
            assert_pending!(response.poll());
            advance(Duration::from_millis(10)).await;
        }
        let totals = handle.totals();
        assert_eq!((totals.failures, totals.cancelled), (failures, 100 - failures));
    }
}

// X04, B26
#[tokio::test(start_paused = true)]
async fn a_hundred_panics_are_a_hundred_failures_and_go_on_unwinding() {
    let layer = plain(never_opens());
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));

    for script in [Do::Panic, Do::PanicAtOnce] {
        for _ in 0..50 {
            let call = tokio::spawn(service.clone().oneshot(script));
            assert!(call.await.unwrap_err().is_panic());
        }
    }

    assert_eq!(handle.totals().failures, 100);
}

#[tokio::test(start_paused = true)]
async fn a_panic_elsewhere_is_not_blamed_on_a_call_that_is_dropped_by_it() {
    let layer = plain(never_opens());
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));

    let elsewhere = tokio::spawn(async move {
        let mut response = task::spawn(service.oneshot(Do::Hang));
        assert_pending!(response.poll());
        panic!("elsewhere");
    });

    assert!(elsewhere.await.unwrap_err().is_panic());
    assert_eq!((handle.totals().failures, handle.totals().cancelled), (0, 1));
}

// X05
#[tokio::test(start_paused = true)]
async fn a_probe_that_times_out_opens_again_with_a_cool_down() {
    let layer = plain(half_of_ten());
    let (handle, backend) = (layer.handle(), Scripted::default());
    let service = limit(10).layer(layer.layer(backend.clone()));
    while handle.state() == State::Closed {
        service.clone().oneshot(Do::Hang).await.unwrap_err();
    }
    assert_eq!(backend.calls(), 10);

    // A second of callers, one each millisecond or as soon as the last one has given up.
    let end = tokio::time::Instant::now() + Duration::from_secs(1);
    while tokio::time::Instant::now() < end {
        service.clone().oneshot(Do::Hang).await.unwrap_err();
        advance(Duration::from_millis(1)).await;
    }

    // Three probes, of which the second failure decides, every 200 ms and the 22 that they take.
    assert_eq!(backend.calls() - 10, 8);
}

// X06
#[tokio::test(start_paused = true)]
async fn a_probe_that_never_ends_holds_nobody_up_after_its_deadline() {
    let probes = Probes::new(1).deadline(TimeLimit::from_secs(1));
    let layer = plain(in_a_row(1).probes(probes));
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));
    service.clone().oneshot(Do::Fail).await.unwrap_err();
    advance(WAIT.get()).await;
    let mut hung = task::spawn(service.clone().oneshot(Do::Hang));
    assert_pending!(hung.poll());

    advance(Duration::from_millis(999)).await;
    let refused = service.clone().oneshot(Do::Succeed).await.unwrap_err();
    assert_eq!(refusal(&refused).unwrap().retry_after(), Some(Duration::from_millis(1)));
    advance(Duration::from_millis(1)).await;
    assert_eq!(handle.state(), State::Open);
    advance(WAIT.get()).await;
    let mut admitted = 0;
    for _ in 0..50 {
        admitted += usize::from(service.clone().oneshot(Do::Succeed).await.is_ok());
    }

    assert_eq!(admitted, 50);
    assert_eq!(handle.state(), State::Closed);
    assert_pending!(hung.poll());
}

// B26
#[tokio::test(start_paused = true)]
async fn a_probe_that_its_caller_drops_gives_its_permit_back_and_says_nothing() {
    let layer = plain(in_a_row(1));
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));
    service.clone().oneshot(Do::Fail).await.unwrap_err();
    advance(WAIT.get()).await;
    let mut probe = task::spawn(service.clone().oneshot(Do::Hang));
    assert_pending!(probe.poll());
    assert!(refusal(&service.clone().oneshot(Do::Succeed).await.unwrap_err()).is_some());

    advance(Duration::from_millis(10)).await;
    drop(probe);

    let progress = handle.snapshot().probes.expect("half-open");
    assert_eq!((progress.tally.calls(), progress.free), (0, 1));
    service.oneshot(Do::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
}

// X07
#[tokio::test(start_paused = true)]
async fn a_healthy_service_with_little_traffic_closes_the_breaker() {
    let window = Window::time(TimeLimit::from_millis(100));
    let trip = Trip::failure_rate(Ratio::percent(50)).over(window).minimum(1);
    let layer = plain(Settings::new(trip).open_for(OpenFor::fixed(WAIT)));
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));
    service.clone().oneshot(Do::Fail).await.unwrap_err();
    advance(WAIT.get()).await;

    let mut states = Vec::new();
    for _ in 0..3 {
        service.clone().oneshot(Do::Succeed).await.unwrap();
        states.push(handle.state());
        advance(Duration::from_millis(150)).await;
    }

    // Two of three decide, at 50 %.
    assert_eq!(states, [State::HalfOpen, State::Closed, State::Closed]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_polled_is_settled_when_it_is_dropped() {
    let layer = plain(in_a_row(1));
    let (handle, mut service) = (layer.handle(), layer.layer(Scripted::default()));

    service.ready().await.unwrap();
    drop(service.call(Do::Succeed));

    assert_eq!(handle.totals().cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn shadow_of_a_timeout_is_nobodys_deadline() {
    let layer = plain(never_opens());
    let handle = layer.handle();
    let tried_out = limit(10);
    tried_out.handle().set_shadow(true);
    let service = tried_out.layer(layer.layer(Scripted::default()));

    let mut response = task::spawn(service.oneshot(Do::Hang));
    assert_pending!(response.poll());
    advance(Duration::from_millis(20)).await;
    assert_pending!(response.poll());
    drop(response);

    assert_eq!((handle.totals().failures, handle.totals().cancelled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_limit_to_the_head_is_no_deadline_of_a_stream() {
    let counts = async |limits: Limits| {
        let layer = BreakerLayer::new("b", never_opens()).on_reject(Raise);
        let handle = layer.handle();
        let endless = service_fn(|_: Request<()>| async {
            let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
            Ok::<_, BoxError>(Response::new(body.boxed_unsync()))
        });
        let timeout = TimeoutLayer::new("t", limits).on_reject(Raise);
        let response = timeout.layer(layer.layer(endless)).oneshot(Request::new(())).await;
        advance(Duration::from_secs(2)).await;
        drop(response.unwrap());
        (handle.totals().successes, handle.totals().failures)
    };
    let second = TimeLimit::from_secs(1);

    assert_eq!(counts(Limits::streaming(second, TimeLimit::from_secs(60))).await, (1, 0));
    assert_eq!(counts(Limits::total(second)).await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_needs_no_runtime_to_be_dropped() {
    let layer = plain(in_a_row(1));
    layer.handle().force_open();
    let mut service = layer.layer(Scripted::default());

    service.ready().await.unwrap();
    drop(service.call(Do::Succeed));
    let error = assert_ready!(task::spawn(service.oneshot(Do::Succeed)).poll()).unwrap_err();

    assert_eq!(refusal(&error).unwrap().retry_after(), None);
    assert_eq!(layer.handle().snapshot().refused, 2);
}

/// One that ends at the third opening, as a table does that is too short.
fn two_waits() -> BreakerLayer<Plain> {
    let waits = [WAIT, WAIT];
    let open_for = OpenFor::computed(move |opening| waits[opening.number.get() as usize - 1]);
    plain(Settings::consecutive(1).open_for(open_for))
}

#[tokio::test(start_paused = true)]
async fn a_function_of_the_wait_that_panics_leaves_no_breaker_half_open_for_ever() {
    let layer = two_waits();
    let handle = layer.handle();

    for opening in 1..=5 {
        layer.layer(Scripted::default()).oneshot(Do::Fail).await.unwrap_err();
        assert_eq!((handle.state(), handle.snapshot().openings), (State::Open, opening));
        advance(WAIT.get()).await;
    }

    layer.layer(Scripted::default()).oneshot(Do::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
}

/// A second panic while one unwinds would abort the process.
#[tokio::test(start_paused = true)]
async fn a_function_of_the_wait_that_panics_while_a_call_does_aborts_nothing() {
    let layer = two_waits();

    for _ in 0..3 {
        let panicked = tokio::spawn(layer.layer(Scripted::default()).oneshot(Do::Panic)).await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
        advance(WAIT.get()).await;
    }

    assert_eq!(layer.handle().state(), State::Open);
}
