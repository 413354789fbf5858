//! What becomes of a breaker whose probes are out.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use buttress::{Plain, TimeLimit, breaker::State, timeout::TimeoutLayer};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt};

use crate::{
    contender::{Answer, Ask, Make, Over, QUICK, Shape, is_refusal, ours, theirs},
    report::{Figure, Row, live},
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "X05",
            what: "half-open, all hangs, timeout 10 ms, cool-down 200 ms: hits in 1 s",
            ought: "<= 6",
            theirs: live(hanging(theirs)),
            ours: live(hanging(ours)),
        },
        Row {
            id: "X06",
            what: "a probe that never ends: admitted of 50 calls in the next 0.5 s",
            ought: "> 0, and closed",
            theirs: live(lost_probe(theirs)),
            ours: live(lost_probe(ours)),
        },
        Row {
            id: "X07",
            what: "half-open, window of 100 ms, a good call each 150 ms, ten times",
            ought: "closed, 10 pass",
            theirs: live(low_traffic(theirs)),
            ours: live(low_traffic(ours)),
        },
        Row {
            id: "X08",
            what: "a good call from before the trip ends while the probe is out",
            ought: "half_open",
            theirs: live(stale(theirs)),
            ours: live(stale(ours)),
        },
        Row {
            id: "X20",
            what: "polls of who comes while the probe is out, in 200 ms; backpressure",
            ought: "<= 3",
            theirs: live(polls(theirs)),
            ours: live(polls(ours)),
        },
    ]
}

async fn hanging(make: Make) -> Figure {
    let shape = Shape { open_for: Duration::from_millis(200), ..QUICK };
    let breaker = make(shape);
    let outside = TimeoutLayer::new("outside", TimeLimit::from_millis(10)).exchange(Plain);
    let service = outside.layer(breaker.service.clone());
    breaker.trip(shape).await;
    let (before, start) = (breaker.hits(), Instant::now());
    while start.elapsed() < Duration::from_secs(1) {
        let error = service.clone().oneshot(Ask::Hang).await.expect_err("it hangs");
        if is_refusal(&error) {
            sleep(Duration::from_millis(2)).await;
        }
    }
    let hits = breaker.hits() - before;
    Figure::new(&hits, hits <= 6)
}

async fn lost_probe(make: Make) -> Figure {
    let breaker = make(QUICK);
    breaker.trip(QUICK).await;
    let probe = breaker.start(Ask::Hang);
    sleep(Duration::from_millis(5)).await;
    let mut admitted = 0;
    for _ in 0..50 {
        admitted += u32::from(breaker.ask(Ask::Good).await == Answer::Good);
        sleep(Duration::from_millis(10)).await;
    }
    let state = breaker.state();
    probe.abort();
    let right = admitted > 0 && state == State::Closed;
    Figure::new(&format!("{admitted}, {}", state.as_str()), right)
}

async fn low_traffic(make: Make) -> Figure {
    let over = Over::Time(Duration::from_millis(100));
    let shape = Shape { over, probes: 3, ..QUICK };
    let breaker = make(shape);
    breaker.trip(shape).await;
    let mut admitted = 0;
    for _ in 0..10 {
        admitted += u32::from(breaker.ask(Ask::Good).await == Answer::Good);
        sleep(Duration::from_millis(150)).await;
    }
    let state = breaker.state();
    let right = admitted == 10 && state == State::Closed;
    Figure::new(&format!("{}, {admitted} pass", state.as_str()), right)
}

async fn stale(make: Make) -> Figure {
    let breaker = make(Shape { probe_deadline: Duration::from_secs(10), ..QUICK });
    let early = breaker.start(Ask::GoodAfter(Duration::from_millis(200)));
    sleep(Duration::from_millis(5)).await;
    breaker.trip(QUICK).await;
    let probe = breaker.start(Ask::Hang);
    sleep(Duration::from_millis(5)).await;
    assert_eq!(breaker.state(), State::HalfOpen, "the probe is out");
    let _ = early.await;
    let state = breaker.state();
    probe.abort();
    Figure::new(&state.as_str(), state == State::HalfOpen)
}

async fn polls(make: Make) -> Figure {
    let shape = Shape { backpressure: true, probe_deadline: Duration::from_secs(10), ..QUICK };
    let breaker = make(shape);
    breaker.trip(shape).await;
    let probe = breaker.start(Ask::Hang);
    sleep(Duration::from_millis(5)).await;
    let polls = polls_of(breaker.service.clone().oneshot(Ask::Good)).await;
    probe.abort();
    Figure::new(&polls, polls <= 3)
}

/// How often a future is polled in 200 ms, or until it is over.
pub(crate) async fn polls_of(future: impl Future) -> u32 {
    let mut polls = 0;
    let mut future = pin!(future);
    let counted = poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx)
    });
    let _ = timeout(Duration::from_millis(200), counted).await;
    polls
}
