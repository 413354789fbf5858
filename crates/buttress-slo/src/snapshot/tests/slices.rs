//! Time slices through a restart: the one under way, and those of the gap.

use super::*;
use crate::Maintenance;

const GOOD: Counts = Counts { good: 10, bad: 0 };
const BAD: Counts = Counts { good: 0, bad: 10 };

pub(super) fn minutes(empty: Verdict, missed: Verdict) -> Vec<Objective> {
    let minutes = TimeSlices::new(SliceLength::Minute, Ratio::percent(95));
    let method = Method::TimeSlices(minutes.empty(empty).missed(missed));
    vec![available("minutes", "99.9").counted_by(method)]
}

fn judged(bench: &Bench) -> Counts {
    bench.counts("minutes", 86_400)
}

#[test]
fn a_minute_that_was_bad_before_the_restart_is_bad_after_it() {
    let objectives = || minutes(Verdict::Excluded, Verdict::Excluded);
    let mut bench = Bench::new(objectives());
    bench.run("minutes", 40, 1, BAD);
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 2, objectives());
    restore(&mut other, &bytes);
    other.run("minutes", 18, 1, GOOD);

    // 400 of 580 are bad: by itself the end of it was good.
    assert_eq!(judged(&other), Counts { good: 0, bad: 1 });
}

#[test]
fn a_minute_that_ended_while_nobody_was_there_is_judged_by_what_was_seen_of_it() {
    let objectives = || minutes(Verdict::Excluded, Verdict::Bad);
    let mut bench = Bench::new(objectives());
    bench.run("minutes", 40, 1, GOOD);
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 140, objectives());
    restore(&mut other, &bytes);

    assert_eq!(judged(&other), Counts { good: 1, bad: 2 }, "and two minutes were missed");
}

#[test]
fn a_ratio_of_a_minute_is_that_of_all_of_it() {
    let method = Method::RatioTimeSlices(SliceLength::Minute);
    let objectives = || vec![available("minutes", "99.9").counted_by(method)];
    let mut bench = Bench::new(objectives());
    bench.run("minutes", 30, 1, BAD);
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 0, objectives());
    restore(&mut other, &bytes);
    other.run("minutes", 30, 1, GOOD);

    assert_eq!(judged(&other), Counts { good: 500_000_000, bad: 500_000_000 });
}

#[test]
fn a_minute_in_which_maintenance_was_on_stays_so_through_a_restart() {
    let objectives = || minutes(Verdict::Bad, Verdict::Bad);
    let mut bench = Bench::new(objectives());
    bench.tracker.begin_maintenance(Duration::from_secs(20));
    bench.after(10);
    bench.after(20);
    assert!(!bench.tracker.in_maintenance());
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 1, objectives());
    restore(&mut other, &bytes);
    other.after(29);

    assert_eq!(judged(&other), Counts::default(), "nothing could come in it");
}

#[test]
fn minutes_that_were_missed_in_maintenance_are_not_held_against_anybody() {
    // Down from 00:02 until 00:20; maintenance was from 00:05 until 00:15.
    let planned = |bench: &Bench, from: u64, until: u64| {
        let at = |minutes| bench.clocks.wall + Duration::from_secs(minutes * 60);
        [Maintenance::planned(at(from), at(until))]
    };
    let objectives = || minutes(Verdict::Bad, Verdict::Bad);
    let mut bench =
        Bench::at(crate::Clocks { boot: Some(Duration::ZERO), ..clocks() }, objectives());
    let plan = planned(&bench, 5, 15);
    bench.tracker.plan_maintenance(plan.clone());
    bench.run("minutes", 120, 1, GOOD);
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 18 * 60, objectives());
    other.tracker.plan_maintenance(plan);
    restore(&mut other, &bytes);
    // And so it is for one that slept.
    let night = Duration::from_secs(18 * 60);
    bench.clocks.wall += night;
    bench.clocks.boot = Some(Duration::from_secs(120) + night);
    bench.tracker.tick(bench.clocks);

    for bench in [&other, &bench] {
        assert_eq!(judged(bench), Counts { good: 2, bad: 8 });
        assert_eq!(bench.counts("minutes", 120), Counts { good: 0, bad: 2 }, "each in its minute");
    }
}

#[test]
fn maintenance_that_a_restarted_process_begins_excuses_nothing_before_it() {
    let objectives = || minutes(Verdict::Bad, Verdict::Bad);
    let mut bench = Bench::new(objectives());
    bench.run("minutes", 120, 1, GOOD);
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 600, objectives());
    other.tracker.begin_maintenance(Duration::from_secs(600));
    restore(&mut other, &bytes);

    assert_eq!(judged(&other), Counts { good: 2, bad: 10 });
    other.after(1);
    assert!(other.tracker.in_maintenance());
}

#[test]
fn what_format_two_knew_is_read_for_good() {
    // Written by a build of format 2: 90 s of bad events for two objectives, one of them in
    // slices of a minute; then the wall clock was set forward by an hour; then two seconds, the
    // last of maintenance by hand, which was to last for 600.
    let bytes = include_bytes!("format-2.slo");
    assert_eq!(bytes[8..10], [2, 0]);
    let minute = || Window::sliding(TimeLimit::from_secs(60));
    let slices = TimeSlices::new(SliceLength::Minute, Ratio::percent(95)).missed(Verdict::Bad);
    let objectives = [
        available("up", "99.9").over(minute()).alerting(kept::patient()),
        available("slices", "99").over(minute()).counted_by(Method::TimeSlices(slices)),
    ];
    let mut clocks = clocks();
    clocks.wall += Duration::from_secs(92 + 3_600);
    let mut bench = kept::composed(Bench::at(clocks, objectives), ["up", "slices"]);

    let restored = bench.tracker.restore(&Snapshot::decode(bytes).unwrap()).unwrap();

    assert_eq!((restored.gap, &restored.notes[..]), (Duration::ZERO, &[][..]));
    assert_eq!(bench.counts("up", 60), Counts { good: 0, bad: 580 });
    assert_eq!(bench.counts("slices", 60), Counts { good: 0, bad: 1 });
    let standings = bench.tracker.standings();
    assert!(standings.iter().all(|standing| &*standing.level == "freeze"), "{standings:?}");
    let left = (1..1_000).find(|_| {
        bench.after(1);
        !bench.tracker.in_maintenance()
    });
    assert_eq!(left, Some(599));
}
