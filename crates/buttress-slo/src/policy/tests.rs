use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;

fn left(thousandths: i64) -> Share {
    Share::per_billion(thousandths * 1_000_000)
}

#[test]
fn every_edge_of_the_quarters_is_where_it_was_agreed() {
    // slo.md 10, scenarios 7 and 55.
    let policy = Policy::quarters();
    for (thousandths, name) in [
        (1_000, "ship aggressively"),
        (751, "ship aggressively"),
        (750, "normal"),
        (250, "normal"),
        (249, "slow"),
        (200, "slow"),
        (1, "slow"),
        (0, "freeze"),
        (-1, "freeze"),
        (-1_000, "freeze"),
    ] {
        assert_eq!(policy.level_at(left(thousandths)).name(), name, "{thousandths} thousandths");
    }
    assert_eq!(policy.level_at(Share::per_billion(1)).name(), "slow", "a billionth is left");
}

#[test]
fn every_edge_of_the_escalation_is_where_it_was_agreed() {
    let policy = Policy::escalating();
    for (thousandths, name) in [
        (1_000, "normal"),
        (501, "normal"),
        (500, "slow"),
        (250, "slow"),
        (249, "feature freeze"),
        (100, "feature freeze"),
        (99, "incident"),
        (1, "incident"),
        (0, "exhausted"),
        (-500, "exhausted"),
    ] {
        assert_eq!(policy.level_at(left(thousandths)).name(), name, "{thousandths} thousandths");
    }
    let last = policy.level_at(Share::ZERO);
    for action in
        [Action::FreezeAll, Action::RollBack, Action::FindRootCause, Action::TellExecutives]
    {
        assert!(last.actions().contains(&action), "{action:?}");
    }
}

/// What the levels are called, allow and ask for: agreed on, so not to change in passing.
#[test]
fn the_presets_are_what_was_agreed() {
    let told = |policy: &Policy| -> Vec<String> {
        let line = |level: &Level| {
            format!(
                "{} {:?} {:?} {:?}",
                level.name(),
                level.floor(),
                level.release(),
                level.actions()
            )
        };
        policy.levels().iter().map(line).collect()
    };
    let at = |floor: &str, percent: i32| format!("{floor}({:?})", Share::percent(percent));

    assert_eq!(
        told(&Policy::quarters()),
        [
            format!("ship aggressively {} Freely [TakeRisks]", at("Above", 75)),
            format!("normal {} Normally []", at("AtLeast", 25)),
            format!("slow {} Carefully [SmallSteps, PlanReliability]", at("Above", 0)),
            "freeze Always Nothing [FreezeAll, PlanReliability]".to_owned(),
        ]
    );
    assert_eq!(
        told(&Policy::escalating()),
        [
            format!("normal {} Normally []", at("Above", 50)),
            format!("slow {} Carefully [SmallSteps]", at("AtLeast", 25)),
            format!(
                "feature freeze {} FixesOnly [FreezeFeatures, PlanReliability]",
                at("AtLeast", 10)
            ),
            format!("incident {} FixesOnly [FreezeFeatures, OpenIncident]", at("Above", 0)),
            "exhausted Always Nothing [FreezeAll, RollBack, FindRootCause, TellExecutives]"
                .to_owned(),
        ]
    );
    for policy in [Policy::quarters(), Policy::escalating()] {
        assert_eq!(policy.exceptions(), [Change::Security, Change::Urgent, Change::Rollback]);
        assert_eq!((policy.hysteresis, policy.dwell), (Share::percent(2), DWELL));
        assert_eq!(policy.postmortem(), Share::percent(20));
    }
}

/// Each edge of both presets: on the way down at once, on the way up by 2 % and after an hour.
#[test]
fn every_edge_has_its_hysteresis() {
    for policy in [Policy::quarters(), Policy::escalating()] {
        for (place, level) in policy.levels().iter().enumerate() {
            let (edge, exactly) = match level.floor() {
                Floor::Above(edge) => (edge, false),
                Floor::AtLeast(edge) => (edge, true),
                Floor::Always => continue,
            };
            let parts = edge.parts_per_billion();
            let worst = Share::per_billion(parts - i64::from(exactly));
            let best = Share::per_billion(parts + i64::from(!exactly));
            assert_eq!(policy.place_at(best), place, "{}", level.name());
            let mut standing = Position::new(&policy, best, 0);

            standing.step(&policy, worst, false, 1);
            assert_eq!(standing.place, place + 1, "below {}", level.name());
            let more = |by: i64| Share::per_billion(best.parts_per_billion() + 20_000_000 + by);
            standing.step(&policy, more(-1), false, 3 * HOUR);
            assert_eq!(standing.place, place + 1, "a billionth short of {}", level.name());
            standing.step(&policy, more(0), false, HOUR);
            assert_eq!(standing.place, place + 1, "a second short of an hour");
            standing.step(&policy, more(0), false, HOUR + 1);
            assert_eq!(standing.place, place, "{} again", level.name());
        }
    }
}

#[test]
fn falling_is_immediate_and_rising_is_not() {
    let policy = Policy::quarters();
    let mut standing = Position::new(&policy, left(250), 0);
    let name = |standing: Position| policy.levels()[standing.place].name();
    assert_eq!(name(standing), "normal");

    standing.step(&policy, left(249), false, 1);
    assert_eq!(name(standing), "slow");

    standing.step(&policy, left(269), false, 2 * HOUR);
    assert_eq!(name(standing), "slow", "over the edge, and not by 2 %");
    standing.step(&policy, left(270), false, HOUR);
    assert_eq!(name(standing), "slow", "by 2 %, and a second too early");
    standing.step(&policy, left(270), false, HOUR + 1);
    assert_eq!(name(standing), "normal");

    standing.step(&policy, left(-1), false, HOUR + 2);
    assert_eq!(name(standing), "freeze", "past two levels at once");
    standing.step(&policy, left(20), false, 9 * HOUR);
    assert_eq!(name(standing), "freeze", "2 % exactly is not above the edge by 2 %");
    standing.step(&policy, left(21), false, 9 * HOUR);
    assert_eq!(name(standing), "slow");
}

#[test]
fn every_edge_is_crossed_at_once_downwards_and_by_two_percent_upwards() {
    let hour = HOUR + 1;
    for policy in [Policy::quarters(), Policy::escalating()] {
        for (better, level) in policy.levels().iter().enumerate().take(policy.levels().len() - 1) {
            // The least billionth on which the better level holds.
            let edge = match level.floor() {
                Floor::Above(share) => share.parts_per_billion() + 1,
                Floor::AtLeast(share) => share.parts_per_billion(),
                Floor::Always => unreachable!("only the last"),
            };
            let after = |place: usize, parts: i64, seconds: i64| {
                let mut standing = Position { place, since: 0 };
                standing.step(&policy, Share::per_billion(parts), false, seconds);
                standing.place
            };
            let (worse, two) = (better + 1, 20_000_000);

            assert_eq!(after(better, edge, 1), better, "{} at {edge}", level.name());
            assert_eq!(after(better, edge - 1, 1), worse, "{} at {edge}", level.name());
            assert_eq!(after(worse, edge + two, hour), better, "{} at {edge}", level.name());
            assert_eq!(after(worse, edge + two - 1, hour), worse, "{} at {edge}", level.name());
            assert_eq!(after(worse, edge + two, HOUR - 1), worse, "{} at {edge}", level.name());
        }
    }
}

#[test]
fn a_level_near_the_whole_is_reached_again() {
    // 2 % more than 99 % cannot be left.
    let best = Level::new("best", Floor::AtLeast(Share::percent(99)), Release::Freely);
    let policy = Policy::new(Level::new("rest", Floor::Always, Release::Normally)).under(best);
    let mut standing = Position::new(&policy, left(989), 0);

    standing.step(&policy, left(999), false, 2 * HOUR);
    assert_eq!(standing.place, 1, "not by 2 %");
    standing.step(&policy, Share::ONE, false, 2 * HOUR);
    assert_eq!(standing.place, 0, "all of it is left");
}

#[test]
fn a_hysteresis_below_nothing_is_none() {
    let policy = Policy::quarters().rising_slowly(Share::percent(-10), Duration::ZERO);
    let mut standing = Position::new(&policy, left(200), 0);

    standing.step(&policy, left(240), false, HOUR);
    assert_eq!(policy.levels()[standing.place].name(), "slow", "the edge is at 25 %");
    standing.step(&policy, left(250), false, HOUR);
    assert_eq!(policy.levels()[standing.place].name(), "normal");
}

#[test]
fn a_page_means_slow_at_the_best() {
    for policy in [Policy::quarters(), Policy::escalating()] {
        let mut standing = Position::new(&policy, Share::ONE, 0);

        standing.step(&policy, Share::ONE, true, 1);
        assert_eq!(policy.levels()[standing.place].name(), "slow");

        standing.step(&policy, Share::ONE, false, 2 * HOUR);
        assert_eq!(standing.place, 0);
    }
}

#[test]
fn exceptions_pass_a_freeze_and_fixes_a_feature_freeze() {
    let policy = Policy::escalating();
    let admits = |thousandths, change| policy.admits(policy.level_at(left(thousandths)), change);

    for change in [Change::Security, Change::Urgent, Change::Rollback] {
        assert!(admits(-1, change), "{change}");
    }
    assert!(!admits(-1, Change::Fix) && !admits(-1, Change::Feature));
    assert!(admits(200, Change::Fix) && !admits(200, Change::Feature));
    assert!(admits(300, Change::Feature));
    let strict = policy.clone().excepting([Change::Security]);
    assert!(!strict.admits(strict.level_at(Share::ZERO), Change::Rollback));
}

#[test]
fn releases_stand_at_their_numbers() {
    for (number, release) in Release::ALL.into_iter().enumerate() {
        assert_eq!(release as usize, number);
    }
}

proptest! {
    /// Wherever it has been, a policy never stands higher than its edges say.
    #[test]
    fn no_level_is_better_than_what_is_left(
        steps in prop::collection::vec((-1_500..1_500_i64, any::<bool>(), 0..2 * HOUR), 1..50),
    ) {
        let policy = Policy::escalating();
        let mut standing = Position::new(&policy, Share::ONE, 0);
        let mut now = 0;
        for (thousandths, paged, wait) in steps {
            now += wait;
            standing.step(&policy, left(thousandths), paged, now);
            prop_assert!(standing.place >= policy.place_at(left(thousandths)));
            prop_assert!(!paged || policy.levels()[standing.place].release() >= Release::Carefully);
        }
    }
}
