//! The windows truly slide.

use super::*;

#[test]
fn a_window_of_calls_forgets_the_oldest_with_each_call() {
    // B04
    // (a)
    let mut rig = Rig::new(last(4, 4, HALF));
    rig.run(0, [F, S, S, S]);
    assert_eq!(rig.rate(0), Some(Ratio::percent(25)));
    rig.run(0, [S]);
    assert_eq!((rig.rate(0), rig.counts(0)), (Some(Ratio::ZERO), (4, 4, 0)));

    // (b)
    let mut rig = Rig::new(last(10, 5, HALF));
    rig.run_many(0, 1_000, S);
    for percent in [10, 20, 30, 40] {
        rig.run(0, [F]);
        assert_eq!((rig.state(0), rig.rate(0)), (State::Closed, Some(Ratio::percent(percent))));
    }
    rig.run(0, [F]);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Open, Some(HALF)));

    // (c)
    let mut rig = Rig::new(last(10, 5, HALF));
    rig.run_many(0, 4, F);
    assert_eq!(rig.state(0), State::Closed);
    rig.run(0, [F]);
    assert_eq!(rig.state(0), State::Open);
}

/// A window of so many seconds in buckets of a second, that never opens.
fn seconds_of(number: u16) -> Settings {
    let window = Window::time(seconds(number.into())).buckets(number);
    Settings::new(Trip::failure_rate(Ratio::ONE).over(window).minimum(1_000)).or(Trip::slow_rate(
        Ratio::ONE,
        TimeLimit::from_millis(500),
    )
    .over(window)
    .minimum(1_000))
}

#[test]
fn a_time_window_lets_go_of_what_is_as_old_as_it_is_long() {
    // B06
    let mut rig = Rig::new(seconds_of(5));
    let calls = [
        (0, F),
        (100, S),
        (200, S),
        (1_200, S),
        (2_200, S),
        (3_200, F),
        (4_200, S),
        (5_200, S),
        (6_200, S),
        (11_200, S),
    ];
    let counts = calls.map(|(millis, call)| {
        rig.run(millis, [call]);
        let (_, total, failed) = rig.counts(millis);
        (total, failed)
    });

    assert_eq!(counts.map(|(total, _)| total), [1, 2, 3, 4, 5, 6, 7, 5, 5, 1]);
    assert_eq!(counts.map(|(_, failed)| failed), [1, 1, 1, 1, 1, 2, 2, 1, 1, 0]);

    let mut rig = Rig::new(seconds_of(5));
    rig.run(0, [F]);
    rig.run(100, [S]);
    rig.run(800, [F.taking(600)]);
    assert_eq!((rig.counts(4_800), rig.slow(4_800).0), ((1, 3, 2), 1));
    assert_eq!((rig.counts(5_800), rig.slow(5_800).0), ((0, 0, 0), 0));
    rig.run(5_900, [S]);
    assert_eq!(rig.counts(5_900), (1, 1, 0));
    rig.run(10_900, [S]);
    assert_eq!(rig.counts(10_900), (1, 1, 0));
}

#[test]
fn the_health_of_the_last_ten_seconds_rolls_in_slices_of_one() {
    // B07
    let health = |rig: &mut Rig, second: u64| {
        let tally = rig.snapshot(second * 1_000).tally();
        (tally.calls(), tally.failure_rate().unwrap_or(Ratio::ZERO), tally.failures)
    };
    let mut rig = Rig::new(seconds_of(10));
    let mut seen = Vec::new();
    for (second, pair) in [(0, [F, S]), (2, [F, S]), (4, [S, S]), (6, [S, S]), (8, [S, S])] {
        rig.run(second * 1_000, pair);
        seen.push(health(&mut rig, second + 2));
    }
    seen.push(health(&mut rig, 12));

    let share = |thousandths: u32| Ratio::per_billion(thousandths * 1_000_000).unwrap();
    let third = Ratio::per_billion(333_333_333).unwrap();
    assert_eq!(
        seen,
        [
            (2, share(500), 1),
            (4, share(500), 2),
            (6, third, 2),
            (8, share(250), 2),
            (8, share(125), 1),
            (6, share(0), 0),
        ]
    );

    let mut rig = Rig::new(seconds_of(10));
    for second in 0..10 {
        rig.run(second * 1_000, [S]);
    }
    assert_eq!((health(&mut rig, 10).0, health(&mut rig, 11).0), (9, 8));
    assert_eq!(health(&mut rig, 19), (0, Ratio::ZERO, 0));
}

#[test]
fn rolling_buckets_count_exactly_what_is_in_them() {
    // B27
    let mut rig = Rig::new(gobreaker());
    let counts = |rig: &mut Rig, second: u64| {
        let tally = rig.snapshot(second * 1_000).tally();
        (tally.calls() + tally.ignored, tally.successes, tally.failures, tally.ignored)
    };
    let mut expect = |second: u64, calls: &[Call], expected| {
        rig.run(second * 1_000, calls.iter().copied());
        assert_eq!(counts(&mut rig, second), expected, "at {second} s");
        rig.state(second * 1_000)
    };

    expect(0, &[S, F, X, S, F, X, S, F, X, S, F, X, S, F, X], (15, 5, 5, 5));
    expect(3, &[S], (16, 6, 5, 5));
    expect(5, &[S, X], (18, 7, 5, 6));
    expect(7, &[X, S], (20, 8, 5, 7));
    expect(9, &[F], (21, 8, 6, 7));
    for step in 1..=6 {
        expect(9 + step * 3, &[S, F], (21 + 2 * step, 8 + step, 6 + step, 7));
    }
    expect(30, &[F], (19, 9, 8, 2));
    assert_eq!(expect(30, &[F, F, F, F, F], (24, 9, 13, 2)), State::Closed);
    assert_eq!(expect(30, &[F], (25, 9, 14, 2)), State::Open);
    assert_eq!(rig.rate(30_000), Ratio::per_billion(608_695_652));
}

#[test]
fn what_says_nothing_is_counted_apart_and_ends_no_row() {
    // B18 (d)
    let window = Window::time(seconds(30));
    let settings = Settings::new(Trip::failure_rate(HALF).over(window)).or(Trip::consecutive(100));
    let mut rig = Rig::new(settings);

    rig.run(0, [X, X, X, S, S, S, F, F]);

    let snapshot = rig.snapshot(0);
    let tally = snapshot.tally();
    assert_eq!(tally.calls() + tally.ignored, 8);
    assert_eq!((tally.successes, tally.failures, tally.ignored), (3, 2, 3));
    assert_eq!(snapshot.conditions[1].streak(), Some(2));
}

#[test]
fn when_a_bucket_of_successes_leaves_the_next_outcome_opens_it() {
    let window = Window::time(seconds(10)).buckets(10);
    let mut rig = Rig::new(Settings::new(Trip::failure_rate(HALF).over(window).minimum(4)));
    rig.run(0, [S, S, S, S]);
    rig.run(5_000, [F, F, F]);
    assert_eq!(rig.state(9_999), State::Closed);

    rig.run(10_000, [S]);

    assert_eq!((rig.state(10_000), rig.counts(10_000)), (State::Open, (1, 4, 3)));
}
