use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};

use super::*;
use crate::Tally;

type Unit = Probe<(), (), &'static str>;

fn probe() -> (task::Spawn<Unit>, ProbeHandle<(), (), &'static str>) {
    let probe = Probe::new(|()| ());
    let handle = probe.handle();
    (task::spawn(probe), handle)
}

fn poll_ready(probe: &mut task::Spawn<Unit>) -> Poll<Result<(), &'static str>> {
    probe.enter(|cx, mut probe| probe.poll_ready(cx))
}

#[test]
fn readiness_is_used_up_by_a_call() {
    let (mut probe, handle) = probe();
    assert_ready_ok!(poll_ready(&mut probe));

    let _right = probe.call(());
    let _wrong = probe.call(());

    assert_eq!(handle.misuses(), [Misuse::CalledUnready { instance: 0 }]);
}

#[test]
fn a_busy_probe_wakes_who_waits_and_keeps_who_is_ready() {
    let (mut waiting, handle) = probe();
    let mut ready = task::spawn(waiting.clone());
    assert_ready_ok!(poll_ready(&mut ready));

    handle.busy();
    assert_ready_ok!(poll_ready(&mut ready));
    assert_pending!(poll_ready(&mut waiting));
    assert_eq!(handle.waiting(), [0]);
    handle.ready();

    assert!(waiting.is_woken() && !ready.is_woken());
    assert_ready_ok!(poll_ready(&mut waiting));
}

#[test]
fn a_failed_readiness_is_no_readiness() {
    let (mut probe, handle) = probe();
    assert_ready_ok!(poll_ready(&mut probe));

    handle.fail_ready("gone");

    assert_eq!(assert_ready_err!(poll_ready(&mut probe)), "gone");
    drop(probe.call(()));
    assert_eq!(handle.misuses(), [Misuse::CalledUnready { instance: 0 }]);
}

#[test]
fn calls_that_hang_are_answered_or_abandoned() {
    let (mut probe, handle) = probe();
    handle.then(Step::Hang);
    handle.then(Step::Hang);
    assert_ready_ok!(poll_ready(&mut probe));
    let mut answered = task::spawn(probe.call(()));
    assert_ready_ok!(poll_ready(&mut probe));
    let abandoned = probe.call(());

    assert_pending!(answered.poll());
    drop(abandoned);
    handle.release();

    assert!(answered.is_woken());
    assert_ready_ok!(answered.poll());
    let Tally { calls, in_flight, answered, abandoned, .. } = handle.tally();
    assert_eq!((calls, in_flight, answered, abandoned), (2, 0, 1, 1));
}

#[test]
fn a_response_that_is_polled_once_too_often_is_written_down() {
    let (mut probe, handle) = probe();
    assert_ready_ok!(poll_ready(&mut probe));
    let mut response = task::spawn(probe.call(()));
    assert_ready_ok!(response.poll());

    assert_pending!(response.poll());

    assert_eq!(handle.misuses(), [Misuse::PolledAfterCompletion { instance: 0 }]);
}
