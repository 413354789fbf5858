use std::time::Duration;

use buttress_core::Random;

/// How long a healthy [`Dependency`](super::Dependency) takes.
///
/// ```
/// use std::time::Duration;
/// use buttress_testkit::sim::Latency;
///
/// // 15 ms of work, and a tail: on average 25 ms, one call in a hundred more than 61 ms.
/// let latency = Latency::fixed(Duration::from_millis(15))
///     .plus_exponential(Duration::from_millis(10));
///
/// assert_eq!(latency.mean(), Duration::from_millis(25));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Latency {
    least: Duration,
    spread: Spread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    None,
    Uniform { most: Duration },
    Exponential { mean: Duration },
}

impl Latency {
    /// Always the same.
    pub const fn fixed(latency: Duration) -> Self {
        Self { least: latency, spread: Spread::None }
    }

    /// Longer by up to `most`, any of which is as likely.
    pub const fn plus_up_to(mut self, most: Duration) -> Self {
        self.spread = Spread::Uniform { most };
        self
    }

    /// Longer by what is `mean` on average, and exponentially distributed: a tail.
    pub const fn plus_exponential(mut self, mean: Duration) -> Self {
        self.spread = Spread::Exponential { mean };
        self
    }

    /// What it is on average.
    #[must_use]
    pub fn mean(&self) -> Duration {
        self.least
            + match self.spread {
                Spread::None => Duration::ZERO,
                Spread::Uniform { most } => most / 2,
                Spread::Exponential { mean } => mean,
            }
    }

    /// What `draw` makes of it.
    pub(super) fn at(&self, draw: u64) -> Duration {
        let more = match self.spread {
            Spread::None => Duration::ZERO,
            Spread::Uniform { most } => {
                Duration::from_nanos(Random::below(draw, nanos(most).saturating_add(1)))
            }
            Spread::Exponential { mean } => exponential(mean, draw),
        };
        self.least + more
    }
}

/// Rounded up to what tokio's timers can tell apart, so that every instant of a run is exact.
pub(super) fn whole_millis(duration: Duration) -> Duration {
    let up = duration.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(up).unwrap_or(u64::MAX))
}

/// An exponentially distributed duration of this mean: -ln(u) of a `draw` that is uniform.
///
/// In fixed point, because the logarithm of a binary float is not the same on every machine, and
/// a run is to be.
pub(super) fn exponential(mean: Duration, draw: u64) -> Duration {
    /// ln(2), in 2^-32.
    const LN_2: u128 = 2_977_044_472;
    // 0 is no more likely than any other, and has no logarithm.
    let draw = draw.max(1);
    // The draw is 2^(63 - zeros) times `mantissa`, which is from 1 up to 2, in 2^-63.
    let zeros = draw.leading_zeros();
    let mut mantissa = u128::from(draw << zeros);
    // Its binary logarithm, bit by bit: to square is to double that.
    let mut fraction = 0_u64;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        let carry = mantissa >> 64;
        mantissa >>= carry;
        fraction = fraction << 1 | u64::from(carry != 0);
    }
    let minus_log2 = (u64::from(zeros + 1) << 32) - fraction;
    // 55 bits for a year, 39 and 32 fit into 128.
    let nanos = (u128::from(nanos(mean)) * u128::from(minus_log2) * LN_2) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEAN: Duration = Duration::from_millis(10);

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "compared to a billionth of the mean")]
    fn the_logarithm_is_that_of_floats() {
        for draw in [1, 2, 3, 1 << 20, u64::MAX / 3, 1 << 63, u64::MAX - 1, u64::MAX] {
            let float = -(draw as f64 / (u64::MAX as f64)).ln() * MEAN.as_secs_f64();

            let ours = exponential(MEAN, draw).as_secs_f64();

            assert!((ours - float).abs() < 1e-9, "{ours} and {float} for {draw}");
        }
    }

    #[test]
    fn draws_have_the_mean_and_the_median_that_are_asked_for() {
        let random = Random::seeded(11);

        let mut drawn: Vec<_> =
            (0..100_000).map(|_| exponential(MEAN, random.draw()).as_micros()).collect();

        drawn.sort_unstable();
        // Four standard deviations: 1.3 % of the mean, and as much for the median, ln 2 of it.
        let (mean, median) = (drawn.iter().sum::<u128>() / 100_000, drawn[50_000]);
        assert!(mean.abs_diff(10_000) < 130, "{mean} us with seed 11");
        assert!(median.abs_diff(6_931) < 130, "{median} us with seed 11");
    }

    #[test]
    fn a_uniform_spread_stays_within_its_bounds() {
        let latency = Latency::fixed(MEAN).plus_up_to(MEAN);

        assert_eq!(latency.at(0), MEAN);
        assert_eq!(latency.at(u64::MAX), MEAN * 2);
        assert_eq!(latency.mean(), Duration::from_millis(15));
    }
}
