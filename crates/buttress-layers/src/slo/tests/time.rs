//! What clocks do to a tracker that runs: steps, sleep, and a time that goes back.

use std::{
    fs,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use buttress_slo::{Clocks, Window, Zone};

use super::*;

/// A machine whose wall clock can be set, and which can sleep.
#[derive(Clone)]
struct Machine(Arc<Hands>);

struct Hands {
    /// How far the wall clock was set, in seconds.
    set: AtomicI64,
    /// How long the machine slept, in seconds.
    slept: AtomicU64,
    runs: Box<dyn Fn() -> Clocks + Send + Sync>,
}

impl Machine {
    fn new() -> Self {
        let runs = Box::new(clocks::following(SystemTime::UNIX_EPOCH + NEW_YEAR));
        Self(Arc::new(Hands { set: AtomicI64::new(0), slept: AtomicU64::new(0), runs }))
    }

    fn clocks(&self) -> Clocks {
        let Clocks { monotonic, wall, .. } = (self.0.runs)();
        let slept = Duration::from_secs(self.0.slept.load(Ordering::Relaxed));
        let set = self.0.set.load(Ordering::Relaxed);
        let by = Duration::from_secs(set.unsigned_abs());
        let ran = wall.duration_since(SystemTime::UNIX_EPOCH + NEW_YEAR).unwrap();
        let wall = if set < 0 { wall - by } else { wall + by } + slept;
        Clocks { monotonic, wall, boot: Some(ran + slept) }
    }

    fn set(&self, seconds: i64) {
        self.0.set.fetch_add(seconds, Ordering::Relaxed);
    }

    fn sleep(&self, seconds: u64) {
        self.0.slept.fetch_add(seconds, Ordering::Relaxed);
    }

    /// A tracker that runs on it, and what it tells.
    fn track(&self, objective: Objective) -> (SloTracker, Told) {
        let clocks = self.clone();
        let read = move || clocks.clocks();
        let tracker = SloTracker::with_clocks("shop".parse().unwrap(), [objective], read).unwrap();
        let told = Told::default();
        tracker.observe(Arc::new(told.clone()));
        tokio::spawn(tracker.clone().run());
        (tracker, told)
    }
}

async fn traffic(tracker: &SloTracker, seconds: u64) {
    for _ in 0..seconds {
        tracker.recorder("up").unwrap().add(Counts { good: 999, bad: 1 });
        sleep(Duration::from_secs(1)).await;
    }
}

fn held(tracker: &SloTracker, seconds: u64) -> u64 {
    tracker.window("up", Duration::from_secs(seconds)).unwrap().0.counts.bad
}

const HOUR: u64 = 3600;
const MONTH: u64 = 30 * 86_400;

/// Of slo.md 10, scenario 51.
#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_while_it_runs_moves_no_window_and_is_told() {
    let machine = Machine::new();
    let (tracker, told) = machine.track(up());
    traffic(&tracker, 600).await;
    let before = [300, HOUR, MONTH].map(|window| held(&tracker, window));

    for step in [7_200, -14_400, 7_200] {
        machine.set(step);
        sleep(Duration::from_secs(1)).await;
        let after = [HOUR, MONTH].map(|window| held(&tracker, window));
        assert_eq!(after, before[1..], "after {step} s");
    }

    assert_eq!(tracker.clock_changes(), 3);
    let told = told.take();
    assert_eq!(
        told,
        [
            "slo shop: the wall clock was set forward, windows stay: 7200s",
            "slo shop: the wall clock was set back, windows stay: 14400s",
            "slo shop: the wall clock was set forward, windows stay: 7200s",
        ]
    );
    let (_, coverage) = tracker.window("up", Duration::from_secs(HOUR)).unwrap();
    assert!(coverage.observed_seconds().abs_diff(603) <= 1, "all of it was observed");
    // Three more seconds passed, in which nothing came.
    assert!(held(&tracker, 300) + 5 > before[0]);
}

/// Of slo.md 10, scenario 52.
#[tokio::test(start_paused = true)]
async fn a_machine_that_sleeps_while_it_runs_empties_the_short_windows() {
    let machine = Machine::new();
    let (tracker, told) = machine.track(up());
    traffic(&tracker, 600).await;
    let month = held(&tracker, MONTH);

    machine.sleep(2 * HOUR);
    sleep(Duration::from_secs(1)).await;

    assert_eq!((held(&tracker, HOUR), held(&tracker, MONTH)), (0, month));
    assert_eq!(told.take(), ["slo shop: the machine slept, and nobody counted: 7200s"]);
    let (_, coverage) = tracker.window("up", Duration::from_secs(HOUR)).unwrap();
    assert!(coverage.observed_seconds() <= 1, "{coverage:?}");
    traffic(&tracker, 60).await;
    assert!(held(&tracker, HOUR).abs_diff(60) <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_calendar_follows_a_wall_clock_that_is_set_over_its_edge_and_back() {
    let machine = Machine::new();
    let month = Window::month(Zone::UTC);
    let (tracker, told) = machine.track(up().over(month));
    traffic(&tracker, 600).await;
    let january = tracker.numbers("up").unwrap();

    // To five seconds past midnight: what was counted in those is of February, by this clock.
    let step = 31 * 86_400 - 600 + 5;
    machine.set(step);
    traffic(&tracker, 10).await;
    let february = tracker.numbers("up").unwrap();
    machine.set(-step);
    sleep(Duration::from_secs(1)).await;
    let back = tracker.numbers("up").unwrap();

    assert!(february.period.start > january.period.start);
    assert!(february.budget.counts().bad.abs_diff(15) <= 1, "{:?}", february.budget.counts());
    assert_eq!(back.period, january.period);
    assert!(back.budget.counts().bad.abs_diff(610) <= 1, "{:?}", back.budget.counts());
    let told = told.take();
    assert_eq!(told.iter().filter(|line| line.contains("the wall clock was set")).count(), 2);
    assert_eq!(tracker.clock_changes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_between_two_processes_makes_no_gap() {
    let folder = file::Folder::new();
    let machine = Machine::new();
    let (tracker, _) = machine.track(up());
    tracker.keep(folder.file()).unwrap();
    traffic(&tracker, 600).await;
    tracker.save().unwrap();
    let before = held(&tracker, HOUR);
    assert!(fs::exists(folder.path()).unwrap());
    drop(tracker);

    machine.set(-1_800);
    let (after, _) = machine.track(up());
    let start = after.keep(folder.file()).unwrap().to_string();

    assert!(start.contains("30m ahead of the wall clock"), "{start}");
    assert_eq!(held(&after, HOUR), before);
    traffic(&after, 60).await;
    assert!(held(&after, HOUR).abs_diff(before + 60) <= 1);
    assert_eq!(after.clock_changes(), 0, "what was set before it began is none of its own");
}
