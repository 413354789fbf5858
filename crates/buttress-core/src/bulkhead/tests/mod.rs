use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{Criticality, Random, Ratio};

mod model;
mod odd;
mod partitions;
mod shedding;

fn origin() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
    Instant::now()
}

fn untimed() -> Instant {
    unreachable!("an undivided limit needs no time")
}

fn gate(limit: u32, bound: u32) -> Gate {
    let gate = Gate::new(limit);
    gate.set_bound(bound);
    gate
}

fn enter(gate: &Gate) -> Entry {
    gate.enter(Ask::default(), untimed)
}

fn admitted(entry: Entry) -> Seat {
    let Entry::Admitted(seat) = entry else { panic!("not let in: {entry:?}") };
    seat
}

fn waiting(entry: Entry) -> Place {
    let Entry::Waiting(place) = entry else { panic!("it does not wait: {entry:?}") };
    place
}

fn refused(entry: Entry) -> Refusal {
    match entry {
        Entry::Refused(why) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn poll(gate: &Gate, place: &Place) -> Option<Outcome> {
    gate.poll(place, Waker::noop())
}

fn its_turn(gate: &Gate, place: &Place) -> Seat {
    let outcome = poll(gate, place);
    let Some(Outcome::Admitted(seat)) = outcome else { panic!("not its turn: {outcome:?}") };
    seat
}

/// How many more may wait, and how many more may come in.
fn free(gate: &Gate) -> (u32, u32) {
    (gate.bound() - gate.waiting(), gate.limit() - gate.inside())
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// K01.
#[test]
fn as_many_come_in_as_the_limit_says_and_none_at_0() {
    let gate = gate(2, 0);

    let first = admitted(enter(&gate));
    let second = admitted(enter(&gate));
    assert_eq!(gate.limit() - gate.inside(), 0);
    assert_eq!(refused(enter(&gate)), Refusal::Full);
    gate.leave(first);
    assert_eq!(gate.limit() - gate.inside(), 1);
    gate.leave(second);
    assert_eq!(gate.limit() - gate.inside(), 2);
    let _third = admitted(enter(&gate));

    assert_eq!(refused(enter(&Gate::new(0))), Refusal::Full);
    gate.set_bound(5);
    gate.set_limit(0);
    assert_eq!(refused(enter(&gate)), Refusal::Full, "a queue that is not served is not joined");
}

/// K03.
#[test]
fn who_waits_comes_in_by_order_of_arrival() {
    let gate = gate(2, 2);
    assert_eq!(free(&gate), (2, 2));

    let zero = admitted(enter(&gate));
    assert_eq!(free(&gate), (2, 1));
    let one = admitted(enter(&gate));
    assert_eq!(free(&gate), (2, 0));
    let two = waiting(enter(&gate));
    assert_eq!(free(&gate), (1, 0));
    let three = waiting(enter(&gate));
    assert_eq!(free(&gate), (0, 0));
    assert_eq!(refused(enter(&gate)), Refusal::Full);

    gate.leave(zero);
    assert_eq!(free(&gate), (1, 0));
    assert!(poll(&gate, &three).is_none());
    let two = its_turn(&gate, &two);
    gate.leave(one);
    assert_eq!(free(&gate), (2, 0));
    let three = its_turn(&gate, &three);
    gate.leave(two);
    assert_eq!(free(&gate), (2, 1));
    gate.leave(three);
    assert_eq!(free(&gate), (2, 2));
}

/// K03: the place is handed over, so there is nothing to be taken in passing.
#[test]
fn no_newcomer_passes_a_waiter() {
    let gate = gate(1, 2);
    let seat = admitted(enter(&gate));
    let first = waiting(enter(&gate));

    gate.leave(seat);
    let newcomer = waiting(enter(&gate));

    assert!(poll(&gate, &newcomer).is_none());
    gate.leave(its_turn(&gate, &first));
    gate.leave(its_turn(&gate, &newcomer));
}

/// K04.
#[test]
fn a_waiter_that_leaves_leaves_no_hole() {
    let gate = gate(1, 10);
    let one = admitted(enter(&gate));
    let two = waiting(enter(&gate));
    let three = waiting(enter(&gate));

    assert!(gate.give_up(two).is_none());
    gate.leave(one);

    let _three = its_turn(&gate, &three);
    assert_eq!(free(&gate), (10, 0));
}

/// K02, K04.
#[test]
fn a_waiter_that_leaves_as_its_turn_comes_passes_it_on() {
    let gate = gate(1, 10);
    let one = admitted(enter(&gate));
    let two = waiting(enter(&gate));
    let three = waiting(enter(&gate));
    let woken = Arc::new(Woken::default());
    assert!(gate.poll(&three, &Waker::from(Arc::clone(&woken))).is_none());

    gate.leave(one);
    let Some(Outcome::Admitted(seat)) = gate.give_up(two) else { panic!("it was its turn") };
    assert_eq!(woken.count(), 0);
    gate.leave(seat);

    assert_eq!(woken.count(), 1);
    gate.leave(its_turn(&gate, &three));
    assert_eq!(free(&gate), (10, 1));
}

/// K08.
#[test]
fn a_higher_limit_lets_in_who_waits_and_a_lower_one_puts_nobody_out() {
    let gate = gate(4, 3);
    let mut seats: Vec<_> = (0..4).map(|_| admitted(enter(&gate))).collect();
    let first = waiting(enter(&gate));
    let second = waiting(enter(&gate));
    let woken = Arc::new(Woken::default());
    assert!(gate.poll(&first, &Waker::from(Arc::clone(&woken))).is_none());

    gate.set_limit(5);
    assert_eq!(woken.count(), 1);
    seats.push(its_turn(&gate, &first));

    gate.set_limit(3);
    assert_eq!(gate.inside(), 5);
    for inside in [4, 3] {
        gate.leave(seats.pop().unwrap());
        assert_eq!(gate.inside(), inside, "nobody comes in past the new limit");
    }
    gate.leave(seats.pop().unwrap());
    seats.push(its_turn(&gate, &second));
    assert_eq!(gate.inside(), 3);
    for seat in seats {
        gate.leave(seat);
    }
    assert_eq!(gate.inside(), 0);
}

/// K08.
#[test]
fn a_shorter_queue_turns_nobody_away_who_waits() {
    let gate = gate(1, 2);
    let seat = admitted(enter(&gate));
    let places = [waiting(enter(&gate)), waiting(enter(&gate))];

    gate.set_bound(0);

    assert_eq!(refused(enter(&gate)), Refusal::Full);
    gate.leave(seat);
    for place in &places {
        gate.leave(its_turn(&gate, place));
    }
    assert_eq!(refused_by_none(&gate), 0);
}

fn refused_by_none(gate: &Gate) -> u32 {
    gate.leave(admitted(enter(gate)));
    gate.inside()
}

#[test]
fn a_waker_is_replaced_by_that_of_the_last_poll() {
    let gate = gate(1, 1);
    let seat = admitted(enter(&gate));
    let place = waiting(enter(&gate));
    let wokens = [Arc::new(Woken::default()), Arc::new(Woken::default())];

    for woken in &wokens {
        assert!(gate.poll(&place, &Waker::from(Arc::clone(woken))).is_none());
    }
    gate.leave(seat);

    assert_eq!(wokens.each_ref().map(|woken| woken.count()), [0, 1]);
    assert_eq!(Arc::strong_count(&wokens[0]), 1, "the former one is not kept");
}

#[test]
fn who_is_let_in_anyway_takes_a_place_and_is_told_what_would_have_been() {
    let gate = gate(1, 1);

    let (first, would) = gate.enter_anyway(Ask::default(), untimed);
    assert_eq!(would, Would::Enter);
    let (second, would) = gate.enter_anyway(Ask::default(), untimed);
    assert_eq!(would, Would::Wait);
    gate.set_bound(0);
    let (third, would) = gate.enter_anyway(Ask::default(), untimed);
    assert_eq!(would, Would::Refuse(Refusal::Full));

    assert_eq!((gate.inside(), gate.waiting()), (3, 0));
    for seat in [first, second] {
        gate.leave(seat);
        assert_eq!(refused(enter(&gate)), Refusal::Full);
    }
    gate.leave(third);
    assert_eq!(gate.inside(), 0);
}

#[test]
fn all_who_wait_can_be_let_in() {
    let gate = gate(1, 3);
    let seat = admitted(enter(&gate));
    let places: Vec<_> = (0..3).map(|_| waiting(enter(&gate))).collect();

    gate.let_all_in();

    assert_eq!((gate.inside(), gate.waiting()), (4, 0));
    gate.leave(seat);
    for place in &places {
        gate.leave(its_turn(&gate, place));
    }
    assert_eq!(gate.inside(), 0);
}

#[test]
fn many_threads_never_exceed_the_limit_and_lose_nothing() {
    let gate = gate(3, 4);
    let inside = AtomicU32::new(0);
    let work = |seat: Seat| {
        assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
        thread::yield_now();
        inside.fetch_sub(1, Ordering::SeqCst);
        gate.leave(seat);
    };

    thread::scope(|scope| {
        for seed in 0..4 {
            let (gate, work) = (&gate, &work);
            scope.spawn(move || {
                let random = Random::seeded(seed);
                for _ in 0..20_000 {
                    match enter(gate) {
                        Entry::Admitted(seat) => work(seat),
                        Entry::Refused(why) => assert_eq!(why, Refusal::Full),
                        Entry::Waiting(place) => wait(gate, place, &random, work),
                    }
                    if Random::below(random.draw(), 16) == 0 {
                        // Down and up again, always below what is checked.
                        gate.set_limit(1 + u32::try_from(Random::below(random.draw(), 3)).unwrap());
                    }
                }
            });
        }
    });

    assert_eq!((gate.inside(), gate.waiting()), (0, 0));
    gate.set_limit(1);
    assert_eq!(refused_by_none(&gate), 0);
    assert_eq!(inside.into_inner(), 0);
}

/// Waits for its turn, or for a while.
fn wait(gate: &Gate, place: Place, random: &Random, work: impl Fn(Seat)) {
    for _ in 0..Random::below(random.draw(), 20) {
        match gate.poll(&place, Waker::noop()) {
            None => thread::yield_now(),
            Some(Outcome::Admitted(seat)) => return work(seat),
            Some(Outcome::Refused(why)) => panic!("{why:?}, and all are alike"),
        }
    }
    if let Some(Outcome::Admitted(seat)) = gate.give_up(place) {
        work(seat);
    }
}
