//! What clocks, nights and a ticker that is not there do to a tracker.

use super::*;
use crate::{ClockChange, Clocks, Maintenance, Weekday};

const GOOD: Counts = Counts { good: 10, bad: 0 };
const BAD: Counts = Counts { good: 0, bad: 10 };

/// A first reading at some time of a year.
fn starting(text: &str) -> Clocks {
    let wall = text.parse::<jiff::Timestamp>().unwrap();
    Clocks { wall: wall.into(), ..crate::testing::clocks() }
}

#[test]
fn maintenance_by_hand_lasts_as_long_as_was_said_whatever_the_wall_clock_does() {
    for set in [-3_600_i64, 3_600] {
        let mut bench = Bench::new([available("up", "99.9")]);
        bench.tracker.begin_maintenance(Duration::from_secs(600));
        bench.after(1);
        let by = Duration::from_secs(set.unsigned_abs());
        if set < 0 {
            bench.clocks.wall -= by;
        } else {
            bench.clocks.wall += by;
        }

        bench.run("up", 598, 1, BAD);
        assert!(bench.tracker.in_maintenance(), "set by {set} s");
        bench.run("up", 2, 1, BAD);
        assert!(!bench.tracker.in_maintenance(), "set by {set} s");
    }
}

#[test]
fn a_page_sleeps_through_a_night_as_lost_and_clears_when_all_is_well_again() {
    let mut bench = Bench::new([available("up", "99.9")]);
    bench.clocks.boot = Some(Duration::ZERO);
    bench.month("up", 10);
    bench.run("up", 60, 1, BAD);
    assert!(bench.tracker.standings()[0].paging);
    let spent = bench.tracker.numbers("up").unwrap().budget.consumed();

    let night = Duration::from_secs(8 * 3_600);
    bench.clocks.wall += night;
    bench.clocks.boot = bench.clocks.boot.map(|boot| boot + night);
    let happened = bench.after(1);

    let lost = happened.iter().filter(|one| {
        matches!(one, Happening::Alert { to: AlertState::Lost { .. }, from, .. } if from.is_firing())
    });
    assert_eq!(lost.count(), 1, "{happened:?}");
    let after = bench.tracker.numbers("up").unwrap();
    assert!(after.budget.consumed() >= spent, "a night is no absolution");
    assert_eq!(after.quiet_for, Some(Duration::from_secs(8 * 3_600 + 1)));
    assert!(bench.tracker.standings()[0].paging, "nobody knows yet");

    let happened = bench.run("up", 1, 1, GOOD);
    let quiet = happened.iter().filter(|one| {
        matches!(one, Happening::Alert { severity: Severity::Page, to: AlertState::Quiet, .. })
    });
    assert_eq!(quiet.count(), 1, "{happened:?}");
}

#[test]
fn two_days_without_a_tick_are_one_gap_and_the_month_is_as_it_was() {
    let mut bench = Bench::new([available("up", "99.9")]);
    bench.month("up", 10);
    bench.run("up", 600, 1, Counts { good: 9, bad: 1 });
    let before = bench.tracker.numbers("up").unwrap();

    let happened = bench.after(2 * 86_400);

    assert!(matches!(happened[0], Happening::Clock(ClockChange::Late(_))));
    let after = bench.tracker.numbers("up").unwrap();
    assert_eq!(after.counts.counts.bad, before.counts.counts.bad);
    assert_eq!(after.observed.observed_seconds(), 28 * 86_400);
    for window in [300, 3_600, 86_400] {
        assert_eq!(bench.counts("up", window), Counts::default(), "{window} s");
    }
    assert!(
        after.sli().is_some() && after.burns.iter().filter(|it| it.burn.is_none()).count() >= 6
    );
}

#[test]
fn what_was_recorded_in_two_days_without_a_tick_is_counted_once_and_as_the_newest() {
    let mut bench = Bench::new([available("up", "99.9")]);
    bench.month("up", 10);
    let before = bench.tracker.numbers("up").unwrap().counts.counts;

    bench.tracker.recorder("up").unwrap().add(Counts { good: 1_728_000, bad: 1_728 });
    bench.after(2 * 86_400);

    assert_eq!(bench.counts("up", 300), Counts { good: 1_728_000, bad: 1_728 });
    let after = bench.tracker.numbers("up").unwrap();
    // Two days of the clean ones have gone.
    let clean = before.good - 2 * 864_000;
    assert_eq!(after.counts.counts, Counts { good: clean + 1_728_000, bad: 1_728 });
    assert!(after.observed.is_full(), "it was observed, though read late");
    assert!(!bench.tracker.standings()[0].paging, "at the pace at which it came");
}

#[test]
fn a_million_events_a_second_for_a_month_are_exact() {
    let of = |seconds: u64| Counts { good: 999_000 * seconds, bad: 1_000 * seconds };
    let mut bench = Bench::new([available("up", "99.9")]);

    bench.run("up", 30 * 24, 3_600, of(3_600));

    let numbers = bench.tracker.numbers("up").unwrap();
    assert_eq!(numbers.budget.counts(), of(30 * 86_400));
    assert_eq!(numbers.budget.remaining(), Share::ZERO, "to the last event");
    assert_eq!(numbers.budget.allowed(), 2_592_000_000);
    assert_eq!(&*bench.tracker.standings()[0].level, "freeze");
    assert!(numbers.burns.iter().all(|it| it.burn == Some(Burn::ONE)), "{:?}", numbers.burns);
    assert!(!bench.tracker.standings()[0].paging);
}

#[test]
fn counts_at_the_end_of_their_numbers_freeze_and_do_not_wrap() {
    let minute = Window::sliding(TimeLimit::from_secs(60));
    let mut bench = Bench::new([available("up", "99.9").over(minute)]);
    bench.run("up", 70, 1, Counts { good: u64::MAX / 80, bad: u64::MAX / 80 });

    let numbers = bench.tracker.numbers("up").unwrap();

    assert!(numbers.budget.remaining() < Share::ZERO);
    assert!(bench.tracker.standings()[0].paging);
    assert_eq!(numbers.forecast.rolling, Exhaustion::In(Duration::ZERO));
}

#[test]
fn a_month_in_new_york_begins_at_its_midnight_before_and_after_the_clocks_are_put() {
    // The clocks are put back on 1 November 2026 and forward on 14 March 2027.
    let month = || {
        let window = Window::month("America/New_York".parse().unwrap());
        available("up", "99.9").over(window)
    };
    for (start, turn) in [
        ("2026-10-31T23:00:00-04:00", "2026-11-01T04:00:00Z"),
        ("2026-11-30T23:00:00-05:00", "2026-12-01T05:00:00Z"),
        ("2027-03-31T23:00:00-04:00", "2027-04-01T04:00:00Z"),
    ] {
        let mut bench = Bench::at(starting(start), [month()]);
        assert!(!bench.run("up", 3_599, 1, BAD).iter().any(is_new_period), "{start}");

        let happened = bench.run("up", 1, 1, BAD);

        assert!(happened.iter().any(is_new_period), "{start}");
        let period = bench.tracker.numbers("up").unwrap().period;
        assert_eq!(period.start, turn.parse::<jiff::Timestamp>().unwrap().as_second());
        bench.run("up", 2 * 86_400, 60, GOOD);
        let days = bench.tracker.numbers("up").unwrap().budget.coverage().length_seconds();
        assert!(days >= 28 * 86_400);
    }
}

fn is_new_period(happening: &Happening) -> bool {
    matches!(happening, Happening::NewPeriod { .. })
}

#[test]
fn the_hour_that_comes_twice_is_in_the_budget_of_its_month_twice() {
    let window = Window::month("America/New_York".parse().unwrap());
    let mut bench =
        Bench::at(starting("2026-11-01T00:00:00-04:00"), [available("up", "99.9").over(window)]);

    // From 01:00 EDT to 02:00 EST.
    bench.run("up", 60, 60, GOOD);
    bench.run("up", 120, 60, Counts { good: 9, bad: 1 });

    let numbers = bench.tracker.numbers("up").unwrap();
    assert_eq!(numbers.budget.counts(), Counts { good: 1_680, bad: 120 });
    assert_eq!(numbers.observed.observed_seconds(), 3 * 3_600);
    assert_eq!(numbers.budget.coverage().length_seconds(), 721 * 3_600);
}

#[test]
fn maintenance_that_recurs_is_on_once_on_the_days_on_which_the_clocks_are_put() {
    let sundays = Maintenance::recurring(
        [Weekday::Sunday],
        "01:30".parse().unwrap(),
        TimeLimit::from_secs(3_600),
        "America/New_York".parse().unwrap(),
    );
    // 01:30 comes twice on 1 November 2026; on 14 March 2027 half an hour of it is put forward.
    for day in
        ["2026-11-01T00:00:00-04:00", "2027-03-14T00:00:00-05:00", "2027-03-21T00:00:00-04:00"]
    {
        let mut bench = Bench::at(starting(day), [available("up", "99.9")]);
        bench.tracker.plan_maintenance([sundays.clone()]);
        let mut changes = Vec::new();
        for minute in 1..=360 {
            for happening in bench.run("up", 1, 60, BAD) {
                if let Happening::Maintenance(on) = happening {
                    changes.push((minute, on));
                }
            }
        }

        assert_eq!(changes, [(90, true), (150, false)], "{day}");
        let excluded: u64 = bench.tracker.recorder("up").unwrap().excluded().map(|it| it.1).sum();
        assert_eq!(excluded, 600, "{day}");
    }
}

#[test]
fn a_level_that_was_reached_before_the_clock_was_set_back_still_waits_its_hour() {
    let mut bench =
        Bench::new([available("up", "99").over(Window::sliding(TimeLimit::from_secs(300)))]);
    bench.run("up", 400, 1, GOOD);
    bench.run("up", 60, 1, BAD);
    assert_eq!(&*bench.tracker.standings()[0].level, "freeze");
    let fell = bench.tracker.now().steady;

    bench.clocks.wall -= Duration::from_secs(3_600);
    let rose = (1..8_000).find(|_| {
        bench.run("up", 1, 1, GOOD);
        &*bench.tracker.standings()[0].level != "freeze"
    });

    assert!(rose.is_some());
    assert!((3_500..=3_600).contains(&(bench.tracker.now().steady - fell)));
}
