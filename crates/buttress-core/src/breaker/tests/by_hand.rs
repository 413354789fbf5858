//! What somebody says through a handle goes.

use super::*;

type Hand = fn(&mut Rig);

#[test]
fn forced_open_it_refuses_for_as_long_as_nobody_says_otherwise() {
    // B20
    let mut rig = Rig::new(cbsm());
    rig.force_open(0);

    assert_eq!(rig.refusal(0), ("forced_open", None));
    assert_eq!(rig.refusal(6_000), ("forced_open", None));
    assert_eq!((rig.state(6_000), rig.refused(6_000)), (State::ForcedOpen, 2));
    assert_eq!(rig.snapshot(6_000).until_probe, None);
    assert_eq!(rig.refusal(1_000_000_000), ("forced_open", None));

    rig.reset(1_000_000_001);
    rig.run(1_000_000_001, [S]);
    assert_eq!(
        rig.told(),
        ["closed -> forced_open: set by hand", "forced_open -> closed: set by hand"]
    );
}

#[test]
fn forced_closed_it_admits_everything_and_records_nothing() {
    // B20
    let mut rig = Rig::new(cbsm());
    rig.run(0, [F, F]);
    rig.force_closed(0);

    rig.run(0, [S, F, F, F, F]);

    assert_eq!((rig.state(0), rig.counts(0), rig.rate(0)), (State::ForcedClosed, (0, 0, 0), None));
    let totals = rig.snapshot(0).totals;
    assert_eq!((totals.successes, totals.failures, totals.void), (0, 2, 5));
    assert_eq!(rig.told(), ["closed -> forced_closed: set by hand"]);
}

#[test]
fn what_was_admitted_before_a_hand_changed_the_state_has_no_say_in_it() {
    let mut rig = Rig::new(last(10, 1, HALF));
    let before = rig.admitted(0);
    rig.force_closed(0);
    let between = rig.admitted(0);
    rig.reset(0);

    rig.settle(0, before, F);
    rig.settle(0, between, F);

    assert_eq!((rig.state(0), rig.counts(0)), (State::Closed, (0, 0, 0)));
}

#[test]
fn a_switch_that_is_off_refuses_as_isolated_and_leaves_the_state_alone() {
    // B23, the part of one machine: the switch itself is the layer's.
    let mut breakers = [Rig::new(cbsm()), Rig::new(cbsm())];

    for rig in &mut breakers {
        let refused = rig.machine.isolated();
        assert_eq!((refused.why.as_str(), refused.retry_after), ("isolated", None));
        assert_eq!(rig.snapshot(0).totals.refused(refused.why), 1);
        assert_eq!((rig.state(0), rig.refused(0)), (State::Closed, 1));
        rig.run(0, [S]);
    }
}

#[test]
fn to_reset_a_closed_breaker_clears_its_counts_and_its_row() {
    // X09
    let mut rig = Rig::new(last(10, 5, HALF).or(Trip::consecutive(5)));
    rig.run(0, [F, F, F, F]);
    rig.reset(0);
    assert_eq!((rig.state(0), rig.counts(0)), (State::Closed, (0, 0, 0)));
    assert_eq!(rig.snapshot(0).conditions[1].streak(), Some(0));

    rig.run(0, [F, F, F, F]);

    assert_eq!((rig.state(0), rig.counts(0)), (State::Closed, (0, 4, 4)));
    assert!(rig.told().is_empty(), "it went nowhere");
}

#[test]
fn from_every_state_every_other_can_be_had_by_hand() {
    let reach: [Hand; 6] = [
        |rig| rig.reset(0),
        |rig| rig.open_until(9_000, 0),
        |rig| rig.force_open(0),
        |rig| rig.force_closed(0),
        |rig| {
            rig.open_until(0, 0);
            rig.hang(0);
        },
        |rig| {
            rig.open_until(0, 0);
            rig.run(0, [S]);
        },
    ];
    let to: [(Hand, State); 4] = [
        (|rig| rig.reset(1), State::Closed),
        (|rig| rig.open_until(9_000, 1), State::Open),
        (|rig| rig.force_open(1), State::ForcedOpen),
        (|rig| rig.force_closed(1), State::ForcedClosed),
    ];

    for from in reach {
        for (go, state) in to {
            let settings = Settings::consecutive(2).ramp(seconds(10));
            let mut rig = Rig::new(settings);
            from(&mut rig);
            let (before, told) = (rig.state(1), rig.moves.len());

            go(&mut rig);

            assert_eq!(rig.state(1), state, "from {before:?}");
            assert_eq!(rig.moves.len() - told, usize::from(before != state), "from {before:?}");
            assert_eq!(rig.refused(1), 0, "from {before:?}");
            assert_eq!(rig.admit(1).is_ok(), matches!(state, State::Closed | State::ForcedClosed));
        }
    }
}

#[test]
fn to_open_what_is_open_moves_the_end_of_the_wait() {
    let mut rig = Rig::new(cbsm());
    rig.open_until(5_000, 0);

    rig.open_until(60_000, 1_000);

    assert_eq!(rig.refusal(5_000), ("open", Some(55_000)));
    assert_eq!(rig.told(), ["closed -> open: set by hand"]);
}
