use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use buttress_core::{BoxError, Change, Event, Observe, TimeLimit, Verdict};
use buttress_slo::{
    Counts, Happening, Objective, Part, Severity, Sli, Target,
    gate::{Ask, Scope},
    lint::Lint,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::sli::SliLayer;

mod closes;
#[cfg(target_os = "linux")]
mod disk;
mod file;
mod order;
mod time;

/// Midnight, 1 January 2026, UTC.
const NEW_YEAR: Duration = Duration::from_secs(1_767_225_600);

fn objective(name: &str, sli: Sli, target: &str) -> Objective {
    Objective::new(name.parse().unwrap(), sli, target.parse().unwrap())
}

fn up() -> Objective {
    objective("up", Sli::Availability, "99.9%")
}

fn tracker(objectives: impl IntoIterator<Item = Objective>) -> SloTracker {
    let clocks = clocks::following(SystemTime::UNIX_EPOCH + NEW_YEAR);
    SloTracker::with_clocks("shop".parse().unwrap(), objectives, clocks).unwrap()
}

/// A call that is answered so after `millis`, through `layer`.
async fn call(layer: &SloLayer, status: u16, said: Option<Verdict>, millis: u64) {
    let service = service_fn(move |_: Request<()>| async move {
        sleep(Duration::from_millis(millis)).await;
        let mut response = Response::new(Full::new(Bytes::from_static(b"hello")));
        *response.status_mut() = status.try_into().unwrap();
        said.map(|said| response.extensions_mut().insert(said));
        Ok::<_, Infallible>(response)
    });
    let response = layer.layer(service).oneshot(Request::new(())).await.unwrap();
    response.into_body().collect().await.unwrap();
}

fn counted(tracker: &SloTracker, name: &str) -> (u64, u64) {
    let Counts { good, bad } = tracker.recorder(name).unwrap().counts();
    (good, bad)
}

#[tokio::test(start_paused = true)]
async fn one_call_is_an_event_of_every_objective_as_that_one_says() {
    let within = TimeLimit::from_millis(300);
    let fast = Sli::Latency { within, part: Part::Total };
    let right = Sli::Correctness { unsaid: Verdict::Good };
    let tracker = tracker([up(), objective("fast", fast, "95%"), objective("right", right, "99%")]);
    let layer = SloLayer::server("shop", &tracker);

    call(&layer, 200, None, 300).await;
    call(&layer, 200, None, 301).await;
    call(&layer, 200, Some(Verdict::Bad), 0).await;
    call(&layer, 404, None, 0).await;
    call(&layer, 503, None, 0).await;

    assert_eq!(counted(&tracker, "up"), (2, 2));
    assert_eq!(counted(&tracker, "fast"), (1, 1), "exactly the threshold is within it");
    assert_eq!(counted(&tracker, "right"), (2, 1));
    assert_eq!(layer.handle().counts().total(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_layer_may_count_for_some_objectives_only() {
    let tracker = tracker([up(), objective("stock", Sli::Availability, "99%")]);
    let layer = SloLayer::over(SliLayer::client("stock"), tracker.recorder("stock"));

    call(&layer, 500, None, 0).await;

    assert_eq!((counted(&tracker, "up"), counted(&tracker, "stock")), ((0, 0), (0, 1)));
}

#[tokio::test(start_paused = true)]
async fn recording_waits_for_no_tick() {
    let tracker = tracker([up()]);
    let layer = SloLayer::server("shop", &tracker);
    // Asked back by the tick, while it holds the lock.
    let (inner, asked) = (tracker.clone(), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&asked);
    tracker.listen(move |_| {
        inner.recorder("up").unwrap().add(Counts { good: 1, bad: 0 });
        *count.lock().unwrap() += usize::from(inner.numbers("up").is_some());
    });

    call(&layer, 200, None, 0).await;
    tracker.begin_maintenance(Duration::from_secs(5));
    call(&layer, 500, None, 0).await;

    assert_eq!(*asked.lock().unwrap(), 1, "a listener may ask the tracker");
    assert_eq!(counted(&tracker, "up"), (1, 0), "what comes in maintenance is excluded");
}

#[tokio::test(start_paused = true)]
async fn a_day_of_ticks_passes_by_itself() {
    let tracker = tracker([up()]);
    let ticking = tokio::spawn(tracker.clone().run());
    let recorder = tracker.recorder("up").unwrap();

    for _ in 0..24 {
        recorder.add(Counts { good: 9_995, bad: 5 });
        sleep(Duration::from_secs(3600)).await;
    }
    ticking.abort();

    let passed = tracker.ticked_at().duration_since(SystemTime::UNIX_EPOCH + NEW_YEAR).unwrap();
    assert!(passed >= Duration::from_secs(86_399), "{passed:?}");
    let numbers = tracker.numbers("up").unwrap();
    assert_eq!(numbers.budget.counts(), Counts { good: 239_880, bad: 120 });
    assert_eq!(numbers.sli().unwrap().to_string(), "0.9995");
    assert_eq!(tracker.clock_changes(), 0);
    // Half a budget's burn for a thirtieth of the period.
    assert_eq!(numbers.budget.consumed().to_string(), "1.667%");
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Observe for Told {
    fn observe(&self, event: &Event<'_>) {
        let Event { layer, name, key, change } = event;
        let key = key.map(|key| format!("[{key}]")).unwrap_or_default();
        self.0.lock().unwrap().push(format!("{layer} {name}{key}: {change}"));
    }
}

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told_once_to_observers_and_listeners() {
    let tracker = tracker([up()]);
    let (told, heard) = (Told::default(), Arc::new(Mutex::new(Vec::new())));
    tracker.observe(Arc::new(told.clone()));
    let into = Arc::clone(&heard);
    tracker.listen(move |happening| into.lock().unwrap().push(happening.clone()));
    tokio::spawn(tracker.clone().run());
    let recorder = tracker.recorder("up").unwrap();

    for _ in 0..60 {
        recorder.add(Counts { good: 0, bad: 10 });
        sleep(Duration::from_secs(1)).await;
    }

    let told = told.take();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], "slo up[page-fast]: page is firing, was quiet");
    assert!(told[1].starts_with("slo up[slow]: the policy is on this level; 97."), "{told:?}");
    assert!(told[1].ends_with("% of the budget is left"), "{told:?}");
    let heard = heard.lock().unwrap();
    assert!(matches!(&heard[0], Happening::Alert { severity: Severity::Page, .. }), "{heard:?}");
    assert_eq!(heard.len(), 2);
    let signal = tracker.signal("up").unwrap();
    assert!(signal.is_paging() && signal.sheds());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_one_who_is_told_keeps_nobody_else_from_it_nor_the_ticks() {
    struct Panics;
    impl Observe for Panics {
        fn observe(&self, _: &Event<'_>) {
            panic!("an observer's own");
        }
    }
    let tracker = tracker([up()]);
    let (told, heard) = (Told::default(), Arc::new(Mutex::new(0)));
    tracker.observe(Arc::new(Panics));
    tracker.listen(|_| panic!("a listener's own"));
    tracker.observe(Arc::new(told.clone()));
    let into = Arc::clone(&heard);
    tracker.listen(move |_| *into.lock().unwrap() += 1);
    let ticking = tokio::spawn(tracker.clone().run());
    let recorder = tracker.recorder("up").unwrap();

    for _ in 0..60 {
        recorder.add(Counts { good: 0, bad: 10 });
        sleep(Duration::from_secs(1)).await;
    }

    assert!(!ticking.is_finished(), "the ticker died of somebody else's mistake");
    assert_eq!((told.take().len(), *heard.lock().unwrap()), (2, 2));
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        tracker.begin_maintenance(Duration::from_secs(5));
    }));
    assert!(panics.is_err(), "who ticks by hand hears of it");
    assert_eq!((told.take().len(), *heard.lock().unwrap()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn maintenance_that_is_begun_by_hand_lasts_from_then_on() {
    let tracker = tracker([up()]);
    // Nobody ticked for two hours.
    advance(Duration::from_secs(7_200)).await;

    tracker.begin_maintenance(Duration::from_secs(3_600));

    assert!(tracker.in_maintenance());
    advance(Duration::from_secs(3_599)).await;
    tracker.tick();
    assert!(tracker.in_maintenance());
    advance(Duration::from_secs(1)).await;
    tracker.tick();
    assert!(!tracker.in_maintenance());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_may_ask_the_tracker_for_anything() {
    /// Asks for all there is, at every event, and so in the middle of ticks and of saves.
    struct Asks(SloTracker, Arc<Mutex<u32>>);
    impl Observe for Asks {
        fn observe(&self, _: &Event<'_>) {
            let Self(tracker, asked) = self;
            tracker.tick();
            tracker.observe(Arc::new(Told::default()));
            tracker.listen(|_| {});
            let _ = (tracker.numbers("up"), tracker.alerts("up"), tracker.history("up"));
            let _ = (tracker.standings(), tracker.signal("up"), tracker.snapshot_age());
            tracker.retarget(&"up".parse().unwrap(), "99%".parse().unwrap()).unwrap();
            let _ = tracker.save();
            *asked.lock().unwrap() += 1;
        }
    }
    let tracker = tracker([up()]);
    let asked = Arc::new(Mutex::new(0));
    tracker.observe(Arc::new(Asks(tracker.clone(), Arc::clone(&asked))));
    let nowhere = SnapshotFile::at("/nowhere/at/all/shop.slo");

    assert!(tracker.keep(nowhere).is_err(), "which is told");
    tracker.recorder("up").unwrap().add(Counts { good: 0, bad: 1_000 });
    advance(Duration::from_secs(60)).await;
    tracker.begin_maintenance(Duration::from_secs(5));

    assert!(*asked.lock().unwrap() >= 2, "{asked:?}");
}

#[test]
fn every_change_says_what_it_is() {
    let text = |change: Change| change.to_string();

    let level = text(Change::Level { remaining: -30_000_001 });
    assert_eq!(level, "the policy is on this level; -3.001% of the budget is left");
    let due = text(Change::PostmortemDue { spent: 205_000_000 });
    assert_eq!(due, "an incident spent 20.500% of the budget; write it up");
    let by = Duration::from_secs(7200);
    assert_eq!(text(Change::Clock { what: "the machine slept", by }), "the machine slept: 7200s");
}

#[tokio::test(start_paused = true)]
async fn the_gate_and_a_new_target_and_the_lint_are_the_trackers() {
    let tracker = tracker([up()]);
    let ask = Ask::new(buttress_slo::Change::Feature, Scope::Instance);
    tracker.recorder("up").unwrap().add(Counts { good: 999, bad: 1 });
    advance(Duration::from_secs(30 * 86_400)).await;
    tracker.tick();
    let decision = tracker.decide(&ask);
    assert!(!decision.allowed, "one of a thousand is all there was: {decision}");

    tracker.retarget(&"up".parse().unwrap(), "90%".parse::<Target>().unwrap()).unwrap();
    tracker.tick();

    assert_eq!(tracker.objective("up").unwrap().target().to_string(), "90%");
    let lints = tracker.lint("up", None).unwrap();
    assert!(matches!(&lints[..], [Lint::NeverFires { .. }]), "{lints:?}");
    assert!(tracker.lint("down", None).is_none());
    let unknown = tracker.retarget(&"down".parse().unwrap(), "90%".parse().unwrap());
    assert_eq!(unknown.unwrap_err().to_string(), "there is no objective named down");
}

#[tokio::test(start_paused = true)]
async fn what_is_excused_is_told_and_the_alerts_look_again_at_once() {
    let tracker = tracker([up()]);
    let (told, heard) = (Told::default(), Arc::new(Mutex::new(Vec::new())));
    tracker.observe(Arc::new(told.clone()));
    let into = Arc::clone(&heard);
    tracker.listen(move |happening| into.lock().unwrap().push(happening.to_string()));
    let recorder = tracker.recorder("up").unwrap();
    for second in 0..120 {
        let bad = if second < 60 { 0 } else { 10 };
        recorder.add(Counts { good: 10 - bad, bad });
        advance(Duration::from_secs(1)).await;
        tracker.tick();
    }
    // Not yet ticked, and of that time.
    recorder.add(Counts { good: 0, bad: 10 });
    advance(Duration::from_secs(1)).await;
    told.take();
    heard.lock().unwrap().clear();

    let start = SystemTime::UNIX_EPOCH + NEW_YEAR + Duration::from_secs(60);
    let name = "up".parse().unwrap();
    tracker.excuse(&name, start, start + Duration::from_secs(61)).unwrap();

    let told = told.take();
    assert_eq!(told[0], "slo up: 0 good and 610 bad events are excused, and out of all windows");
    assert_eq!(told[1], "slo up[page-fast]: page is quiet, was firing");
    let expected =
        "up: 0 good and 610 bad of 2026-01-01T00:01:00Z to 2026-01-01T00:02:00Z are excused";
    assert_eq!(heard.lock().unwrap()[0], expected);
    assert_eq!(tracker.numbers("up").unwrap().budget.counts(), Counts { good: 600, bad: 0 });
    assert_eq!(counted(&tracker, "up"), (600, 610), "what is scraped does not go back");
    let nobody = "nobody".parse().unwrap();
    assert!(tracker.excuse(&nobody, start, start).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_tracker_is_last_when_nobody_can_count_any_more() {
    let tracker = tracker([up()]);
    let layer = SloLayer::server("shop", &tracker);
    let service = layer.layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, BoxError>(Response::new(Full::new(Bytes::new()))))
    }));

    assert!(!tracker.is_last());
    drop(layer);
    assert!(!tracker.is_last(), "the service counts still");
    drop(service);
    assert!(tracker.is_last());
    let recorder = tracker.recorder("up");
    assert!(!tracker.is_last());
    drop(recorder);
    assert!(tracker.is_last());
}

#[test]
fn the_clocks_of_the_machine_go_on() {
    let (before, after) = (clocks::system(), clocks::system());

    assert!(after.monotonic >= before.monotonic);
    assert!(after.boot >= before.boot);
    assert_eq!(before.boot.is_some(), cfg!(target_os = "linux"));
}
