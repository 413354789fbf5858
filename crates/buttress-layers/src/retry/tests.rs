use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_core::{
    BoxError, Plain, Ratio, Rejection, TimeLimit,
    retry::{Backoff, Budget, InFlight, Percentage, Settings, Stop},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

use super::*;

mod bodies;
mod composition;
mod grpc;
mod http_calls;
mod storm;

const MS: Duration = Duration::from_millis(1);

fn every(wait: Duration) -> Settings {
    Settings::new(Backoff::constant(wait)).budget(Budget::unlimited())
}

fn plain(settings: Settings) -> RetryLayer<Plain> {
    RetryLayer::new("r", settings).exchange(Plain)
}

/// What a service of this many failures, and then of successes, was asked for.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicU32>);

impl Calls {
    fn made(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn fails(
        &self,
        failures: u32,
    ) -> impl Service<(), Response = u32, Error = BoxError, Future: Send> + Clone + use<> {
        let calls = self.clone();
        service_fn(move |()| {
            let call = calls.0.fetch_add(1, Ordering::Relaxed);
            ready(if call < failures { Err(BoxError::from("down")) } else { Ok(call) })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn it_tries_until_it_succeeds_and_waits_in_between() {
    let (calls, layer) = (Calls::default(), plain(every(100 * MS)));
    let start = Instant::now();

    let answer = layer.layer(calls.fails(2)).oneshot(()).await.unwrap();

    assert_eq!((answer, start.elapsed()), (2, 200 * MS));
    let counts = layer.handle().snapshot();
    assert_eq!((counts.requests(), counts.retries()), (1, 2));
    assert!(Stop::ALL.iter().all(|stop| counts.stopped(*stop) == 0));
}

#[tokio::test(start_paused = true)]
async fn the_last_error_is_passed_on_when_the_attempts_are_used_up() {
    let (calls, layer) = (Calls::default(), plain(every(MS).attempts(4)));

    let error = layer.layer(calls.fails(99)).oneshot(()).await.unwrap_err();

    assert_eq!((error.to_string(), calls.made()), ("down".to_owned(), 4));
    assert_eq!(layer.handle().snapshot().stopped(Stop::Attempts), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_not_made_before_its_time_and_only_when_the_service_is_ready() {
    let (mut service, mut inner) = mock::spawn_layer::<_, (), _>(plain(every(100 * MS)));
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    assert_request_eq!(inner, "hello").send_error("down");
    assert_pending!(response.poll());
    inner.allow(0);

    advance(99 * MS).await;
    assert!(!response.is_woken());
    assert_pending!(response.poll());
    advance(MS).await;
    assert!(response.is_woken());
    assert_pending!(response.poll());
    assert_pending!(inner.poll_request(), "it is busy");

    inner.allow(1);
    assert!(response.is_woken());
    assert_pending!(response.poll());
    assert_request_eq!(inner, "hello").send_response(());
    assert_ready_ok!(response.poll());
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_fails_before_the_retry_is_the_end() {
    let layer = plain(every(MS));
    let handle = layer.handle();
    let (mut service, mut inner) = mock::spawn_layer::<_, (), _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    assert_request_eq!(inner, "hello").send_error("down");
    inner.send_error("closed");

    assert_pending!(response.poll());
    advance(MS).await;

    let error = assert_ready_err!(response.poll());
    assert!(error.to_string().contains("closed"), "{error}");
    assert_eq!(handle.snapshot().stopped(Stop::Unready), 1);
}

// X18
#[tokio::test(start_paused = true)]
async fn the_failed_response_is_gone_before_the_wait() {
    let held = Arc::new(());
    let service = {
        let held = Arc::clone(&held);
        service_fn(move |_: Request<()>| {
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            response.extensions_mut().insert(Arc::clone(&held));
            ready(Ok::<_, Infallible>(response))
        })
    };
    let mut response =
        task::spawn(RetryLayer::new("r", every(100 * MS)).layer(service).oneshot(Request::new(())));

    assert_pending!(response.poll());

    // The service's own, and the test's.
    assert_eq!(Arc::strong_count(&held), 2);
}

/// Counts how often it is cloned.
#[derive(Debug, Default)]
struct Costly(Arc<AtomicU32>);

impl Clone for Costly {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

// X18, D23
#[tokio::test(start_paused = true)]
async fn a_request_is_cloned_for_retries_and_for_nothing_else() {
    let clones_of = async |settings: Settings, shadow: bool, fails: bool| {
        let (request, layer) = (Costly::default(), plain(settings));
        layer.handle().set_shadow(shadow);
        let clones = Arc::clone(&request.0);
        let service = service_fn(move |request: Costly| {
            drop(request);
            ready(if fails { Err(BoxError::from("down")) } else { Ok(()) })
        });
        let _ = layer.layer(service).oneshot(request).await;
        clones.load(Ordering::Relaxed)
    };

    assert_eq!(clones_of(every(MS).attempts(1), false, true).await, 0);
    assert_eq!(clones_of(every(MS), true, true).await, 0, "in shadow mode");
    assert_eq!(clones_of(every(MS), false, false).await, 1, "the one that is kept");
    assert_eq!(clones_of(every(MS).attempts(2), false, true).await, 1, "and sent in the end");
    assert_eq!(clones_of(every(MS).attempts(3), false, true).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_never_reached_the_server_is_sent_again_at_once_and_for_nothing() {
    let layer = plain(every(Duration::from_secs(1)).attempts(2));
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let refused = service_fn(move |()| {
        count.fetch_add(1, Ordering::Relaxed);
        ready(Err::<(), io::Error>(io::ErrorKind::ConnectionRefused.into()))
    });
    let start = Instant::now();

    assert!(layer.layer(refused).oneshot(()).await.is_err());

    assert_eq!(calls.load(Ordering::Relaxed), 3, "one of them was free");
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    let counts = layer.handle().snapshot();
    assert_eq!((counts.transparent(), counts.retries()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn retries_without_a_wait_let_others_have_their_turn() {
    let calls = Calls::default();
    let endless = every(Duration::ZERO).unlimited_attempts();
    let mut response = task::spawn(plain(endless).layer(calls.fails(u32::MAX)).oneshot(()));

    assert_pending!(response.poll());

    assert!(response.is_woken());
    assert_eq!(calls.made(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_budget_is_spent_by_all_that_share_it() {
    let budget =
        Budget::from(Percentage::new(Ratio::ZERO).floor(3).within(TimeLimit::from_secs(1)));
    let layers = [(); 2].map(|()| plain(every(MS).attempts(9).budget(budget.clone())));
    let calls = Calls::default();

    for layer in &layers {
        assert!(layer.layer(calls.fails(99)).oneshot(()).await.is_err());
    }

    assert_eq!(calls.made(), 2 + 3);
    assert!(layers.iter().all(|layer| layer.handle().snapshot().stopped(Stop::Budget) == 1));
    assert_eq!(layers[0].handle().balance(), Some(0));
    assert!(budget.is_same(&layers[1].handle().budget()));
}

#[tokio::test(start_paused = true)]
async fn the_leave_of_a_retry_that_failed_pays_for_the_next() {
    let one = InFlight::new(Ratio::ZERO).floor(1);
    let (calls, layer) = (Calls::default(), plain(every(MS).attempts(4).budget(one)));

    assert!(layer.layer(calls.fails(3)).oneshot(()).await.is_ok());

    assert_eq!(layer.handle().snapshot().stopped(Stop::Budget), 0);
}

#[tokio::test(start_paused = true)]
async fn a_share_in_flight_is_given_back_however_a_call_ends() {
    let budget = Budget::from(InFlight::new(Ratio::ZERO).floor(1));
    let layer = plain(every(100 * MS).budget(budget.clone()));
    let mut waiting = task::spawn(layer.layer(Calls::default().fails(99)).oneshot(()));
    assert_pending!(waiting.poll());
    let now = Instant::now().into_std();
    assert_eq!(budget.balance(now), Some(0), "taken for the retry that is waited for");

    drop(waiting);

    assert_eq!(budget.balance(now), Some(1));
}

/// What observers were told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl buttress_core::Observe for Told {
    fn observe(&self, event: &buttress_core::Event<'_>) {
        self.0.lock().unwrap().push(format!("{} {}: {}", event.layer, event.name, event.change));
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_runs_dry_is_told_once_and_again_when_it_grants() {
    let budget = Percentage::new(Ratio::ZERO).floor(1).within(TimeLimit::from_secs(1));
    let layer = plain(every(MS).budget(budget));
    let told = Arc::new(Told::default());
    layer.handle().observe(Arc::<Told>::clone(&told));
    let mut service = layer.layer(Calls::default().fails(99));

    for _ in 0..3 {
        let _ = service.ready().await.unwrap().call(()).await;
    }
    advance(Duration::from_secs(2)).await;
    let _ = service.ready().await.unwrap().call(()).await;

    let dry = "retry r: retry budget spent: failures are passed on";
    let grants = "retry r: retry budget grants again";
    let stopped = "retry r: a request was not tried again: budget";
    assert_eq!(*told.0.lock().unwrap(), [dry, stopped, grants, dry]);
}

#[tokio::test(start_paused = true)]
async fn each_reason_to_stop_is_told_once_and_again_when_it_comes_back_after_a_minute() {
    let layer = plain(every(MS).attempts(2));
    let told = Arc::new(Told::default());
    layer.handle().observe(Arc::<Told>::clone(&told));
    let mut service = layer.layer(Calls::default().fails(99));
    let attempts = "retry r: a request was not tried again: attempts";
    let backoff = "retry r: a request was not tried again: backoff";

    for _ in 0..5 {
        let _ = service.ready().await.unwrap().call(()).await;
        advance(Duration::from_secs(30)).await;
    }
    let (set, spent) = ("retry r: settings changed", Backoff::list([]));
    layer.handle().set_settings(Settings::new(spent).budget(Budget::unlimited()));
    let _ = service.ready().await.unwrap().call(()).await;
    assert_eq!(*told.0.lock().unwrap(), [attempts, set, backoff]);

    layer.handle().set_settings(every(MS).attempts(2));
    advance(Duration::from_secs(60)).await;
    let _ = service.ready().await.unwrap().call(()).await;
    assert_eq!(*told.0.lock().unwrap(), [attempts, set, backoff, set, attempts]);
    assert_eq!(layer.handle().snapshot().stopped(Stop::Attempts), 6, "each is counted");
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_decides_and_counts_and_retries_nothing() {
    let budget =
        Budget::from(Percentage::new(Ratio::ZERO).floor(1).within(TimeLimit::from_secs(1)));
    let layer = plain(every(MS).budget(budget));
    let (handle, calls) = (layer.handle(), Calls::default());
    handle.set_shadow(true);

    for _ in 0..5 {
        assert!(layer.layer(calls.fails(99)).oneshot(()).await.is_err());
    }

    assert_eq!((calls.made(), handle.snapshot().would_retry()), (5, 5));
    assert_eq!((handle.snapshot().retries(), handle.balance()), (0, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_cuts_no_attempt_and_counts_that_it_would_have() {
    let limit = every(MS).attempt_timeout(TimeLimit::from_millis(50));
    let layer = plain(limit);
    layer.handle().set_shadow(true);
    let service = layer.layer(service_fn(async |fails: bool| {
        tokio::time::sleep(100 * MS).await;
        if fails { Err(BoxError::from("down")) } else { Ok(()) }
    }));

    assert!(service.clone().oneshot(false).await.is_ok());
    assert_eq!(service.oneshot(true).await.unwrap_err().to_string(), "down");

    let counts = layer.handle().snapshot();
    assert_eq!((counts.would_retry(), counts.retries()), (2, 0), "once for each request");
}

#[tokio::test(start_paused = true)]
async fn settings_hold_for_the_next_request_of_a_service_that_is_there_already() {
    let layer = plain(every(MS));
    let (mut service, calls) = (layer.layer(Calls::default().fails(0)), Calls::default());
    assert!(service.ready().await.unwrap().call(()).await.is_ok());
    let mut service = layer.layer(calls.fails(99));

    layer.handle().set_settings(every(MS).attempts(7));
    assert!(service.ready().await.unwrap().call(()).await.is_err());

    assert_eq!(calls.made(), 7);
    assert_eq!(layer.handle().settings().most_attempts(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_seed_makes_the_same_waits() {
    let took = async || {
        let start = Instant::now();
        let layer = plain(Settings::jittered().seed(42));
        let _ = layer.layer(Calls::default().fails(99)).oneshot(()).await;
        start.elapsed()
    };

    assert_eq!(took().await, took().await);
    assert!(took().await < 150 * MS);
}
