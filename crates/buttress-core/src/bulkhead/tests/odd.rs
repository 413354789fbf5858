//! What rarely happens: wakers that panic, claims nobody takes up, a gate that is shut meanwhile.

use super::*;

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker's own fault");
    }
}

fn critical(criticality: Criticality) -> Ask {
    Ask { criticality, ..Ask::default() }
}

#[test]
fn a_waker_that_panics_leaves_nobody_behind_in_the_queue() {
    let gate = gate(1, 1);
    let seat = admitted(enter(&gate));
    let least = waiting(gate.enter(critical(Criticality::Sheddable), untimed));
    assert!(gate.poll(&least, &Waker::from(Arc::new(Panics))).is_none());

    let newcomer = gate.enter(critical(Criticality::CriticalPlus), untimed);

    let newcomer = waiting(newcomer);
    gate.leave(seat);
    gate.leave(its_turn(&gate, &newcomer));
    assert_eq!((gate.inside(), gate.waiting()), (0, 0));
}

#[test]
fn a_waker_that_panics_keeps_no_other_from_its_place() {
    let gate = gate(1, 3);
    let _seat = admitted(enter(&gate));
    let first = waiting(enter(&gate));
    let second = waiting(enter(&gate));
    assert!(gate.poll(&first, &Waker::from(Arc::new(Panics))).is_none());
    assert!(poll(&gate, &second).is_none());

    gate.set_limit(3);

    let _first = its_turn(&gate, &first);
    let _second = its_turn(&gate, &second);
}

#[test]
fn a_claim_keeps_nobody_waiting_beside_an_empty_room() {
    let gate = gate(1, 0);
    gate.divide(&Partitions::new().share("a", Ratio::ONE));
    let now = origin();
    let (a, b) = (Ask { partition: Some(0), ..Ask::default() }, Ask::default());
    let borrowed = admitted(gate.enter(b, || now));
    assert!(matches!(gate.enter(a, || now), Entry::Refused(_)));
    gate.set_bound(1);
    let waits = waiting(gate.enter(b, || now));

    gate.leave(borrowed);

    let _seat = its_turn(&gate, &waits);
}

#[test]
fn a_limit_that_moves_by_itself_does_not_open_what_has_been_shut() {
    let gate = gate(3, 0);
    assert!(gate.move_limit(4));
    gate.set_limit(0);

    assert!(!gate.move_limit(5));
    assert_eq!(gate.limit(), 0);
}
