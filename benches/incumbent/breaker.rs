//! Windows, what is counted, and what it costs.

use std::{
    panic::{catch_unwind, set_hook, take_hook},
    time::{Duration, Instant},
};

use buttress::{Plain, TimeLimit, breaker::Probes, timeout::TimeoutLayer};
use tokio::time::sleep;
use tower::{Layer, ServiceExt};
use tower_resilience::circuitbreaker::CircuitBreakerLayer;

use crate::{
    contender::{Answer, Ask, Make, Over, QUICK, Shape, ours, theirs},
    report::{Figure, Row, live, paused},
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "X01",
            what: "failures to open, window of 100 calls, after 20,000 successes",
            ought: "<= 100",
            theirs: live(outage(theirs)),
            ours: live(outage(ours)),
        },
        Row {
            id: "X02",
            what: "failures to open, minimum 5, window of 100 calls",
            ought: "5",
            theirs: live(minimum(theirs)),
            ours: live(minimum(ours)),
        },
        Row {
            id: "X04",
            what: "failures counted of 100 calls that timed out outside",
            ought: "100",
            theirs: live(timeouts(theirs)),
            ours: live(timeouts(ours)),
        },
        Row {
            id: "X04",
            what: "failures counted of 100 calls that panicked inside",
            ought: "100",
            theirs: live(panics(theirs)),
            ours: live(panics(ours)),
        },
        Row {
            id: "X09",
            what: "failures left of 50 after a reset while closed",
            ought: "0",
            theirs: live(reset(theirs)),
            ours: live(reset(ours)),
        },
        Row {
            id: "X09",
            what: "zero probes can be configured",
            ought: "no",
            theirs: Box::new(|| zero_probes(theirs_with_zero)),
            ours: Box::new(|| zero_probes(ours_with_zero)),
        },
        Row {
            id: "X10",
            what: "paused clock, open for 30 s, advanced by an hour: the next call",
            ought: "passes",
            theirs: paused(an_hour_later(theirs)),
            ours: paused(an_hour_later(ours)),
        },
        Row {
            id: "X21",
            what: "a call with 30,000 in the time window, to one with 1,000",
            ought: "<= 3 times",
            theirs: live(crowded_window(theirs)),
            ours: live(crowded_window(ours)),
        },
    ]
}

const PATIENT: Shape = Shape { over: Over::Calls(1_000), minimum: 1_000, ..QUICK };

async fn outage(make: Make) -> Figure {
    let breaker = make(Shape { over: Over::Calls(100), minimum: 100, ..QUICK });
    for _ in 0..20_000 {
        breaker.ask(Ask::Good).await;
    }
    let mut failures = 0;
    while failures < 25_000 && breaker.ask(Ask::Fail).await == Answer::Failed {
        failures += 1;
    }
    Figure::new(&failures, failures <= 100)
}

async fn minimum(make: Make) -> Figure {
    let breaker = make(Shape { over: Over::Calls(100), minimum: 5, ..QUICK });
    let mut failures = 0;
    while failures < 1_000 && breaker.ask(Ask::Fail).await == Answer::Failed {
        failures += 1;
    }
    Figure::new(&failures, failures == 5)
}

async fn timeouts(make: Make) -> Figure {
    let breaker = make(PATIENT);
    let outside = TimeoutLayer::new("outside", TimeLimit::from_millis(2)).exchange(Plain);
    let service = outside.layer(breaker.service.clone());
    for _ in 0..100 {
        let _ = service.clone().oneshot(Ask::Hang).await;
    }
    let counted = breaker.failures().await;
    Figure::new(&counted, counted == 100)
}

async fn panics(make: Make) -> Figure {
    let breaker = make(PATIENT);
    for _ in 0..100 {
        let ended = breaker.start(Ask::Panic).await;
        assert!(ended.is_err_and(|error| error.is_panic()), "a panic goes on unwinding");
    }
    let counted = breaker.failures().await;
    Figure::new(&counted, counted == 100)
}

async fn reset(make: Make) -> Figure {
    let breaker = make(PATIENT);
    for _ in 0..50 {
        breaker.ask(Ask::Fail).await;
    }
    breaker.reset().await;
    let left = breaker.failures().await;
    Figure::new(&left, left == 0)
}

fn zero_probes(is_accepted: fn() -> bool) -> Figure {
    // What is refused by a panic is not to print it.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let is_accepted = catch_unwind(is_accepted).unwrap_or(false);
    set_hook(hook);
    Figure::new(&if is_accepted { "yes" } else { "no" }, !is_accepted)
}

fn ours_with_zero() -> bool {
    let _ = Probes::new(0);
    true
}

fn theirs_with_zero() -> bool {
    CircuitBreakerLayer::builder().permitted_calls_in_half_open(0).build().is_ok()
}

async fn an_hour_later(make: Make) -> Figure {
    let shape = Shape { open_for: Duration::from_secs(30), ..QUICK };
    let breaker = make(shape);
    breaker.trip(shape).await;
    sleep(Duration::from_secs(3_600)).await;
    let passes = breaker.ask(Ask::Good).await == Answer::Good;
    Figure::new(&if passes { "passes" } else { "refused" }, passes)
}

async fn crowded_window(make: Make) -> Figure {
    let over = Over::Time(Duration::from_secs(600));
    let breaker = make(Shape { over, minimum: u32::MAX, ..QUICK });
    let (mut calls, mut costs) = (0, Vec::new());
    for most in [1_000, 30_000] {
        while calls < most {
            breaker.ask(Ask::Good).await;
            calls += 1;
        }
        // The best of a few, because the machine has other things to do.
        let mut best = Duration::MAX;
        for _ in 0..5 {
            #[expect(clippy::disallowed_methods, reason = "a bench measures the wall clock")]
            let start = Instant::now();
            for _ in 0..100 {
                breaker.ask(Ask::Good).await;
            }
            best = best.min(start.elapsed());
        }
        costs.push(best.as_secs_f64() * 1e4);
    }
    let (few, many) = (costs[0], costs[1]);
    Figure::new(&format!("{few:.2} us, then {many:.2} us"), many <= 3.0 * few)
}
