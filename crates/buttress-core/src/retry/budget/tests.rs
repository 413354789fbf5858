use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
    Instant::now()
}

/// A budget, and what decides of it in percent.
fn moved(budget: impl Into<Budget>) -> (Budget, Arc<AtomicU32>) {
    let percent = Arc::new(AtomicU32::new(100));
    let asked = Arc::clone(&percent);
    let leeway = Leeway::by(move || Ratio::percent(asked.load(Ordering::Relaxed)));
    (budget.into().leeway(leeway), percent)
}

#[test]
fn a_budget_grants_what_its_leeway_leaves_of_it_at_each_moment() {
    let now = now();
    let (budget, percent) = moved(Percentage::new(Ratio::percent(50)).floor(1));
    for _ in 0..20 {
        let _ = budget.begin(now);
    }
    assert_eq!(budget.balance(now), Some(20), "ten of the share and ten of the floor");

    percent.store(25, Ordering::Relaxed);
    assert_eq!((0..20).filter(|_| budget.withdraw(now).is_some()).count(), 5);
    assert_eq!(budget.balance(now), Some(0));

    percent.store(100, Ordering::Relaxed);
    assert_eq!((0..20).filter(|_| budget.withdraw(now).is_some()).count(), 15, "the rest");

    percent.store(0, Ordering::Relaxed);
    assert_eq!((budget.balance(now), budget.would_allow(now)), (Some(0), false));
}

#[test]
fn tokens_and_flights_and_no_limit_have_their_leeway_too() {
    let now = now();
    let (tokens, percent) = moved(Tokens::new(10));
    assert_eq!(tokens.balance(now), Some(5));
    percent.store(40, Ordering::Relaxed);
    assert_eq!(tokens.balance(now), Some(2));
    tokens.failed();
    assert!(tokens.withdraw(now).is_some());
    tokens.failed();
    assert!(tokens.withdraw(now).is_none());
    percent.store(100, Ordering::Relaxed);
    assert!(tokens.withdraw(now).is_some(), "two of ten are gone, and five may be");

    let (flights, percent) = moved(InFlight::new(Ratio::ZERO).floor(4));
    let held: Vec<_> = (0..3).map(|_| flights.withdraw(now).unwrap()).collect();
    percent.store(50, Ordering::Relaxed);
    assert!(flights.withdraw(now).is_none());
    assert_eq!(flights.balance(now), Some(0), "what is under way stays");
    drop(held);
    assert_eq!(flights.balance(now), Some(2));

    let (unlimited, percent) = moved(Budget::unlimited());
    percent.store(1, Ordering::Relaxed);
    assert_eq!(unlimited.balance(now), None);
    percent.store(0, Ordering::Relaxed);
    assert!(!unlimited.would_allow(now) && unlimited.withdraw(now).is_none());
}

#[test]
fn leeway_binds_those_who_were_given_it_and_the_budget_is_one() {
    let now = now();
    let shared = Budget::from(Percentage::new(Ratio::ZERO).floor(1));
    let careful = shared.clone().leeway(Leeway::by(|| Ratio::percent(30)));

    assert_eq!((0..9).filter(|_| careful.withdraw(now).is_some()).count(), 3);
    assert_eq!(shared.balance(now), Some(7));
    assert!(careful.is_same(&shared));
    let careful_too = careful.clone();
    assert_eq!(careful_too.balance(now), Some(0));
}

#[test]
fn a_panic_of_whoever_decides_takes_nothing() {
    let now = now();
    let budget = Budget::from(InFlight::new(Ratio::ZERO).floor(1));
    let broken = budget.clone().leeway(Leeway::by(|| panic!("a user's own code")));

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| broken.withdraw(now)));

    assert!(panicked.is_err());
    assert_eq!(budget.balance(now), Some(1));
}
