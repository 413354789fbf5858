//! What a breaker makes of 30 s in which a dependency is out, to the last call: the figures that
//! `cargo run --example outage` prints.

use std::time::Duration;

use buttress::{
    Ratio, TimeLimit,
    breaker::{OpenFor, Settings, State},
};
use buttress_testkit::sim::{Answer, Latency, Script, Simulation, Spell, Traffic};

#[path = "../examples/outage/scenario.rs"]
mod scenario;

use scenario::{OUTAGE, Row, behind, play, stacks};

#[test]
fn a_dependency_that_fails_at_once_is_left_alone() {
    let rows = stacks().map(|(_, breaker)| Row::of(&play(Spell::Fails, breaker)));

    assert_eq!(rows[0], row(3_000, None, None, "1", 9_000));
    assert_eq!(rows[1], row(1_505, Some(15_000), Some(17_895), "1", 7_213));
    assert_eq!(rows[2], row(7, Some(60), Some(30_084), "1", 5_992));
    assert_eq!(rows[3], row(26, Some(210), Some(3_106), "1", 8_692));
    assert_eq!(rows[4], row(1_505, Some(15_000), Some(27_900), "1", 6_728));
}

#[test]
fn a_dependency_that_hangs_is_left_alone_and_callers_are_told_at_once() {
    let rows = stacks().map(|(_, breaker)| Row::of(&play(Spell::Hangs, breaker)));

    assert_eq!(rows[0], row(3_000, None, None, "0.75", 9_000));
    assert_eq!(rows[1], row(1_507, Some(15_020), Some(19_906), "0.874416666", 7_013));
    assert_eq!(rows[2], row(104, Some(1_040), Some(31_063), "0.991333333", 5_894));
    assert_eq!(rows[3], row(125, Some(1_190), Some(6_083), "0.989583333", 8_394));
    assert_eq!(rows[4], row(1_507, Some(15_020), Some(29_910), "0.874416666", 6_528));
}

#[test]
fn a_run_is_the_same_each_time() {
    let [_, rate, ..] = stacks();

    assert_eq!(play(Spell::Hangs, rate.1.clone()), play(Spell::Hangs, rate.1));
}

#[test]
fn while_it_is_out_no_more_than_the_probes_get_through_an_open_breaker() {
    for outage in [Spell::Fails, Spell::Hangs] {
        for (name, breaker) in stacks().into_iter().skip(1) {
            let report = play(outage, breaker);

            let opened = report.first(State::Open, OUTAGE.start).unwrap();
            let probes = report.reached_during(opened..OUTAGE.end);
            // Three probes at each opening, or one; with waits of 5, 10 and 20 s there is time
            // for three openings in what is left of 30 s.
            assert!(probes <= 9, "{probes} with {name} when it {outage:?}");
        }
    }
}

#[test]
fn every_caller_is_answered_within_the_timeout_around_the_breaker() {
    for (_, breaker) in stacks() {
        let report = play(Spell::Hangs, breaker);

        assert_eq!(report.latency(Ratio::ONE), Some(Duration::from_secs(1)));
        assert_eq!(report.count(Answer::GaveUp), 0);
    }
}

#[test]
fn calls_from_before_it_opened_have_no_say_over_its_probes() {
    let millis = Duration::from_millis;
    let in_20_ms = Script::answering_in(Latency::fixed(millis(20)));
    // All that hang give up at 2 s at the latest: some when the breaker probes a dependency that
    // is well again, and some when it has closed.
    let script = in_20_ms.during(Duration::ZERO..millis(1_200), Spell::Hangs);
    let half_a_second = OpenFor::fixed(TimeLimit::from_millis(500));
    let settings = Settings::consecutive(5).open_for(half_a_second);

    let report = Simulation::new(Traffic::per_second(100), script)
        .lasting(TimeLimit::from_secs(3))
        .run(|dependency, observer| behind(settings, dependency, observer));

    let moves: Vec<_> = report.transitions().map(|(at, moved)| (at, moved.to)).collect();
    let expected = [
        (millis(1_040), State::Open),
        (millis(1_540), State::HalfOpen),
        (millis(1_560), State::Closed),
    ];
    assert_eq!(moves, expected);
}

fn row(
    reached: usize,
    opened: Option<u64>,
    closed: Option<u64>,
    answered: &str,
    good: usize,
) -> Row {
    let [opened, closed] = [opened, closed].map(|after| after.map(Duration::from_millis));
    Row { reached, opened, closed, answered: answered.parse().unwrap(), good }
}
