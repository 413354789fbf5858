use std::time::Duration;

use buttress_core::{Ratio, TimeLimit, Verdict};
use proptest::prelude::*;

use super::{wire::checksum, *};
use crate::{
    AlertState, Coverage, Happening, Method, Objective, Part, Severity, Sli, SliceLength,
    TimeSlices, Window,
    testing::{Bench, available, clocks},
};

mod changed;
mod kept;
mod slices;

const ID: InstanceId = InstanceId::new(7);

fn snapshot(bench: &Bench) -> Vec<u8> {
    bench.tracker.snapshot(ID).encode()
}

/// Another process, so many seconds after the clocks of this one.
fn later(bench: &Bench, seconds: u64, objectives: Vec<Objective>) -> Bench {
    let mut clocks = bench.clocks;
    clocks.wall += Duration::from_secs(seconds);
    clocks.monotonic += Duration::from_secs(seconds);
    Bench::at(clocks, objectives)
}

fn restore(bench: &mut Bench, bytes: &[u8]) -> Restored {
    bench.tracker.restore(&Snapshot::decode(bytes).unwrap()).unwrap()
}

fn up() -> Vec<Objective> {
    vec![available("up", "99.9")]
}

#[test]
fn a_restart_is_a_gap_and_nothing_else() {
    // slo.md 10, scenario 49: ten minutes down, in the middle of a page.
    let mut bench = Bench::new(up());
    bench.month("up", 10);
    bench.run("up", 60, 1, Counts { good: 0, bad: 10 });
    assert!(bench.tracker.standings()[0].paging);
    let bytes = snapshot(&bench);
    let windows = [1800, 3600, 7200, 21_600, 86_400, 259_200, 2_592_000];
    bench.clocks.boot = None;

    let mut other = later(&bench, 600, up());
    let restored = restore(&mut other, &bytes);
    // The first process, had it gone on without any traffic, and with its eyes open.
    let recorded = bench.tracker.recorder("up").unwrap().counts();
    for _ in 0..600 {
        bench.after(1);
    }

    assert_eq!((restored.gap, &restored.notes[..]), (Duration::from_secs(600), &[][..]));
    for window in windows {
        assert_eq!(other.counts("up", window), bench.counts("up", window), "{window} s");
    }
    assert_eq!(other.counts("up", 300), Counts::default());
    other.after(1);
    assert!(other.tracker.standings()[0].paging, "frozen, not resolved");
    assert_eq!(other.tracker.recorder("up").unwrap().counts(), Counts::default());
    assert_ne!(recorded, Counts::default());
    let (_, coverage) = other.tracker.window("up", Duration::from_secs(3600)).unwrap();
    assert_eq!(coverage, Coverage::of_seconds(3000, 3600));

    other.run("up", 1, 1, Counts { good: 10, bad: 0 });
    assert!(other.counts("up", 5).good == 10, "and it counts on");
}

#[test]
fn a_page_that_is_lost_over_a_long_gap_is_told() {
    let mut bench = Bench::new(up());
    bench.run("up", 60, 1, Counts { good: 0, bad: 10 });
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 2 * 3600, up());
    restore(&mut other, &bytes);
    let happened = other.after(1);

    assert!(matches!(
        happened[0],
        Happening::Alert { severity: Severity::Page, to: AlertState::Lost { .. }, .. }
    ));
}

#[test]
fn what_came_after_the_last_snapshot_is_lost_and_nothing_else() {
    // Scenario 50: killed between two snapshots.
    let mut bench = Bench::new(up());
    bench.run("up", 100, 1, Counts { good: 9, bad: 1 });
    let bytes = snapshot(&bench);
    bench.run("up", 60, 1, Counts { good: 9, bad: 1 });

    let mut other = later(&bench, 0, up());
    restore(&mut other, &bytes);

    assert_eq!(other.counts("up", 3600), Counts { good: 900, bad: 100 });
}

#[test]
fn what_was_counted_before_the_restore_is_not_lost() {
    let mut bench = Bench::new(up());
    bench.run("up", 10, 1, Counts { good: 9, bad: 1 });
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 30, up());
    other.tracker.recorder("up").unwrap().add(Counts { good: 5, bad: 0 });
    restore(&mut other, &bytes);
    other.after(1);

    assert_eq!(other.counts("up", 3600), Counts { good: 95, bad: 10 });
}

#[test]
fn an_objective_of_a_busy_month_takes_about_five_kilobytes() {
    // slo.md 8.2: 5,094 bytes there, with fewer things kept.
    let mut bench = Bench::new(up());
    bench.month("up", 100);

    let bytes = snapshot(&bench);

    assert!((4_000..6_000).contains(&bytes.len()), "{} bytes", bytes.len());
    assert_eq!(Snapshot::decode(&bytes).unwrap(), bench.tracker.snapshot(ID));
}

#[test]
fn a_changed_target_keeps_its_counts_and_a_changed_threshold_does_not() {
    let fast = |millis, target: &str| {
        let sli = Sli::Latency { within: TimeLimit::from_millis(millis), part: Part::Total };
        Objective::new("fast".parse().unwrap(), sli, target.parse().unwrap())
    };
    let mut bench = Bench::new([fast(300, "95"), available("gone", "99")]);
    bench.run("fast", 10, 1, Counts { good: 9, bad: 1 });
    let bytes = snapshot(&bench);

    let mut retargeted = later(&bench, 5, vec![fast(300, "99"), available("new", "99")]);
    let notes = restore(&mut retargeted, &bytes).notes;
    let words: Vec<_> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "fast: the target is 99%, was 95%; its counts are kept",
            "new: it is new, and begins now",
            "gone: it is no more; its counts are left behind",
        ]
    );
    assert_eq!(retargeted.counts("fast", 3600), Counts { good: 90, bad: 10 });

    let mut other = later(&bench, 5, vec![fast(200, "95"), available("gone", "99")]);
    let notes = restore(&mut other, &bytes).notes;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].to_string().contains("measures something else now"));
    assert_eq!(other.counts("fast", 3600), Counts::default());
}

#[test]
fn a_longer_window_keeps_what_the_shorter_one_had() {
    let mut bench = Bench::new([available("up", "99.9").over(Window::SEVEN_DAYS)]);
    bench.run("up", 2_000, 60, Counts { good: 59, bad: 1 });
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 60, vec![available("up", "99.9").over(Window::NINETY_DAYS)]);
    restore(&mut other, &bytes);

    let counts = other.tracker.numbers("up").unwrap().budget.counts();
    assert_eq!(counts, Counts { good: 118_000, bad: 2_000 });
    for window in [3600, 7200, 86_400] {
        bench.tracker.tick(other.clocks);
        assert_eq!(other.counts("up", window), bench.counts("up", window), "{window} s");
    }
}

#[test]
fn a_month_goes_on_where_it_was() {
    let month = || vec![available("up", "99").over(Window::month("Asia/Kolkata".parse().unwrap()))];
    let mut bench = Bench::new(month());
    bench.run("up", 500, 60, Counts { good: 9, bad: 1 });
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 60, month());
    restore(&mut other, &bytes);
    other.after(1);

    let numbers = other.tracker.numbers("up").unwrap();
    assert_eq!(numbers.budget.counts(), Counts { good: 4_500, bad: 500 });
    let mut after = later(&bench, 31 * 86_400, month());
    restore(&mut after, &bytes);
    after.after(1);
    let numbers = after.tracker.numbers("up").unwrap();
    assert_eq!(numbers.budget.counts(), Counts::default(), "a new month");
}

#[test]
fn slices_of_a_gap_count_as_they_were_told_to() {
    // Scenario 42: being down is the failure.
    let minutes = TimeSlices::new(SliceLength::Minute, Ratio::percent(95)).missed(Verdict::Bad);
    let sliced = || vec![available("up", "99.9").counted_by(Method::TimeSlices(minutes))];
    let mut bench = Bench::new(sliced());
    bench.run("up", 60, 60, Counts { good: 20, bad: 0 });
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 600, sliced());
    restore(&mut other, &bytes);

    assert_eq!(other.counts("up", 86_400), Counts { good: 60, bad: 10 });
    assert_eq!(other.counts("up", 300), Counts { good: 0, bad: 5 }, "each in its minute");
    other.run("up", 1, 60, Counts { good: 20, bad: 0 });
    assert_eq!(other.counts("up", 86_400), Counts { good: 61, bad: 10 });
}

#[test]
fn a_clock_that_went_back_makes_no_gap_and_says_so() {
    let mut bench = Bench::new(up());
    bench.run("up", 100, 1, Counts { good: 9, bad: 1 });
    let bytes = snapshot(&bench);

    let mut clocks = bench.clocks;
    clocks.wall -= Duration::from_secs(3600);
    let mut other = Bench::at(clocks, up());
    let restored = restore(&mut other, &bytes);

    assert_eq!(restored.gap, Duration::ZERO);
    assert!(restored.notes[0].to_string().contains("1h ahead of the wall clock"));
    assert_eq!(other.counts("up", 300), Counts { good: 900, bad: 100 });
}

#[test]
fn bytes_that_cannot_be_read_say_why() {
    let bytes = snapshot(&Bench::new(up()));
    let error = |bytes: &[u8]| Snapshot::decode(bytes).unwrap_err();

    for foreign in [&b""[..], b"{}", b"bttr-sl", b"SQLite format 3\0"] {
        assert_eq!(error(foreign), DecodeError::Foreign);
    }
    let mut newer = bytes.clone();
    newer[8] = 4;
    assert_eq!(error(&newer), DecodeError::Newer { version: 4 });
    assert!(error(&newer).to_string().contains("a newer build wrote it"));
    for length in 8..bytes.len() {
        assert_eq!(error(&bytes[..length]), DecodeError::Damaged, "{length} bytes");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(error(&longer), DecodeError::Damaged);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = snapshot(&Bench::new(up()));
    for place in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[place / 8] ^= 1 << (place % 8);
        assert!(Snapshot::decode(&flipped).is_err(), "bit {place}");
    }
}

#[test]
fn a_snapshot_of_another_service_is_refused() {
    let bench = Bench::new(up());
    let other = Tracker::new("bank".parse().unwrap(), up(), clocks()).unwrap();
    let mut bench = bench;

    let error = bench.tracker.restore(&other.snapshot(ID)).unwrap_err();

    assert!(error.to_string().contains(r#"of the service "bank", and this is shop"#), "{error}");
}

#[test]
fn two_processes_on_one_place_are_told_apart() {
    let bench = Bench::new(up());
    let by = |instance| bench.tracker.snapshot(InstanceId::new(instance));
    let first = Tenancy::new(InstanceId::new(1));
    let second = Tenancy::new(InstanceId::new(2)).after(&by(1));

    assert_eq!(first.check(&by(1)), Ok(()), "its own");
    assert_eq!(second.check(&by(1)), Ok(()), "what it restored from");
    let error = first.check(&by(2)).unwrap_err().to_string();
    assert!(error.contains("two processes"), "{error}");
    assert!(second.check(&by(3)).is_err());
}

#[test]
fn the_meaning_of_counts_is_part_of_the_format() {
    // Whoever changes these words throws away what is kept of such objectives.
    let fast = Sli::Latency { within: TimeLimit::from_millis(300), part: Part::Total };
    let fast = Objective::new("fast".parse().unwrap(), fast, "95".parse().unwrap());

    assert_eq!(available("up", "99").meaning(), 0xCF01_8B31_E411_E3E6);
    assert_eq!(fast.meaning(), 0x0C53_E1F7_B4C5_7904);
}

#[test]
fn the_format_is_what_it_was_when_it_was_numbered() {
    // Whoever changes what is written gives it a new number, and goes on reading this one.
    let minute = |objective: Objective| objective.over(Window::sliding(TimeLimit::from_secs(60)));
    let slices = slices::minutes(Verdict::Excluded, Verdict::Bad).remove(0);
    let objectives = [minute(available("up", "99.9")), minute(slices)];
    let mut bench = kept::composed(Bench::new(objectives), ["up", "minutes"]);
    bench.tracker.begin_maintenance(Duration::from_secs(60));
    bench.tracker.recorder("minutes").unwrap().add(Counts { good: 7, bad: 2 });
    bench.run("up", 3, 1, Counts { good: 99, bad: 1 });

    let bytes = snapshot(&bench);

    assert_eq!(checksum(&bytes[..bytes.len() - 4]), 0x3FC9_FC9D, "{bytes:?}");
}

/// What a process does: count for some seconds, or not be there for some.
#[derive(Clone, Copy, Debug)]
enum Step {
    Counts { seconds: u64, good: u64, bad: u64 },
    Away { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let counts = (1..200_u64, 0..20_u64, 0..5_u64).prop_map(|(seconds, good, bad)| Step::Counts {
        seconds,
        good,
        bad,
    });
    let away = (2..20_000_u64).prop_map(|seconds| Step::Away { seconds });
    prop::collection::vec(prop_oneof![2 => counts, 1 => away], 1..12)
}

proptest! {
    #![proptest_config(crate::testing::fewer(64))]

    /// A process that is restarted and one that sleeps know the same afterwards.
    #[test]
    fn a_restart_is_no_worse_than_sleep(steps in steps()) {
        let objectives = || vec![
            available("up", "99.9"),
            available("week", "95").over(Window::SEVEN_DAYS),
            available("month", "99").over(Window::month("Asia/Kathmandu".parse().unwrap())),
            available("now", "99").over(Window::sliding(TimeLimit::from_secs(300)))
                .alerting(kept::patient()),
            slices::minutes(Verdict::Excluded, Verdict::Bad).remove(0),
        ];
        let names = ["up", "week", "month", "now", "minutes"];
        let boot = Some(Duration::ZERO);
        let started = |clocks| kept::composed(Bench::at(clocks, objectives()), ["up", "week"]);
        let mut sleeper = started(crate::Clocks { boot, ..clocks() });
        let mut restarted = started(sleeper.clocks);
        for step in steps {
            match step {
                Step::Counts { seconds, good, bad } => for _ in 0..seconds {
                    for bench in [&sleeper, &restarted] {
                        for name in names {
                            bench.tracker.recorder(name).unwrap().add(Counts { good, bad });
                        }
                    }
                    sleeper.after(1);
                    restarted.after(1);
                },
                Step::Away { seconds } => {
                    let away = Duration::from_secs(seconds);
                    sleeper.clocks.wall += away;
                    sleeper.clocks.boot = sleeper.clocks.boot.map(|boot| boot + away);
                    sleeper.tracker.tick(sleeper.clocks);

                    let bytes = snapshot(&restarted);
                    restarted = started(sleeper.clocks);
                    restore(&mut restarted, &bytes);
                    restarted.tracker.tick(restarted.clocks);
                }
            }
            for name in names {
                let of = |bench: &Bench| {
                    let tracker = &bench.tracker;
                    (tracker.numbers(name), tracker.alerts(name), tracker.history(name))
                };
                prop_assert_eq!(of(&sleeper), of(&restarted));
            }
            prop_assert_eq!(sleeper.tracker.standings(), restarted.tracker.standings());
        }
    }

    /// `cargo xtask soak` runs this one longer, with `PROPTEST_CASES`.
    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Snapshot::decode(&bytes);
        let mut named = b"bttr-slo\x01\0".to_vec();
        named.extend(bytes);
        let sum = checksum(&named);
        named.extend(sum.to_le_bytes());
        let _ = Snapshot::decode(&named);
    }

    /// Past the checksum, as an attacker's would be: whatever is decoded can be restored, ticked
    /// and read without a panic.
    #[test]
    fn mutated_bytes_with_a_right_checksum_do_not_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let month = available("month", "99").over(Window::month(crate::Zone::UTC));
        let minutes = slices::minutes(Verdict::Bad, Verdict::Bad).remove(0);
        let objectives = || vec![available("up", "99.9"), month.clone(), minutes.clone()];
        let mut bench = kept::composed(Bench::new(objectives()), ["up", "month"]);
        bench.tracker.begin_maintenance(Duration::from_secs(60));
        bench.run("up", 20, 30, Counts { good: 9, bad: 1 });
        let mut bytes = snapshot(&bench);
        bytes.truncate(bytes.len() - 4);
        for (place, value) in edits {
            let place = 10 + place.index(bytes.len() - 10);
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(10 + cut.index(bytes.len() - 10));
        }
        let sum = checksum(&bytes);
        bytes.extend(sum.to_le_bytes());

        if let Ok(snapshot) = Snapshot::decode(&bytes) {
            prop_assert_eq!(&Snapshot::decode(&snapshot.encode()), &Ok(snapshot.clone()));
            let mut other = kept::composed(later(&bench, 60, objectives()), ["up", "month"]);
            if other.tracker.restore(&snapshot).is_ok() {
                for _ in 0..3 {
                    other.run("up", 1, 1, Counts { good: 1, bad: 1 });
                }
                for name in ["up", "month"] {
                    let _ = format!("{:?}", other.tracker.numbers(name));
                    let _ = format!("{:?}", other.tracker.alerts(name));
                    let _ = other.tracker.history(name);
                }
                let _ = other.tracker.snapshot(ID).encode();
            }
        }
    }
}
