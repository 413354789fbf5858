//! Snapshots of objectives that are other ones now.

use super::*;
use crate::{Combine, Composite, Policy};

#[test]
fn a_window_that_became_another_takes_what_is_known_of_it() {
    let zone = |name: &str| name.parse::<crate::Zone>().unwrap();
    let over = |window: Window| vec![available("up", "99").over(window)];
    let utc = || Window::month(crate::Zone::UTC);
    // January and ten days of February: ten calls an hour, one of which fails.
    let hourly = Counts { good: 9, bad: 1 };
    let (january, february) = (31 * 24, 10 * 24);
    for (before, after, known, length) in [
        // A rolling one has counts and no period; a month begins with those of this month.
        (Window::THIRTY_DAYS, utc(), february, 28),
        // A quarter holds more than the month that is under way: as far back as was kept for that,
        // which is 31 days and a few hours.
        (utc(), Window::quarter(crate::Zone::UTC), 747, 90),
        // In New York February began five hours later.
        (utc(), Window::month(zone("America/New_York")), february - 5, 28),
        (utc(), Window::THIRTY_DAYS, 30 * 24, 30),
    ] {
        let mut bench = Bench::new(over(before.clone()));
        bench.run("up", january + february, 3_600, hourly);
        let bytes = snapshot(&bench);

        let mut other = later(&bench, 1, over(after.clone()));
        restore(&mut other, &bytes);
        let at_once = other.tracker.numbers("up").unwrap();
        let told = other.after(1);
        let later = other.tracker.numbers("up").unwrap();

        let days = Duration::from_secs(length * 86_400);
        assert_eq!(at_once.period.length(), days, "{before} to {after}");
        assert_eq!(at_once.budget.counts().bad, known, "{before} to {after}");
        assert_eq!(later.budget.counts().bad, known, "{before} to {after}");
        let begun = told.iter().any(|one| matches!(one, Happening::NewPeriod { .. }));
        assert!(!begun, "{before} to {after}: {told:?}");
    }
}

#[test]
fn a_window_that_became_longer_has_not_observed_what_was_not_kept() {
    let mut bench = Bench::new(up());
    bench.run("up", 60 * 24, 3_600, Counts { good: 999, bad: 1 });
    assert_eq!(bench.tracker.numbers("up").unwrap().budget.remaining(), crate::Share::ZERO);
    let bytes = snapshot(&bench);

    let mut other = later(&bench, 0, vec![available("up", "99.9").over(Window::NINETY_DAYS)]);
    restore(&mut other, &bytes);

    // Sixty days were counted, and a little more than thirty were kept: a third of the ninety.
    let budget = other.tracker.numbers("up").unwrap().budget;
    let days = budget.coverage().observed_seconds() / 86_400;
    assert_eq!(days, 30);
    assert_eq!(budget.counts().total(), 721_000);
    assert_eq!(budget.remaining().to_string(), "66.62%");
}

#[test]
fn a_policy_that_was_replaced_stands_where_its_edges_say_at_once() {
    let name = |name: &str| name.parse::<crate::Name>().unwrap();
    let composite = || Composite::new(name("all"), Combine::Any, [name("up")]);
    let mut bench = Bench::new(up());
    bench.tracker.compose(composite()).unwrap();
    bench.run("up", 3_600, 1, Counts { good: 0, bad: 1 });
    let bytes = snapshot(&bench);

    let mut other =
        later(&bench, 5, vec![available("up", "99.9").with_policy(Policy::escalating())]);
    other.tracker.compose(composite()).unwrap();
    // Before it restores, a tracker ticks.
    other.after(1);
    restore(&mut other, &bytes);
    let at_once = other.tracker.standings();
    let told = other.after(1);

    let levels: Vec<_> = at_once.iter().map(|standing| &*standing.level).collect();
    assert_eq!(levels, ["exhausted", "freeze"]);
    let moved = told.iter().any(|one| matches!(one, Happening::Level { .. }));
    assert!(!moved, "nobody left a level: {told:?}");
}
