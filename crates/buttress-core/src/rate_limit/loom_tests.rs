//! Run with `RUSTFLAGS="--cfg buttress_loom" cargo test -p buttress-core --release --lib loom`.

use std::{
    num::NonZeroU32,
    task::Waker,
    time::{Duration, Instant},
};

use loom::{sync::Arc, thread};

use super::{Ask, Entry, Limiter, Turn};
use crate::Rate;

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// A limiter whose first instant is known, so that no thread of the model sets it.
fn limiter(rate: Rate) -> (Arc<Limiter>, Instant) {
    #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
    let start = Instant::now();
    let limiter = Limiter::new([rate]);
    let _ = limiter.peek(start);
    (Arc::new(limiter), start)
}

fn taken(limiter: &Limiter, now: Instant) -> u32 {
    u32::from(limiter.take(Ask::one(), now).is_ok())
}

fn left(limiter: &Limiter, now: Instant) -> u32 {
    (0..10).map(|_| taken(limiter, now)).sum()
}

#[test]
fn loom_two_who_take_at_once_get_what_is_there_and_no_more() {
    loom::model(|| {
        let (limiter, now) = limiter(Rate::per_second(n(2)));
        let other = {
            let limiter = Arc::clone(&limiter);
            thread::spawn(move || taken(&limiter, now) + taken(&limiter, now))
        };

        let mine = taken(&limiter, now);

        assert_eq!(mine + other.join().unwrap(), 2);
        assert_eq!(left(&limiter, now), 0);
    });
}

#[test]
fn loom_a_change_of_rate_beside_who_takes_mints_nothing_and_loses_nothing() {
    loom::model(|| {
        let (limiter, now) = limiter(Rate::per_second(n(3)));
        let taker = {
            let limiter = Arc::clone(&limiter);
            thread::spawn(move || taken(&limiter, now))
        };

        // Other ticks, other burst: what a word means is different afterwards.
        limiter.set_rate(0, Rate::per_minute(n(7)).burst(n(5)), now);

        assert_eq!(taker.join().unwrap(), 1);
        assert_eq!(limiter.peek(now).available, 2);
        assert_eq!(left(&limiter, now), 2);
    });
}

#[test]
fn loom_a_refund_beside_who_takes_is_kept() {
    loom::model(|| {
        let (limiter, now) = limiter(Rate::per_second(n(2)));
        assert_eq!(taken(&limiter, now), 1);
        let taker = {
            let limiter = Arc::clone(&limiter);
            thread::spawn(move || taken(&limiter, now))
        };

        limiter.refund(n(1), now);

        assert_eq!(taker.join().unwrap(), 1);
        assert_eq!(left(&limiter, now), 1);
    });
}

#[test]
fn loom_a_change_a_refund_and_who_takes() {
    let mut model = loom::model::Builder::new();
    // Three threads that all lock: every interleaving takes minutes, those with three switches
    // seconds.
    model.preemption_bound = Some(3);
    model.check(|| {
        let (limiter, now) = limiter(Rate::per_second(n(2)));
        assert_eq!(taken(&limiter, now), 1);
        let threads = [
            {
                let limiter = Arc::clone(&limiter);
                thread::spawn(move || taken(&limiter, now))
            },
            {
                let limiter = Arc::clone(&limiter);
                thread::spawn(move || {
                    limiter.refund(n(1), now);
                    0
                })
            },
        ];

        limiter.set_rate(0, Rate::per_second(n(3)), now);

        let took: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(took, 1);
        // One of two was there; one was taken and one given back, in whatever order. The change
        // keeps it.
        let left = left(&limiter, now);
        assert_eq!(left, 1);
    });
}

#[test]
fn loom_who_waits_is_let_in_or_keeps_its_place_while_another_leaves() {
    loom::model(|| {
        let (limiter, start) = limiter(Rate::per_second(n(1)));
        assert_eq!(taken(&limiter, start), 1);
        let patience = Duration::from_secs(60);
        let join = || match limiter.take_or_wait(Ask::one(), patience, start) {
            Entry::Waiting(place) => place,
            other => panic!("{other:?}"),
        };
        let (first, second) = (join(), join());
        let later = start + Duration::from_secs(1);
        let leaver = {
            let limiter = Arc::clone(&limiter);
            thread::spawn(move || limiter.leave(first, later))
        };

        let turn = limiter.ask(second, later, Waker::noop());
        let newcomer = taken(&limiter, later);
        leaver.join().unwrap();

        assert_eq!(newcomer, 0, "it passed who waits");
        let turn = match turn {
            Turn::Wait(_) => limiter.ask(second, later, Waker::noop()),
            turn => turn,
        };
        assert_eq!(turn, Turn::Admitted);
        assert_eq!(left(&limiter, later), 0);
    });
}
