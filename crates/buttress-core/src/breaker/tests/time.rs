//! Strange clocks.

use super::*;

#[test]
fn a_clock_that_goes_back_opens_nothing_early_and_loses_nothing() {
    let settings = || last(10, 4, HALF).open_for(OpenFor::fixed(seconds(5))).probes(Probes::new(1));

    // Counted, wherever the clock stands.
    let mut rig = Rig::new(cbsm());
    rig.run(50_000, [F, F]);
    rig.run(10_000, [S, S]);
    assert_eq!(rig.counts(50_000), (2, 4, 2));
    rig.run(0, [F]);
    assert_eq!(rig.state(0), State::Open);

    // Before the first instant is the first instant.
    let mut rig = Rig::new(settings());
    rig.run(10_000, [F, F, F, F]);
    let (before, mut moves) = (rig.start, Moves::new());
    let refused = rig.machine.admit(|| Arc::clone(&rig.rules), || before, &mut moves).unwrap_err();
    assert_eq!(refused.retry_after, Some(Duration::from_secs(5)));
    assert_eq!(rig.refusal(14_999), ("open", Some(1)));

    // A probe that ends before it began.
    let probe = rig.admitted(15_000);
    rig.settle(11_000, probe, S);
    assert_eq!(rig.state(15_000), State::Closed);
}

#[test]
fn a_jump_of_years_works() {
    const YEAR: u64 = 365 * 24 * 60 * 60 * 1_000;
    for years in [1, 100, 500] {
        let probes = Probes::new(2).limit(seconds(60), crate::breaker::Then::Open);
        let settings = || cbsm().probes(probes).ramp(seconds(10));
        let later = years * YEAR;

        let mut rig = Rig::new(settings());
        rig.run(0, [F, F, F, F]);
        assert_eq!((rig.state(later), rig.counts(later)), (State::Closed, (0, 0, 0)));
        rig.run(later, [S, F, F, S]);
        assert_eq!((rig.state(later), rig.counts(later)), (State::Closed, (2, 4, 2)));
        rig.run(later, [F]);
        assert_eq!(rig.state(later), State::Open);

        let mut rig = half_open(settings(), 0);
        rig.hang(0);
        assert_eq!(rig.state(later), State::Open);
        rig.run(later, [S, S]);
        assert_eq!(rig.state(later), State::Recovering);
    }
}

#[test]
fn the_shortest_window_lasts_as_long_as_the_clock() {
    let nanosecond = TimeLimit::try_from(Duration::from_nanos(1)).unwrap();
    let window = Window::time(nanosecond);
    let mut rig = Rig::new(Settings::new(Trip::failure_rate(HALF).over(window).minimum(2)));
    rig.run(0, [F]);

    // 700 years are more nanoseconds than there are.
    rig.run(700 * 365 * 24 * 60 * 60 * 1_000, [F]);

    assert_eq!(rig.state(0), State::Closed);
}

#[test]
fn a_quiet_breaker_is_idle_and_one_that_knows_something_is_not() {
    let mut rig = Rig::new(last(10, 5, HALF).or(Trip::consecutive(3)));
    assert!(rig.machine.is_idle(&rig.rules, rig.at(0)));
    rig.run(0, [F]);
    assert!(!rig.machine.is_idle(&rig.rules, rig.at(0)));

    let mut rig = Rig::new(cbsm());
    rig.run(0, [S]);
    assert!(!rig.machine.is_idle(&rig.rules, rig.at(19_999)));
    assert!(rig.machine.is_idle(&rig.rules, rig.at(20_000)));
    rig.open_until(0, 0);
    assert!(!rig.machine.is_idle(&rig.rules, rig.at(40_000)));
}
