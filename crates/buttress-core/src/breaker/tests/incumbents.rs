//! Where the incumbents fail.

use super::*;

#[test]
fn an_outage_after_long_health_opens_it_within_half_a_window() {
    // X01
    let mut rig = Rig::new(last(100, 100, HALF));
    rig.run_many(0, 20_000, S);

    rig.run_many(0, 49, F);
    assert_eq!((rig.state(0), rig.rate(0)), (State::Closed, Some(Ratio::percent(49))));
    rig.run(0, [F]);

    assert_eq!((rig.state(0), rig.rate(0)), (State::Open, Some(HALF)));
}

#[test]
fn it_opens_at_the_minimum_and_does_not_wait_for_a_full_window() {
    // X02
    let mut rig = Rig::new(last(100, 5, HALF));

    rig.run_many(0, 4, F);
    assert_eq!(rig.state(0), State::Closed);
    rig.run(0, [F]);

    assert_eq!((rig.state(0), rig.counts(0)), (State::Open, (0, 5, 5)));
}

#[test]
fn a_hanging_backend_that_callers_give_up_on_costs_one_call_a_cool_down() {
    // X05: every call is given up after 10 ms, which is late, so it counts as a failure; the
    // cool-down is 200 ms, and a call comes every 10 ms for a second.
    let open_for = OpenFor::fixed(TimeLimit::from_millis(200));
    let mut rig = Rig::new(Settings::consecutive(1).open_for(open_for));
    let mut reached = Vec::new();

    for millis in (0..1_000).step_by(10) {
        if let Ok(ticket) = rig.admit(millis) {
            reached.push(millis);
            rig.settle(millis + 10, ticket, F);
        }
    }

    assert_eq!(reached, [0, 210, 420, 630, 840]);
    let opened = rig.transitions().iter().filter(|one| one.to == State::Open).count();
    assert_eq!(opened, 5);
}

#[test]
fn a_probe_that_never_ends_does_not_keep_it_from_recovering() {
    // X06
    let probes = Probes::new(1).deadline(seconds(10));
    let mut rig = half_open(Settings::consecutive(1).probes(probes), 0);
    let hung = rig.admitted(0);
    assert_eq!(rig.refusal(9_999).0, "half_open");

    // Open from the deadline on, for a minute.
    assert_eq!(rig.refusal(10_000), ("open", Some(60_000)));
    rig.run(70_000, [S]);
    assert_eq!(rig.state(70_000), State::Closed);
    rig.run_many(70_000, 50, S);

    rig.settle(80_000, hung, F);
    assert_eq!(rig.state(80_000), State::Closed);
}

#[test]
fn it_closes_under_little_traffic_though_the_window_is_shorter_than_the_pause_between_calls() {
    // X07
    let window = Window::time(TimeLimit::from_millis(100));
    let trip = Trip::failure_rate(HALF).over(window).minimum(3);
    let open_for = OpenFor::fixed(TimeLimit::from_millis(100));
    let mut rig = half_open(Settings::new(trip).open_for(open_for).probes(Probes::new(3)), 0);

    rig.run(150, [S]);
    assert_eq!(rig.state(150), State::HalfOpen);
    rig.run(300, [S]);
    assert_eq!(rig.state(300), State::Closed);

    rig.run(450, [S]);
    assert_eq!((rig.state(450), rig.refused(450)), (State::Closed, 0));
}

#[test]
#[should_panic(expected = "without a probe a breaker never closes")]
fn no_probes_at_all_cannot_be_configured() {
    // X09
    let _ = Probes::new(0);
}

#[test]
fn what_is_told_of_the_state_adds_up() {
    // X11: each transition begins where the one before ended.
    let mut rig = Rig::new(last(4, 2, HALF).probes(Probes::new(2)).ramp(seconds(10)));
    rig.run(0, [F, F]);
    rig.run(5_000, [S, F]);
    rig.run(10_000, [S, S]);
    rig.reset(12_000);
    rig.force_open(13_000);
    rig.force_closed(14_000);

    let mut stands = State::Closed;
    for (index, transition) in rig.transitions().into_iter().enumerate() {
        assert_eq!(transition.number, index as u64 + 1);
        assert_eq!(transition.from, stands);
        assert_ne!(transition.from, transition.to);
        stands = transition.to;
    }
    assert_eq!(rig.state(15_000), stands);
}
