//! Shadow mode decides and records, and refuses nothing.

use super::*;
use crate::breaker::Cause;

impl Rig {
    /// How often it was said that it would open by failures, and by slow calls.
    fn announced(&self) -> (usize, usize) {
        let count = |is: fn(&Move) -> bool| self.moves.iter().filter(|step| is(step)).count();
        let slow = count(|step| matches!(step, Move::WouldOpen(Cause::SlowRate { .. })));
        (count(|step| matches!(step, Move::WouldOpen(_))) - slow, slow)
    }
}

fn shadow(settings: Settings) -> Rig {
    let mut rig = Rig::new(settings);
    rig.run(0, [F, F]);
    assert!(rig.set_shadow(true, 0));
    assert_eq!(rig.counts(0), (0, 0, 0));
    rig
}

#[test]
fn it_counts_and_says_once_that_it_would_open() {
    // B20, as METRICS_ONLY
    let mut rig = shadow(cbsm());

    rig.run(0, [F, F, F, S, S]);
    assert_eq!((rig.rate(0), rig.counts(0)), (Some(Ratio::percent(60)), (2, 5, 3)));
    assert_eq!((rig.state(0), rig.announced()), (State::Closed, (1, 0)));
    rig.run(0, [F]);
    assert_eq!((rig.announced(), rig.counts(0).2), ((1, 0), 4));
    assert!(rig.told().is_empty());

    let mut rig = shadow(cbsm());
    rig.run_many(0, 5, F.taking(5_000));
    assert_eq!((rig.announced(), rig.state(0)), ((1, 1), State::Closed));
}

#[test]
fn a_condition_that_has_been_below_again_is_announced_again() {
    let mut rig = shadow(last(4, 4, HALF));

    rig.run(0, [F, F, F, F, F]);
    assert_eq!(rig.announced(), (1, 0));
    rig.run(0, [S, S, S]);
    assert!(!rig.snapshot(0).would_refuse);
    rig.run(0, [F, F, F, F]);

    assert_eq!(rig.announced(), (2, 0));
    assert!(rig.snapshot(0).would_refuse);
}

#[test]
fn what_it_would_refuse_is_counted_and_admitted() {
    let mut rig = shadow(Settings::consecutive(2));

    rig.run(0, [F, F]);
    assert!(rig.snapshot(0).would_refuse);
    rig.run(0, [F, F, F]);

    let snapshot = rig.snapshot(0);
    assert_eq!((snapshot.totals.would_refuse, snapshot.refused), (3, 0));
    assert_eq!((rig.state(0), rig.announced()), (State::Closed, (1, 0)));
    rig.run(0, [S]);
    assert!(!rig.snapshot(0).would_refuse);
}

#[test]
fn to_switch_it_forgets_and_to_switch_it_to_what_it_is_changes_nothing() {
    let mut rig = shadow(Settings::consecutive(2));
    rig.run(0, [F, F, F]);
    let stale = rig.admitted(0);

    assert!(!rig.set_shadow(true, 0));
    assert_eq!(rig.snapshot(0).conditions[0].streak(), Some(3));
    assert!(rig.set_shadow(false, 0));
    assert_eq!(rig.snapshot(0).conditions[0].streak(), Some(0));

    rig.settle(0, stale, F);
    rig.run(0, [F]);
    assert_eq!(rig.state(0), State::Closed);
    rig.run(0, [F]);
    assert_eq!(rig.state(0), State::Open);
}

#[test]
fn a_reset_in_shadow_mode_forgets_what_was_announced() {
    let mut rig = shadow(Settings::consecutive(2));
    rig.run(0, [F, F]);

    rig.reset(0);

    assert!(rig.snapshot(0).shadow && !rig.snapshot(0).would_refuse);
    rig.run(0, [F]);
    assert_eq!(rig.announced(), (1, 0));
    rig.run(0, [F]);
    assert_eq!(rig.announced(), (2, 0));
}

#[test]
fn what_a_hand_has_opened_refuses_and_closes_without_a_probe_when_that_is_over() {
    let mut rig = shadow(Settings::consecutive(2).ramp(seconds(10)));
    rig.open_until(1_000, 0);

    let refused = rig.admit(999).unwrap_err();
    assert_eq!(refused.retry_after, Some(Duration::from_millis(1)));
    rig.run(1_000, [F]);

    assert_eq!(rig.state(1_000), State::Closed);
    assert!(rig.snapshot(1_000).shadow);
}

#[test]
fn to_switch_it_on_closes_an_open_breaker_and_says_so() {
    let mut rig = Rig::new(Settings::consecutive(2));
    rig.run(0, [F, F]);

    rig.set_shadow(true, 0);

    let last = rig.transitions().last().map(ToString::to_string);
    assert_eq!(last.as_deref(), Some("open -> closed: set by hand"));
}
