use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{Code, Facts, Judgement, Kind, Method, Protocol, Random, Reason, Verdict};

mod model;

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
fn origin() -> Instant {
    Instant::now()
}

fn bounds() -> Bounds {
    Bounds { bytes: 100_000, entry: 50_000, entries: 3, age: 100 * SECOND }
}

fn key(name: &str) -> Arc<str> {
    name.into()
}

/// Stores under a key, for ten seconds.
fn store(shelf: &mut Shelf<&'static str>, name: &str, item: &'static str, now: Instant) {
    let key = key(name);
    let claim = shelf.claim(&key, now).expect("nobody else stores");
    shelf.put(&key, claim, (10, now + 10 * SECOND), item, |_| true, now);
}

#[test]
fn what_was_used_least_recently_makes_room() {
    let t0 = origin();
    let mut shelf = Shelf::new(bounds());
    for name in ["a", "b", "c"] {
        store(&mut shelf, name, "one", t0);
    }

    shelf.find("a", t0, |_| true).expect("it is stored");
    store(&mut shelf, "d", "one", t0);

    let kept = ["a", "b", "c", "d"].map(|name| shelf.find(name, t0, |_| true).is_some());
    assert_eq!(kept, [true, false, true, true]);
}

#[test]
fn one_at_a_time_stores_under_a_key() {
    let t0 = origin();
    let mut shelf = Shelf::<&str>::new(bounds());
    let first = shelf.claim(&key("a"), t0).expect("nobody else does");

    assert_eq!(shelf.claim(&key("a"), t0), None);
    assert!(shelf.claim(&key("b"), t0).is_some());
    shelf.give_up("a", first);
    assert!(shelf.claim(&key("a"), t0).is_some());
    assert_eq!(shelf.keys(), 2);
}

#[test]
fn who_takes_too_long_is_overtaken_and_what_he_stores_is_refused() {
    let t0 = origin();
    let mut shelf = Shelf::new(bounds());
    let later = t0 + 10 * SECOND;
    let slow = shelf.claim(&key("a"), t0).expect("nobody else does");
    let fast = shelf.claim(&key("a"), later).expect("the other took too long");
    let until = later + SECOND;

    let out = shelf.put(&key("a"), slow, (1, until), "old", |_| true, later);
    assert_eq!(out, ["old"]);
    assert!(shelf.put(&key("a"), fast, (1, until), "new", |_| true, later).is_empty());
    assert_eq!(shelf.find("a", later, |_| true), Some(&"new"));
}

#[test]
fn while_a_key_fails_one_caller_looks_and_the_others_are_held() {
    let t0 = origin();
    let mut shelf = Shelf::new(bounds());
    shelf.failed("a");
    assert_eq!(shelf.pass("a", t0), Passage::Free, "there is nothing to hold anybody with");

    store(&mut shelf, "a", "good", t0);
    shelf.failed("a");
    let Passage::Probe(probe) = shelf.pass("a", t0) else { panic!("nobody looks") };
    assert_eq!(shelf.pass("a", t0), Passage::Held);

    shelf.left("a", probe);
    assert!(matches!(shelf.pass("a", t0), Passage::Probe(_)));
    shelf.went_well("a");
    assert_eq!(shelf.pass("a", t0), Passage::Free);
}

// Calls that were under way when a service failed end one after the other.
#[test]
fn who_fails_while_another_looks_lets_nobody_else_look() {
    let t0 = origin();
    let mut shelf = Shelf::new(bounds());
    store(&mut shelf, "a", "good", t0);
    shelf.failed("a");
    let Passage::Probe(probe) = shelf.pass("a", t0) else { panic!("nobody looks") };

    shelf.failed("a");
    assert_eq!(shelf.pass("a", t0), Passage::Held);

    // Who looked has failed itself.
    shelf.failed("a");
    shelf.left("a", probe);
    assert!(matches!(shelf.pass("a", t0), Passage::Probe(_)));
    // And that one says nothing for too long.
    assert!(matches!(shelf.pass("a", t0 + 10 * SECOND), Passage::Probe(_)));
}

#[test]
fn what_is_too_big_or_over_already_is_not_kept() {
    let t0 = origin();
    let mut shelf = Shelf::new(bounds());
    let now = t0 + SECOND;
    for (size, until) in [(50_001, now + SECOND), (usize::MAX, now + SECOND), (1, t0)] {
        let claim = shelf.claim(&key("a"), now).expect("nobody else does");
        assert_eq!(shelf.put(&key("a"), claim, (size, until), "x", |_| true, now), ["x"]);
    }

    assert_eq!((shelf.len(), shelf.bytes(), shelf.keys()), (0, 0, 0));
}

#[test]
fn variants_of_a_key_are_bounded_and_the_newest_that_fits_is_found() {
    let t0 = origin();
    let mut shelf = Shelf::new(Bounds { entries: 100, ..bounds() });
    for item in 0..20 {
        let claim = shelf.claim(&key("a"), t0).expect("nobody else does");
        shelf.put(&key("a"), claim, (1, t0 + SECOND), item, |_| false, t0);
    }

    assert_eq!(shelf.len(), 8);
    assert_eq!(shelf.find("a", t0, |item| item % 2 == 0), Some(&18));
    assert_eq!(shelf.find("a", t0, |item| *item < 12), None);
    assert_eq!(shelf.clear().len(), 8);
    assert_eq!((shelf.bytes(), shelf.keys()), (0, 0));
}

#[test]
fn an_age_at_its_end_still_answers_and_a_nanosecond_later_does_not() {
    let t0 = origin();
    let life = Lifetime::new(t0, 10 * SECOND, 60 * SECOND).aged(20 * SECOND);
    let end = life.until().expect("clocks go so far");

    assert_eq!(end, t0 + 50 * SECOND);
    assert!(life.is_usable(end) && !life.is_usable(end + Duration::from_nanos(1)));
    assert_eq!(life.at_most(30 * SECOND).until(), Some(t0 + 10 * SECOND));
    assert_eq!(life.at_most(5 * SECOND).until(), None);
    assert_eq!(Lifetime::new(t0, Duration::MAX, Duration::MAX).until(), None);
}

fn facts(protocol: Protocol, status: u16, code: Option<Code>) -> Facts {
    Facts { protocol, method: Method::Get, status: Some(status), code }
}

#[test]
fn what_triggers_and_what_does_not() {
    let http = |status| facts(Protocol::Http, status, None);
    let all = Triggers::new();
    let judged = Judgement::new;
    let bad = judged(Verdict::Bad, Reason::Status);

    assert!(all.fire(bad, http(503), false));
    assert!(all.fire(judged(Verdict::Bad, Reason::Failed), http(503), true));
    assert!(all.fire(judged(Verdict::Bad, Reason::MissingStatus), http(200), false));
    for verdict in [Verdict::Good, Verdict::Excluded] {
        assert!(!all.fire(judged(verdict, Reason::Status), http(404), false));
        assert!(!all.fire(judged(verdict, Reason::Failed), http(404), true));
    }
    // The handler's own word on an answer that it gave.
    assert!(!all.fire(judged(Verdict::Bad, Reason::Application), http(200), false));
    assert!(all.fire(judged(Verdict::Bad, Reason::Application), http(500), false));

    assert!(!all.errors(false).fire(bad, http(503), true));
    assert!(all.errors(false).fire(bad, http(503), false));
    assert!(!all.failures(false).fire(bad, http(503), false));
    for kind in Kind::ALL {
        let refused = judged(Verdict::Excluded, Reason::Refused(kind));
        let asked_for = !matches!(kind, Kind::RateLimited | Kind::Expired);
        assert_eq!(all.fire(refused, http(503), true), asked_for, "{kind:?}");
        assert!(!all.without(kind).fire(refused, http(503), false));
        assert!(Triggers::none().on(kind).fire(refused, http(503), false));
    }
    assert_eq!(Triggers::from_bits(all.to_bits()), all);
}
