use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
fn start() -> Instant {
    Instant::now()
}

fn one_in(requests: u32) -> NonZeroU32 {
    NonZeroU32::new(requests).unwrap()
}

const SLICE: Duration = Duration::from_secs(1);

/// A window of eight slices of a second.
fn latencies(share: Ratio, minimum: u32) -> Latencies {
    Latencies::new(share, TimeLimit::from_secs(8), one_in(minimum))
}

proptest! {
    #[test]
    fn a_bucket_holds_what_is_up_to_its_bound_and_no_more_than_a_sixteenth_below(nanos in 1_u64..1 << 37) {
        let bucket = bucket(Duration::from_nanos(nanos));

        let bound = bound(bucket);
        prop_assert!(nanos <= bound);
        if bucket == BUCKETS - 1 {
            prop_assert!(nanos > 1 << (FIRST + OCTAVES));
        } else {
            prop_assert!(bucket == 0 || bound - nanos < bound.div_ceil(16), "{bound}");
        }
    }

    /// Beside a list of all latencies with the slices in which they came, sorted anew each time.
    #[test]
    fn the_quantile_is_that_of_a_sorted_list_rounded_up(
        steps in proptest::collection::vec((0_u32..3, 1_u64..100_000_000_000), 1..150),
        parts in 0_u32..=1_000_000_000,
        minimum in 1_u32..40,
    ) {
        let share = Ratio::per_billion(parts).unwrap();
        let (latencies, start) = (latencies(share, minimum), start());
        latencies.samples.slicer.number(start);
        let (mut log, mut slice) = (Vec::new(), 0);

        for (ahead, nanos) in steps {
            slice += ahead;
            let now = start + SLICE * slice;
            latencies.record(Duration::from_nanos(nanos), now);
            log.push((slice, nanos));
            // In the same slice it may be that of a moment ago.
            let known = latencies.work_out(slice).checked_sub(1).map(|bucket| bound(bucket as usize));

            let mut window: Vec<_> =
                log.iter().filter(|(of, _)| slice - of < 8).map(|(_, nanos)| *nanos).collect();
            window.sort_unstable();
            let len = window.len() as u64;
            let Some(rounded) = known else {
                prop_assert!(len < u64::from(minimum));
                continue;
            };
            prop_assert!(len >= u64::from(minimum));
            let rank = (u128::from(len) * u128::from(parts)).div_ceil(1_000_000_000).max(1);
            let exact = window[usize::try_from(rank).unwrap() - 1];
            prop_assert!(exact <= rounded, "{exact} is longer than {rounded}");
            let sixteenth = if exact <= 1 << FIRST { 1 << FIRST } else { exact + exact / 16 + 1 };
            prop_assert!(rounded == u64::MAX || rounded <= sixteenth, "{exact} is not {rounded}");
            // Whoever is hedged is one of those who take longer.
            let longer = window.iter().filter(|nanos| **nanos > rounded).count() as u64;
            prop_assert!(longer <= share.complement().of(len));
        }
    }
}

#[test]
fn it_is_known_as_soon_as_there_are_enough_and_again_in_each_slice() {
    let (latencies, now) = (latencies(Ratio::percent(50), 10), start());
    let took = Duration::from_millis(10);
    (0..9).for_each(|_| latencies.record(took, now));
    assert_eq!(latencies.quantile(now), None);

    latencies.record(took, now);
    let known = latencies.quantile(now).unwrap();
    assert!(known >= 10_000_000);
    (0..90).for_each(|_| latencies.record(took * 10, now));
    assert_eq!(latencies.quantile(now), Some(known), "as of the beginning of the slice");

    assert!(latencies.quantile(now + SLICE).unwrap() >= 100_000_000);
}

#[test]
fn slow_traffic_that_never_fills_a_window_tells_nothing() {
    let (latencies, start) = (latencies(Ratio::percent(50), 10), start());

    for second in 0..100 {
        let now = start + SLICE * second;
        latencies.record(Duration::from_millis(10), now);
        assert_eq!(latencies.quantile(now), None, "{second}");
    }
}

#[test]
fn many_threads_lose_nothing() {
    let (latencies, now) = (latencies(Ratio::ONE, 40_000), start());

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..10_000).for_each(|n| latencies.record(Duration::from_micros(n), now));
            });
        }
    });

    let slowest = latencies.quantile(now).expect("40,000 of them");
    assert!((9_999_000..10_700_000).contains(&slowest), "{slowest}");
}
