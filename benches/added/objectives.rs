//! What recording for objectives adds, and what a tracker takes.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use buttress::{
    Judgement, Reason, Timing, Verdict,
    slo::{self, Call, Clocks, Counts, Objective, Part, SloTracker, Tracker},
};
use buttress_benches::{Calls, Case, nanoseconds};

use super::{LIMIT, OURS, Options};

/// Counting alone, without a call around it: after an empty loop a handle of the `metrics` crate
/// that is kept, whose exporter is Prometheus's.
pub(super) fn slos() -> Vec<Case> {
    let recorder =
        axum_prometheus::metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let counter = axum_prometheus::metrics::with_local_recorder(&recorder, || {
        axum_prometheus::metrics::counter!("cached")
    });
    let tracker = SloTracker::new("shop".parse().expect("a name"), objectives()).expect("names");
    let recorders: Vec<_> = tracker.recorders().collect();
    let judgement = Judgement::new(Verdict::Good, Reason::Status);
    let timing = Timing { to_head: None, total: LIMIT };
    let call = Call { judgement, route: Some("/items/{id}"), timing };
    let (one, all) = (Arc::clone(&recorders[0]), recorders);
    vec![
        counting("empty loop", || ()),
        counting("metrics counter, cached", move || counter.increment(1)),
        counting("buttress objective", move || {
            black_box(one.record(black_box(&call)));
        }),
        counting("buttress, three objectives", move || {
            for recorder in &all {
                black_box(recorder.record(black_box(&call)));
            }
        }),
    ]
}

pub(super) fn objectives() -> [Objective; 3] {
    let named = |name: &str, sli| {
        Objective::new(name.parse().expect("a name"), sli, "99.9%".parse().expect("a target"))
    };
    [
        named("up", slo::Sli::Availability),
        named("fast", slo::Sli::Latency { within: OURS, part: Part::Total }),
        named("right", slo::Sli::Correctness { unsaid: Verdict::Good }),
    ]
}

fn counting(name: &'static str, count: impl Fn() + Clone + Send + Sync + 'static) -> Case {
    let make = move || -> Calls {
        let count = count.clone();
        Box::new(move |calls| (0..calls).for_each(|call| black_box((call, count())).1))
    };
    Case { name, ready: Box::new(make.clone()), oneshot: Box::new(make) }
}

/// What an objective takes, and a tick of it: four pairs of alerts are looked at, and the policy.
#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
pub(super) fn print_tracker(options: &Options) {
    let mut clocks = Clocks { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH, boot: None };
    let [up, ..] = objectives();
    let tracker = Tracker::new("shop".parse().expect("a name"), [up], clocks);
    let mut tracker = tracker.expect("one name");
    let recorder = tracker.recorder("up").expect("it is there");
    let bytes = tracker.bytes("up").expect("it is there");
    let tick: Calls = Box::new(move |calls| {
        for _ in 0..calls {
            recorder.add(Counts { good: 1, bad: 0 });
            clocks.monotonic += Duration::from_secs(1);
            clocks.wall += Duration::from_secs(1);
            black_box(tracker.tick(clocks));
        }
    });
    let nanos = nanoseconds(&mut [tick], options.rounds, options.calls)[0];
    println!(
        "\nan objective of 30 days takes {bytes} bytes, and a tick {nanos:.0} ns: its counts, the"
    );
    println!("rings, eight windows for four pairs of alerts, the budget and the policy");
}
