use proptest::prelude::*;

use super::*;

const DAY: u64 = 86_400;

#[test]
fn thirty_days_take_as_many_bytes_as_the_docs_say() {
    let bytes = |days| Ring::new(days * DAY, 0, Counts::default()).bytes();

    assert_eq!(bytes(30), 21_408);
    assert_eq!(bytes(90), 44_448);
    assert_eq!(bytes(28), 20_640);
    assert_eq!(bytes(7), 12_576);
    assert_eq!(Ring::new(300, 0, Counts::default()).bytes(), 1_184, "five minutes");
}

#[test]
fn no_start_of_a_window_is_off_by_more_than_the_docs_say() {
    // slo.md 8.2, in hundredths of a percent.
    let mut ring = Ring::new(30 * DAY, 0, Counts::default());
    let windows = [300, 1800, 3600, 7200, 21_600, DAY, 3 * DAY, 30 * DAY];
    let mut worst = [0; 8];

    for now in 31 * DAY..31 * DAY + 3700 {
        ring.advance(now.cast_signed(), Counts::default());
        for (window, worst) in windows.into_iter().zip(&mut worst) {
            let overshoot = ring.window(window).unwrap().overshoot;
            *worst = (overshoot.as_secs() * 10_000 / window).max(*worst);
        }
    }

    assert_eq!(worst, [133, 161, 80, 40, 138, 34, 138, 13]);
}

#[test]
fn no_window_from_a_minute_on_is_off_by_more_than_eight_percent() {
    let mut ring = Ring::new(30 * DAY, 0, Counts::default());
    let lengths = (60..400).chain([840, 7_499, 7_500, 7_501, 10_800, 87_600, 87_601, 10 * DAY]);

    for now in (31 * DAY..31 * DAY + 3700).step_by(7) {
        ring.advance(now.cast_signed(), Counts::default());
        for length in lengths.clone() {
            let overshoot = ring.window(length).unwrap().overshoot.as_secs();
            assert!(overshoot * 100 < length * 8, "{overshoot} s of {length}");
        }
    }
}

#[test]
fn a_gap_is_zero_events() {
    // slo.md 10, scenario 52, as the ring sees it.
    let mut ring = Ring::new(30 * DAY, 0, Counts::default());
    let seen = Counts { good: 90, bad: 10 };
    ring.advance(1, seen);

    ring.advance(7201, seen);

    assert_eq!(ring.window(3600).unwrap().counts, Counts::default());
    assert_eq!(ring.window(30 * DAY).unwrap().counts, seen);
}

#[test]
fn an_outage_stays_until_it_leaves_the_window() {
    // Scenario 38: 21 min 36 s of outage on day 0, one event a second.
    let mut ring = Ring::new(30 * DAY, 0, Counts::default());
    let mut total = Counts::default();
    let mut bad_at = |ring: &mut Ring, until: i64| {
        for now in ring.now() + 1..=until {
            let lost = u64::from(now <= 1296);
            total = total.plus(Counts { good: 1 - lost, bad: lost });
            ring.advance(now, total);
        }
        ring.window(30 * DAY).unwrap().counts.bad
    };
    let day = DAY.cast_signed();

    assert_eq!(bad_at(&mut ring, 29 * day), 1296);
    assert_eq!(bad_at(&mut ring, 30 * day), 1296);
    assert_eq!(bad_at(&mut ring, 30 * day + 3600), 0, "gone within a slot");
}

#[test]
fn a_ring_does_not_go_back() {
    let mut ring = Ring::new(300, 1_000, Counts::default());
    let one = Counts { good: 1, bad: 0 };

    ring.advance(400, one);

    assert_eq!((ring.now(), ring.total()), (1_000, one));
    assert_eq!(ring.window(1).unwrap().most, one);
}

#[test]
fn no_window_takes_more_than_two_years_of_room() {
    assert_eq!(Ring::new(u64::MAX, 0, Counts::default()).bytes(), 16 * (74 + 250 + 292 + 17_570));
}

#[test]
fn a_window_that_is_not_kept_is_none() {
    let ring = Ring::new(30 * DAY, 0, Counts::default());

    assert!(ring.window(30 * DAY).is_some());
    assert!(ring.window(32 * DAY).is_none());
    assert!(ring.window(u64::MAX).is_none());
}

/// The slow and obvious model: every second with what came in it.
#[derive(Debug)]
struct Log(Vec<(i64, Counts)>);

impl Log {
    /// What came after `start` and up to the end.
    fn since(&self, start: i64) -> Counts {
        let after = self.0.iter().filter(|(time, _)| *time > start);
        after.fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts))
    }
}

fn seconds_of_traffic() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0..5_u8, 0..3_u8), 1..9_000)
}

proptest! {
    #![proptest_config(crate::testing::fewer(48))]

    /// Against a log of all events: exact where the start falls on a slot, and within the two
    /// bounds that are told where it does not.
    #[test]
    fn windows_are_what_a_log_of_all_events_says(
        start in 0..4_000_i64,
        traffic in seconds_of_traffic(),
        lengths in prop::collection::vec(1..9_000_u64, 8),
    ) {
        let mut ring = Ring::new(2 * DAY, start, Counts::default());
        let mut log = Log(Vec::new());
        let (mut now, mut total) = (start, Counts::default());
        for (good, bad) in traffic {
            now += 1;
            let counts = Counts { good: good.into(), bad: bad.into() };
            total = total.plus(counts);
            ring.advance(now, total);
            log.0.push((now, counts));
        }

        for length in lengths {
            let window = ring.window(length).unwrap();
            let edge = now - length.cast_signed();
            let truth = log.since(edge);
            let (least, most) = (window.least, window.most);

            prop_assert!(least.good <= truth.good && truth.good <= most.good);
            prop_assert!(least.bad <= truth.bad && truth.bad <= most.bad);
            prop_assert!(least.bad <= window.counts.bad && window.counts.bad <= most.bad);
            prop_assert!(least.good <= window.counts.good && window.counts.good <= most.good);
            let before = edge - window.overshoot.as_secs().cast_signed();
            prop_assert_eq!(most, log.since(before), "exact for the interval that is told");
            if window.overshoot.is_zero() {
                prop_assert_eq!(window.counts, truth);
            }
        }
    }

    /// Against a log as well, by a ticker that comes when it likes, for longer than anything is
    /// kept: every ring goes round, and some steps are met by no tick at all.
    #[test]
    fn windows_of_months_are_what_a_log_says_whoever_ticks(
        start in -4_000..4_000_i64,
        steps in prop::collection::vec(
            (prop_oneof![3 => 0..3_i64, 3 => 1..700_i64, 2 => 1_000..90_000_i64, 1 => 1..3_000_000_i64], 0..9_u64, 0..3_u64),
            1..300,
        ),
        lengths in prop::collection::vec(prop_oneof![1..400_u64, 300..90_000_u64, 1..90 * DAY], 12),
    ) {
        let mut ring = Ring::new(90 * DAY, start, Counts::default());
        let mut log = Log(Vec::new());
        let (mut now, mut total) = (start, Counts::default());
        for (step, good, bad) in steps {
            now += step;
            let counts = Counts { good, bad };
            total = total.plus(counts);
            ring.advance(now, total);
            log.0.push((now, counts));
        }

        for length in lengths {
            let window = ring.window(length).unwrap();
            let edge = now - length.cast_signed();
            // What two ticks of one second tell is known as of either.
            let on_edge = log.0.iter().filter(|(time, _)| *time == edge);
            let on_edge = on_edge.fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts));
            let truth = log.since(edge);
            let (least, most) = (window.least, window.most);

            prop_assert!(least.good <= truth.good + on_edge.good && truth.good <= most.good);
            prop_assert!(least.bad <= truth.bad + on_edge.bad && truth.bad <= most.bad);
            prop_assert!(least.bad <= window.counts.bad && window.counts.bad <= most.bad);
            prop_assert!(least.good <= window.counts.good && window.counts.good <= most.good);
            let before = edge - window.overshoot.as_secs().cast_signed();
            let known = log.since(before);
            prop_assert!(most.good >= known.good && most.bad >= known.bad);
            prop_assert!(most.good <= log.since(before - 1).good.max(known.good));
        }
    }

    /// A ticker that misses ticks counts everything, no later than its next tick.
    #[test]
    fn missed_ticks_lose_nothing(steps in prop::collection::vec((1..400_i64, 0..9_u64), 1..200)) {
        let mut ring = Ring::new(30 * DAY, 0, Counts::default());
        let (mut now, mut total) = (0, Counts::default());
        for (step, bad) in steps {
            now += step;
            total.bad += bad;
            ring.advance(now, total);
            prop_assert!(ring.window(1).unwrap().most.bad >= bad);
        }

        prop_assert_eq!(ring.window(now.unsigned_abs()).unwrap().counts, total);
    }

    /// What a ring knew is known to one that takes over, as of the same moment.
    #[test]
    fn a_ring_that_takes_over_knows_the_same(
        bads in prop::collection::vec(0..3_u64, 1..5_000),
        away in 0..4_000_i64,
    ) {
        let mut old = Ring::new(30 * DAY, 0, Counts::default());
        let mut total = Counts::default();
        for (now, bad) in (1..).zip(bads) {
            total = total.plus(Counts { good: 2, bad });
            old.advance(now, total);
        }
        let until = old.now();
        let tiers: Vec<_> = old
            .tiers()
            .iter()
            .map(|tier| Tier::restored(tier.step(), tier.head(), tier.iter().collect()).unwrap())
            .collect();
        prop_assert_eq!(&*tiers, old.tiers());

        let mut new = Ring::new(30 * DAY, until + away, Counts::default());
        new.adopt(&tiers, until, total);
        old.advance(until + away, total);

        for window in [300, 1800, 3600, 7200, 21_600, DAY, 30 * DAY] {
            prop_assert_eq!(new.window(window), old.window(window), "{} s", window);
        }
    }
}
