//! A process that is killed at any moment while it saves: what the next one knows, against a log
//! of all that was recorded.
//!
//! The process lives on invented clocks, on which some seconds pass for each save,
//! saves as fast as the disk lets it, and is killed with `SIGKILL`. `BUTTRESS_KILLS` says how
//! often; `cargo xtask soak` does it a hundred times.

use std::{
    env,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use buttress::{
    Random,
    slo::{
        Clocks, Counts, Objective, Sli, SloTracker, Snapshot, SnapshotFile, Start, WindowCounts,
    },
};

/// Midnight, 1 January 2026, UTC: second 0 of the invented clocks.
const NEW_YEAR: u64 = 1_767_225_600;

/// Where a process writes, and when it starts.
const FOLDER: &str = "BUTTRESS_KILL_FOLDER";
const START: &str = "BUTTRESS_KILL_START";

/// The pace of the process that is killed.
const SECONDS_A_SAVE: u64 = 40;

const WINDOWS: [u64; 8] = [300, 1800, 3600, 7200, 21_600, 86_400, 259_200, 2_592_000];

#[derive(Clone, Copy, Debug)]
struct Second {
    at: u64,
    counts: Counts,
}

/// The objective that is checked, and one that others count for all the while.
fn tracker(second: &Arc<AtomicU64>) -> SloTracker {
    let named =
        |name: &str| Objective::new(name.parse().unwrap(), Sli::Events, "99.9%".parse().unwrap());
    #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
    let origin = Instant::now();
    let second = Arc::clone(second);
    let clocks = move || {
        let passed = Duration::from_secs(second.load(Ordering::SeqCst));
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NEW_YEAR) + passed;
        Clocks { monotonic: origin + passed, wall, boot: None }
    };
    let objectives = [named("orders"), named("noise")];
    SloTracker::with_clocks("shop".parse().unwrap(), objectives, clocks).unwrap()
}

/// Waits for `done`, and fails if that takes longer than anything here may.
fn until(what: &str, done: impl Fn() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a deadline for another process")]
    let now = Instant::now;
    let started = now();
    while !done() {
        assert!(now() - started < Duration::from_secs(60), "{what}");
        thread::yield_now();
    }
}

/// The other process; nothing, when it is run as a test.
#[test]
fn the_process_that_is_killed() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let start = env::var(START).unwrap().parse().unwrap();
    let second = Arc::new(AtomicU64::new(start));
    let tracker = tracker(&second);
    tracker.keep(SnapshotFile::at(folder.join("shop.slo"))).unwrap();
    println!("ready");

    for _ in 0..2 {
        let noise = tracker.recorder("noise").unwrap();
        thread::spawn(move || {
            loop {
                noise.add(Counts { good: 1, bad: 0 });
                thread::yield_now();
            }
        });
    }
    let (saver, now) = (tracker.clone(), Arc::clone(&second));
    let saved = Arc::new(AtomicU64::new(0));
    let begun_saves = Arc::clone(&saved);
    let mut saves = append(&folder.join("saves.log"));
    thread::spawn(move || {
        loop {
            let begun = now.load(Ordering::SeqCst);
            begun_saves.fetch_add(1, Ordering::SeqCst);
            writeln!(saves, "begun {begun}").unwrap();
            saver.save().unwrap();
            writeln!(saves, "done {begun}").unwrap();
        }
    });
    let (orders, random) = (tracker.recorder("orders").unwrap(), Random::seeded(start));
    let mut log = append(&folder.join("events.log"));
    loop {
        let at = second.fetch_add(1, Ordering::SeqCst) + 1;
        let counts =
            Counts { good: Random::below(random.draw(), 50), bad: Random::below(random.draw(), 3) };
        // The log knows of it first, in one write; so whatever was recorded is in it.
        log.write_all(format!("{at} {} {};\n", counts.good, counts.bad).as_bytes()).unwrap();
        orders.add(counts);
        tracker.tick();
        // Some tens of seconds for each save, so that every save has news and the log stays short.
        until("a save", || at - start < SECONDS_A_SAVE * saved.load(Ordering::SeqCst).max(1));
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn start(folder: &Path, second: u64) -> Child {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .env(START, second.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = said.map_while(Result::ok).any(|line| line.contains("ready"));
    assert!(ready, "it has ended by itself");
    child
}

/// What was logged by the process that was killed, but for a line that it had not finished.
fn logged(folder: &Path) -> Vec<Second> {
    let text = fs::read_to_string(folder.join("events.log")).unwrap_or_default();
    let whole = text.lines().filter_map(|line| line.strip_suffix(';'));
    whole
        .map(|line| {
            let mut numbers = line.split(' ').map(|number| number.parse().unwrap());
            let mut next = || numbers.next().unwrap();
            Second { at: next(), counts: Counts { good: next(), bad: next() } }
        })
        .collect()
}

/// The last save that the process knew to be done, and whether it was killed in the middle of one.
fn saves(folder: &Path) -> (u64, bool) {
    let text = fs::read_to_string(folder.join("saves.log")).unwrap_or_default();
    let done = text.lines().filter_map(|line| line.strip_prefix("done ")?.parse().ok()).next_back();
    let in_one = text.lines().next_back().is_some_and(|line| line.starts_with("begun"));
    (done.unwrap_or(0), in_one)
}

fn sum(seconds: &[Second], from: u64, until: u64) -> Counts {
    let within = seconds.iter().filter(|second| (from..=until).contains(&second.at));
    within.fold(Counts::default(), |sum, second| sum.plus(second.counts))
}

#[test]
fn what_a_killed_process_had_saved_is_known_after_it() {
    let kills = env::var("BUTTRESS_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let folder = env::temp_dir().join(format!("buttress-kill-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let seed = 0x5eed;
    let random = Random::seeded(seed);
    let (mut known, mut now, mut in_saves, mut unfinished, mut lost) = (Vec::new(), 1, 0, 0, 0);

    for kill in 0..kills {
        let mut child = start(&folder, now);
        // Bytes of a log, which neither seconds nor saves begin with.
        let bytes = Random::below(random.draw(), 20_000);
        let log = folder.join("events.log");
        until("its log", || fs::metadata(&log).is_ok_and(|log| log.len() >= bytes));
        child.kill().unwrap();
        child.wait().unwrap();

        let (events, (done, in_one)) = (logged(&folder), saves(&folder));
        in_saves += u32::from(in_one);
        unfinished += usize::from(fs::read_dir(&folder).unwrap().count() > 3);
        let bytes = fs::read(folder.join("shop.slo")).unwrap();
        let taken = Snapshot::decode(&bytes).unwrap().taken_at().unsigned_abs() - NEW_YEAR;
        assert!(taken >= done, "kill {kill}: a save that was done at {done} is lost");
        let last = events.last().map_or(now, |second| second.at);
        lost += last - taken.min(last);

        // Whoever comes next comes later. It works on a copy, as the killed one's file is its own.
        now = last + 1 + Random::below(random.draw(), 400);
        let copy = folder.join("copy.slo");
        fs::write(&copy, bytes).unwrap();
        let after = tracker(&Arc::new(AtomicU64::new(now)));
        let start = after.keep(SnapshotFile::at(&copy)).unwrap();
        assert!(matches!(start, Start::Restored(_)), "kill {kill}: {start}");
        fs::remove_file(copy).unwrap();

        settle(&mut known, &events, taken, &after);
        for length in WINDOWS {
            let (window, _) = after.window("orders", Duration::from_secs(length)).unwrap();
            check(&known, now, length, window)
                .unwrap_or_else(|wrong| panic!("seed {seed:#x}, kill {kill}, {length} s: {wrong}"));
        }
        for log in ["events.log", "saves.log"] {
            let _ = fs::remove_file(folder.join(log));
        }
    }

    fs::remove_dir_all(&folder).unwrap();
    println!(
        "{kills} kills, {in_saves} in the middle of a save, {unfinished} that left an unfinished \
         file; {lost} invented seconds lost since the last save, of {now}; {} seconds survived",
        known.len()
    );
}

/// Adds what the snapshot of second `taken` must know. Of that very second and of the next it may
/// know a part: a tick reads the clock and then the counts, and others count meanwhile. Not of
/// more, since whoever counts ticks every second, and two ticks do not overlap.
fn settle(known: &mut Vec<Second>, events: &[Second], taken: u64, after: &SloTracker) {
    known.extend(events.iter().filter(|second| second.at < taken));
    let before = known.iter().fold(Counts::default(), |sum, second| sum.plus(second.counts));
    let all = after.window("orders", Duration::from_secs(WINDOWS[7])).unwrap().0.counts;
    let part = all.since(before);
    assert_eq!(before.plus(part), all, "second {taken}: more was counted before than is known");
    let whole = sum(events, taken, taken + 1);
    assert!(part.good <= whole.good && part.bad <= whole.bad, "{part:?} of {whole:?} at {taken}");
    known.push(Second { at: taken, counts: part });
}

/// Whether a window is what the log says, given what it says itself of its edge.
fn check(known: &[Second], now: u64, length: u64, window: WindowCounts) -> Result<(), String> {
    let start = now.saturating_sub(length);
    // An event of a second is seen by the tick of that second, or by the next.
    let least = sum(known, start + 2, now);
    let most = sum(known, start.saturating_sub(window.overshoot.as_secs() + 1), now);
    let mut wrong = String::new();
    for (what, count, least, most) in [
        ("good", window.most.good, least.good, most.good),
        ("bad", window.most.bad, least.bad, most.bad),
    ] {
        if count < least || count > most {
            let _ = write!(wrong, "{what} {count}, and the log has {least} to {most}; ");
        }
    }
    let of_edge = window.least.good <= window.counts.good && window.counts.good <= window.most.good;
    if !of_edge {
        let _ = write!(wrong, "{window:?} is not within its own bounds; ");
    }
    if least.good < window.least.good
        && sum(known, start.saturating_sub(1), now).good < window.least.good
    {
        let _ = write!(wrong, "at the least {:?}, and the log has less: {least:?}", window.least);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}
