use std::time::Duration;

use buttress_core::{Kind, Ratio, Rejection, TimeLimit};
use tower::{ServiceBuilder, service_fn};

use super::*;
use crate::BoxError;

const SECOND: Duration = Duration::from_secs(1);

fn in_20_ms() -> Script {
    Script::answering_in(Latency::fixed(Duration::from_millis(20)))
}

fn bare(simulation: &Simulation) -> Report {
    simulation.run(|dependency, _| dependency)
}

fn eventful(seed: u64) -> Report {
    let tail =
        Latency::fixed(Duration::from_millis(15)).plus_exponential(Duration::from_millis(10));
    let script = Script::answering_in(tail)
        .during(SECOND..2 * SECOND, Spell::Fails)
        .during(3 * SECOND..4 * SECOND, Spell::Hangs)
        .during(5 * SECOND..6 * SECOND, Spell::Slow(10.try_into().unwrap()))
        .during(7 * SECOND..9 * SECOND, Spell::FailsShare(Ratio::percent(50)))
        .during(9 * SECOND..12 * SECOND, Spell::Capacity(1.try_into().unwrap()));
    let simulation = Simulation::new(Traffic::per_second_at_random(100), script)
        .lasting(TimeLimit::from_secs(15))
        .giving_up_after(TimeLimit::from_secs(2))
        .seeded(seed);
    bare(&simulation)
}

#[test]
fn a_seed_decides_the_whole_run() {
    assert_eq!(eventful(1), eventful(1));
    assert_ne!(eventful(1), eventful(2));
}

#[test]
fn an_open_loop_does_not_wait_for_answers() {
    let script = in_20_ms().always(Spell::Hangs);
    let simulation = Simulation::new(Traffic::per_second(100), script)
        .lasting(TimeLimit::from_secs(10))
        .giving_up_after(TimeLimit::from_secs(3));

    let report = bare(&simulation);

    assert_eq!(report.calls().len(), 1_000);
    assert_eq!(report.count(Answer::GaveUp), 1_000);
    assert_eq!(report.reached_per_second(), [100; 10]);
    assert_eq!(report.most_at_once(), 300);
    assert_eq!(report.latency(Ratio::ZERO), Some(3 * SECOND));
    assert_eq!(report.answered_within(TimeLimit::from_secs(9)), Some(Ratio::ZERO));
}

#[test]
fn a_closed_loop_makes_a_call_per_answer_and_thought() {
    // 100 users whose cycle is 0.98 s of thinking and 0.02 s of waiting.
    let traffic = Traffic::users(100, TimeLimit::from_millis(980));

    let report = bare(&Simulation::new(traffic, in_20_ms()).lasting(TimeLimit::from_secs(10)));

    assert_eq!(report.calls().len(), 1_000);
    assert_eq!(report.most_at_once(), 3, "they do not come in step");
    assert!(report.calls().is_sorted_by_key(|call| call.due));
}

#[test]
fn a_closed_loop_hides_a_dependency_that_hangs() {
    let script = in_20_ms().during(2 * SECOND..8 * SECOND, Spell::Hangs);
    let traffic = Traffic::users(100, TimeLimit::from_millis(980));
    let simulation = Simulation::new(traffic, script)
        .lasting(TimeLimit::from_secs(10))
        .giving_up_after(TimeLimit::from_secs(6));

    let report = bare(&simulation);

    // All of them are stuck in the first of the six seconds, and nobody comes in the other five.
    assert_eq!(report.reached_per_second(), [100, 100, 100, 0, 0, 0, 0, 0, 2, 100]);
}

#[test]
fn a_capacity_answers_no_more_than_littles_law_allows() {
    // Two at once, 20 ms each: 100 a second, whoever calls.
    let script = in_20_ms().always(Spell::Capacity(2.try_into().unwrap()));
    for offered in [150, 300, 1_000] {
        let simulation = Simulation::new(Traffic::per_second_at_random(offered), script.clone())
            .lasting(TimeLimit::from_secs(10))
            .giving_up_after(TimeLimit::from_secs(600));

        let report = bare(&simulation);

        let mut ends: Vec<_> = report.calls().iter().map(|call| call.due + call.took).collect();
        ends.sort_unstable();
        // Between any answer and the hundredth after it there is a second.
        let paces = ends.windows(101).map(|pace| pace[100].saturating_sub(pace[0]));
        assert!(paces.clone().all(|pace| pace >= SECOND), "{:?}", paces.min());
        assert_eq!(report.count(Answer::Good), report.calls().len());
    }
}

#[test]
fn latency_grows_with_what_waits_and_not_before() {
    let script = in_20_ms().always(Spell::Capacity(2.try_into().unwrap()));
    let latency = |offered| {
        let traffic = Traffic::per_second(offered);
        let simulation = Simulation::new(traffic, script.clone()).lasting(TimeLimit::from_secs(10));
        bare(&simulation).latency(Ratio::ONE).unwrap()
    };

    assert_eq!(latency(100), Duration::from_millis(20));
    // 500 too many, which take 5 s.
    assert!(latency(150).abs_diff(5 * SECOND) <= Duration::from_millis(20));
}

#[test]
fn slow_is_so_many_times_as_long_and_a_share_is_that_share() {
    let script = in_20_ms()
        .during(Duration::ZERO..SECOND, Spell::Slow(5.try_into().unwrap()))
        .during(SECOND..61 * SECOND, Spell::FailsShare(Ratio::percent(20)));
    let simulation =
        Simulation::new(Traffic::per_second(100), script).lasting(TimeLimit::from_secs(61));

    let report = bare(&simulation.seeded(3));

    assert_eq!(report.calls()[0].took, Duration::from_millis(100));
    // Four standard deviations of a binomial with n = 6,000 and p = 0.2.
    let failed = report.count(Answer::Failed);
    assert!(failed.abs_diff(1_200) < 124, "{failed} of 6,000 with seed 3");
}

#[test]
fn a_refusal_is_told_from_a_failure() {
    let simulation = Simulation::new(Traffic::per_second(10), in_20_ms());
    let simulation = simulation.lasting(TimeLimit::from_secs(1));

    let report = simulation.run(|dependency, _| {
        ServiceBuilder::new().service(service_fn(move |call: Call| {
            let mut dependency = dependency.clone();
            async move {
                match call.number % 3 {
                    0 => Err(BoxError::from(Rejection::new(Kind::Overloaded, "full"))),
                    1 => Err(BoxError::from("broken")),
                    _ => Ok(tower::Service::call(&mut dependency, call).await?),
                }
            }
        }))
    });

    assert_eq!(report.count(Answer::Refused(Kind::Overloaded)), 4);
    assert_eq!((report.refused(), report.count(Answer::Failed)), (4, 3));
    assert_eq!((report.count(Answer::Good), report.reached().len()), (3, 3));
}

#[test]
fn what_an_answer_is_can_be_judged_by_its_user() {
    let simulation = Simulation::new(Traffic::per_second(10), in_20_ms());

    let report = simulation.run_judging(|dependency, _| dependency, |_| Answer::Failed);

    assert_eq!(report.count(Answer::Failed), 600);
}

#[test]
#[should_panic(expected = "a bug in a layer")]
fn a_panic_of_a_call_is_one_of_the_run() {
    Simulation::new(Traffic::per_second(10), in_20_ms()).run(|_, _| {
        service_fn(|_: Call| async {
            if true { panic!("a bug in a layer") } else { Ok::<_, BoxError>(()) }
        })
    });
}

#[test]
fn a_run_without_events_is_a_picture_without_states() {
    let script = in_20_ms().during(SECOND..2 * SECOND, Spell::Fails);
    let simulation =
        Simulation::new(Traffic::per_second(100), script).lasting(TimeLimit::from_secs(3));

    let picture = bare(&simulation).picture(TimeLimit::from_millis(500)).to_string();

    assert_eq!(picture, "reached  ██████  50 in 500ms at the most\n         |0s");
}
