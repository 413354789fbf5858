//! Whatever happens, the machine and the model agree.

use proptest::{collection::vec, option, prelude::*};

use super::{
    model::{Condition, Model, Plan, Span, Verdict},
    *,
};
use crate::breaker::Then;

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit,
    /// Some call that is out.
    Settle(prop::sample::Index, Outcome, u64),
    /// Admitted and settled at once.
    Call(Outcome, u64),
    Head(prop::sample::Index),
    Reset,
    ForceOpen,
    ForceClosed,
    OpenUntil(u64),
    Shadow(bool),
    Look,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        5 => Just(Outcome::Success),
        4 => Just(Outcome::Failure),
        1 => Just(Outcome::Soft),
        1 => Just(Outcome::Ignored),
        1 => Just(Outcome::Cancelled),
    ]
}

fn took() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, 99..102_u64]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => Just(Step::Admit),
        12 => (any::<prop::sample::Index>(), outcome(), took())
            .prop_map(|(which, outcome, took)| Step::Settle(which, outcome, took)),
        24 => (outcome(), took()).prop_map(|(outcome, took)| Step::Call(outcome, took)),
        4 => any::<prop::sample::Index>().prop_map(Step::Head),
        1 => Just(Step::Reset),
        1 => prop_oneof![Just(Step::ForceOpen), Just(Step::ForceClosed)],
        1 => (0..100_u64).prop_map(Step::OpenUntil),
        1 => any::<bool>().prop_map(Step::Shadow),
        2 => Just(Step::Look),
    ]
}

/// How long before a step nothing happens.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![8 => Just(0), 6 => 1..30_u64, 2 => 30..400_u64, 1 => 400..100_000_u64]
}

fn condition() -> impl Strategy<Value = Condition> {
    let span = || {
        prop_oneof![
            (1..8_u16).prop_map(Span::Calls),
            (1..300_u64, 1..8_u16).prop_map(|(millis, buckets)| Span::Time { millis, buckets }),
        ]
    };
    prop_oneof![
        (2..6_u32).prop_map(Condition::Row),
        (30..=100_u32, span(), 1..7_u32).prop_map(|(percent, span, minimum)| Condition::Failed {
            percent,
            span,
            minimum
        }),
        (30..=100_u32, span(), 1..7_u32).prop_map(|(percent, span, minimum)| Condition::Slow {
            percent,
            span,
            minimum,
            limit: 100
        }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let verdict = |probes| {
        prop_oneof![
            Just(Verdict::Certain),
            Just(Verdict::AfterAll),
            Just(Verdict::FailFast),
            (1..=probes).prop_map(Verdict::Successes),
        ]
    };
    let then = prop_oneof![Just(Then::Open), Just(Then::Close)];
    let probes = (1..6_u16).prop_flat_map(move |probes| (Just(probes), verdict(probes)));
    let limit = option::of((1..300_u64, then));
    let waits = (1..200_u64, limit, 1..100_u64, option::of(1..200_u64));
    (vec(condition(), 1..=4), probes, waits, any::<u64>()).prop_map(
        |(trips, (probes, verdict), (deadline, limit, open, ramp), seed)| Plan {
            trips,
            probes,
            verdict,
            deadline,
            limit,
            open,
            ramp,
            seed,
        },
    )
}

proptest! {
    #[test]
    fn it_does_what_a_model_does_that_keeps_every_call(
        plan in plan(),
        steps in vec((pause(), step()), 1..120),
    ) {
        let mut rig = Rig::seeded(plan.settings(), plan.seed);
        let mut model = Model::new(plan.clone());
        let mut out = Vec::new();
        let mut now = 0;
        rig.state(0);
        // The origin of the clock.
        rig.reset(0);
        model.force(State::Closed, 0, 0);

        for (pause, step) in steps {
            now += pause;
            match step {
                Step::Admit | Step::Call(..) => {
                    let (real, expected) = (rig.admit(now), model.admit(now));
                    prop_assert_eq!(real.err(), expected.err());
                    match (real, expected, step) {
                        (Ok(real), Ok(expected), Step::Call(outcome, took)) => {
                            let took_so = Duration::from_millis(took);
                            rig.settle(now, real, Call(outcome, took_so));
                            model.settle(expected, outcome, took, now);
                        }
                        (Ok(real), Ok(expected), _) => out.push((real, expected)),
                        _ => {}
                    }
                }
                Step::Settle(which, outcome, took) if !out.is_empty() => {
                    let (real, expected) = out.swap_remove(which.index(out.len()));
                    rig.settle(now, real, Call(outcome, Duration::from_millis(took)));
                    model.settle(expected, outcome, took, now);
                }
                Step::Head(which) if !out.is_empty() => {
                    let (real, expected) = *which.get(&out);
                    rig.machine.head_came(real, rig.at(now));
                    model.head_came(expected, now);
                }
                Step::Settle(..) | Step::Head(_) | Step::Look => {}
                Step::Reset => {
                    rig.reset(now);
                    model.force(State::Closed, 0, now);
                }
                Step::ForceOpen => {
                    rig.force_open(now);
                    model.force(State::ForcedOpen, 0, now);
                }
                Step::ForceClosed => {
                    rig.force_closed(now);
                    model.force(State::ForcedClosed, 0, now);
                }
                Step::OpenUntil(wait) => {
                    rig.open_until(now + wait, now);
                    model.force(State::Open, now + wait, now);
                }
                Step::Shadow(shadow) => {
                    rig.set_shadow(shadow, now);
                    model.set_shadow(shadow, now);
                }
            }
            agree(&mut rig, &mut model, now)?;
        }
    }
}

fn agree(rig: &mut Rig, model: &mut Model, now: u64) -> Result<(), TestCaseError> {
    let snapshot = rig.snapshot(now);
    model.catch_up(now);

    prop_assert_eq!(&rig.moves, &model.moves);
    prop_assert_eq!(snapshot.state, model.state);
    prop_assert_eq!(snapshot.shadow, model.shadow);
    prop_assert_eq!(snapshot.would_refuse, model.would_refuse());
    prop_assert_eq!(snapshot.openings, model.openings);
    prop_assert_eq!(snapshot.refused, model.refused);
    prop_assert_eq!(snapshot.totals, model.totals);
    prop_assert_eq!(snapshot.until_probe, model.until_probe(now));
    let probes = snapshot.probes.map(|probes| (probes.tally, probes.free));
    prop_assert_eq!(probes, model.progress());
    if probes.is_none() {
        for (index, measured) in snapshot.conditions.iter().enumerate() {
            let (tally, row, _) = model.holds(index, now);
            prop_assert_eq!(measured.tally().unwrap_or_default(), tally, "condition {}", index);
            prop_assert_eq!(measured.streak().unwrap_or_default(), row, "condition {}", index);
        }
    }
    Ok(())
}
