//! Other settings while it runs.

use super::*;

#[test]
fn a_window_of_calls_that_grows_keeps_all_and_one_that_shrinks_the_last() {
    let mut rig = Rig::new(last(4, 100, Ratio::ONE));
    rig.run(0, [F, F, S, F, S, S]);
    assert_eq!(rig.counts(0), (3, 4, 1));

    rig.change(last(6, 100, Ratio::ONE), 0);
    assert_eq!(rig.counts(0), (3, 4, 1));
    rig.run(0, [F, F]);
    assert_eq!(rig.counts(0), (3, 6, 3));
    rig.run(0, [F]);
    assert_eq!(rig.counts(0), (2, 6, 4));

    rig.change(last(3, 100, Ratio::ONE), 0);
    assert_eq!(rig.counts(0), (0, 3, 3));
    rig.run(0, [S]);
    assert_eq!(rig.counts(0), (1, 3, 2));
}

fn within(length: u64, buckets: u16) -> Settings {
    let window = Window::time(seconds(length)).buckets(buckets);
    Settings::new(Trip::failure_rate(Ratio::ONE).over(window).minimum(1_000))
}

#[test]
fn a_time_window_that_grows_keeps_all_and_one_that_shrinks_what_is_young_enough() {
    let mut rig = Rig::new(within(10, 10));
    for second in 0..15 {
        rig.run(second * 1_000, [if second % 2 == 0 { F } else { S }]);
    }
    // 5 to 14.
    assert_eq!(rig.counts(14_500), (5, 10, 5));

    rig.change(within(20, 10), 14_500);
    assert_eq!(rig.counts(14_500), (5, 10, 5));
    // Nothing of it has left before it is as old as the window was, and all once it is as old as
    // the window is.
    assert_eq!(rig.counts(15_500), (5, 10, 5));
    assert_eq!(rig.counts(34_500), (0, 0, 0));

    let mut rig = Rig::new(within(10, 10));
    for second in 0..15 {
        rig.run(second * 1_000, [F]);
    }
    rig.change(within(4, 4), 14_500);
    assert_eq!(rig.counts(14_500), (0, 4, 4));
    assert_eq!(rig.counts(16_500), (0, 2, 2));
    assert_eq!(rig.counts(18_000), (0, 0, 0));
}

#[test]
fn what_a_longer_window_kept_still_counts_towards_opening() {
    let with = |rate, minimum| {
        let window = Window::time(seconds(10)).buckets(10);
        Settings::new(Trip::failure_rate(rate).over(window).minimum(minimum))
    };
    let mut rig = Rig::new(with(Ratio::ONE, 100));
    rig.run(0, [F, F, F, S]);

    rig.change(with(HALF, 5), 0);
    assert_eq!(rig.state(0), State::Closed);
    rig.run(0, [S]);

    assert_eq!((rig.state(0), rig.counts(0)), (State::Open, (2, 5, 3)));
}

#[test]
fn failures_in_a_row_are_kept() {
    let mut rig = Rig::new(Settings::consecutive(5));
    rig.run(0, [F, F, F]);

    rig.change(Settings::consecutive(4), 0);
    rig.run(0, [F]);

    assert_eq!(rig.state(0), State::Open);
}

#[test]
fn a_window_that_is_about_something_else_begins_empty() {
    let slow = |window| Settings::new(Trip::slow_rate(HALF, seconds(1)).over(window).minimum(4));
    let failed = |window| Settings::new(Trip::failure_rate(HALF).over(window).minimum(4));
    for window in [Window::calls(10), Window::time(seconds(10))] {
        let mut rig = Rig::new(failed(window));
        rig.run(0, [F, F, F]);

        rig.change(slow(window), 0);

        assert_eq!((rig.counts(0), rig.slow(0).0), ((0, 0, 0), 0), "{window:?}");
        rig.run(0, [S]);
        assert_eq!(rig.state(0), State::Closed, "{window:?}");
    }
}

#[test]
fn an_open_breaker_stays_open_for_as_long_as_it_was_told_to() {
    let settings = |wait| Settings::consecutive(1).open_for(OpenFor::fixed(seconds(wait)));
    let mut rig = Rig::new(settings(60));
    rig.run(0, [F]);

    rig.change(settings(5), 1_000);

    assert_eq!(rig.refusal(1_000), ("open", Some(59_000)));
    rig.run(60_000, [F]);
    assert_eq!(rig.refusal(60_000), ("open", Some(5_000)));
}

#[test]
fn probes_that_are_out_are_judged_by_what_was_asked_of_them() {
    let mut rig = half_open(cbsm().probes(Probes::new(3)), 0);
    let probe = rig.admitted(0);

    rig.change(cbsm().probes(Probes::new(1)), 0);

    rig.settle(0, probe, S);
    assert_eq!(rig.state(0), State::HalfOpen);
    rig.run(0, [S]);
    assert_eq!(rig.state(0), State::Closed);
}
