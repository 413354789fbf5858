//! How long it stays open, and what callers are told meanwhile.

use super::*;

#[test]
fn refusals_are_counted_until_a_probe_passes_and_everything_begins_at_zero() {
    // B10
    let mut rig = Rig::new(cbsm());
    rig.run(0, [F]);
    rig.open_until(5_000, 0);

    assert_eq!(rig.refusal(0), ("open", Some(5_000)));
    assert_eq!(rig.refusal(3_000), ("open", Some(2_000)));
    assert_eq!(rig.refused(3_000), 2);
    assert_eq!((rig.counts(3_000), rig.rate(3_000)), ((0, 0, 0), None));

    assert!(rig.admitted(6_000).is_probe());
    assert_eq!(rig.state(6_000), State::HalfOpen);
    assert_eq!((rig.counts(6_000), rig.rate(6_000)), ((0, 0, 0), None));
    assert_eq!((rig.slow(6_000), rig.refused(6_000)), ((0, None), 0));

    // What opened it by itself is to be seen until then, and no longer.
    let held = |rig: &mut Rig, millis| {
        rig.snapshot(millis).conditions.iter().map(|one| one.tally().unwrap().calls()).max()
    };
    let mut rig = Rig::new(cbsm());
    rig.run_many(0, 5, F);
    assert_eq!(held(&mut rig, 4_999), Some(5));
    rig.hang(5_000);
    assert_eq!(held(&mut rig, 5_000), Some(0));
}

#[test]
fn a_hand_opens_it_for_as_long_as_it_says() {
    // B11
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;

    let mut rig = Rig::new(cbsm());
    rig.open_until(2 * HOUR, 0);
    assert_eq!(rig.refusal(0), ("open", Some(7_200_000)));
    assert_eq!(rig.refusal(HOUR), ("open", Some(3_600_000)));
    assert_eq!(rig.refused(HOUR), 2);
    rig.hang(2 * HOUR + 1_000);
    assert_eq!(rig.state(2 * HOUR + 1_000), State::HalfOpen);

    let mut rig = Rig::new(cbsm());
    rig.open_until(30 * MINUTE, 0);
    assert_eq!(rig.refusal(0), ("open", Some(1_800_000)));
    assert_eq!(rig.refusal(15 * MINUTE), ("open", Some(900_000)));
    assert_eq!(rig.refused(15 * MINUTE), 2);
    rig.hang(30 * MINUTE + 1_000);
    assert_eq!(rig.state(30 * MINUTE + 1_000), State::HalfOpen);
}

#[test]
fn each_opening_lasts_longer_until_it_has_closed() {
    // B12
    let open_for = OpenFor::fixed(seconds(5)).growing_by(HALF);
    let mut rig = Rig::new(cbsm().open_for(open_for).probes(Probes::new(1)));

    rig.run_many(0, 5, F);
    assert_eq!(rig.refusal(0), ("open", Some(5_000)));
    assert_eq!(rig.refusal(3_000), ("open", Some(2_000)));
    rig.run(6_000, [F]);
    assert_eq!(rig.snapshot(6_000).openings, 2);
    assert_eq!(rig.refusal(6_000), ("open", Some(7_500)));
    assert_eq!(rig.refusal(12_000), ("open", Some(1_500)));
    rig.run(17_000, [S]);
    assert_eq!((rig.state(17_000), rig.snapshot(17_000).openings), (State::Closed, 0));

    rig.run_many(17_000, 5, F);
    assert_eq!(rig.refusal(17_000), ("open", Some(5_000)));
}

#[test]
fn a_whole_life_with_its_waits() {
    // B14
    let trip = Trip::failure_rate(HALF).over(Window::time(seconds(10))).minimum(10);
    let open_for = OpenFor::fixed(seconds(1));
    let mut rig = Rig::new(Settings::new(trip).open_for(open_for).probes(Probes::new(1)));

    rig.run_many(0, 9, F);
    assert_eq!(rig.visits(), [0, 0, 0]);
    rig.run(0, [F]);
    assert_eq!(rig.visits(), [1, 0, 0]);
    assert_eq!(rig.refusal(0), ("open", Some(1_000)));
    assert_eq!(rig.refusal(500), ("open", Some(500)));
    assert_eq!(rig.visits(), [1, 0, 0]);
    rig.run(1_000, [F]);
    assert_eq!(rig.visits(), [2, 1, 0]);
    assert_eq!(rig.refusal(1_000), ("open", Some(1_000)));
    rig.run(2_000, [S]);
    assert_eq!(rig.visits(), [2, 2, 1]);

    assert_eq!(
        rig.told(),
        [
            "closed -> open: 10 of 10 calls failed",
            "open -> half_open: the wait is over",
            "half_open -> open: the probes failed (1 of 1 call failed)",
            "open -> half_open: the wait is over",
            "half_open -> closed: the probes passed",
        ]
    );
    let numbers: Vec<_> = rig.transitions().iter().map(|one| one.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[test]
fn a_probe_may_pass_at_exactly_the_end_of_the_wait_and_not_a_nanosecond_before() {
    let mut rig = Rig::new(Settings::consecutive(1).open_for(OpenFor::fixed(seconds(5))));
    rig.run(0, [F]);
    let instant = rig.at(0) + Duration::from_nanos(4_999_999_999);

    let just_before = rig.machine.admit(|| Arc::clone(&rig.rules), || instant, &mut rig.moves);

    let refused = just_before.unwrap_err();
    assert_eq!(refused.retry_after, Some(Duration::from_nanos(1)));
    assert!(rig.admitted(5_000).is_probe());
}

#[test]
fn what_the_tripping_answer_asks_for_is_waited_for_within_the_ceiling() {
    let open_for = OpenFor::fixed(seconds(5)).or_as_asked(seconds(30));
    for (asked, waited) in [(2, 5_000), (12, 12_000), (3_600, 30_000)] {
        let mut rig = Rig::new(Settings::consecutive(1).open_for(open_for.clone()));
        let ticket = rig.admitted(0);
        let asked = Some(Duration::from_secs(asked));
        rig.report(0, ticket, Report { retry_after: asked, ..Outcome::Failure.into() });

        assert_eq!(rig.refusal(0), ("open", Some(waited)));

        // The probe asks as well, for its own opening.
        let probe = rig.admitted(waited);
        let asked = Some(Duration::from_secs(7));
        rig.report(waited, probe, Report { retry_after: asked, ..Outcome::Failure.into() });
        assert_eq!(rig.refusal(waited), ("open", Some(7_000)));
    }
}

#[test]
fn an_opening_is_computed_from_what_opened_it() {
    let open_for = OpenFor::computed(|opening| {
        let percent = opening.failure_rate.map_or(0, |rate| rate.parts_per_billion() / 10_000_000);
        seconds(u64::from(percent) * 100 + opening.failures * 10 + u64::from(opening.number.get()))
    });
    let mut rig = Rig::new(last(4, 4, HALF).open_for(open_for).probes(Probes::new(1)));

    rig.run(0, [S, F, F, F]);

    assert_eq!(rig.snapshot(0).until_probe, Some(Duration::from_secs(75 * 100 + 30 + 1)));
    rig.run(10_000_000, [F]);
    assert_eq!(rig.snapshot(10_000_000).until_probe, Some(Duration::from_secs(10_000 + 10 + 2)));
}
