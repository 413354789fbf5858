use std::sync::atomic::{AtomicU64, Ordering};

use crate::Ratio;

/// Random draws that a seed and a counter decide, and nothing else.
///
/// The n-th draw of a seed is always the same, whatever thread asks for it, so a run can be
/// replayed from its seed. Drawing costs one relaxed `fetch_add` and a few multiplications.
///
/// SplitMix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, OOPSLA
/// 2014): its state is the seed plus so many steps, which makes it a function of a counter. Good
/// for jitter and sampling; not for secrets.
///
/// ```
/// use buttress_core::{Random, Ratio};
///
/// let random = Random::seeded(42);
/// let (first, second) = (random.draw(), random.draw());
///
/// assert_ne!(first, second);
/// assert_eq!(first, Random::at(42, 0));
/// assert!(Random::below(first, 10) < 10);
/// assert!(Random::hits(first, Ratio::ONE) && !Random::hits(first, Ratio::ZERO));
/// ```
#[derive(Debug)]
pub struct Random {
    seed: u64,
    drawn: AtomicU64,
}

impl Random {
    /// Draws that `seed` decides.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }

    /// The seed, to print with a failure.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The next draw.
    pub fn draw(&self) -> u64 {
        // Relaxed: draws are told apart, not ordered.
        Self::at(self.seed, self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// The draw number `index` of `seed`, counted from 0.
    #[must_use]
    pub const fn at(seed: u64, index: u64) -> u64 {
        // The odd number nearest to 2^64 divided by the golden ratio.
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = seed.wrapping_add(STEP.wrapping_mul(index.wrapping_add(1)));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Brings a draw into `0..bound`; 0 for a bound of 0.
    ///
    /// By the upper half of a product (Lemire 2019): a bound below 2^32 leaves a bias of less
    /// than one in 2^32, and nothing is drawn twice.
    #[must_use]
    pub const fn below(draw: u64, bound: u64) -> u64 {
        ((draw as u128 * bound as u128) >> 64) as u64
    }

    /// Whether a draw falls within `share`: never for 0, always for 1.
    #[must_use]
    pub const fn hits(draw: u64, share: Ratio) -> bool {
        Self::below(draw, 1_000_000_000) < share.parts_per_billion() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_splitmix64() {
        // The reference implementation's first draws from the seed 1234567.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];

        let random = Random::seeded(1_234_567);

        assert_eq!(expected.map(|_| random.draw()), expected);
    }

    #[test]
    fn a_share_is_hit_as_often_as_it_says() {
        let random = Random::seeded(7);

        let hits = (0..100_000).filter(|_| Random::hits(random.draw(), Ratio::percent(20))).count();

        // Four standard deviations of a binomial with n = 100,000 and p = 0.2.
        assert!(hits.abs_diff(20_000) < 506, "{hits} of 100,000 with seed {}", random.seed());
    }
}
