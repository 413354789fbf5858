use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_core::{BoxError, Kind, Plain, Ratio, Rejection, TimeLimit, throttle::Settings};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;

/// Answers with whatever status is set, and counts.
fn answering(
    status: &Arc<AtomicU16>,
    calls: &Arc<AtomicU32>,
) -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone + use<>
{
    let (status, calls) = (Arc::clone(status), Arc::clone(calls));
    service_fn(move |_: Request<()>| {
        calls.fetch_add(1, Ordering::Relaxed);
        let answer = Response::builder().status(status.load(Ordering::Relaxed));
        ready(Ok(answer.body(Full::default()).unwrap()))
    })
}

async fn ask<S>(service: &mut S, times: u32)
where
    S: Service<Request<()>, Response: Sized, Error: std::fmt::Debug>,
{
    for _ in 0..times {
        drop(service.ready().await.unwrap().call(Request::new(())).await.unwrap());
    }
}

// A06: the window that the formula is fed.
#[tokio::test(start_paused = true)]
async fn what_is_not_accepted_is_held_back_and_what_is_accepted_brings_it_back() {
    let (status, calls) = (Arc::new(AtomicU16::new(200)), Arc::default());
    let layer = ThrottleLayer::new("t", Settings::new().at_most(Ratio::percent(80)));
    let (handle, mut service) = (layer.handle(), layer.layer(answering(&status, &calls)));

    ask(&mut service, 50).await;
    status.store(503, Ordering::Relaxed);
    ask(&mut service, 50).await;
    assert_eq!((handle.window(), handle.probability()), ((100, 50), Ratio::ZERO));
    assert_eq!(calls.load(Ordering::Relaxed), 100);

    ask(&mut service, 100).await;
    assert_eq!(handle.window(), (200, 50));
    assert_eq!(handle.probability().to_string(), "0.497512437");
    let refused = handle.snapshot().refused();
    assert_eq!(u64::from(calls.load(Ordering::Relaxed)), 200 - refused);
    assert!(refused > 5, "{refused} refused of a hundred");

    status.store(200, Ordering::Relaxed);
    ask(&mut service, 1_000).await;
    assert_eq!(handle.probability(), Ratio::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_what_it_is() {
    let (status, calls) = (Arc::new(AtomicU16::new(503)), Arc::default());
    let layer = ThrottleLayer::new("t", Settings::new());
    let mut service = layer.layer(answering(&status, &calls));

    let mut kinds = Vec::new();
    for _ in 0..100 {
        let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
        kinds.extend(Rejection::of_response(&response).map(Rejection::kind));
        assert_eq!(response.status(), 503);
    }

    assert!(kinds.len() > 50 && kinds.iter().all(|kind| *kind == Kind::Throttled));
}

#[tokio::test(start_paused = true)]
async fn what_the_service_or_a_layer_of_ours_refuses_is_not_accepted_and_a_404_is() {
    for (code, accepted) in [(404, true), (429, false), (500, false), (503, false), (200, true)] {
        let (status, calls) = (Arc::new(AtomicU16::new(code)), Arc::default());
        let layer = ThrottleLayer::new("t", Settings::new());

        ask(&mut layer.layer(answering(&status, &calls)), 1).await;

        assert_eq!(layer.handle().window(), (1, u64::from(accepted)), "{code}");
    }
    let refusing = service_fn(|()| {
        ready(Err::<(), BoxError>(Rejection::new(Kind::RateLimited, "inner").into()))
    });
    let layer = ThrottleLayer::new("t", Settings::new()).exchange(Plain);
    assert!(layer.layer(refusing).oneshot(()).await.is_err());
    assert_eq!(layer.handle().window(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_counts_for_nothing() {
    let layer = ThrottleLayer::new("t", Settings::new()).exchange(Plain);
    let hanging = service_fn(|()| std::future::pending::<Result<(), BoxError>>());
    let mut call = task::spawn(layer.layer(hanging).oneshot(()));
    assert_pending!(call.poll());

    drop(call);

    assert_eq!(layer.handle().window(), (0, 0));
    assert!(
        !layer.handle().is_last() && {
            let handle = layer.handle();
            drop(layer);
            handle.is_last()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_counts_and_refuses_nothing() {
    let (status, calls) = (Arc::new(AtomicU16::new(503)), Arc::default());
    let layer = ThrottleLayer::new("t", Settings::new());
    layer.handle().set_shadow(true);

    ask(&mut layer.layer(answering(&status, &calls)), 100).await;

    assert_eq!(calls.load(Ordering::Relaxed), 100);
    assert!(layer.handle().snapshot().refused() > 50);
    assert_eq!(layer.handle().window(), (100, 0));
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl buttress_core::Observe for Told {
    fn observe(&self, event: &buttress_core::Event<'_>) {
        self.0.lock().unwrap().push(format!("{} {}: {}", event.layer, event.name, event.change));
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_once_that_it_throttles_and_once_that_it_no_longer_does() {
    let (status, calls) = (Arc::new(AtomicU16::new(503)), Arc::default());
    let settings = Settings::new().over(TimeLimit::from_secs(16));
    let layer = ThrottleLayer::new("t", settings);
    let told = Arc::new(Told::default());
    layer.handle().observe(Arc::<Told>::clone(&told));
    let mut service = layer.layer(answering(&status, &calls));

    ask(&mut service, 10).await;
    status.store(200, Ordering::Relaxed);
    advance(Duration::from_secs(17)).await;
    ask(&mut service, 10).await;

    assert_eq!(
        *told.0.lock().unwrap(),
        ["throttle t: throttling", "throttle t: no longer throttling"]
    );
}

// design.md, law 9: a handle reconfigures without losing state.
#[tokio::test(start_paused = true)]
async fn other_settings_keep_the_window_and_hold_from_the_next_call_on() {
    let (status, calls) = (Arc::new(AtomicU16::new(503)), Arc::default());
    let layer = ThrottleLayer::new("t", Settings::new());
    let told = Arc::new(Told::default());
    let (handle, mut service) = (layer.handle(), layer.layer(answering(&status, &calls)));
    ask(&mut service, 100).await;
    handle.observe(Arc::<Told>::clone(&told));

    handle.set_settings(Settings::new().at_most(Ratio::percent(80)));
    assert_eq!((handle.probability(), handle.window()), (Ratio::percent(80), (100, 0)));

    let (refused, was_asked) = (handle.snapshot().refused(), calls.load(Ordering::Relaxed));
    handle.set_settings(Settings::new().allowance(1_000));
    ask(&mut service, 100).await;
    assert_eq!((handle.snapshot().refused(), handle.window()), (refused, (200, 0)));
    assert_eq!(calls.load(Ordering::Relaxed), was_asked + 100);

    handle.set_settings(Settings::new().at_most(Ratio::ONE));
    ask(&mut service, 100).await;
    assert!(handle.snapshot().refused() >= refused + 90);
    let set = "throttle t: settings changed";
    let (begins, ends) = ("throttle t: throttling", "throttle t: no longer throttling");
    assert_eq!(*told.0.lock().unwrap(), [set, set, ends, set, begins]);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_another_length_begins_empty() {
    let (status, calls) = (Arc::new(AtomicU16::new(503)), Arc::default());
    let layer = ThrottleLayer::new("t", Settings::new());
    ask(&mut layer.layer(answering(&status, &calls)), 10).await;

    let shorter = Settings::new().over(TimeLimit::from_secs(60));
    layer.handle().set_settings(shorter);

    assert_eq!((layer.handle().window(), layer.handle().settings()), ((0, 0), shorter));
    let response = layer.layer(answering(&status, &calls)).oneshot(Request::new(())).await;
    assert!(Rejection::of_response(&response.unwrap()).is_none(), "nothing is known against it");
}
