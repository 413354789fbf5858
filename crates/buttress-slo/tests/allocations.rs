//! Recording and ticking are done for as long as a service runs: what do they allocate?
//!
//! A binary of its own, for it counts what the whole process allocates on its thread.

use std::time::{Duration, Instant, SystemTime};

use allocation_counter::measure;
use buttress_core::{Judgement, Ratio, Reason, TimeLimit, Timing, Verdict};
use buttress_slo::{
    Burn, Call, Clocks, Counts, Exclusion, Maintenance, Method, Objective, Part, Sli, SliceLength,
    TimeSlices, Tracker, Weekday, Window, Zone,
};

fn tracker() -> (Tracker, Clocks) {
    let berlin: Zone = "Europe/Berlin".parse().unwrap();
    let within = TimeLimit::from_millis(300);
    let minutes = TimeSlices::new(SliceLength::Minute, "95%".parse().unwrap());
    let objective =
        |name: &str, sli| Objective::new(name.parse().unwrap(), sli, "99.9%".parse().unwrap());
    let objectives = [
        objective("up", Sli::Availability),
        objective("fast", Sli::Latency { within, part: Part::Head })
            .over(Window::month(berlin.clone())),
        objective("minutes", Sli::Availability).counted_by(Method::TimeSlices(minutes)),
    ];
    let nightly = Maintenance::recurring(
        Weekday::ALL,
        "02:30".parse().unwrap(),
        TimeLimit::from_secs(600),
        berlin,
    );
    #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
    let monotonic = Instant::now();
    // The noon of a day, on which no minute of the test is the night's.
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_268_800);
    let clocks = Clocks { monotonic, wall, boot: None };
    let tracker = Tracker::new("shop".parse().unwrap(), objectives, clocks).unwrap();
    (tracker.with_maintenance([nightly]), clocks)
}

#[test]
fn recording_allocates_nothing() {
    let (tracker, _) = tracker();
    let recorders: Vec<_> = tracker.recorders().collect();
    let timing = Timing { to_head: Some(Duration::ZERO), total: Duration::from_millis(3) };
    let record = || {
        for verdict in Verdict::ALL {
            for route in [None, Some("/orders/{id}"), Some("/healthz")] {
                let judgement = Judgement::new(verdict, Reason::Status);
                for recorder in &recorders {
                    recorder.record(&Call { judgement, route, timing });
                }
            }
        }
        recorders[0].add(Counts { good: 1, bad: 1 });
        recorders[0].exclude(Exclusion::Left, 1);
        recorders[0].revise(1);
    };
    record();

    let allocated = measure(record);

    assert_eq!(allocated.count_total, 0);
}

#[test]
fn a_layer_that_asks_how_it_goes_allocates_nothing() {
    let (tracker, _) = tracker();
    let signals = tracker.signals();
    let (retries, optional) = (signals.retries(Burn::times(14)), signals.optional_work());

    let allocated = measure(|| {
        assert_eq!((retries.share(), optional.share()), (Ratio::ONE, Ratio::ONE));
        assert!(!signals.sheds() && !signals.allows_chaos(Burn::ONE) && signals.burn().is_none());
        let clone = signals.clone();
        assert!(clone.remaining().is_some());
    });

    assert_eq!(allocated.count_total, 0);
}

#[test]
fn a_tick_at_which_nothing_happens_allocates_nothing() {
    let (mut tracker, mut clocks) = tracker();
    let recorders: Vec<_> = tracker.recorders().collect();
    let mut tick = || {
        clocks.monotonic += Duration::from_secs(1);
        clocks.wall += Duration::from_secs(1);
        for recorder in &recorders {
            recorder.add(Counts { good: 10, bad: 0 });
        }
        assert_eq!(tracker.tick(clocks), []);
    };
    tick();

    let allocated = measure(|| (0..600).for_each(|_| tick()));

    assert_eq!(allocated.count_total, 0);
}
