//! Half-open: permits, verdicts, deadlines.

use super::*;

const SOFT: Call = Call(Outcome::Soft, Duration::ZERO);
const CANCELLED: Call = Call(Outcome::Cancelled, Duration::ZERO);

#[test]
fn as_many_probes_pass_as_there_are_permits_and_a_permit_given_back_serves_again() {
    // B15
    let mut rig = half_open(cbsm(), 0);

    let mut probes: Vec<_> = (0..4).map(|_| rig.admitted(0)).collect();
    assert_eq!(rig.refusal(0).0, "half_open");
    assert_eq!(rig.refusal(0).0, "half_open");
    assert_eq!(rig.refused(0), 2);

    rig.settle(0, probes.pop().unwrap(), CANCELLED);
    probes.push(rig.admitted(0));
    assert_eq!(rig.refusal(0).0, "half_open");

    for probe in probes {
        rig.settle(0, probe, F);
    }
    assert_eq!(rig.state(0), State::Open);
    for _ in 0..4 {
        rig.hang(5_000);
    }
    assert_eq!(rig.refusal(5_000).0, "half_open");
    assert_eq!(rig.refused(5_000), 1);
}

#[test]
fn after_all_probes_the_rate_decides() {
    // B16
    let settings = || cbsm().probes(Probes::new(4).after_all());

    // (a)
    let mut rig = half_open(settings(), 0);
    rig.run(0, [F, F, S]);
    assert_eq!((rig.state(0), rig.rate(0)), (State::HalfOpen, None));
    rig.run(0, [F]);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Open, Some(Ratio::percent(75))));
    assert_eq!(rig.counts(0), (1, 4, 3));

    // (b)
    let mut rig = half_open(settings(), 0);
    rig.run(0, [F, S, S]);
    assert_eq!(rig.state(0), State::HalfOpen);
    rig.run(0, [S]);
    assert_eq!((rig.state(0), rig.counts(0)), (State::Closed, (0, 0, 0)));
    rig.run(0, [S]);
    assert_eq!(rig.counts(0), (1, 1, 0));

    // (c)
    let mut rig = half_open(settings(), 0);
    rig.run(0, [S.taking(5_000), S.taking(5_000), S.taking(5_000)]);
    assert_eq!(rig.state(0), State::HalfOpen);
    rig.run(0, [S.taking(1_000)]);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Open, Some(Ratio::ZERO)));
    assert_eq!(rig.slow(0), (3, Some(Ratio::percent(75))));
}

#[test]
fn the_verdict_falls_as_soon_as_it_is_certain() {
    // B16, our default and fail-fast
    use State::{Closed, HalfOpen, Open};

    let after = |settings: Settings, calls: &[Call]| {
        let mut rig = half_open(settings, 0);
        calls.iter().map(|call| (rig.run(0, [*call]), rig.state(0)).1).collect::<Vec<_>>()
    };
    let slow = S.taking(5_000);

    assert_eq!(after(cbsm(), &[F, F]), [HalfOpen, Open]);
    assert_eq!(after(cbsm(), &[F, S, S, S]), [HalfOpen, HalfOpen, HalfOpen, Closed]);
    assert_eq!(after(cbsm(), &[S, S, S]), [HalfOpen, HalfOpen, Closed]);
    assert_eq!(after(cbsm(), &[slow, slow]), [HalfOpen, Open]);
    assert_eq!(after(cbsm(), &[SOFT, SOFT]), [HalfOpen, Open]);
    let fail_fast = || cbsm().probes(Probes::new(4).fail_fast());
    assert_eq!(after(fail_fast(), &[F]), [Open]);
    assert_eq!(after(fail_fast(), &[S, S, S, S]), [HalfOpen, HalfOpen, HalfOpen, Closed]);
}

#[test]
fn what_says_nothing_gives_its_permit_back() {
    // B18
    let patient = || cbsm().probes(Probes::new(4).after_all());

    // (a)
    let mut rig = half_open(patient(), 0);
    rig.run(0, [S, S, S, X]);
    assert_eq!((rig.state(0), rig.counts(0), rig.free(0)), (State::HalfOpen, (3, 3, 0), 1));
    rig.run(0, [F]);
    assert_eq!(rig.told().last().unwrap(), "half_open -> closed: the probes passed");
    let mut rig = half_open(cbsm(), 0);
    rig.run(0, [S, S, X]);
    assert_eq!((rig.state(0), rig.counts(0), rig.free(0)), (State::HalfOpen, (2, 2, 0), 2));
    rig.run(0, [S]);
    assert_eq!(rig.state(0), State::Closed);

    // (b)
    let mut rig = half_open(cbsm(), 0);
    rig.run(0, [X, X, X, X]);
    assert_eq!((rig.state(0), rig.counts(0), rig.free(0)), (State::HalfOpen, (0, 0, 0), 4));
    rig.run(0, [S, S, S]);
    assert_eq!(rig.state(0), State::Closed);

    // (c)
    let mut rig = half_open(gobreaker(), 0);
    rig.run(0, [X, X, X, X]);
    assert_eq!((rig.state(0), rig.refused(0)), (State::HalfOpen, 0));
    rig.run(0, [F]);
    assert_eq!(rig.state(0), State::Open);
}

#[test]
fn so_many_of_so_many_must_succeed() {
    // B19
    let need = |successes, of: u16, undecided: &[Call], last: Call| {
        let mut rig = half_open(cbsm().probes(Probes::new(of).successes(successes)), 0);
        rig.run(0, undecided.iter().copied());
        assert_eq!(rig.state(0), State::HalfOpen, "{successes} of {of}: {undecided:?}");
        rig.run(0, [last]);
        rig.state(0)
    };

    assert_eq!(need(2, 4, &[S, F, F], F), State::Open);
    assert_eq!(need(2, 4, &[S, F, F], S), State::Closed);
    assert_eq!(need(3, 4, &[S, F, S], F), State::Open);
    assert_eq!(need(3, 4, &[S, F, S], S), State::Closed);
    assert_eq!(need(3, 3, &[S, S], F), State::Open);
    assert_eq!(need(3, 3, &[S, S], S), State::Closed);
    assert_eq!(need(2, 3, &[F, S], F), State::Open);
    assert_eq!(need(2, 3, &[S], S), State::Closed);
}

#[test]
fn without_a_failure_rate_any_failed_probe_opens_it() {
    let settings = || Settings::consecutive(5).probes(Probes::new(3));
    let mut good = half_open(settings(), 0);
    let mut bad = half_open(settings(), 0);

    good.run(0, [S, S]);
    assert_eq!(good.state(0), State::HalfOpen);
    good.run(0, [S]);
    bad.run(0, [S, F]);

    assert_eq!((good.state(0), bad.state(0)), (State::Closed, State::Open));
}

#[test]
fn half_open_lasts_no_longer_than_its_limit_with_or_without_traffic() {
    // B22
    use crate::breaker::Then;

    for (then, ends) in [(Then::Open, State::Open), (Then::Close, State::Closed)] {
        for taken in [0, 4] {
            let probes = Probes::new(4).limit(seconds(1), then);
            let mut rig = half_open(cbsm().probes(probes), 0);
            for _ in 0..taken {
                rig.hang(0);
            }

            assert_eq!(rig.state(999), State::HalfOpen);
            assert_eq!(rig.state(1_001), ends);
            let told = format!("half_open -> {}: the probes did not decide in time", ends.as_str());
            assert_eq!(*rig.told().last().unwrap(), told);
            if then == Then::Open {
                // From the instant of the limit, whoever looks when.
                assert_eq!(rig.refusal(1_001), ("open", Some(4_999)));
            }
        }
    }
}

#[test]
fn a_dropped_probe_gives_its_permit_back_and_leaves_nothing() {
    // B26
    let mut rig = half_open(cbsm().probes(Probes::new(1)), 0);
    let probe = rig.admitted(0);
    assert_eq!(rig.refusal(5).0, "half_open");

    rig.settle(10, probe, CANCELLED);

    assert_eq!((rig.state(10), rig.counts(10), rig.free(10)), (State::HalfOpen, (0, 0, 0), 1));
    assert!(rig.admitted(10).is_probe());

    // What panics is a failure, to a closed breaker as well.
    let mut rig = Rig::new(cbsm());
    rig.run(0, [F]);
    assert_eq!(rig.counts(0), (0, 1, 1));
}

#[test]
fn a_probe_without_a_head_in_its_time_has_failed_and_one_with_a_good_head_has_passed() {
    let settings = || Settings::consecutive(5).probes(Probes::new(1).deadline(seconds(10)));

    let mut hung = half_open(settings(), 0);
    hung.hang(0);
    assert_eq!(hung.state(9_999), State::HalfOpen);
    assert_eq!(hung.state(10_000), State::Open);

    let mut streams = half_open(settings(), 0);
    let probe = streams.admitted(0);
    streams.machine.head_came(probe, streams.at(9_999));
    assert_eq!(streams.state(9_999), State::HalfOpen);
    assert_eq!(streams.state(10_000), State::Closed);

    let mut late = half_open(settings(), 0);
    let probe = late.admitted(0);
    late.machine.head_came(probe, late.at(10_000));
    assert_eq!(late.state(10_000), State::Open);
}

#[test]
fn a_good_head_does_not_save_a_probe_that_fails_before_its_deadline() {
    let mut rig = half_open(cbsm().probes(Probes::new(1)), 0);
    let probe = rig.admitted(0);

    rig.machine.head_came(probe, rig.at(100));
    rig.settle(200, probe, F);

    assert_eq!(rig.state(200), State::Open);
}

#[test]
fn a_probe_whose_head_was_slow_is_slow_however_long_its_stream_goes_on() {
    let probes = Probes::new(1).deadline(seconds(10));
    for (head, ends) in [(4_000, State::Closed), (4_001, State::Open)] {
        let mut rig = half_open(cbsm().probes(probes), 0);
        let probe = rig.admitted(0);

        rig.machine.head_came(probe, rig.at(head));

        assert_eq!(rig.state(10_000), ends, "a head after {head} ms");
    }
}

#[test]
fn a_probe_counted_at_its_deadline_is_not_counted_again_when_it_ends() {
    let mut rig = half_open(cbsm().probes(Probes::new(4).after_all().deadline(seconds(1))), 0);
    let late = rig.admitted(0);
    assert_eq!((rig.counts(1_000), rig.free(1_000)), ((0, 1, 1), 3));

    for call in [S, F, X] {
        rig.settle(1_500, late, call);
        assert_eq!((rig.counts(1_500), rig.free(1_500)), ((0, 1, 1), 3));
    }
    rig.run(1_500, [S, S]);
    assert_eq!((rig.state(1_500), rig.counts(1_500)), (State::HalfOpen, (2, 3, 1)));
}

#[test]
fn while_probes_are_out_callers_are_told_when_something_changes() {
    let probes = Probes::new(1).deadline(seconds(3));
    let mut rig = half_open(cbsm().probes(probes), 0);
    rig.hang(0);

    // The shortest wait is 5 s, the probe's deadline nearer.
    assert_eq!(rig.refusal(1_000), ("half_open", Some(2_000)));

    let open_for = OpenFor::fixed(seconds(5)).jitter(Ratio::percent(80));
    let mut rig = half_open(cbsm().open_for(open_for).probes(probes), 0);
    rig.hang(0);
    assert_eq!(rig.refusal(1_000), ("half_open", Some(1_000)));
}
