use std::{
    collections::VecDeque,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_core::{
    BoxError, Observe, Plain, Ratio, TimeLimit,
    hedge::{Delay, Quantile, Settings, Switch, Unhedged},
    retry::{self, Backoff, Budget, InFlight, Percentage, Tokens},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

use super::*;

mod answers;
mod bodies;
mod budgets;
mod deadlines;
mod learning;
mod shadow;
mod tail;

const MS: Duration = Duration::from_millis(1);

fn after(delay: Duration) -> Settings {
    Settings::new(Delay::fixed(delay)).budget(Budget::unlimited())
}

fn plain(settings: Settings) -> HedgeLayer<Plain> {
    HedgeLayer::new("h", settings).exchange(Plain)
}

/// So many hedges were sent, and so many of them won, lost, failed, were refused and dropped.
fn fates(handle: &HedgeHandle) -> (u64, [u64; 5]) {
    let snapshot = handle.snapshot();
    (snapshot.fired(), Fate::ALL.map(|fate| snapshot.ended(fate)))
}

/// What becomes of one call.
#[derive(Clone, Copy)]
enum Does {
    Answers(Duration),
    Fails(Duration),
    Hangs,
}
use Does::{Answers, Fails, Hangs};

/// A service that does with each of its calls as it is told; counts those that came, and those
/// that are under way. An answer is the number of its call.
#[derive(Clone, Default)]
struct Server {
    script: Arc<Mutex<VecDeque<Does>>>,
    calls: Arc<AtomicU32>,
    under_way: Arc<()>,
}

impl Server {
    fn does(script: impl IntoIterator<Item = Does>) -> Self {
        Self { script: Arc::new(Mutex::new(script.into_iter().collect())), ..Self::default() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn under_way(&self) -> usize {
        Arc::strong_count(&self.under_way) - 1
    }

    fn service(
        &self,
    ) -> impl Service<(), Response = u32, Error = BoxError, Future: Send> + Clone + use<> {
        let (script, calls) = (Arc::clone(&self.script), Arc::clone(&self.calls));
        // Weak, so that only calls are counted.
        let under_way = Arc::downgrade(&self.under_way);
        service_fn(move |()| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            let does = script.lock().unwrap().pop_front().expect("another call");
            let held = under_way.upgrade();
            async move {
                let answer = match does {
                    Answers(after) => {
                        sleep(after).await;
                        Ok(call)
                    }
                    Fails(after) => {
                        sleep(after).await;
                        Err(format!("call {call} failed").into())
                    }
                    Hangs => pending().await,
                };
                drop(held);
                answer
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_is_sent_after_the_delay_and_the_first_answer_counts() {
    let (server, layer) = (Server::does([Hangs, Answers(5 * MS)]), plain(after(50 * MS)));
    let start = Instant::now();

    let answer = layer.layer(server.service()).oneshot(()).await.unwrap();

    assert_eq!((answer, start.elapsed(), server.calls()), (1, 55 * MS, 2));
    assert_eq!(fates(&layer.handle()), (1, [1, 0, 0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn who_answers_in_time_is_asked_once_and_nothing_is_counted_against_it() {
    let (server, layer) = (Server::does([Answers(49 * MS)]), plain(after(50 * MS)));

    assert_eq!(layer.layer(server.service()).oneshot(()).await.unwrap(), 0);

    assert_eq!((server.calls(), fates(&layer.handle())), (1, (0, [0; 5])));
    let snapshot = layer.handle().snapshot();
    assert!(Unhedged::ALL.iter().all(|why| snapshot.unhedged(*why) == 0));
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_may_still_win_and_the_hedge_has_lost() {
    let (server, layer) = (Server::does([Answers(60 * MS), Hangs]), plain(after(50 * MS)));

    assert_eq!(layer.layer(server.service()).oneshot(()).await.unwrap(), 0);

    assert_eq!((server.calls(), fates(&layer.handle())), (2, (1, [0, 1, 0, 0, 0])));
}

#[tokio::test(start_paused = true)]
async fn losers_are_dropped_before_the_answer_is_handed_out() {
    let server = Server::does([Hangs, Hangs, Hangs, Answers(MS)]);
    let layer = plain(after(10 * MS)).extra::<3>();
    let mut response = task::spawn(layer.layer(server.service()).oneshot(()));
    for _ in 0..3 {
        assert_pending!(response.poll());
        advance(10 * MS).await;
    }
    assert_pending!(response.poll());
    assert_eq!(server.under_way(), 4);

    advance(MS).await;
    assert_eq!(assert_ready_ok!(response.poll()), 3);

    // The response is there, and its future has not been dropped yet.
    assert_eq!(server.under_way(), 0);
    assert_eq!(fates(&layer.handle()), (3, [1, 2, 0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn further_hedges_come_each_after_the_delay_and_no_more_than_there_is_room_for() {
    let server = Server::does([Hangs, Hangs, Answers(95 * MS)]);
    let layer = plain(after(50 * MS)).extra::<2>();
    let start = Instant::now();

    assert_eq!(layer.layer(server.service()).oneshot(()).await.unwrap(), 2);

    assert_eq!((server.calls(), start.elapsed()), (3, 195 * MS));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after completion")]
async fn who_polls_on_after_the_answer_sends_no_more() {
    let inner = service_fn(|()| async { Ok::<_, BoxError>(()) });
    let mut service = plain(after(MS)).layer(inner);
    let mut call = task::spawn(service.ready().await.unwrap().call(()));
    assert_ready_ok!(call.poll());

    let _ = call.poll();
}

#[tokio::test(start_paused = true)]
async fn at_once_is_at_the_first_poll() {
    let server = Server::does([Hangs, Answers(MS)]);
    let layer = plain(Settings::new(Delay::at_once()));
    let mut response = task::spawn(layer.layer(server.service()).oneshot(()));

    assert_pending!(response.poll());
    assert_eq!(server.calls(), 2);
    advance(MS).await;
    assert_eq!(assert_ready_ok!(response.poll()), 1);
}

#[tokio::test(start_paused = true)]
async fn at_once_is_all_of_them_also_when_the_first_poll_comes_late() {
    let server = Server::does([Hangs; 4]);
    let layer = plain(Settings::new(Delay::at_once())).extra::<3>();
    let mut service = layer.layer(server.service());
    let mut response = task::spawn(service.call(()));
    advance(5 * MS).await;

    assert_pending!(response.poll());

    assert_eq!(server.calls(), 4);
}

// Law 2
#[tokio::test(start_paused = true)]
async fn a_hedge_waits_until_a_service_of_its_own_is_ready() {
    let (mut service, mut inner) = mock::spawn_layer::<_, &str, _>(plain(after(50 * MS)));
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    let (request, first) = inner.next_request().await.unwrap();
    assert_eq!(request, "hello");
    assert_pending!(response.poll());
    inner.allow(0);

    advance(50 * MS).await;
    assert!(response.is_woken());
    assert_pending!(response.poll());
    assert_pending!(inner.poll_request(), "it is busy");

    inner.allow(1);
    assert!(response.is_woken());
    assert_pending!(response.poll());
    assert_request_eq!(inner, "hello").send_response("second");
    assert_eq!(assert_ready_ok!(response.poll()), "second");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_is_never_ready_does_not_keep_the_first_answer_back() {
    let layer = plain(after(50 * MS));
    let handle = layer.handle();
    let (mut service, mut inner) = mock::spawn_layer::<_, &str, _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    let (_, first) = inner.next_request().await.unwrap();
    assert_pending!(response.poll());
    inner.allow(0);
    advance(50 * MS).await;
    assert_pending!(response.poll());

    first.send_response("first");

    assert!(response.is_woken());
    assert_eq!(assert_ready_ok!(response.poll()), "first");
    assert_eq!(fates(&handle), (1, [0, 1, 0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_before_it_is_ready_for_a_hedge_leaves_the_first_attempt_be() {
    let layer = plain(after(50 * MS));
    let handle = layer.handle();
    let (mut service, mut inner) = mock::spawn_layer::<_, &str, _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    let (_, first) = inner.next_request().await.unwrap();
    assert_pending!(response.poll());
    inner.send_error("closed");
    advance(50 * MS).await;
    assert_pending!(response.poll());

    first.send_response("first");

    assert_eq!(assert_ready_ok!(response.poll()), "first");
    assert_eq!(fates(&handle), (1, [0, 0, 1, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_drops_all_its_attempts() {
    let (server, layer) = (Server::does([Hangs, Hangs]), plain(after(50 * MS)));
    let mut response = task::spawn(layer.layer(server.service()).oneshot(()));
    assert_pending!(response.poll());
    advance(50 * MS).await;
    assert_pending!(response.poll());
    assert_eq!(server.under_way(), 2);

    drop(response);

    assert_eq!((server.under_way(), fates(&layer.handle())), (0, (1, [0, 0, 0, 0, 1])));
    let handle = layer.handle();
    drop(layer);
    assert!(handle.is_last());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_any_attempt_unwinds_and_the_others_go_with_it() {
    for panicking in [0, 1] {
        let held = Arc::new(());
        let (calls, weak) = (Arc::new(AtomicU32::new(0)), Arc::downgrade(&held));
        let service = service_fn(move |()| {
            let (call, held) = (calls.fetch_add(1, Ordering::Relaxed), weak.upgrade());
            async move {
                sleep(60 * MS).await;
                assert_ne!(call, panicking, "boom");
                pending::<()>().await;
                drop(held);
                Ok::<_, BoxError>(())
            }
        });
        let layer = plain(after(50 * MS));
        let mut response = task::spawn(layer.layer(service).oneshot(()));
        assert_pending!(response.poll());
        advance(50 * MS).await;
        assert_pending!(response.poll());
        advance(60 * MS).await;

        assert!(catch_unwind(AssertUnwindSafe(|| response.poll())).is_err());

        drop(response);
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(fates(&layer.handle()).1.iter().sum::<u64>(), 1, "it is counted once");
    }
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

// X18, for hedges
#[tokio::test(start_paused = true)]
async fn a_request_is_cloned_for_hedges_and_for_nothing_else() {
    let clones_of = async |settings: Settings, shadow: bool| {
        let (request, layer) = (Costly::default(), plain(settings).extra::<2>());
        layer.handle().set_shadow(shadow);
        let clones = Arc::clone(&request.0);
        let service = service_fn(|request: Costly| async move {
            drop(request);
            sleep(100 * MS).await;
            Ok::<_, BoxError>(())
        });
        layer.layer(service).oneshot(request).await.unwrap();
        clones.load(Ordering::Relaxed)
    };

    assert_eq!(clones_of(after(MS).delay(Delay::never()), false).await, 0);
    assert_eq!(clones_of(Settings::default(), false).await, 0, "as long as nothing is known");
    assert_eq!(clones_of(after(MS), true).await, 0, "in shadow mode");
    assert_eq!(clones_of(after(200 * MS), false).await, 1, "the one that is kept");
    assert_eq!(clones_of(after(80 * MS), false).await, 2, "and one that is sent");
    assert_eq!(clones_of(after(40 * MS), false).await, 2, "and that is the last");
}

#[tokio::test(start_paused = true)]
async fn two_hedges_that_wait_for_their_services_both_get_a_request() {
    let (mut service, mut inner) =
        mock::spawn_layer::<_, &str, _>(plain(after(10 * MS)).extra::<2>());
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    let first = inner.next_request().await.unwrap();
    inner.allow(0);
    for _ in 0..2 {
        assert_pending!(response.poll());
        advance(10 * MS).await;
    }
    assert_pending!(response.poll());

    inner.allow(2);
    assert_pending!(response.poll());

    let (again, second) = assert_ready!(inner.poll_request()).unwrap();
    let (last, third) = assert_ready!(inner.poll_request()).expect("one for each of them");
    assert_eq!(last, "hello");
    third.send_response("third");
    assert_eq!((again, assert_ready_ok!(response.poll())), ("hello", "third"));
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn settings_hold_for_the_next_request_of_a_service_that_is_there_already() {
    let (server, layer) = (Server::does([Hangs, Answers(MS)]), plain(after(90 * MS)));
    let (mut service, handle) = (layer.layer(server.service()), layer.handle());

    handle.set_settings(after(10 * MS));
    let start = Instant::now();
    service.ready().await.unwrap().call(()).await.unwrap();

    assert_eq!((start.elapsed(), handle.delay()), (11 * MS, Some(10 * MS)));
}

/// What observers were told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observe for Told {
    fn observe(&self, event: &buttress_core::Event<'_>) {
        self.0.lock().unwrap().push(format!("{} {}: {}", event.layer, event.name, event.change));
    }
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_a_budget_that_runs_dry_of_shadow_mode_and_of_settings() {
    let budget = Percentage::new(Ratio::ZERO).floor(1).within(TimeLimit::from_secs(1));
    let layer = plain(after(10 * MS).budget(budget));
    let (handle, told) = (layer.handle(), Arc::new(Told::default()));
    handle.observe(Arc::<Told>::clone(&told));
    let server = Server::does([Answers(20 * MS); 9]);
    let ask = || layer.layer(server.service()).oneshot(());

    for _ in 0..3 {
        ask().await.unwrap();
    }
    advance(Duration::from_secs(2)).await;
    ask().await.unwrap();
    handle.set_shadow(true);
    handle.set_settings(handle.settings());

    let expected = [
        "hedge h: retry budget spent: failures are passed on",
        "hedge h: retry budget grants again",
        "hedge h: shadow mode on: counts, refuses nothing",
        "hedge h: settings changed",
    ];
    assert_eq!(*told.0.lock().unwrap(), expected);
    assert_eq!(handle.snapshot().unhedged(Unhedged::Budget), 2);
}

// X18, for hedges
#[tokio::test(start_paused = true)]
async fn a_hedge_whose_service_failed_leaves_what_was_kept_to_the_last_one() {
    let request = Costly::default();
    let clones = Arc::clone(&request.0);
    let (mut service, mut inner) =
        mock::spawn_layer::<Costly, &str, _>(plain(after(10 * MS)).extra::<2>());
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call(request));
    let first = inner.next_request().await.unwrap();
    inner.send_error("closed");
    for _ in 0..2 {
        assert_pending!(response.poll());
        advance(10 * MS).await;
    }
    assert_pending!(response.poll());
    assert_eq!(clones.load(Ordering::Relaxed), 1, "the one that is kept");
    drop(first);
}
