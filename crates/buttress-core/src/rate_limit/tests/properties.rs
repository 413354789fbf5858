use proptest::prelude::*;

use super::super::scale::{Answer, Scale};
use super::*;

/// The same bucket in exact numbers: an event is as many units as the period has nanoseconds, and
/// a nanosecond takes off as many as there are events in a period.
struct Exact {
    rate: Rate,
    used: u128,
    now: u64,
}

impl Exact {
    fn new(rate: Rate) -> Self {
        Self { rate, used: 0, now: 0 }
    }

    fn event(&self) -> u128 {
        u128::from(self.rate.period_nanos())
    }

    fn per_nano(&self) -> u128 {
        u128::from(self.rate.events().get())
    }

    fn advance(&mut self, now: u64) {
        let passed = u128::from(now.saturating_sub(self.now)) * self.per_nano();
        self.used = self.used.saturating_sub(passed);
        self.now = self.now.max(now);
    }

    /// The wait, rounded up to a nanosecond.
    fn wait(&self, cost: u32) -> u64 {
        let burst = u128::from(self.rate.most_at_once().get()) * self.event();
        let over = (self.used + u128::from(cost) * self.event()).saturating_sub(burst);
        u64::try_from(over.div_ceil(self.per_nano())).unwrap()
    }

    fn take(&mut self, cost: u32) {
        self.used += u128::from(cost) * self.event();
    }
}

fn rates() -> impl Strategy<Value = Rate> {
    let events = prop_oneof![1..20_u32, 1..2_000_000_u32, 1..=u32::MAX];
    let period = prop_oneof![
        Just(1_000_000_000_u64),
        Just(60_000_000_000),
        Just(86_400_000_000_000),
        1..10_000_000_000_u64,
    ];
    let burst = prop_oneof![1..5_u32, 1..100_u32, 1..100_000_u32];
    (events, period, burst)
        // More than one in a nanosecond is rounded, and no machine asks for it.
        .prop_filter("as fast as a machine", |(events, period, _)| u64::from(*events) <= *period)
        .prop_map(|(events, period, burst)| {
            let period = TimeLimit::try_from(Duration::from_nanos(period)).unwrap();
            Rate::new(n(events), period).burst(n(burst))
        })
}

/// Steps of time in parts of an interval, and a share of the burst to ask for.
fn traces() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let step = prop_oneof![3 => Just(0_u64), 4 => 0..3_000_u64, 1 => 0..3_000_000_u64];
    prop::collection::vec((step, 0..1_000_u32), 1..60)
}

/// Plays a trace, whose clock starts anywhere.
fn played(rate: Rate, trace: &[(u64, u32)], origin: u64) -> Vec<(u64, u32)> {
    let interval = u64::try_from(rate.interval().as_nanos()).unwrap();
    let burst = rate.most_at_once().get();
    let mut now = origin;
    trace
        .iter()
        .map(|(step, share)| {
            now += u64::try_from(u128::from(*step) * u128::from(interval) / 1_000).unwrap();
            let cost = u64::from(burst) * u64::from(*share) / 1_000;
            (now, u32::try_from(cost).unwrap().max(1))
        })
        .collect()
}

fn weight(cost: u32) -> Ask {
    Ask::cost(n(cost))
}

proptest! {
    #[test]
    fn no_window_of_any_length_admits_more_than_the_burst_and_what_the_rate_yields(
        rate in rates(), trace in traces(), origin in 0..u64::from(u32::MAX),
    ) {
        let parts = Scale::new(rate).parts;
        let (mut full_at, mut admitted) = (0, Vec::new());
        for (now, cost) in played(rate, &trace, origin) {
            if let Answer::Taken(then) = parts.ask(full_at, now, weight(cost), 0) {
                full_at = then;
                admitted.push((now, cost));
            }
        }

        let (event, per_nano) = (u128::from(rate.period_nanos()), u128::from(rate.events().get()));
        for (first, (from, _)) in admitted.iter().enumerate() {
            let mut sum = 0_u128;
            for (to, cost) in &admitted[first..] {
                sum += u128::from(*cost);
                let yielded = u128::from(to - from) * per_nano;
                let most = u128::from(rate.most_at_once().get()) * event + yielded;
                prop_assert!(sum * event <= most, "{sum} in {} ns", to - from);
            }
        }
    }

    #[test]
    fn a_wait_is_never_early_and_late_by_a_nanosecond_at_the_most(
        rate in rates(), trace in traces(), origin in 0..u64::from(u32::MAX),
    ) {
        let scale = Scale::new(rate);
        let (parts, mut exact, mut full_at) = (scale.parts, Exact::new(rate), 0);
        // What fills up for longer than nine years has coarse ticks.
        let window = u128::from(rate.most_at_once().get()) * rate.interval().as_nanos();
        let late = 1 + u64::try_from(window >> 60).unwrap();
        for (now, cost) in played(rate, &trace, origin) {
            exact.advance(now);
            let expected = exact.wait(cost);
            match parts.ask(full_at, now, weight(cost), 0) {
                Answer::Taken(then) => {
                    prop_assert_eq!(expected, 0, "early");
                    exact.take(cost);
                    full_at = then;
                }
                Answer::NotBefore(tick) => {
                    let at = scale.nanos_at(tick);
                    prop_assert!(at - now >= expected, "early: {} ns, not {expected}", at - now);
                    prop_assert!(at - now <= expected + late, "late: {} ns, not {expected}", at - now);
                    // What we say is what we do.
                    let admits = |at| {
                        matches!(parts.ask(full_at, at, weight(cost), 0), Answer::Taken(_))
                    };
                    prop_assert!(!admits(at - 1) && admits(at));
                }
                Answer::Never => prop_assert!(false, "it fits into the burst"),
            }
        }
    }

    #[test]
    fn a_change_keeps_the_tokens_that_fit_and_mints_none(
        before in rates(), after in rates(), taken in 0..1_000_u64, now in 0..u64::from(u32::MAX),
    ) {
        let (from, to) = (Scale::new(before), Scale::from(after, (1 << 40, now)));
        let cost = u64::from(before.most_at_once().get()) * taken / 1_000;
        let full_at = match NonZeroU32::new(u32::try_from(cost).unwrap()) {
            Some(cost) => match from.parts.ask(0, now, Ask::cost(cost), 0) {
                Answer::Taken(full_at) => full_at,
                other => panic!("{other:?}"),
            },
            None => 0,
        };
        let held = from.parts.available(full_at, now);

        let converted = to.convert(full_at, now, &from);

        let holds = to.parts.available(converted, now);
        let fits = held.min(u64::from(after.most_at_once().get()));
        // A tick of rounding, where an event has few.
        prop_assert!(holds <= fits && holds + 1 >= fits, "{holds} of {held}");
    }
}

#[test]
fn common_rates_are_not_rounded_at_all() {
    let thirds = Rate::per_second(n(3));
    let parts = Scale::new(thirds).parts;

    let mut full_at = 0;
    for second in 0..1_000_u64 {
        for _ in 0..3 {
            match parts.ask(full_at, second * 1_000_000_000, weight(1), 0) {
                Answer::Taken(then) => full_at = then,
                other => panic!("second {second}: {other:?}"),
            }
        }
    }

    assert_eq!((parts.whole, parts.rest), (3, 0));
}
