//! Run with `RUSTFLAGS="--cfg buttress_loom" cargo test -p buttress-core --release --lib loom`.

use std::{task::Waker, time::Instant};

use loom::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use super::*;

fn untimed() -> Instant {
    unreachable!("an undivided limit needs no time")
}

fn gate(limit: u32, bound: u32) -> Arc<Gate> {
    let gate = Gate::new(limit);
    gate.set_bound(bound);
    Arc::new(gate)
}

fn enter(gate: &Gate) -> Entry {
    gate.enter(Ask::default(), untimed)
}

fn seat(gate: &Gate) -> Seat {
    let Entry::Admitted(seat) = enter(gate) else { panic!("there is room") };
    seat
}

fn place(gate: &Gate) -> Place {
    let Entry::Waiting(place) = enter(gate) else { panic!("it may wait") };
    place
}

/// The seat of a waiter whose turn it must be.
fn its_turn(gate: &Gate, place: &Place) -> Seat {
    let Some(Outcome::Admitted(seat)) = gate.poll(place, Waker::noop()) else {
        panic!("a place was lost")
    };
    seat
}

#[test]
fn loom_a_limit_is_never_exceeded_and_a_place_never_refused_that_is_free() {
    loom::model(|| {
        let (gate, inside) = (gate(1, 0), Arc::new(AtomicU32::new(0)));
        let come = |gate: Arc<Gate>, inside: Arc<AtomicU32>| {
            move || match enter(&gate) {
                Entry::Admitted(seat) => {
                    assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    gate.leave(seat);
                    true
                }
                _ => false,
            }
        };
        let other = thread::spawn(come(Arc::clone(&gate), Arc::clone(&inside)));
        let ours = come(Arc::clone(&gate), inside)();

        assert!(other.join().unwrap() || ours, "the first to come finds it free");
        assert_eq!(gate.inside(), 0);
    });
}

#[test]
fn loom_who_joins_while_a_place_is_given_back_gets_it() {
    loom::model(|| {
        let gate = gate(1, 1);
        let held = seat(&gate);
        let leaving = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.leave(held)
        });

        let ours = match enter(&gate) {
            Entry::Admitted(seat) => {
                leaving.join().unwrap();
                seat
            }
            Entry::Waiting(place) => {
                leaving.join().unwrap();
                its_turn(&gate, &place)
            }
            Entry::Refused(why) => panic!("it may wait: {why:?}"),
        };
        gate.leave(ours);

        // And the word says again that the lock need not be asked.
        gate.set_bound(0);
        gate.leave(seat(&gate));
        assert_eq!((gate.inside(), gate.waiting()), (0, 0));
    });
}

#[test]
fn loom_who_leaves_the_queue_as_its_turn_comes_passes_it_on() {
    loom::model(|| {
        let gate = gate(1, 2);
        let held = seat(&gate);
        let (first, second) = (place(&gate), place(&gate));
        let leaving = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.leave(held)
        });

        if let Some(Outcome::Admitted(seat)) = gate.give_up(first) {
            gate.leave(seat);
        }
        leaving.join().unwrap();

        gate.leave(its_turn(&gate, &second));
        assert_eq!((gate.inside(), gate.waiting()), (0, 0));
    });
}

#[test]
fn loom_who_joins_while_the_limit_is_raised_comes_in() {
    loom::model(|| {
        let gate = gate(1, 1);
        let held = seat(&gate);
        let raising = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.set_limit(2)
        });

        let entry = enter(&gate);
        raising.join().unwrap();
        let ours = match entry {
            Entry::Admitted(seat) => seat,
            Entry::Waiting(place) => its_turn(&gate, &place),
            Entry::Refused(why) => panic!("it may wait: {why:?}"),
        };

        assert_eq!(gate.inside(), 2);
        gate.leave(ours);
        gate.leave(held);
    });
}

#[test]
fn loom_no_newcomer_passes_a_waiter_that_a_place_is_given_back_for() {
    loom::model(|| {
        let gate = gate(1, 2);
        let held = seat(&gate);
        let first = place(&gate);
        let leaving = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.leave(held)
        });

        let newcomer = place(&gate);
        leaving.join().unwrap();

        assert!(gate.poll(&newcomer, Waker::noop()).is_none());
        gate.leave(its_turn(&gate, &first));
        gate.leave(its_turn(&gate, &newcomer));
    });
}
