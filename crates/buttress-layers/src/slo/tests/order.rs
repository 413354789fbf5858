//! Who is told in which order, by several threads, and clocks that ask back.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
    mpsc::channel,
};

use super::*;

/// A tracker whose clocks a test moves from any thread, and the seconds that have passed.
fn moved() -> (SloTracker, Arc<AtomicU64>) {
    let passed = Arc::new(AtomicU64::new(0));
    let seconds = Arc::clone(&passed);
    let start = clocks::following(SystemTime::UNIX_EPOCH + NEW_YEAR)();
    let read = move || {
        let by = Duration::from_secs(seconds.load(Ordering::SeqCst));
        let boot = None;
        buttress_slo::Clocks { monotonic: start.monotonic + by, wall: start.wall + by, boot }
    };
    let tracker = SloTracker::with_clocks("shop".parse().unwrap(), [up()], read).unwrap();
    (tracker, passed)
}

/// One more second with these events.
fn second(tracker: &SloTracker, passed: &AtomicU64, good: u64, bad: u64) {
    tracker.recorder("up").unwrap().add(Counts { good, bad });
    passed.fetch_add(1, Ordering::SeqCst);
    tracker.tick();
}

/// The states of the fast page, as somebody is told of them.
fn states(tracker: &SloTracker) -> Arc<Mutex<Vec<&'static str>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let states = Arc::clone(&told);
    tracker.listen(move |happening| {
        if let Happening::Alert { rule, to, .. } = happening
            && &**rule == "page-fast"
        {
            states.lock().unwrap().push(to.as_str());
        }
    });
    told
}

#[test]
fn two_threads_that_tick_tell_in_the_order_in_which_it_happened_and_wait_for_nobody() {
    let (tracker, passed) = moved();
    let (stuck, waits) = channel();
    let (go_on, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let first = AtomicBool::new(true);
    // Who hears the first of all takes the time.
    tracker.listen(move |_| {
        if first.swap(false, Ordering::SeqCst) {
            stuck.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
        }
    });
    let told = states(&tracker);

    let early = std::thread::scope(|scope| {
        scope.spawn(|| (0..52).for_each(|_| second(&tracker, &passed, 0, 10)));
        waits.recv().unwrap();
        // The page fired in the other thread, and is being told; in this one it clears.
        for _ in 0..600 {
            second(&tracker, &passed, 1_000, 0);
        }
        let early = told.lock().unwrap().clone();
        go_on.send(()).unwrap();
        early
    });

    assert_eq!(early, [""; 0], "not before it was told that it fires");
    assert_eq!(*told.lock().unwrap(), ["firing", "quiet"]);
}

#[test]
fn a_listener_that_ticks_hears_what_came_of_it_after_what_it_was_told() {
    let (tracker, passed) = moved();
    let inner = tracker.clone();
    let order = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&order);
    tracker.listen(move |happening| {
        log.lock().unwrap().push(format!("before {happening}"));
        if matches!(happening, Happening::Maintenance(true)) {
            inner.end_maintenance();
        }
    });
    let log = Arc::clone(&order);
    tracker.listen(move |happening| log.lock().unwrap().push(format!("after {happening}")));

    tracker.begin_maintenance(Duration::from_secs(60));
    second(&tracker, &passed, 1, 0);

    let words = ["began: events are excluded", "ended"].map(|word| format!("maintenance {word}"));
    let both = words.map(|word| [format!("before {word}"), format!("after {word}")]);
    assert_eq!(*order.lock().unwrap(), both.concat());
}

#[test]
fn a_listener_that_panics_in_one_thread_leaves_the_telling_to_the_next() {
    let (tracker, passed) = moved();
    let first = AtomicBool::new(true);
    tracker.listen(move |_| assert!(!first.swap(false, Ordering::SeqCst), "a listener's own"));
    let told = states(&tracker);

    let panicked = std::thread::scope(|scope| {
        scope.spawn(|| (0..52).for_each(|_| second(&tracker, &passed, 0, 10))).join()
    });
    assert!(panicked.is_err());
    for _ in 0..600 {
        second(&tracker, &passed, 1_000, 0);
    }

    assert_eq!(*told.lock().unwrap(), ["firing", "quiet"]);
}

#[test]
fn clocks_may_ask_the_tracker_for_anything_but_to_tick() {
    // A tracker that is asked for its numbers by its own clocks.
    let known: Arc<OnceLock<SloTracker>> = Arc::default();
    let (inner, asked) = (Arc::clone(&known), Arc::new(AtomicU64::new(0)));
    let (count, ticks) = (Arc::clone(&asked), Arc::new(AtomicBool::new(false)));
    let (ticking, machine) = (Arc::clone(&ticks), clocks::system);
    let read = move || {
        if let Some(tracker) = inner.get() {
            let _ = (tracker.numbers("up"), tracker.standings(), tracker.snapshot_age());
            count.fetch_add(1, Ordering::SeqCst);
            if ticking.load(Ordering::SeqCst) {
                tracker.tick();
            }
        }
        machine()
    };
    let tracker = SloTracker::with_clocks("shop".parse().unwrap(), [up()], read).unwrap();
    known.set(tracker.clone()).unwrap();

    tracker.tick();
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    ticks.store(true, Ordering::SeqCst);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tracker.tick()));
    let said = *panic.unwrap_err().downcast::<&str>().unwrap();
    assert!(said.contains("the clocks of a tracker must not tick"), "{said}");
    // And nothing is the worse for it.
    ticks.store(false, Ordering::SeqCst);
    tracker.tick();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn threads_that_tick_and_count_at_once_lose_nothing_and_tell_of_no_clock() {
    let tracker = SloTracker::new("shop".parse().unwrap(), [up()]).unwrap();
    let told = Told::default();
    tracker.observe(Arc::new(told.clone()));

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    tracker.recorder("up").unwrap().add(Counts { good: 1, bad: 0 });
                    tracker.tick();
                }
            });
        }
    });

    tracker.tick();
    let counts = tracker.numbers("up").unwrap().budget.counts();
    assert_eq!(counts, Counts { good: 2_000, bad: 0 });
    assert_eq!((tracker.clock_changes(), told.take()), (0, vec![]));
}
