//! Objectives around an axum service, over loopback, and through a restart.

use std::time::Duration;

use axum::{Extension, Router, response::IntoResponse, routing::get};
use buttress::{
    TimeLimit, Verdict,
    slo::{
        Change, Counts, Exclusion, Objective, Part, RouteSet, Sli, SloLayer, SloTracker,
        SnapshotFile, Start,
        gate::{Ask, Scope},
    },
};
use buttress_tests::{http_client, serve, soon};
use http::StatusCode;

fn objective(name: &str, sli: Sli) -> Objective {
    Objective::new(name.parse().unwrap(), sli, "99%".parse().unwrap())
}

fn shop() -> SloTracker {
    let second = TimeLimit::from_secs(1);
    let objectives = [
        objective("up", Sli::Availability),
        objective("fast", Sli::Latency { within: second, part: Part::Total }),
        objective("right", Sli::Correctness { unsaid: Verdict::Good }),
        objective("cart", Sli::Availability).for_routes(RouteSet::only(["/cart/{id}"])),
    ];
    SloTracker::new("shop".parse().unwrap(), objectives).unwrap()
}

/// Finds a forged order only after it was answered, and says so.
async fn wrong() -> impl IntoResponse {
    (Extension(Verdict::Bad), "a wrong sum")
}

async fn fails() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

/// Waits until so many events are known: a body ends on the server a moment after its client has
/// read it.
async fn counts(tracker: &SloTracker, objective: &str, events: u64) -> Counts {
    let recorder = tracker.recorder(objective).unwrap();
    let all = || recorder.counts().total() + recorder.excluded().map(|(_, it)| it).sum::<u64>();
    soon(async {
        while all() < events {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    recorder.counts()
}

#[tokio::test]
async fn a_plain_layer_on_a_router_spends_the_budget_on_what_callers_did_not_get() {
    let tracker = shop();
    let app = Router::new()
        .route("/cart/{id}", get(|| async { "a cart" }))
        .route("/fails", get(fails))
        .route("/wrong", get(wrong))
        .layer(SloLayer::server("shop", &tracker));
    let address = serve(app).await;
    let client = http_client();
    let calls = [("/cart/7", 6), ("/fails", 2), ("/wrong", 1), ("/nowhere", 3)];

    for (path, times) in calls {
        for _ in 0..times {
            let request = client.get(format!("http://{address}{path}")).send();
            soon(request).await.unwrap().bytes().await.unwrap();
        }
    }

    assert_eq!(counts(&tracker, "up", 12).await, Counts { good: 6, bad: 3 });
    let excluded: Vec<_> =
        tracker.recorder("up").unwrap().excluded().filter(|(_, events)| *events > 0).collect();
    assert_eq!(excluded, [(Exclusion::ClientError, 3)], "a 404 is its caller's mistake");
    assert_eq!(counts(&tracker, "right", 12).await, Counts { good: 6, bad: 1 });
    assert_eq!(counts(&tracker, "fast", 12).await.bad, 0);
    assert_eq!(counts(&tracker, "cart", 6).await, Counts { good: 6, bad: 0 });

    // What is found out later is told to the recorder.
    tracker.recorder("right").unwrap().add(Counts { good: 0, bad: 1 });
    tracker.tick();

    let numbers = tracker.numbers("right").unwrap();
    assert_eq!(numbers.sli().unwrap().to_string(), "0.75");
    assert_eq!(numbers.budget.counts().bad, 2);
    // A process that is seconds old has seen little of thirty days.
    assert!(tracker.decide(&Ask::new(Change::Feature, Scope::Instance)).allowed);
}

#[tokio::test]
async fn what_was_counted_before_a_restart_is_known_after_it() {
    let path = std::env::temp_dir().join(format!("buttress-restart-{}.slo", std::process::id()));
    let ticking = {
        let tracker = shop();
        assert_eq!(tracker.keep(SnapshotFile::at(&path)).unwrap(), Start::Fresh);
        let ticking = tokio::spawn(tracker.clone().run());
        tracker.recorder("up").unwrap().add(Counts { good: 99, bad: 1 });
        tracker.save().unwrap();
        ticking
    };
    ticking.abort();

    let tracker = shop();
    let start = tracker.keep(SnapshotFile::at(&path)).unwrap();

    std::fs::remove_file(path).unwrap();
    assert!(start.to_string().starts_with("restored; nobody counted for"), "{start}");
    let hour = Duration::from_secs(3600);
    assert_eq!(tracker.window("up", hour).unwrap().0.counts, Counts { good: 99, bad: 1 });
    assert_eq!(tracker.recorder("up").unwrap().counts(), Counts::default());
}
