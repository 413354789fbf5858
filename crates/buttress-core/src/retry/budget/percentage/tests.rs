use proptest::prelude::*;

use super::*;
use crate::retry::Budget;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
fn start() -> Instant {
    Instant::now()
}

fn window(seconds: u64, floor: u32, share: u32) -> Window {
    let share = Ratio::per_billion(share).unwrap();
    let within = TimeLimit::from_secs(seconds);
    Window::new(Percentage::new(share).floor(floor).within(within))
}

fn granted(window: &Window, requests: u32) -> u32 {
    let now = start();
    let each = |_| {
        window.deposit(now);
        u32::from(window.withdraw(now, Ratio::ONE))
    };
    let mut granted = (0..requests).map(each).sum();
    // What is left over at the end: the floor, and a share that came too late.
    while window.withdraw(now, Ratio::ONE) {
        granted += 1;
    }
    granted
}

// R14, X19
#[test]
fn ten_thousand_requests_have_exactly_their_share_of_retries() {
    let shares = [1, 10, 100, 1_000, 2_500, 5_000, 6_000, 7_500, 9_900, 9_990, 9_999];
    for expected in shares {
        assert_eq!(granted(&window(60, 0, expected * 100_000), 10_000), expected);
    }
    assert_eq!(granted(&window(60, 0, 300_000_000), 10_000), 3_000);
}

// R14
#[test]
fn a_floor_comes_on_top() {
    for (seconds, floor, share, expected) in
        [(1, 10, 0, 10), (1, 10, 100_000_000, 1_010), (2, 5, 500_000_000, 5_010)]
    {
        assert_eq!(granted(&window(seconds, floor, share), 10_000), expected);
    }
}

// R14
#[test]
fn more_than_one_for_each_is_allowed() {
    let window = Window::new(Percentage::times(2).floor(0));
    let now = start();

    (0..10_000).for_each(|_| window.deposit(now));

    assert_eq!(window.balance(now, Ratio::ONE), 20_000);
}

// R15
#[test]
fn windows_outside_of_a_second_to_a_minute_are_refused() {
    for wrong in [millis(999), millis(60_001), Duration::from_secs(61)] {
        let within = TimeLimit::try_from(wrong).unwrap();
        let made = std::panic::catch_unwind(|| Percentage::new(Ratio::ZERO).within(within));
        assert!(made.is_err(), "{wrong:?}");
    }
    assert!(TimeLimit::try_from(Duration::ZERO).is_err());
}

// R15
#[test]
fn neither_a_share_nor_a_floor_is_always_empty() {
    assert_eq!(granted(&window(10, 0, 0), 10_000), 0);
}

// R15
#[test]
fn the_default_starts_with_a_hundred() {
    assert_eq!(Budget::percent(20).balance(start()), Some(100));
}

// R15
#[test]
fn requests_expire() {
    let whole = window(1, 0, 1_000_000_000);
    let now = start();
    whole.deposit(now);
    assert!(!whole.withdraw(now + millis(3_000), Ratio::ONE));

    let half = window(1, 0, 500_000_000);
    half.deposit(now);
    half.deposit(now);
    assert!(half.withdraw(now + millis(901), Ratio::ONE));
    assert!(!half.withdraw(now + millis(901), Ratio::ONE));
    let then = now + millis(901 + 2_001);
    half.deposit(then);
    half.deposit(then + millis(301));
    half.deposit(then + millis(301 + 801));
    assert!(half.withdraw(then + millis(301 + 801), Ratio::ONE), "the second and the third pay");
    assert!(!half.withdraw(then + millis(301 + 801), Ratio::ONE));
}

// R15
#[test]
fn a_reserve_of_five_pays_for_five() {
    let window = window(1, 5, 0);
    let now = start();

    assert!((0..5).all(|_| window.withdraw(now, Ratio::ONE)));
    assert!(!window.withdraw(now, Ratio::ONE));
    assert!(!window.withdraw(now + millis(900), Ratio::ONE));
    assert!(
        window.withdraw(now + millis(1_000), Ratio::ONE),
        "and comes back when the window has passed"
    );
}

// X17: at 10 %, 10,000 requests of which half fail again and again.
#[test]
fn at_half_failing_a_tenth_is_retried_and_no_more() {
    let window = window(60, 0, 100_000_000);
    let now = start();
    let (mut calls, mut draws) =
        (0, (0..).map(|index| crate::Random::at(5, index).is_multiple_of(2)));

    for _ in 0..10_000 {
        window.deposit(now);
        calls += 1;
        while draws.next().unwrap() && window.withdraw(now, Ratio::ONE) {
            calls += 1;
        }
    }

    assert!((10_990..=11_000).contains(&calls), "{calls} calls with seed 5");
}

#[test]
fn many_threads_take_no_more_than_there_is() {
    let window = window(60, 3, 250_000_000);
    let now = start();

    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let each = |_| {
                        window.deposit(now);
                        usize::from(window.withdraw(now, Ratio::ONE))
                            + usize::from(window.withdraw(now, Ratio::ONE))
                    };
                    (0..5_000).map(each).sum::<usize>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });

    assert_eq!(taken, 10_000 + 180);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u32),
    Deposit,
    Withdraw,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (0_u32..3_000).prop_map(Step::Wait),
        4 => Just(Step::Deposit),
        3 => Just(Step::Withdraw),
    ];
    proptest::collection::vec(step, 0..400)
}

proptest! {
    // R14, against a log that keeps everything.
    #[test]
    fn it_decides_as_a_log_would(
        steps in steps(),
        share in 0_u32..=1_000_000_000,
        floor in 0_u32..3,
        seconds in 1_u64..=4,
    ) {
        let window = window(seconds, floor, share);
        let (start, slice) = (start(), u128::from(seconds) * 1_000_000_000 / 16);
        window.deposit(start);
        let (mut requests, mut retries, mut now) = (vec![0], Vec::new(), start);

        for step in steps {
            let at = now.duration_since(start).as_nanos() / slice;
            let recent = |log: &[u128]| log.iter().filter(|then| at - **then < 16).count() as u128;
            match step {
                Step::Wait(wait) => now += millis(u64::from(wait)),
                Step::Deposit => {
                    window.deposit(now);
                    requests.push(at);
                }
                Step::Withdraw => {
                    let allowed = recent(&requests) * u128::from(share) / 1_000_000_000
                        + u128::from(floor) * u128::from(seconds);
                    let expected = recent(&retries) < allowed;
                    let balance = allowed.saturating_sub(recent(&retries));
                    prop_assert_eq!(u128::from(window.balance(now, Ratio::ONE)), balance);
                    prop_assert_eq!(window.withdraw(now, Ratio::ONE), expected);
                    if expected {
                        retries.push(at);
                    }
                }
            }
        }
    }
}
