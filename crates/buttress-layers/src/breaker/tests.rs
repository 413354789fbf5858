use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{
    BoxError, Event, Kind, Observe, Plain, Ratio, Rejection, TimeLimit,
    breaker::{OpenFor, Probes, Settings, State, Trip, Window},
};
use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};
use tower_test::{assert_request_eq, mock};

use super::*;

mod by_hand;
mod callers;
mod keyed;
mod outcomes;

const WAIT: TimeLimit = TimeLimit::from_millis(200);

/// Opens after so many failures in a row, for 200 ms; one probe.
fn in_a_row(failures: u32) -> Settings {
    Settings::consecutive(failures).open_for(OpenFor::fixed(WAIT))
}

fn plain(settings: Settings) -> BreakerLayer<Plain> {
    BreakerLayer::new("b", settings).exchange(Plain)
}

fn refusal(error: &BoxError) -> Option<&Rejection> {
    Rejection::find(&**error).filter(|rejection| rejection.kind() == Kind::CircuitOpen)
}

/// A service that counts its calls and does what its script says: the request is the script.
#[derive(Clone, Debug, Default)]
struct Scripted {
    calls: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Succeed,
    Fail,
    Hang,
    Panic,
    PanicAtOnce,
    /// Succeeds after so many milliseconds.
    Take(u64),
}

impl Scripted {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Service<Do> for Scripted {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, script: Do) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(script != Do::PanicAtOnce, "as scripted");
        Box::pin(async move {
            match script {
                Do::Succeed => Ok(()),
                Do::Fail => Err("as scripted".into()),
                Do::Hang => pending().await,
                Do::Panic | Do::PanicAtOnce => panic!("as scripted"),
                Do::Take(millis) => {
                    sleep(Duration::from_millis(millis)).await;
                    Ok(())
                }
            }
        })
    }
}

/// Writes down what an observer is told.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<String>>);

impl Observe for Heard {
    fn observe(&self, event: &Event<'_>) {
        let key = event.key.map(|key| format!("[{key}] ")).unwrap_or_default();
        self.0.lock().unwrap().push(format!("{key}{}", event.change));
    }
}

impl Heard {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_without_calling_and_says_when_to_come_again() {
    let (mut service, mut inner) = mock::spawn_layer::<_, (), _>(plain(in_a_row(1)));
    assert_ready_ok!(service.poll_ready());
    let mut failing = task::spawn(service.call("fails"));
    assert_request_eq!(inner, "fails").send_error("refused");
    assert_eq!(assert_ready_err!(failing.poll()).to_string(), "refused");

    advance(Duration::from_millis(50)).await;
    assert_ready_ok!(service.poll_ready());
    let error = assert_ready_err!(task::spawn(service.call("not called")).poll());

    let refused = refusal(&error).expect("the breaker's");
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(150)));
    assert_eq!(refused.layer(), "b");
    assert_pending!(inner.poll_request());
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_answers_while_the_inner_service_is_busy() {
    let layer = plain(in_a_row(1));
    layer.handle().force_open();
    let (mut service, mut inner) = mock::spawn_layer::<&str, (), _>(layer);
    inner.allow(0);

    assert_ready_ok!(service.poll_ready());
    let error = assert_ready_err!(task::spawn(service.call("refused")).poll());

    assert!(refusal(&error).is_some());
}

// X20
#[tokio::test(start_paused = true)]
async fn a_busy_inner_service_is_waited_for_on_the_instance_that_was_polled_and_not_in_a_loop() {
    let (mut service, mut inner) = mock::spawn_layer::<_, (), _>(plain(in_a_row(1)));
    inner.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("queued"));
    assert_pending!(response.poll());
    assert!(!response.is_woken(), "nobody wakes itself");

    advance(Duration::from_secs(60)).await;
    assert!(!response.is_woken());
    inner.allow(1);

    assert!(response.is_woken());
    assert_pending!(response.poll());
    assert_request_eq!(inner, "queued").send_response(());
    assert_ready_ok!(response.poll());
}

// X10
#[tokio::test(start_paused = true)]
async fn time_is_tokios_so_a_paused_test_sees_the_probe_at_the_end_of_the_wait() {
    let layer = plain(in_a_row(1));
    let (handle, backend) = (layer.handle(), Scripted::default());
    let service = layer.layer(backend.clone());
    service.clone().oneshot(Do::Fail).await.unwrap_err();

    advance(Duration::from_millis(199)).await;
    assert!(refusal(&service.clone().oneshot(Do::Succeed).await.unwrap_err()).is_some());
    assert_eq!((handle.state(), backend.calls()), (State::Open, 1));

    // At the exact end of the wait a probe is allowed.
    advance(Duration::from_millis(1)).await;
    service.oneshot(Do::Succeed).await.unwrap();
    assert_eq!((handle.state(), backend.calls()), (State::Closed, 2));
}

// X08
#[tokio::test(start_paused = true)]
async fn a_call_from_before_the_trip_has_no_say_in_the_probe() {
    let layer = plain(in_a_row(1));
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));
    let mut old = task::spawn(service.clone().oneshot(Do::Take(300)));
    assert_pending!(old.poll());
    service.clone().oneshot(Do::Fail).await.unwrap_err();
    advance(Duration::from_millis(200)).await;
    let mut probe = task::spawn(service.clone().oneshot(Do::Hang));
    assert_pending!(probe.poll());

    advance(Duration::from_millis(100)).await;
    assert_ready_ok!(old.poll());

    assert_eq!(handle.state(), State::HalfOpen);
    assert_eq!(handle.totals().void, 1);
    assert!(refusal(&service.oneshot(Do::Succeed).await.unwrap_err()).is_some());
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_one_breaker() {
    let layer = plain(in_a_row(2));
    let backend = Scripted::default();

    for _ in 0..2 {
        layer.layer(backend.clone()).oneshot(Do::Fail).await.unwrap_err();
    }
    let error = layer.clone().layer(backend.clone()).oneshot(Do::Succeed).await.unwrap_err();

    assert!(refusal(&error).is_some());
    assert_eq!(backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_poll_ready_is_passed_on() {
    let (mut service, mut inner) = mock::spawn_layer::<(), (), _>(plain(in_a_row(1)));
    inner.send_error("gone");

    let error = assert_ready_err!(service.poll_ready());

    assert_eq!(error.to_string(), "gone");
}

#[tokio::test(start_paused = true)]
async fn each_transition_is_told_once_with_its_reason_and_a_panicking_observer_harms_nobody() {
    struct Rude;
    impl Observe for Rude {
        fn observe(&self, _: &Event<'_>) {
            panic!("an observer that panics");
        }
    }
    let layer = plain(in_a_row(2));
    let (handle, heard) = (layer.handle(), Arc::new(Heard::default()));
    handle.observe(Arc::clone(&heard) as Arc<dyn Observe>);
    let service = layer.layer(Scripted::default());

    service.clone().oneshot(Do::Fail).await.unwrap_err();
    service.clone().oneshot(Do::Fail).await.unwrap_err();
    advance(WAIT.get()).await;
    service.clone().oneshot(Do::Succeed).await.unwrap();
    assert_eq!(
        heard.take(),
        [
            "closed -> open: 2 failures in a row",
            "open -> half_open: the wait is over",
            "half_open -> closed: the probes passed",
        ]
    );

    handle.observe(Arc::new(Rude));
    service.clone().oneshot(Do::Fail).await.unwrap_err();
    let rude = tokio::spawn(service.clone().oneshot(Do::Fail)).await;
    assert!(rude.unwrap_err().is_panic());
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_ramp_lets_traffic_come_back_in_a_growing_share() {
    let ramp = in_a_row(1).ramp(TimeLimit::from_secs(10));
    let layer = plain(ramp);
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));
    service.clone().oneshot(Do::Fail).await.unwrap_err();
    advance(WAIT.get()).await;
    service.clone().oneshot(Do::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Recovering);

    let mut admitted = [0; 10];
    for share in &mut admitted {
        for _ in 0..100 {
            advance(Duration::from_millis(10)).await;
            match service.clone().oneshot(Do::Succeed).await {
                Ok(()) => *share += 1,
                Err(error) => {
                    let wait = refusal(&error).and_then(Rejection::retry_after);
                    assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(10)));
                }
            }
        }
    }

    // Of the k-th hundred calls about 10 k - 5 pass; five standard deviations are 25.
    for (tenth, admitted) in admitted.into_iter().enumerate() {
        assert!(admitted <= 10 * tenth + 5 + 25 && admitted + 25 >= 10 * tenth + 5, "{admitted}");
    }
    assert_eq!(handle.state(), State::Closed);
    service.oneshot(Do::Succeed).await.unwrap();
}
