//! Run with `RUSTFLAGS="--cfg buttress_loom" cargo test -p buttress-core --release loom`.

use std::time::{Duration, Instant};

use loom::{sync::Arc, thread};

use super::{cells::Cells, *};
use crate::{Ratio, TimeLimit};

struct Rig {
    machine: Machine,
    rules: std::sync::Arc<Rules>,
    start: Instant,
}

impl Rig {
    fn new(settings: Settings) -> Arc<Self> {
        #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
        let start = Instant::now();
        let (machine, rules) = Machine::counting_into(Cells::with_stripes(1), settings, 1);
        Arc::new(Self { machine, rules, start })
    }

    /// Half-open at second 0.
    fn half_open(probes: u16) -> Arc<Self> {
        let rig = Self::new(Settings::consecutive(2).probes(Probes::new(probes)));
        rig.machine.open_until(&rig.rules, rig.start, rig.start, &mut Moves::new());
        rig
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn admit(&self, second: u64) -> Result<Ticket, Refused> {
        self.machine.admit(|| self.rules.clone(), || self.at(second), &mut Moves::new())
    }

    fn settle(&self, second: u64, ticket: Ticket, outcome: Outcome) -> Moves {
        let mut moves = Moves::new();
        let now = self.at(second);
        self.machine.settle(&self.rules, ticket, outcome.into(), now, &mut moves);
        moves
    }

    fn state(&self, second: u64) -> (State, Moves) {
        let mut moves = Moves::new();
        (self.machine.state(&self.rules, self.at(second), &mut moves), moves)
    }

    fn reset(&self) -> Moves {
        let mut moves = Moves::new();
        self.machine.reset(&self.rules, self.at(0), &mut moves);
        moves
    }

    fn force_open(&self) -> Moves {
        let mut moves = Moves::new();
        self.machine.force_open(&self.rules, self.at(0), &mut moves);
        moves
    }

    fn progress(&self) -> Option<Progress> {
        self.machine.snapshot(&self.rules, self.at(0), &mut Moves::new()).probes
    }
}

/// Runs both at once.
fn beside<A: 'static, B>(
    rig: &Arc<Rig>,
    other: impl FnOnce(&Rig) -> A + 'static,
    this: impl FnOnce(&Rig) -> B,
) -> (A, B) {
    let theirs = Arc::clone(rig);
    let other = thread::spawn(move || other(&theirs));
    let this = this(rig);
    (other.join().unwrap(), this)
}

/// What the moves of two threads say, in order, each step from where the one before ended.
fn path(first: Moves, second: Moves) -> Vec<State> {
    let mut steps: Vec<_> = [first, second]
        .concat()
        .into_iter()
        .map(|step| match step {
            Move::Transition(transition) => transition,
            Move::WouldOpen(_) => panic!("no shadow"),
        })
        .collect();
    steps.sort_by_key(|step| step.number);
    assert!(steps.is_sorted_by(|one, next| one.number + 1 == next.number && one.to == next.from));
    steps.iter().map(|step| step.to).collect()
}

#[test]
fn loom_two_failures_that_both_reach_it_open_it_once() {
    loom::model(|| {
        let rig = Rig::new(Settings::consecutive(1));
        let tickets = [rig.admit(0).unwrap(), rig.admit(0).unwrap()];

        let (theirs, mine) = beside(
            &rig,
            move |rig| rig.settle(0, tickets[0], Outcome::Failure),
            |rig| rig.settle(0, tickets[1], Outcome::Failure),
        );

        assert_eq!(path(theirs, mine), [State::Open]);
        assert_eq!(rig.machine.totals().ended(), 2);
    });
}

#[test]
fn loom_two_failures_that_reach_it_together_open_it() {
    for window in [None, Some(Window::calls(2)), Some(Window::time(TimeLimit::from_secs(30)))] {
        loom::model(move || {
            let settings = window.map_or(Settings::consecutive(2), |window| {
                Settings::new(Trip::failure_rate(Ratio::ONE).over(window).minimum(2))
            });
            let rig = Rig::new(settings);
            let tickets = [rig.admit(0).unwrap(), rig.admit(0).unwrap()];

            let (theirs, mine) = beside(
                &rig,
                move |rig| rig.settle(0, tickets[0], Outcome::Failure),
                |rig| rig.settle(0, tickets[1], Outcome::Failure),
            );

            assert_eq!(path(theirs, mine), [State::Open]);
            assert_eq!(rig.machine.totals().failures, 2);
        });
    }
}

#[test]
fn loom_a_probe_is_settled_or_runs_out_of_time_and_not_both() {
    loom::model(|| {
        let rig = Rig::half_open(1);
        let probe = rig.admit(0).unwrap();

        let (settled, (_, expired)) =
            beside(&rig, move |rig| rig.settle(9, probe, Outcome::Success), |rig| rig.state(10));

        let path = path(settled, expired);
        assert!(matches!(path[..], [State::Closed | State::Open]), "{path:?}");
        assert_eq!(rig.machine.totals().ended(), 1);
    });
}

#[test]
fn loom_a_probe_that_ends_beside_a_hand_leaves_what_the_hand_said() {
    loom::model(|| {
        let rig = Rig::half_open(1);
        let probe = rig.admit(0).unwrap();

        let (settled, forced) =
            beside(&rig, move |rig| rig.settle(0, probe, Outcome::Success), Rig::force_open);

        assert_eq!(path(settled, forced).last(), Some(&State::ForcedOpen));
        assert_eq!(rig.state(0).0, State::ForcedOpen);
    });
}

#[test]
fn loom_a_permit_that_comes_back_is_given_out_once() {
    loom::model(|| {
        let rig = Rig::half_open(1);
        let probe = rig.admit(0).unwrap();

        let (first, second) = beside(
            &rig,
            move |rig| {
                rig.settle(0, probe, Outcome::Cancelled);
                rig.admit(0).is_ok()
            },
            |rig| rig.admit(0).is_ok(),
        );

        assert!(first ^ second);
        assert_eq!(rig.progress().unwrap().free, 0);
    });
}

#[test]
fn loom_no_more_probes_pass_than_there_are_permits() {
    loom::model(|| {
        let rig = Rig::half_open(1);

        let (first, second) = beside(&rig, |rig| rig.admit(0).is_ok(), |rig| rig.admit(0).is_ok());

        assert!(first ^ second);
        assert_eq!(rig.state(0).0, State::HalfOpen);
    });
}

#[test]
fn loom_a_failure_from_before_a_reset_does_not_open_it_after() {
    loom::model(|| {
        let rig = Rig::new(Settings::consecutive(2));
        let tickets = [rig.admit(0).unwrap(), rig.admit(0).unwrap()];
        rig.settle(0, tickets[0], Outcome::Failure);

        let (settled, reset) =
            beside(&rig, move |rig| rig.settle(0, tickets[1], Outcome::Failure), Rig::reset);

        assert_eq!(rig.state(0).0, State::Closed);
        let path = path(settled, reset);
        assert!(matches!(path[..], [] | [State::Open, State::Closed]), "{path:?}");
    });
}

#[test]
fn loom_a_call_after_a_reset_does_not_add_to_what_was_before_it() {
    loom::model(|| {
        let rig = Rig::new(Settings::consecutive(2));
        let ticket = rig.admit(0).unwrap();
        rig.settle(0, ticket, Outcome::Failure);

        beside(
            &rig,
            |rig| {
                if let Ok(ticket) = rig.admit(0) {
                    rig.settle(0, ticket, Outcome::Failure);
                }
            },
            |rig| rig.reset(),
        );

        assert_eq!(rig.state(0).0, State::Closed);
    });
}

#[test]
fn loom_a_call_after_a_switch_of_shadow_mode_does_not_add_to_what_was_before_it() {
    loom::model(|| {
        let rig = Rig::new(Settings::consecutive(2));
        rig.machine.set_shadow(&rig.rules, true, rig.at(0), &mut Moves::new());
        let ticket = rig.admit(0).unwrap();
        rig.settle(0, ticket, Outcome::Failure);

        beside(
            &rig,
            |rig| {
                let ticket = rig.admit(0).unwrap();
                rig.settle(0, ticket, Outcome::Failure);
            },
            |rig| rig.machine.set_shadow(&rig.rules, false, rig.at(0), &mut Moves::new()),
        );

        assert_eq!(rig.state(0).0, State::Closed);
    });
}

/// Half of two calls in ten seconds, of which two have succeeded.
fn calm() -> Arc<Rig> {
    let half = Trip::failure_rate(Ratio::percent(50)).minimum(2);
    let rig = Rig::new(Settings::new(half.over(Window::time(TimeLimit::from_secs(10)).buckets(1))));
    let ticket = rig.admit(0).unwrap();
    rig.settle(0, ticket, Outcome::Success);
    rig
}

#[test]
fn loom_a_success_beside_a_reset_leaves_no_calm_over_windows_that_are_empty() {
    loom::model(|| {
        let rig = calm();
        let ticket = rig.admit(0).unwrap();
        beside(&rig, move |rig| rig.settle(0, ticket, Outcome::Success), Rig::reset);

        let ticket = rig.admit(1).unwrap();
        assert!(!rig.machine.count_success(ticket, rig.at(1)));
    });
}

#[test]
fn loom_a_success_beside_a_change_leaves_no_calm_over_other_windows() {
    loom::model(|| {
        let rig = calm();
        let ticket = rig.admit(0).unwrap();
        let other = Settings::consecutive(2);
        let change =
            |rig: &Rig| rig.machine.change(&rig.rules, other.clone(), rig.at(0), &mut Moves::new());
        beside(&rig, move |rig| rig.settle(0, ticket, Outcome::Success), change);

        let ticket = rig.admit(1).unwrap();
        assert!(!rig.machine.count_success(ticket, rig.at(1)));
    });
}
