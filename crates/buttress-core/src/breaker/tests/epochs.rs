//! What was admitted by an older state changes nothing.

use super::*;

#[test]
fn a_result_from_before_a_reset_is_not_counted_after_it() {
    // B25 (a)
    let mut rig = Rig::new(gobreaker());
    rig.run(29_000, [S]);
    let slow = rig.admitted(29_000);
    assert_eq!(rig.counts(29_500), (1, 1, 0));
    rig.reset(30_000);
    assert_eq!(rig.counts(30_000), (0, 0, 0));

    rig.settle(30_500, slow, S);

    assert_eq!(rig.counts(30_500), (0, 0, 0));
    let totals = rig.snapshot(30_500).totals;
    assert_eq!((totals.successes, totals.void, totals.ended()), (1, 1, 2));
}

#[test]
fn a_call_from_before_the_trip_neither_decides_over_the_probes_nor_adds_a_permit() {
    // B25 (b) and (c), X08
    for outcome in [F, S, X, Call(Outcome::Cancelled, Duration::ZERO)] {
        let mut rig = Rig::new(cbsm());
        let stale = rig.admitted(0);
        rig.run_many(1_000, 5, F);
        assert_eq!(rig.state(1_000), State::Open);
        rig.run(6_100, [S, F, S]);
        assert_eq!((rig.counts(6_100), rig.free(6_100)), ((2, 3, 1), 1));

        rig.settle(6_200, stale, outcome);

        assert_eq!(rig.state(6_200), State::HalfOpen);
        assert_eq!((rig.counts(6_200), rig.free(6_200)), ((2, 3, 1), 1));
        rig.hang(6_200);
        assert_eq!(rig.refusal(6_200).0, "half_open");
        assert_eq!(rig.snapshot(6_200).totals.void, 1);
    }
}

#[test]
fn a_probe_of_an_earlier_spell_takes_no_permit_of_a_later_one() {
    let settings = cbsm().probes(Probes::new(2).fail_fast());
    let mut rig = half_open(settings, 0);
    let old = rig.admitted(0);
    rig.run(0, [F]);
    let new = rig.admitted(5_000);
    assert_eq!(rig.free(5_000), 1);

    rig.machine.head_came(old, rig.at(5_000));
    rig.settle(5_000, old, F);

    assert_eq!((rig.state(5_000), rig.free(5_000)), (State::HalfOpen, 1));
    rig.settle(5_000, new, S);
    rig.run(5_000, [S]);
    assert_eq!(rig.state(5_000), State::Closed);
}

#[test]
fn a_call_that_is_out_while_it_opens_and_closes_does_not_count_in_the_new_window() {
    let mut rig = Rig::new(last(10, 2, HALF).probes(Probes::new(1)));
    let stale: Vec<_> = (0..5).map(|_| rig.admitted(0)).collect();
    rig.run(0, [F, F]);
    rig.run(5_000, [S]);
    assert_eq!(rig.state(5_000), State::Closed);

    for ticket in stale {
        rig.settle(6_000, ticket, F);
    }

    assert_eq!((rig.state(6_000), rig.counts(6_000)), (State::Closed, (0, 0, 0)));
}

#[test]
fn a_call_of_the_ramp_counts_on_after_it() {
    let settings = last(10, 2, HALF).probes(Probes::new(1)).ramp(seconds(10));
    let mut rig = half_open(settings, 0);
    rig.run(0, [S]);
    assert_eq!(rig.state(0), State::Recovering);
    let ticket = (0..1_000).find_map(|_| rig.admit(9_000).ok()).unwrap();
    assert_eq!(rig.state(10_000), State::Closed);

    rig.settle(11_000, ticket, S);

    assert_eq!(rig.counts(11_000), (1, 1, 0));
}
