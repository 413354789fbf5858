//! Keys within what all have together, against a slow model of the same.

use std::collections::HashMap;

use buttress_core::{Random, rate_limit::Ask};

use super::{super::shard::Entered, *};

/// A bucket in whole tokens' parts: an event is as many as a period has milliseconds.
#[derive(Clone, Copy)]
struct Slow {
    events: u64,
    burst: u64,
    used: u64,
}

const PERIOD: u64 = 1000;

impl Slow {
    fn new((events, burst): (u32, u32)) -> Self {
        Self { events: events.into(), burst: burst.into(), used: 0 }
    }

    fn pass(&mut self, millis: u64) {
        self.used = self.used.saturating_sub(millis * self.events);
    }

    /// How many parts of it are missing; `None` for never.
    fn wait(&self, cost: u64, kept: u64) -> Option<Duration> {
        let room = self.burst.saturating_sub(kept) * PERIOD;
        if cost * PERIOD > room {
            return None;
        }
        let missing = (self.used + cost * PERIOD).saturating_sub(room);
        Some(Duration::from_nanos((missing * 1_000_000).div_ceil(self.events)))
    }
}

#[test]
fn random_requests_are_admitted_refused_and_told_as_by_a_slow_model() {
    let start = Instant::now().into_std();
    for seed in 0..200 {
        let draw = |index: u64, bound: u64| Random::below(Random::at(seed, index), bound);
        let small = |index, bound| u32::try_from(draw(index, bound)).unwrap();
        let each = (1 + small(0, 9), 1 + small(1, 5));
        let all = (1 + small(2, 30), 1 + small(3, 12));
        let rate = |(events, burst)| Rate::per_second(n(events)).burst(n(burst));
        let key: fn(&u32) -> u32 = |request| *request;
        let layer = layer(rate(each)).keyed(key).within([rate(all)]);
        let handle = layer.handle();
        let mut together = Slow::new(all);
        let mut keys = HashMap::<u32, Slow>::new();
        let mut now = 0;

        for step in 1..400 {
            let passed = if draw(8 * step, 3) == 0 { draw(8 * step + 1, 300) } else { 0 };
            now += passed;
            together.pass(passed);
            for bucket in keys.values_mut() {
                bucket.pass(passed);
            }
            let (key, cost) = (small(8 * step + 2, 4), 1 + small(8 * step + 3, 3));
            let kept = small(8 * step + 4, 3);
            let instant = start + ms(now);
            let own = keys.entry(key).or_insert_with(|| Slow::new(each));
            if draw(8 * step + 5, 20) == 0 {
                handle.keys.refund(&key, Ask::cost(n(cost)), instant);
                for bucket in [own, &mut together] {
                    bucket.used = bucket.used.saturating_sub(u64::from(cost) * PERIOD);
                }
                continue;
            }

            let entered = handle.keys.enter(&key, Ask::cost(n(cost)).leaving(kept), None, instant);

            let waits = [&*own, &together].map(|it| it.wait(cost.into(), kept.into()));
            let longest = waits.iter().try_fold(ms(0), |most, wait| Some(most.max((*wait)?)));
            let what = format!("seed {seed}, step {step}: {entered:?}, not {waits:?}");
            match entered {
                Entered::Admitted => {
                    assert_eq!(longest, Some(ms(0)), "{what}");
                    own.used += u64::from(cost) * PERIOD;
                    together.used += u64::from(cost) * PERIOD;
                }
                Entered::Refused(short) => {
                    // Late by a nanosecond at the most, where the rate does not divide a second.
                    let in_time = short.retry_after().zip(longest).map(|(told, exact)| {
                        told >= exact && told <= exact + Duration::from_nanos(1)
                    });
                    assert_ne!(in_time, Some(false), "{what}");
                    assert_eq!(short.is_hopeless(), longest.is_none(), "{what}");
                }
                _ => panic!("{what}"),
            }
        }
    }
}
