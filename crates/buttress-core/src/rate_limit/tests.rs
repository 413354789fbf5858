mod properties;
mod waiting;

use std::{
    num::NonZeroU32,
    sync::Arc,
    task::Waker,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{Rate, TimeLimit};

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
fn start() -> Instant {
    Instant::now()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A limiter, and a way to ask it at so many milliseconds: `None` if admitted, else the wait.
struct Rig {
    limiter: Limiter,
    start: Instant,
}

impl Rig {
    fn new(rates: impl IntoIterator<Item = Rate>) -> Self {
        Self { limiter: Limiter::new(rates), start: start() }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + ms(millis)
    }

    fn ask(&self, millis: u64, cost: u32) -> Option<Duration> {
        let asked = self.limiter.take(Ask::cost(n(cost)), self.at(millis));
        asked.err().map(|short| short.retry_after().expect("it fits into the burst"))
    }

    fn one(&self, millis: u64) -> Option<Duration> {
        self.ask(millis, 1)
    }

    fn take_all(&self, millis: u64) -> usize {
        (0..1000).take_while(|_| self.one(millis).is_none()).count()
    }
}

/// L01.
#[test]
fn two_a_second_admits_and_refuses_as_the_cell_rate_algorithm_does() {
    let rig = Rig::new([Rate::per_second(n(2))]);

    let trace = [0, 1, 2, 500, 501, 999, 1000, 1001, 1501].map(|at| rig.one(at));

    let wait = |millis| Some(ms(millis));
    let expected = [None, None, wait(498), None, wait(499), wait(1), None, wait(499), None];
    assert_eq!(trace, expected);
}

/// L02.
#[test]
fn a_request_may_cost_more_than_one_and_one_that_is_refused_costs_nothing() {
    let rig = Rig::new([Rate::per_second(n(5))]);

    let trace = [
        (0, 4, None),
        (0, 2, Some(200)),
        (199, 1, None),
        (200, 1, None),
        (200, 1, Some(200)),
        (400, 2, Some(200)),
        (600, 2, None),
        (800, 1, None),
        (2800, 5, None),
        (2800, 1, Some(200)),
    ];

    for (at, cost, wait) in trace {
        assert_eq!(rig.ask(at, cost), wait.map(ms), "{cost} at {at} ms");
    }
}

/// L04.
#[test]
fn a_long_quiet_spell_earns_one_burst_and_not_more() {
    let rig = Rig::new([Rate::per_second(n(5))]);

    for quiet in [0, 2_000, 3_600_000, 100 * 365 * 86_400_000] {
        let at = 10_000 + quiet;
        assert_eq!(rig.take_all(at), 5, "after {quiet} ms");
        assert_eq!(rig.one(at), Some(ms(200)));
    }
}

/// L09.
#[test]
fn there_is_no_boundary_at_which_two_bursts_meet() {
    let rig = Rig::new([Rate::per_second(n(100))]);

    let first = (0..100).filter(|_| rig.one(900).is_none()).count();
    let second = (0..100).filter(|_| rig.one(1100).is_none()).count();

    assert_eq!((first, second), (100, 20));
}

/// L13.
#[test]
fn twenty_threads_at_once_get_twenty_and_not_one_more() {
    let rig = Arc::new(Rig::new([Rate::per_second(n(20))]));

    let threads = (0..20).map(|_| {
        let rig = Arc::clone(&rig);
        thread::spawn(move || rig.one(0).is_none())
    });
    let threads: Vec<_> = threads.collect();
    let admitted = threads.into_iter().map(|thread| thread.join().unwrap());

    assert_eq!(admitted.filter(|admitted| *admitted).count(), 20);
    assert_eq!(rig.one(2), Some(ms(48)));
    assert_eq!(rig.one(1000), None);
}

#[test]
fn many_threads_and_a_clock_that_stands_still_admit_one_burst() {
    let rig = Arc::new(Rig::new([Rate::per_second(n(1000))]));

    let threads: Vec<_> = (0..8)
        .map(|_| {
            let rig = Arc::clone(&rig);
            thread::spawn(move || (0..500).filter(|_| rig.one(0).is_none()).count())
        })
        .collect();

    assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 1000);
}

#[test]
fn what_can_never_be_admitted_is_told_so_and_costs_nothing() {
    let rig = Rig::new([Rate::per_second(n(5))]);

    let short = rig.limiter.take(Ask::cost(n(6)), rig.at(0)).unwrap_err();

    assert!(short.is_hopeless());
    assert_eq!(short.retry_after(), None);
    assert_eq!(rig.take_all(0), 5);
}

#[test]
fn a_clock_that_goes_backwards_mints_nothing() {
    let rig = Rig::new([Rate::per_second(n(2))]);

    assert_eq!(rig.take_all(10_000), 2);
    assert_eq!(rig.one(9_000), Some(ms(1500)));
    assert_eq!(rig.take_all(10_500), 1);
    assert_eq!(rig.one(0), Some(ms(11_000)));
    assert_eq!(rig.one(10_500), Some(ms(500)));
}

#[test]
fn several_limits_take_all_or_nothing_and_the_tightest_names_the_wait() {
    let rig = Rig::new([Rate::per_second(n(2)), Rate::per_day(n(5))]);

    let trace = [0, 0, 0, 1000, 1000, 2000, 2000].map(|at| rig.one(at));
    let short = rig.limiter.take(Ask::one(), rig.at(2000)).unwrap_err();

    // A fifth of a day after the burst, two seconds of which have passed.
    let until_next = Some(ms(86_400_000 / 5 - 2000));
    assert_eq!(trace, [None, None, Some(ms(500)), None, None, None, until_next]);
    assert_eq!(short.limit(), 1);
    // What the day refused has cost the second nothing.
    rig.limiter.refund(n(1), rig.at(2000));
    assert_eq!(rig.one(2000), None);
}

#[test]
fn a_peek_takes_nothing_and_is_not_stale() {
    let rig = Rig::new([Rate::per_second(n(2))]);
    rig.take_all(0);

    let empty = rig.limiter.peek(rig.at(0));
    let again = rig.limiter.peek(rig.at(0));
    let later = rig.limiter.peek(rig.at(600));
    let idle = rig.limiter.peek(rig.at(10_000));

    assert_eq!(empty, Peek { available: 0, next_in: ms(500), waiting: 0 });
    assert_eq!(again, empty);
    assert_eq!(later, Peek { available: 1, next_in: ms(0), waiting: 0 });
    assert_eq!(idle, Peek { available: 2, next_in: ms(0), waiting: 0 });
}

#[test]
fn a_refund_gives_back_what_was_taken_and_never_more_than_full() {
    let rig = Rig::new([Rate::per_second(n(5))]);
    assert_eq!(rig.ask(0, 5), None);

    rig.limiter.refund(n(2), rig.at(0));
    let refunded = rig.take_all(0);
    rig.limiter.refund(n(100), rig.at(0));

    assert_eq!(refunded, 2);
    assert_eq!(rig.take_all(0), 5);
}

#[test]
fn a_drained_bucket_fills_up_from_nothing() {
    let rig = Rig::new([Rate::per_second(n(5))]);

    rig.limiter.drain(rig.at(0));

    assert_eq!(rig.one(0), Some(ms(200)));
    assert_eq!(rig.take_all(1000), 5);
}

#[test]
fn a_reserve_is_left_for_those_who_may_have_the_last() {
    let rig = Rig::new([Rate::per_second(n(10))]);
    let leaving = |at| rig.limiter.take(Ask::one().leaving(3), rig.at(at));

    let common = (0..20).filter(|_| leaving(0).is_ok()).count();
    let wait = leaving(0).unwrap_err().retry_after();
    let critical = rig.take_all(0);

    assert_eq!((common, wait, critical), (7, Some(ms(100)), 3));
    // Three must be there to be left, and one to be taken.
    assert_eq!(leaving(0).unwrap_err().retry_after(), Some(ms(400)));
    assert!(rig.limiter.take(Ask::cost(n(8)).leaving(3), rig.at(9000)).unwrap_err().is_hopeless());
}

#[test]
fn a_change_of_rate_is_no_burst_and_keeps_what_is_there() {
    let rig = Rig::new([Rate::per_second(n(10))]);
    assert_eq!(rig.ask(0, 7), None);

    rig.limiter.set_rate(0, Rate::per_second(n(1000)), rig.at(0));
    let raised = rig.take_all(0);
    rig.limiter.refund(n(500), rig.at(0));
    rig.limiter.set_rate(0, Rate::per_second(n(4)), rig.at(0));
    let lowered = rig.take_all(0);

    assert_eq!((raised, lowered), (3, 4));
    assert_eq!(rig.one(0), Some(ms(250)));
}

#[test]
fn a_rate_that_changes_over_and_over_mints_nothing() {
    let rig = Rig::new([Rate::per_second(n(10))]);
    rig.take_all(0);

    for round in 1..=1000 {
        rig.limiter.set_rate(0, Rate::per_second(n(3 + round % 17)), rig.at(0));
        assert_eq!(rig.one(0).map(|wait| wait > ms(0)), Some(true), "round {round}");
    }
}

#[test]
fn rates_from_one_a_year_to_four_billion_a_second_hold() {
    let year = TimeLimit::MAX;
    let rates = [
        Rate::new(n(1), year),
        Rate::new(n(1), year).burst(n(u32::MAX)),
        Rate::new(n(u32::MAX), year),
        Rate::per_day(n(1)).burst(n(100_000)),
        Rate::per_second(n(u32::MAX)),
        Rate::per_second(n(u32::MAX)).burst(n(1)),
        Rate::new(n(u32::MAX), TimeLimit::try_from(Duration::from_nanos(1)).unwrap()),
        Rate::new(n(999_999_937), year).burst(n(u32::MAX)),
    ];

    for rate in rates {
        let rig = Rig::new([rate]);
        let burst = rate.most_at_once().get();

        assert_eq!(rig.ask(0, burst), None, "{rate:?}");
        let wait = rig.one(0).unwrap();
        let interval = rate.interval();
        assert!(wait >= interval.saturating_sub(Duration::from_nanos(1)), "{rate:?} {wait:?}");
        // Bursts that take more than nine years to fill up are counted in coarse ticks.
        assert!(
            wait <= interval + interval / 100_000_000 + Duration::from_micros(1),
            "{rate:?}: {wait:?}"
        );
        assert!(rig.limiter.take(Ask::one(), rig.start + wait).is_ok(), "{rate:?}");
    }
}

/// Each change begins past all that the bucket's word has been, and so uses up ticks.
#[test]
fn a_slow_limit_whose_rate_is_moved_over_and_over_goes_on() {
    let rates = [5, 6].map(|events| Rate::new(n(events), TimeLimit::MAX).burst(n(1000)));
    let rig = Rig::new(rates[..1].iter().copied());
    rig.limiter.drain(rig.at(0));

    for round in 1..100 {
        rig.limiter.set_rate(0, rates[round % 2], rig.at(0));
        let wait = rig.one(0).unwrap();
        assert!(wait > ms(0) && wait <= 2 * TimeLimit::MAX.get(), "round {round}: {wait:?}");
    }

    let year = 366 * 86_400_000;
    assert!(rig.take_all(year) >= 5, "{:?}", rig.one(year));
}

/// The ticks of a fast rate last for 27 years.
#[test]
fn centuries_stop_no_limit_and_break_none() {
    let rates = [
        Rate::per_second(n(1_000_000_000)).burst(n(3)),
        Rate::new(n(u32::MAX), TimeLimit::try_from(Duration::from_nanos(1)).unwrap()).burst(n(3)),
        Rate::per_second(n(2)).burst(n(3)),
        Rate::per_day(n(1)).burst(n(3)),
    ];
    let century = Duration::from_secs(100 * 365 * 86_400);

    for rate in rates {
        let rig = Rig::new([rate]);
        for centuries in [0, 1, 2, 3, 7, 100, 1_000_000] {
            let now = rig.start + century * centuries;
            let took = (0..10).filter(|_| rig.limiter.take(Ask::one(), now).is_ok()).count();
            let wait = rig.limiter.take(Ask::one(), now).unwrap_err().retry_after().unwrap();
            assert!(took <= 3 && !wait.is_zero(), "{rate:?}, {centuries}: {took}, {wait:?}");
            assert!(took == 3 || centuries > 2, "{rate:?}, {centuries}: {took}");
            let waits = rig.limiter.take_or_wait(Ask::one(), Duration::MAX, now);
            let Entry::Waiting(place) = waits else { panic!("{waits:?}") };
            assert!(matches!(rig.limiter.ask(place, now, Waker::noop()), Turn::Wait(_)));
            rig.limiter.leave(place, now);
            rig.limiter.drain(now);
            let _ = rig.limiter.peek(now);
        }
    }
}
