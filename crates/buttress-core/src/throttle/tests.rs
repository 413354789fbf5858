use std::time::Duration;

use super::*;
use crate::Random;

#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
fn start() -> Instant {
    Instant::now()
}

/// In millionths, as the rows have it.
fn millionths(settings: Settings, requests: u64, accepts: u64) -> u32 {
    (settings.probability(requests, accepts).parts_per_billion() + 500) / 1_000
}

// A06
#[test]
fn the_formula_is_that_of_failsafe_go_with_a_success_goal() {
    let goal = Settings::new().success_goal(Ratio::percent(90)).at_most(Ratio::percent(80));

    for (requests, accepts, expected) in [
        (100, 95, 0),
        (100, 90, 0),
        (120, 90, 165_289),
        (100, 70, 220_022),
        (100, 50, 440_044),
        (200, 50, 718_629),
        (1_000, 10, 800_000),
        (100, 0, 800_000),
        (0, 0, 0),
        (1, 0, 500_000),
    ] {
        assert_eq!(millionths(goal, requests, accepts), expected, "{requests}, {accepts}");
    }
}

// A06
#[test]
fn the_formula_is_that_of_the_book() {
    let book = Settings::new().at_most(Ratio::ONE);

    for (requests, accepts, expected) in
        [(100, 100, 0), (100, 50, 0), (100, 25, 495_050), (200, 50, 497_512), (100, 0, 990_099)]
    {
        assert_eq!(millionths(book, requests, accepts), expected, "{requests}, {accepts}");
    }
}

// A06
#[test]
fn the_formula_is_that_of_go_zero_with_an_allowance_of_five() {
    let go_zero = Settings::new().percent_of_accepts(150).allowance(5).at_most(Ratio::ONE);

    for (requests, accepts, expected) in [
        (5, 0, 0),
        (6, 0, 142_857),
        (100, 60, 49_505),
        (100, 50, 198_020),
        (100, 10, 792_079),
        (100, 0, 940_594),
    ] {
        assert_eq!(millionths(go_zero, requests, accepts), expected, "{requests}, {accepts}");
    }
}

// A06
#[test]
fn when_none_has_passed_for_a_second_one_does() {
    let throttle = Throttle::new(Settings::new().at_most(Ratio::ONE));
    let start = start();
    (0..1_000_000).for_each(|_| throttle.record(false, start));
    // Refused in any case.
    let admits = |millis| throttle.admits(|| start + Duration::from_millis(millis), || 0);

    assert!(!admits(999));
    assert!(admits(1_000));
    assert!(!admits(1_001));
    assert!(!admits(1_999));
    assert!(admits(2_000));
}

// A06
#[test]
fn by_default_one_in_ten_passes_and_one_a_second_however_bad_it_is() {
    let throttle = Throttle::new(Settings::new());
    let (start, random) = (start(), Random::seeded(7));
    (0..10_000).for_each(|_| throttle.record(false, start));

    assert_eq!(throttle.probability(start), Ratio::percent(90));
    let passed = (0..10_000).filter(|_| throttle.admits(|| start, || random.draw())).count();
    // Four standard deviations.
    assert!(passed.abs_diff(1_000) < 120, "{passed} with seed 7");
    let later = start + Duration::from_secs(1);
    assert!(throttle.admits(|| later, || 0), "one that the dice refuse");
}

// A06, what failsafe-go has after a failure.
#[test]
fn after_one_failure_alone_every_second_one_is_held_back() {
    let throttle = Throttle::new(Settings::new());

    throttle.record(false, start());

    assert_eq!(throttle.probability(start()), Ratio::percent(50));
}

#[test]
fn below_its_minimum_a_window_says_nothing_and_from_there_on_all_of_it_counts() {
    let settings = Settings::new().minimum(10);
    let throttle = Throttle::new(settings);

    (0..9).for_each(|_| throttle.record(false, start()));
    assert!(throttle.admits(|| unreachable!(), || unreachable!()));
    throttle.record(false, start());

    assert_eq!(throttle.probability(start()), Ratio::percent(90));
    // A06, from the minimum on.
    assert_eq!(millionths(settings.at_most(Ratio::ONE), 100, 25), 495_050);
    assert_eq!(millionths(settings, 9, 0), 0);
    assert_eq!(millionths(settings.at_most(Ratio::ONE), 10, 0), 909_091);
    // One that is accepted may reach it as well.
    let throttle = Throttle::new(settings);
    (0..9).for_each(|_| throttle.record(false, start()));
    throttle.record(true, start());
    assert!(throttle.is_throttling());
}

#[test]
fn all_pass_while_all_is_accepted_and_nobody_asks_for_the_time() {
    let throttle = Throttle::new(Settings::new());
    let start = start();

    for _ in 0..100 {
        assert!(throttle.admits(|| unreachable!(), || unreachable!()));
        throttle.record(true, start);
    }
    // Half of what is asked for may fail.
    (0..100).for_each(|_| throttle.record(false, start));

    assert!(!throttle.is_throttling());
    throttle.record(false, start);
    assert!(throttle.is_throttling());
}

#[test]
fn what_is_refused_is_the_share_that_it_says() {
    let throttle = Throttle::new(Settings::new());
    let (start, random) = (start(), Random::seeded(3));
    (0..100).for_each(|_| throttle.record(true, start));
    (0..300).for_each(|_| throttle.record(false, start));

    let admitted = (0..100_000).filter(|_| throttle.admits(|| start, || random.draw())).count();

    // (400 - 2 x 100) / 401, and four standard deviations.
    assert!(admitted.abs_diff(50_125) < 640, "{admitted} with seed 3");
}

#[test]
fn other_settings_share_a_window_of_the_same_length_in_both_directions() {
    let (start, shorter) = (start(), Settings::new().over(TimeLimit::from_secs(60)));
    let throttle = Throttle::new(Settings::new());
    // Before anything was recorded, so that both number the slices alike.
    let capped = throttle.with_settings(Settings::new().at_most(Ratio::percent(80)), start);
    let later = start + Duration::from_secs(30);
    (0..100).for_each(|_| throttle.record(false, later));

    let other = capped.with_settings(Settings::new().percent_of_accepts(110), later);
    other.record(false, later);

    assert_eq!([&throttle, &capped, &other].map(|each| each.window(later)), [(101, 0); 3]);
    assert_eq!(capped.probability(later), Ratio::percent(80));
    assert!(other.is_throttling(), "at once");
    let empty = throttle.with_settings(shorter, later);
    assert_eq!((empty.window(later), empty.is_throttling()), ((0, 0), false));
}

#[test]
fn an_outage_is_forgotten_when_its_window_has_passed() {
    let throttle = Throttle::new(Settings::new().over(TimeLimit::from_secs(16)));
    let start = start();
    (0..100).for_each(|_| throttle.record(false, start));
    let after = |seconds| start + Duration::from_secs(seconds);

    assert_eq!(throttle.probability(after(15)), Ratio::percent(90));
    assert_eq!(throttle.probability(after(16)), Ratio::ZERO);
    assert_eq!(throttle.window(after(16)), (0, 0));
}

#[test]
fn failures_count_for_more_once_the_acceptances_before_them_are_forgotten() {
    let throttle = Throttle::new(Settings::new().over(TimeLimit::from_secs(16)));
    let start = start();
    (0..100).for_each(|_| throttle.record(true, start));
    let later = start + Duration::from_secs(10);
    (0..50).for_each(|_| throttle.record(false, later));
    assert!(!throttle.is_throttling());

    throttle.record(true, start + Duration::from_secs(17));

    assert!(throttle.is_throttling());
}
