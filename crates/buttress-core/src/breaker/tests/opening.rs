//! When it opens: minimum, threshold, streaks, slow calls.

use super::*;

#[test]
fn once_there_are_enough_calls_the_rate_is_inclusive_and_a_success_opens_it_too() {
    // B01
    let mut rig = Rig::new(last(10, 5, HALF));

    let steps = [F, F, F, S, S].map(|call| {
        rig.run(0, [call]);
        (rig.state(0), rig.rate(0), rig.counts(0))
    });

    let sixty = Some(Ratio::percent(60));
    assert_eq!(
        steps,
        [
            (State::Closed, None, (0, 1, 1)),
            (State::Closed, None, (0, 2, 2)),
            (State::Closed, None, (0, 3, 3)),
            (State::Closed, None, (1, 4, 3)),
            (State::Open, sixty, (2, 5, 3)),
        ]
    );
    assert_eq!(rig.refusal(0), ("open", Some(5_000)));
    assert_eq!(rig.refused(0), 1);
    assert_eq!(rig.told(), ["closed -> open: 3 of 5 calls failed"]);
}

#[test]
fn at_exactly_the_threshold_a_time_window_opens() {
    // B02
    let mut rig = Rig::new(cbsm());

    for (second, call) in [S, S, S, F, F].into_iter().enumerate() {
        rig.run(second as u64 * 1_000, [call]);
    }

    assert_eq!((rig.rate(4_000), rig.state(4_000)), (Some(Ratio::percent(40)), State::Closed));
    assert_eq!(rig.state(5_000), State::Closed);
    rig.run(5_000, [F]);
    assert_eq!((rig.rate(5_000), rig.state(5_000)), (Some(HALF), State::Open));
    assert_eq!(rig.counts(5_000), (3, 6, 3));
}

#[test]
fn below_the_minimum_no_failure_opens_it_and_at_the_minimum_any_share_that_reaches_it() {
    // B03
    let settings = || last(100, 50, HALF);

    // (a)
    let mut rig = Rig::new(settings());
    rig.run_many(0, 49, F);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Closed, None));
    rig.run(0, [F]);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Open, Some(Ratio::ONE)));

    // (b)
    let mut rig = Rig::new(settings());
    rig.run_many(0, 25, S);
    rig.run_many(0, 24, F);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Closed, None));
    rig.run(0, [F]);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Open, Some(HALF)));

    // (c)
    let mut rig = Rig::new(settings());
    rig.run_many(0, 24, S);
    rig.run_many(0, 25, F);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Closed, None));
    rig.run(0, [F]);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Open, Some(Ratio::percent(52))));
    assert_eq!(rig.counts(0), (24, 50, 26));
}

#[test]
fn one_part_in_a_billion_below_the_threshold_is_below() {
    let just_over = Ratio::per_billion(500_000_001).unwrap();

    let mut rig = Rig::new(last(10, 2, just_over));
    rig.run(0, [S, F]);
    assert_eq!(rig.state(0), State::Closed);
    rig.run(0, [F]);

    assert_eq!(rig.state(0), State::Open);
}

#[test]
fn slow_calls_open_it_though_few_fail_and_a_call_of_exactly_the_limit_is_not_slow() {
    // B09
    let mut rig = Rig::new(cbsm());

    rig.run(0, [F.taking(5_000), S.taking(5_000), F.taking(100), S.taking(100)]);
    assert_eq!(rig.state(0), State::Closed);
    rig.run(0, [S.taking(5_000)]);

    assert_eq!(rig.state(0), State::Open);
    assert_eq!(rig.slow(0), (3, Some(Ratio::percent(60))));
    assert_eq!((rig.counts(0), rig.rate(0)), ((3, 5, 2), Some(Ratio::percent(40))));
    assert_eq!(rig.told(), ["closed -> open: 3 of 5 calls slow"]);

    for (millis, slow) in [(4_000, 0), (4_001, 1)] {
        let mut rig = Rig::new(cbsm());
        rig.run(0, [S.taking(millis)]);
        assert_eq!(rig.slow(0).0, slow, "{millis} ms");
    }
}

#[test]
fn failures_in_a_row_are_ended_by_a_success_and_by_nothing_else() {
    // B29, and 429 beside it
    let soft = Call(Outcome::Soft, Duration::ZERO);
    let cancelled = Call(Outcome::Cancelled, Duration::ZERO);

    let mut rig = Rig::new(Settings::consecutive(3));
    rig.run(0, [F, S, F, F]);
    assert_eq!(rig.state(0), State::Closed);
    rig.run(0, [soft, X, cancelled]);
    assert_eq!(rig.state(0), State::Closed);
    assert_eq!(rig.snapshot(0).conditions[0].streak(), Some(2));
    rig.run(0, [F]);

    assert_eq!(rig.state(0), State::Open);
    assert_eq!(rig.told(), ["closed -> open: 3 failures in a row"]);
}

#[test]
fn so_many_of_the_last_few_open_it() {
    // B29
    let two_of_three = || last(3, 3, Ratio::per_billion(666_666_666).unwrap());
    let mut rig = Rig::new(two_of_three());
    rig.run(0, [F, S]);
    assert_eq!(rig.state(0), State::Closed);
    rig.run(0, [F]);
    assert_eq!(rig.state(0), State::Open);

    let mut rig = Rig::new(last(4, 4, Ratio::percent(75)));
    for _ in 0..20 {
        rig.run(0, [S, F]);
    }
    assert_eq!((rig.state(0), rig.rate(0)), (State::Closed, Some(HALF)));

    let mut rig = Rig::new(last(10, 7, HALF));
    rig.run(0, [S, F, S, F, S, F, S]);
    assert_eq!((rig.state(0), rig.counts(0)), (State::Closed, (4, 7, 3)));
    let tally = rig.snapshot(0).tally();
    assert_eq!(tally.failure_rate(), Ratio::per_billion(428_571_428));
    assert_eq!(tally.successes * 100 / tally.calls(), 57);
}

#[test]
fn the_success_that_fills_a_window_of_calls_opens_it_if_the_rate_is_reached() {
    let mut rig = Rig::new(last(4, 20, HALF));

    rig.run(0, [F, F, S]);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Closed, None));
    rig.run(0, [S]);

    assert_eq!((rig.state(0), rig.rate(0)), (State::Open, Some(HALF)));
}

#[test]
fn any_of_several_conditions_opens_it_and_is_named() {
    let settings = || {
        Settings::new(Trip::consecutive(3))
            .or(Trip::failure_rate(HALF).over(Window::calls(10)).minimum(4))
    };

    let mut row = Rig::new(settings());
    row.run(0, [F, F, F]);
    let mut share = Rig::new(settings());
    share.run(0, [F, S, F, S]);

    assert_eq!(row.told(), ["closed -> open: 3 failures in a row"]);
    assert_eq!(share.told(), ["closed -> open: 2 of 4 calls failed"]);
    assert_eq!(share.rate(0), Some(HALF));
}

#[test]
fn a_soft_failure_counts_in_a_rate() {
    let soft = Call(Outcome::Soft, Duration::ZERO);

    let mut rig = Rig::new(last(10, 2, HALF));
    rig.run(0, [soft, S]);

    assert_eq!((rig.state(0), rig.counts(0)), (State::Open, (1, 2, 1)));
}
