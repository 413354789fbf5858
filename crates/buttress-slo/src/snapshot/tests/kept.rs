//! What is kept besides the counts, and what older formats knew.

use super::*;
use crate::{
    AlertPlan, AlertStatus, Burn, Combine, Composite, Name, Policy, Rule, Share, Standing,
};

fn name(name: &str) -> Name {
    name.parse().unwrap()
}

/// With a composite of these parts.
pub(super) fn composed(mut bench: Bench, parts: [&str; 2]) -> Bench {
    let both = Composite::new(name("both"), Combine::Any, parts.map(name));
    bench.tracker.compose(both).unwrap();
    bench
}

/// Rules that fire late and clear late.
pub(super) fn patient() -> AlertPlan {
    let (minute, ten) = (Duration::from_secs(60), Duration::from_secs(600));
    let rule = |name: &str| Rule::burn(name, Severity::Page, Burn::times(10), minute);
    AlertPlan::none().with(rule("held").hold(ten)).with(rule("kept").keep(ten))
}

fn alert(bench: &Bench, rule: &str) -> AlertStatus {
    let alerts = bench.tracker.alerts("up").unwrap();
    alerts.into_iter().find(|status| &*status.rule == rule).unwrap()
}

fn standing(bench: &Bench, name: &str) -> Standing {
    let standings = bench.tracker.standings();
    standings.into_iter().find(|standing| standing.name.as_str() == name).unwrap()
}

const GOOD: Counts = Counts { good: 10, bad: 0 };
const BAD: Counts = Counts { good: 0, bad: 10 };

#[test]
fn what_format_one_knew_is_read_for_good() {
    // Written by a build of format 1: 3 s of 99 good and one bad, 20 s of nobody, 3 s of bad.
    let bytes = include_bytes!("format-1.slo");
    assert_eq!(bytes[8..10], [1, 0]);

    let snapshot = Snapshot::decode(bytes).unwrap();

    let minute = available("up", "99.9").over(Window::sliding(TimeLimit::from_secs(60)));
    let mut clocks = clocks();
    clocks.wall += Duration::from_secs(26);
    let mut bench = composed(Bench::at(clocks, [minute, available("new", "99")]), ["up", "new"]);
    let restored = bench.tracker.restore(&snapshot).unwrap();
    assert_eq!(restored.gap, Duration::ZERO);
    assert_eq!(bench.counts("up", 60), Counts { good: 297, bad: 303 });
    let fires = alert(&bench, "below-target");
    assert_eq!((fires.state.as_str(), fires.since), ("firing", Some(Duration::from_secs(2))));
    assert_eq!(&*standing(&bench, "up").level, "freeze");
    let (_, coverage) = bench.tracker.window("up", Duration::from_secs(60)).unwrap();
    assert_eq!(coverage.observed_seconds(), 6, "less the gap");
    assert_eq!(&*standing(&bench, "both").level, "freeze", "by its edges, as it knew of none");
}

#[test]
fn the_timers_of_alerts_go_on_where_they_were() {
    let objective = || vec![available("up", "99").alerting(patient())];
    let mut bench = Bench::new(objective());
    bench.run("up", 300, 1, BAD);
    assert_eq!(alert(&bench, "held").state.as_str(), "pending");
    bench.run("up", 100, 1, GOOD);
    assert_eq!(alert(&bench, "kept").state.as_str(), "firing", "60 s clear, for 600 s");

    let mut other = later(&bench, 2, objective());
    restore(&mut other, &snapshot(&bench));
    let seconds_until_quiet = |bench: &mut Bench| {
        let quiet = |bench: &Bench| alert(bench, "kept").state == AlertState::Quiet;
        (1..1_000)
            .find(|_| {
                bench.run("up", 1, 1, GOOD);
                quiet(bench)
            })
            .unwrap()
    };
    let restarted = seconds_until_quiet(&mut other);

    assert_eq!(restarted + 2, seconds_until_quiet(&mut bench), "and not 600 s anew");
    assert!(restarted < 600, "{restarted}");
}

#[test]
fn a_rule_that_holds_counts_the_time_before_the_restart() {
    let objective = || vec![available("up", "99").alerting(patient())];
    let mut bench = Bench::new(objective());
    bench.run("up", 500, 1, BAD);
    let since = alert(&bench, "held").since.unwrap();

    let mut other = later(&bench, 1, objective());
    restore(&mut other, &snapshot(&bench));
    let waits = (1..1_000).find(|_| {
        other.run("up", 1, 1, BAD);
        alert(&other, "held").state.is_firing()
    });

    assert_eq!(Duration::from_secs(waits.unwrap() + 1) + since, Duration::from_secs(600));
}

#[test]
fn the_level_of_a_composite_is_kept_with_its_hysteresis() {
    let five_minutes = || Window::sliding(TimeLimit::from_secs(300));
    let parts = || ["a", "b"].map(|name| available(name, "99").over(five_minutes())).to_vec();
    let mut bench = composed(Bench::new(parts()), ["a", "b"]);
    bench.run("a", 400, 1, GOOD);
    let fell = (1..60).find(|_| {
        bench.run("a", 1, 1, BAD);
        &*standing(&bench, "both").level == "freeze"
    });
    assert_eq!(fell, Some(3), "3 of 300 are the whole budget");
    let fell = bench.tracker.now().steady;
    bench.run("a", 400, 1, GOOD);

    let mut other = composed(later(&bench, 60, parts()), ["a", "b"]);
    restore(&mut other, &snapshot(&bench));
    other.run("a", 1, 1, GOOD);
    let kept = standing(&other, "both");
    assert_eq!((kept.remaining, &*kept.level), (Share::ONE, "freeze"), "{kept:?}");
    let rose = (1..4_000).find(|_| {
        other.run("a", 1, 1, GOOD);
        &*standing(&other, "both").level != "freeze"
    });

    assert!(rose.is_some());
    assert_eq!(other.tracker.now().steady - fell, 3_600, "since before the restart");
}

#[test]
fn a_composite_that_is_new_or_has_other_levels_stands_by_its_edges() {
    let parts = || vec![available("a", "99"), available("b", "99")];
    let mut bench = composed(Bench::new(parts()), ["a", "b"]);
    bench.run("a", 26_000, 1, BAD);
    assert_eq!(&*standing(&bench, "both").level, "freeze");

    let mut other = later(&bench, 1, parts());
    let both = Composite::new(name("both"), Combine::All, ["a", "b"].map(name));
    other.tracker.compose(both.with_policy(Policy::escalating())).unwrap();
    restore(&mut other, &snapshot(&bench));
    other.after(1);

    assert_eq!(standing(&other, "both").remaining, Share::ONE, "b is well");
    assert_eq!(&*standing(&other, "both").level, "slow", "and the page of a still fires");
}

#[test]
fn maintenance_by_hand_outlives_a_restart_and_ends_when_it_was_to() {
    let mut bench = Bench::new(up());
    bench.tracker.begin_maintenance(Duration::from_secs(600));
    bench.run("up", 100, 1, BAD);
    assert_eq!(bench.counts("up", 3600), Counts { good: 0, bad: 10 }, "before its first tick");

    let mut other = later(&bench, 60, up());
    restore(&mut other, &snapshot(&bench));
    other.after(1);
    assert!(other.tracker.in_maintenance());
    let left = (1..1_000).find(|_| {
        other.after(1);
        !other.tracker.in_maintenance()
    });
    assert_eq!(left, Some(600 - 100 - 60 - 1));

    let mut ended = later(&bench, 600, up());
    restore(&mut ended, &snapshot(&bench));
    ended.after(1);
    assert!(!ended.tracker.in_maintenance(), "it ended while nobody was there");
}

#[test]
fn maintenance_by_hand_without_an_end_can_be_read_again() {
    let mut bench = Bench::new(up());
    bench.tracker.begin_maintenance(Duration::MAX);
    bench.after(1);

    let mut other = later(&bench, 60, up());
    restore(&mut other, &snapshot(&bench));
    other.after(1);

    assert!(other.tracker.in_maintenance());
}

#[test]
fn maintenance_that_was_begun_before_the_restore_goes_on() {
    let bench = Bench::new(up());
    let bytes = snapshot(&bench);

    // A clock that was set back between the two: the timeline of the first is ahead.
    let mut other = later(&bench, 0, up());
    other.clocks.wall -= Duration::from_secs(3_600);
    let mut other = Bench::at(other.clocks, up());
    other.tracker.begin_maintenance(Duration::from_secs(60));
    restore(&mut other, &bytes);

    other.after(59);
    assert!(other.tracker.in_maintenance());
    other.after(1);
    assert!(!other.tracker.in_maintenance());
}

#[test]
fn an_incident_that_a_restart_falls_into_began_with_its_first_page() {
    let rule =
        |name: &str| Rule::burn(name, Severity::Page, Burn::times(10), Duration::from_secs(10));
    // One page that clears before the restart, and one that comes later and stays on.
    let plan = AlertPlan::none()
        .with(rule("early"))
        .with(rule("late").hold(Duration::from_secs(60)).keep(Duration::from_secs(600)));
    let hour = || Window::sliding(TimeLimit::from_secs(3600));
    let objective = || vec![available("up", "99").over(hour()).alerting(plan.clone())];
    let spent = |bench: &mut Bench| {
        let happened = bench.run("up", 1_000, 1, GOOD);
        happened.into_iter().find_map(|one| match one {
            Happening::PostmortemDue { spent, .. } => Some(spent),
            _ => None,
        })
    };
    let mut bench = Bench::new(objective());
    bench.run("up", 1_000, 1, GOOD);
    bench.run("up", 80, 1, BAD);
    bench.run("up", 100, 1, GOOD);
    assert!(!alert(&bench, "early").state.is_firing() && alert(&bench, "late").state.is_firing());

    let mut other = later(&bench, 0, objective());
    restore(&mut other, &snapshot(&bench));

    let (restarted, went_on) = (spent(&mut other), spent(&mut bench));
    assert!(went_on.is_some_and(|spent| spent > Share::percent(20)), "{went_on:?}");
    assert_eq!(restarted, went_on);
}
