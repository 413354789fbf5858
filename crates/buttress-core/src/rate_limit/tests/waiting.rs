use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use super::*;
use crate::Random;

impl Rig {
    fn wait(&self, millis: u64, patience: u64) -> Entry {
        self.limiter.take_or_wait(Ask::one(), ms(patience), self.at(millis))
    }

    fn join(&self, millis: u64) -> Place {
        match self.wait(millis, 1_000_000) {
            Entry::Waiting(place) => place,
            other => panic!("{other:?}"),
        }
    }

    fn turn(&self, millis: u64, place: Place) -> Turn<Duration> {
        match self.limiter.ask(place, self.at(millis), Waker::noop()) {
            Turn::Admitted => Turn::Admitted,
            Turn::Refused(shortage) => Turn::Refused(shortage),
            Turn::Wait(until) => Turn::Wait(until - self.start),
        }
    }
}

#[derive(Default)]
struct Rings(AtomicUsize);

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// L10.
#[test]
fn a_limit_that_is_raised_keeps_who_waits_and_lets_it_in_sooner() {
    let quarter = TimeLimit::from_millis(250);
    let rig = Rig::new([Rate::new(n(1), quarter)]);

    assert_eq!(rig.wait(250, 250), Entry::Admitted);
    let Entry::Waiting(second) = rig.wait(250, 250) else { panic!("it fits") };
    let before = rig.limiter.peek(rig.at(250));
    rig.limiter.set_rate(0, Rate::new(n(2), quarter), rig.at(250));
    let after = rig.limiter.peek(rig.at(250));
    let late = rig.start + Duration::from_nanos(500_000_010);
    let turn = rig.limiter.ask(second, late, Waker::noop());

    assert_eq!(before, Peek { available: -1, next_in: ms(500), waiting: 1 });
    assert_eq!(after, Peek { available: -1, next_in: ms(250), waiting: 1 });
    assert_eq!(turn, Turn::Admitted);
    assert_eq!(rig.limiter.peek(late).available, 1);
}

/// X14.
#[test]
fn who_waits_is_let_in_by_arrival_and_newcomers_do_not_pass() {
    let rig = Rig::new([Rate::per_second(n(10))]);
    rig.take_all(0);

    let places: Vec<_> = (0..20).map(|_| rig.join(0)).collect();
    let mut order = Vec::new();
    for step in 1..=20 {
        // A newcomer at the very instant that a token is there.
        assert!(rig.one(step * 100).is_some(), "a newcomer passed at {step}");
        order.extend(
            (0..20)
                .filter(|place| {
                    !order.contains(place) && rig.turn(step * 100, places[*place]) == Turn::Admitted
                })
                .collect::<Vec<_>>(),
        );
        assert_eq!(order.len() as u64, step);
    }

    assert!(order.is_sorted());
    assert_eq!(rig.one(2000), Some(ms(100)));
}

/// X15.
#[test]
fn a_hopeless_wait_is_refused_at_once_with_its_exact_length() {
    let rig = Rig::new([Rate::per_minute(n(1))]);
    rig.take_all(0);

    let refused = rig.wait(0, 500);
    let joined = rig.wait(59_500, 500);
    let behind = rig.wait(59_500, 500);

    let Entry::Refused(short) = refused else { panic!("{refused:?}") };
    assert_eq!(short.retry_after(), Some(Duration::from_secs(60)));
    assert!(matches!(joined, Entry::Waiting(_)));
    let Entry::Refused(short) = behind else { panic!("{behind:?}") };
    assert_eq!(short.retry_after(), Some(ms(60_500)));
}

#[test]
fn a_place_that_is_given_up_moves_all_behind_it_forward_and_tells_the_next() {
    let rig = Rig::new([Rate::per_second(n(1))]);
    rig.take_all(0);
    let places: Vec<_> = (0..3).map(|_| rig.join(0)).collect();
    let rings = Arc::new(Rings::default());
    let told = rig.limiter.ask(places[1], rig.at(0), &Waker::from(Arc::clone(&rings)));
    assert_eq!(told, Turn::Wait(rig.at(2000)));

    rig.limiter.leave(places[0], rig.at(500));

    assert_eq!(rings.0.load(Ordering::Relaxed), 1);
    assert_eq!(rig.turn(500, places[1]), Turn::Wait(ms(1000)));
    assert_eq!(rig.turn(1000, places[1]), Turn::Admitted);
    assert_eq!(rig.turn(2000, places[2]), Turn::Admitted);
}

#[test]
fn what_was_given_to_somebody_who_has_left_is_given_to_the_next() {
    let rig = Rig::new([Rate::per_second(n(1))]);
    rig.take_all(0);
    let (first, second) = (rig.join(0), rig.join(0));

    // The second comes by, and with it the first is let in, which leaves without asking.
    assert_eq!(rig.turn(1000, second), Turn::Wait(ms(2000)));
    rig.limiter.leave(first, rig.at(1000));

    assert_eq!(rig.turn(1000, second), Turn::Admitted);
    assert_eq!(rig.one(1000), Some(ms(1000)));
}

#[test]
fn who_sleeps_keeps_nobody_behind_it_waiting() {
    let rig = Rig::new([Rate::per_second(n(1)).burst(n(2))]);
    rig.take_all(0);
    let (asleep, awake) = (rig.join(0), rig.join(0));

    assert_eq!(rig.turn(2000, awake), Turn::Admitted);
    assert_eq!(rig.turn(9000, asleep), Turn::Admitted);
}

#[test]
fn a_rate_that_is_lowered_refuses_at_once_who_would_now_wait_too_long() {
    let rig = Rig::new([Rate::per_second(n(1))]);
    rig.take_all(0);
    let waiting: Vec<_> = (0..3)
        .map(|_| match rig.wait(0, 5000) {
            Entry::Waiting(place) => place,
            other => panic!("{other:?}"),
        })
        .collect();

    rig.limiter.set_rate(0, Rate::new(n(1), TimeLimit::from_secs(3)), rig.at(0));

    assert_eq!(rig.turn(0, waiting[0]), Turn::Wait(ms(3000)));
    for place in &waiting[1..] {
        let Turn::Refused(short) = rig.turn(0, *place) else { panic!("kept waiting") };
        assert_eq!(short.retry_after(), Some(ms(6000)));
    }
    assert_eq!(rig.turn(3000, waiting[0]), Turn::Admitted);
}

#[test]
fn a_refund_lets_in_who_waits() {
    let rig = Rig::new([Rate::per_second(n(1))]);
    rig.take_all(0);
    let first = rig.join(0);

    rig.limiter.refund(n(1), rig.at(0));

    assert_eq!(rig.turn(0, first), Turn::Admitted);
    assert_eq!(rig.one(0), Some(ms(1000)));
}

#[test]
fn several_limits_let_in_who_waits_when_all_of_them_do() {
    let rig = Rig::new([Rate::per_second(n(2)), Rate::per_minute(n(3))]);
    rig.take_all(0);
    let (first, second) = (rig.join(0), rig.join(0));

    assert_eq!(rig.turn(500, first), Turn::Admitted);
    assert_eq!(rig.turn(1000, second), Turn::Wait(ms(20_000)));
    assert_eq!(rig.turn(20_000, second), Turn::Admitted);
}

#[test]
fn who_may_have_the_last_passes_who_must_leave_it() {
    let rig = Rig::new([Rate::per_second(n(10))]);
    let common = Ask::one().leaving(5);
    for _ in 0..5 {
        rig.limiter.take(common, rig.at(0)).unwrap();
    }
    let Entry::Waiting(waits) = rig.limiter.take_or_wait(common, ms(1000), rig.at(0)) else {
        panic!("five are left for others")
    };

    assert_eq!(rig.take_all(0), 5);
    assert_eq!(rig.turn(500, waits), Turn::Wait(ms(600)));
    assert_eq!(rig.turn(600, waits), Turn::Admitted);
}

/// The queue keeps its order, whoever leaves, and lets in what the bucket would have let in.
#[test]
fn whoever_leaves_the_others_come_in_order_and_as_soon_as_the_rate_allows() {
    for seed in 0..60 {
        let draw = |index: u64, bound| Random::below(Random::at(seed, index), bound);
        let rig = Rig::new([Rate::per_second(n(10))]);
        rig.take_all(0);
        let (mut waiting, mut admitted) = (Vec::new(), Vec::new());
        let mut arrivals = 0;
        for step in 0..400_u64 {
            let now = step * 10;
            match draw(2 * step, 4) {
                0 | 1 => {
                    if let Entry::Waiting(place) = rig.wait(now, 1_000_000) {
                        waiting.push((arrivals, place));
                    } else {
                        admitted.push((arrivals, now));
                    }
                    arrivals += 1;
                }
                2 if !waiting.is_empty() => {
                    let length = waiting.len() as u64;
                    let who = usize::try_from(draw(2 * step + 1, length)).unwrap();
                    let (_, place) = waiting.remove(who);
                    rig.limiter.leave(place, rig.at(now));
                }
                _ => {}
            }
            waiting.retain(|(arrival, place)| match rig.turn(now, *place) {
                Turn::Admitted => {
                    admitted.push((*arrival, now));
                    false
                }
                Turn::Wait(until) => {
                    assert!(until > ms(now), "seed {seed}: {until:?} at {now} ms");
                    true
                }
                Turn::Refused(short) => panic!("seed {seed}: {short:?}"),
            });
            if !waiting.is_empty() {
                assert!(rig.one(now).is_some(), "seed {seed}: a newcomer passed at {now} ms");
            }
        }

        assert!(admitted.is_sorted_by_key(|(arrival, _)| *arrival), "seed {seed}: {admitted:?}");
        for (index, (_, at)) in admitted.iter().enumerate() {
            let before =
                admitted[..index].iter().filter(|(_, then)| *then > at.saturating_sub(1000));
            // Ten in the burst, which was taken before any of them.
            assert!(*at > 1000 || index as u64 <= at / 100, "seed {seed}: early at {at} ms");
            assert!(before.count() <= 20, "seed {seed}: too many at {at} ms");
        }
        assert!(!admitted.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_asleep() {
    struct Faulty;
    impl Wake for Faulty {
        fn wake(self: Arc<Self>) {
            panic!("as it was told");
        }
    }
    let rig = Rig::new([Rate::per_second(n(2))]);
    rig.take_all(0);
    let places = [rig.join(0), rig.join(0)];
    let rings = Arc::new(Rings::default());
    rig.limiter.ask(places[0], rig.at(0), &Waker::from(Arc::new(Faulty)));
    rig.limiter.ask(places[1], rig.at(0), &Waker::from(Arc::clone(&rings)));

    rig.limiter.refund(n(2), rig.at(0));

    assert_eq!(rings.0.load(Ordering::Relaxed), 1);
    assert_eq!(rig.turn(0, places[1]), Turn::Admitted);
}

/// The last waker of a task may take the task along, and what that waits for.
#[test]
fn a_waker_that_is_let_go_may_use_the_limiter() {
    struct Task(Arc<Rig>, Place);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Task {
        fn drop(&mut self) {
            self.0.limiter.leave(self.1, self.0.at(0));
        }
    }
    let rig = Arc::new(Rig::new([Rate::per_second(n(2))]));
    rig.take_all(0);
    let (moved, gone) = (rig.join(0), rig.join(0));
    let task = |place| Waker::from(Arc::new(Task(Arc::clone(&rig), place)));
    rig.limiter.ask(moved, rig.at(0), &task(gone));

    // It is polled by another task, and the waker of the first was all that kept that.
    rig.limiter.ask(moved, rig.at(0), Waker::noop());
    assert_eq!(rig.limiter.peek(rig.at(0)).waiting, 1);
    let gone = rig.join(0);
    rig.limiter.ask(moved, rig.at(0), &task(gone));
    rig.limiter.leave(moved, rig.at(0));

    assert_eq!(rig.limiter.peek(rig.at(0)).waiting, 0);
}

#[test]
fn a_change_of_a_limit_that_is_not_there_changes_nothing() {
    let rig = Rig::new([Rate::per_second(n(1))]);
    rig.take_all(0);
    let waits = rig.join(0);

    let rate = Rate::per_second(n(9));
    let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        rig.limiter.set_rate(1, rate, rig.at(1000));
    }));

    // Who was let in on the way has taken what there was.
    assert!(changed.is_err());
    assert_eq!(rig.turn(1000, waits), Turn::Admitted);
    assert_eq!(rig.one(1000), Some(ms(1000)));
}

#[test]
fn who_passes_wakes_only_those_whose_turn_comes_sooner_by_it() {
    let rig = Rig::new([Rate::per_second(n(10))]);
    rig.take_all(0);
    let common = Ask::one().leaving(5);
    let Entry::Waiting(waits) = rig.limiter.take_or_wait(common, ms(9000), rig.at(0)) else {
        panic!("five are left for others")
    };
    let rings = Arc::new(Rings::default());
    rig.limiter.ask(waits, rig.at(0), &Waker::from(Arc::clone(&rings)));

    let _ = rig.join(0);

    assert_eq!(rings.0.load(Ordering::Relaxed), 0);
    assert_eq!(rig.turn(0, waits), Turn::Wait(ms(700)));
}
