//! Who is counted inside, who is refused, and as what.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError, Plain, Rejection, TimeLimit,
    bulkhead::{BulkheadHandle, BulkheadLayer},
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, util::BoxCloneService};
use tower_resilience::bulkhead::{self as incumbent, BulkheadServiceError};

use crate::{
    contender::{Ask, Down, at_most, service},
    half_open::polls_of,
    report::{Figure, Row, live},
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "X11",
            what: "in flight after 5 calls were dropped",
            ought: "0",
            theirs: live(dropped(theirs)),
            ours: live(dropped(ours)),
        },
        Row {
            id: "X12",
            what: "what a caller is told: full, and waited too long",
            ought: "two words",
            theirs: live(refusals(theirs)),
            ours: live(refusals(ours)),
        },
        Row {
            id: "X16",
            what: "places left of 5 after 5 clones became ready and were dropped",
            ought: "5",
            theirs: live(readied(theirs, false)),
            ours: live(readied(ours, false)),
        },
        Row {
            id: "X16",
            what: "places left of 5 while 5 clones are ready and idle; backpressure",
            ought: "5",
            theirs: live(readied(theirs, true)),
            ours: live(readied(ours, true)),
        },
        Row {
            id: "X20",
            what: "polls of who waits for a place, in 200 ms",
            ought: "<= 3",
            theirs: live(polls(theirs)),
            ours: live(polls(ours)),
        },
    ]
}

/// What to do with who finds no room.
#[derive(Clone, Copy, Debug)]
enum Full {
    Refuse,
    Wait(Duration),
    /// Theirs only: callers wait in `poll_ready`.
    Backpressure,
}

/// One side's bulkhead.
struct Contender {
    service: BoxCloneService<Ask, (), BoxError>,
    handle: Handle,
}

enum Handle {
    Ours(BulkheadHandle),
    Theirs { handle: incumbent::BulkheadHandle, by_events: Arc<AtomicI64> },
}

type Make = fn(u32, Full) -> Contender;

fn ours(limit: u32, full: Full) -> Contender {
    let layer = BulkheadLayer::new("ours", at_most(limit)).exchange(Plain);
    let layer = match full {
        Full::Refuse | Full::Backpressure => layer,
        Full::Wait(time) => layer.queue(10).wait(TimeLimit::try_from(time).expect("not 0")),
    };
    let handle = Handle::Ours(layer.handle());
    Contender { service: BoxCloneService::new(layer.layer(service(Arc::default()))), handle }
}

fn theirs(limit: u32, full: Full) -> Contender {
    let by_events = Arc::new(AtomicI64::new(0));
    let count = |change: i64| {
        let by_events = Arc::clone(&by_events);
        move || {
            by_events.fetch_add(change, Ordering::SeqCst);
        }
    };
    let (came, finished, failed) = (count(1), count(-1), count(-1));
    let builder = incumbent::BulkheadLayer::builder()
        .max_concurrent_calls(limit as usize)
        .on_call_permitted(move |_| came())
        .on_call_finished(move |_| finished())
        .on_call_failed(move |_| failed());
    let builder = match full {
        Full::Refuse => builder.reject_when_full(),
        Full::Wait(time) => builder.max_wait_duration(time),
        Full::Backpressure => builder.backpressure(),
    };
    let (layer, handle) = builder.build_with_handle().expect("a valid configuration");
    let service = layer.layer(service(Arc::default())).map_err(Told::from).map_err(BoxError::from);
    let handle = Handle::Theirs { handle, by_events };
    Contender { service: BoxCloneService::new(service), handle }
}

/// What theirs told its caller.
#[derive(Debug)]
struct Told(String);

impl From<BulkheadServiceError<Down>> for Told {
    fn from(error: BulkheadServiceError<Down>) -> Self {
        Self(error.bulkhead_error().map_or_else(|| "failed".to_owned(), |why| format!("{why:?}")))
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

async fn dropped(make: Make) -> Figure {
    let bulkhead = make(10, Full::Refuse);
    let calls: Vec<_> =
        (0..5).map(|_| tokio::spawn(bulkhead.service.clone().oneshot(Ask::Hang))).collect();
    sleep(Duration::from_millis(10)).await;
    for call in calls {
        call.abort();
        let _ = call.await;
    }
    match &bulkhead.handle {
        Handle::Ours(handle) => {
            let inside = handle.snapshot().in_flight;
            Figure::new(&inside, inside == 0)
        }
        Handle::Theirs { handle, by_events } => {
            let (inside, events) = (handle.active_calls(), by_events.load(Ordering::SeqCst));
            let text = format!("{events} by events, {inside} by handle");
            Figure::new(&text, events == 0 && inside == 0)
        }
    }
}

async fn refusals(make: Make) -> Figure {
    let mut words = Vec::new();
    for full in [Full::Refuse, Full::Wait(Duration::from_millis(20))] {
        let bulkhead = make(1, full);
        let inside = tokio::spawn(bulkhead.service.clone().oneshot(Ask::Hang));
        sleep(Duration::from_millis(5)).await;
        let error = bulkhead.service.clone().oneshot(Ask::Good).await.expect_err("no room");
        inside.abort();
        words.push(match Rejection::find(&*error) {
            Some(rejection) => rejection.kind().as_str().to_owned(),
            None => error.to_string(),
        });
    }
    Figure::new(&words.join(", "), words[0] != words[1])
}

async fn readied(make: Make, kept: bool) -> Figure {
    let bulkhead = make(5, Full::Backpressure);
    let mut clones = Vec::new();
    for _ in 0..5 {
        let mut clone = bulkhead.service.clone();
        poll_fn(|cx| clone.poll_ready(cx)).await.expect("ready");
        clones.push(clone);
    }
    if !kept {
        clones.clear();
    }
    let left = match &bulkhead.handle {
        Handle::Ours(handle) => handle.snapshot().available() as usize,
        Handle::Theirs { handle, .. } => handle.available_permits(),
    };
    Figure::new(&left, left == 5)
}

async fn polls(make: Make) -> Figure {
    let bulkhead = make(1, Full::Wait(Duration::from_secs(5)));
    let inside = tokio::spawn(bulkhead.service.clone().oneshot(Ask::Hang));
    sleep(Duration::from_millis(5)).await;
    let polls = polls_of(bulkhead.service.clone().oneshot(Ask::Good)).await;
    inside.abort();
    Figure::new(&polls, polls <= 3)
}
