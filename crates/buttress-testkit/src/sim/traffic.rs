use std::{num::NonZeroU32, time::Duration};

use buttress_core::{Random, TimeLimit};

use super::latency::{exponential, whole_millis};

/// When calls are made.
///
/// In an *open* loop they come when they come, however the last ones fared, as users of a site do.
/// In a *closed* loop each user waits for an answer before the next call, so that a service that
/// hangs is asked less: it hides how many would have suffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Traffic(pub(super) Loop);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    Open { per_second: NonZeroU32, spacing: Spacing },
    Closed { users: NonZeroU32, thinking: TimeLimit },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    Even,
    Random,
}

impl Traffic {
    /// An open loop with the same time between any two calls; the first comes at once.
    ///
    /// # Panics
    ///
    /// If `calls` is 0.
    pub const fn per_second(calls: u32) -> Self {
        Self::open(calls, Spacing::Even)
    }

    /// An open loop of calls that know nothing of each other: the times between them are
    /// exponentially distributed.
    ///
    /// # Panics
    ///
    /// If `calls` is 0.
    pub const fn per_second_at_random(calls: u32) -> Self {
        Self::open(calls, Spacing::Random)
    }

    const fn open(calls: u32, spacing: Spacing) -> Self {
        let per_second = NonZeroU32::new(calls).expect("no calls at all are no traffic");
        Self(Loop::Open { per_second, spacing })
    }

    /// A closed loop: each user calls, waits for the answer, thinks for so long, and calls again.
    /// Their first calls are spread over one time of thinking, or they would all come in step.
    ///
    /// # Panics
    ///
    /// If `number` is 0.
    pub const fn users(number: u32, thinking: TimeLimit) -> Self {
        let users = NonZeroU32::new(number).expect("no users at all are no traffic");
        Self(Loop::Closed { users, thinking })
    }
}

/// The instants of an open loop, counted from its start.
pub(super) fn arrivals(
    per_second: NonZeroU32,
    spacing: Spacing,
    seed: u64,
) -> impl Iterator<Item = Duration> {
    const SECOND: u64 = 1_000_000_000;
    let rate = u64::from(per_second.get());
    let mut at = Duration::ZERO;
    (0_u64..).map(move |number| {
        if spacing == Spacing::Even {
            // From the number, not from the last one: a rate that does not divide a second is
            // kept all the same.
            let (seconds, rest) = (number / rate, number % rate);
            at = Duration::from_secs(seconds) + Duration::from_nanos(rest * SECOND / rate);
        } else {
            at += exponential(Duration::from_nanos(SECOND / rate), Random::at(seed, number));
        }
        whole_millis(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(count: usize, per_second: u32, spacing: Spacing) -> Vec<Duration> {
        arrivals(per_second.try_into().unwrap(), spacing, 7).take(count).collect()
    }

    #[test]
    fn a_thousand_calls_at_a_hundred_a_second_take_ten_seconds() {
        let instants = first(1_001, 100, Spacing::Even);

        assert_eq!(instants[1], Duration::from_millis(10));
        assert_eq!(instants[1_000], Duration::from_secs(10));
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let instants = first(3_000_001, 300, Spacing::Even);

        assert_eq!(instants[1..4], [4, 7, 10].map(Duration::from_millis));
        assert_eq!(instants[3_000_000], Duration::from_secs(10_000));
    }

    #[test]
    fn random_arrivals_keep_the_rate_and_vary_as_they_should() {
        let instants = first(100_001, 100, Spacing::Random);
        let mut per_second = [0_usize; 1_000];
        for at in &instants {
            if let Some(calls) = per_second.get_mut(usize::try_from(at.as_secs()).unwrap()) {
                *calls += 1;
            }
        }
        let squares: usize = per_second.iter().map(|calls| calls.abs_diff(100).pow(2)).sum();

        // The last of so many: four standard deviations are 1.3 % of 1,000 s.
        let last = instants[100_000].as_millis();
        assert!(last.abs_diff(1_000_000) < 13_000, "{last} ms with seed 7");
        // As many as they are is how much they vary: Poisson. Four standard deviations are 18 %.
        let variance = squares / 1_000;
        assert!(variance.abs_diff(100) < 18, "{variance} with seed 7");
    }
}
