use std::{cmp::Ordering, error::Error, fmt, str::FromStr, time::Duration};

use buttress_core::Ratio;

use crate::{Counts, Target, coverage::Coverage};

/// How many times faster than sustainable an error budget is spent, to six decimals.
///
/// At 1 a budget lasts exactly its period; at 14.4 the budget of 30 days is gone in 50 hours
/// (SRE workbook, chapter 5). A measured burn is rounded up; an alert does not compare it but the
/// counts behind it, exactly.
///
/// ```
/// use buttress_slo::{Burn, Counts};
///
/// let page: Burn = "14.4".parse().unwrap();
/// let target = "99.9%".parse().unwrap();
///
/// // 1.44 % of errors is 14.4 times 0.1 %, and no more than that.
/// let measured = Burn::of(Counts { good: 9_856, bad: 144 }, target).unwrap();
/// assert_eq!(measured, page);
/// assert_eq!(Burn::of(Counts::default(), target), None, "no traffic is no data");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Burn(u64);

impl Burn {
    /// Exactly as fast as the budget lasts.
    pub const ONE: Self = Self(MILLION);

    /// So many millionths.
    #[must_use]
    pub const fn millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// How many millionths it is.
    #[must_use]
    pub const fn as_millionths(self) -> u64 {
        self.0
    }

    /// So many times as fast as the budget lasts.
    #[must_use]
    pub const fn times(times: u32) -> Self {
        Self(times as u64 * MILLION)
    }

    /// The burn that spends `share` of a budget of `period` within `window`: the factor
    /// `share * period / window`. Rounded down, so that an alert at it is rather too early.
    ///
    /// # Panics
    ///
    /// If `window` is shorter than a second.
    #[must_use]
    pub fn spending(share: Ratio, period: Duration, window: Duration) -> Self {
        let spent = u128::from(share.parts_per_billion()) * u128::from(period.as_secs());
        let millionths = spent * u128::from(MILLION) / BILLION / u128::from(window.as_secs());
        Self(saturate(millionths))
    }

    /// The burn of what was counted; `None` without events. Rounded up.
    #[must_use]
    pub fn of(counts: Counts, target: Target) -> Option<Self> {
        let spendable = u128::from(counts.total()) * u128::from(target.error_parts());
        // 2^64 times 10^15 is below 2^114.
        let spent = u128::from(counts.bad) * BILLION * u128::from(MILLION);
        (spendable > 0).then(|| Self(saturate(spent.div_ceil(spendable))))
    }

    /// The burn of what was counted in a window of which only a part was observed, as alerts take
    /// it: the rest is taken to be free of errors. `None` without events. Rounded up.
    #[must_use]
    pub fn observed(counts: Counts, target: Target, coverage: Coverage) -> Option<Self> {
        let observed = u128::from(coverage.observed_seconds());
        let burn = u128::from(Self::of(counts, target)?.0);
        Some(Self(saturate((burn * observed).div_ceil(u128::from(coverage.length_seconds())))))
    }

    /// Whether what was counted spends faster than this, strictly, and without rounding.
    ///
    /// Where only a part of the window was observed, its events count for that part: one failure
    /// in the first second of a process is no burn of an hour.
    #[must_use]
    pub fn is_exceeded_by(self, counts: Counts, target: Target, coverage: Coverage) -> bool {
        let (observed, length) = (coverage.observed_seconds(), coverage.length_seconds());
        let error = u128::from(counts.bad) * BILLION;
        let allowed = u128::from(counts.total()) * u128::from(target.error_parts());
        let left = wide_product(error, u128::from(MILLION) * u128::from(observed));
        let right = wide_product(allowed, u128::from(self.0) * u128::from(length));
        left.cmp(&right) == Ordering::Greater
    }

    /// As a float, for display and export only.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for display; decisions use the integer")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / MILLION as f64
    }
}

const MILLION: u64 = 1_000_000;
const BILLION: u128 = 1_000_000_000;

pub(crate) fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// The 256 bits of a product, high half first, so that two of them compare as tuples.
pub(crate) const fn wide_product(a: u128, b: u128) -> (u128, u128) {
    const HALF: u128 = u64::MAX as u128;
    let (a_high, a_low) = (a >> 64, a & HALF);
    let (b_high, b_low) = (b >> 64, b & HALF);
    let (middle, middle_carry) = (a_high * b_low).overflowing_add(a_low * b_high);
    let (low, low_carry) = (a_low * b_low).overflowing_add(middle << 64);
    let carries = ((middle_carry as u128) << 64) + low_carry as u128;
    (a_high * b_high + (middle >> 64) + carries, low)
}

impl FromStr for Burn {
    type Err = ParseBurnError;

    /// Reads `14.4` or `1`, to six decimals.
    fn from_str(text: &str) -> Result<Self, ParseBurnError> {
        let error = || ParseBurnError { text: text.into() };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = whole.bytes().chain(fraction.bytes());
        if whole.is_empty()
            || fraction.len() > DECIMALS
            || !digits.clone().all(|digit| digit.is_ascii_digit())
        {
            return Err(error());
        }
        let zeros = std::iter::repeat_n(b'0', DECIMALS - fraction.len());
        digits
            .chain(zeros)
            .try_fold(0_u64, |parts, digit| {
                parts.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
            })
            .map(Self)
            .ok_or_else(error)
    }
}

const DECIMALS: usize = 6;

impl fmt::Display for Burn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 / MILLION)?;
        let decimals = format!("{:06}", self.0 % MILLION);
        match decimals.trim_end_matches('0') {
            "" => Ok(()),
            decimals => write!(f, ".{decimals}"),
        }
    }
}

/// Why a text is no [`Burn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseBurnError {
    text: String,
}

impl fmt::Display for ParseBurnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no burn rate; write it as 14.4, with six decimals at the most",
            self.text
        )
    }
}

impl Error for ParseBurnError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn exactly_the_threshold_is_not_over_it() {
        // slo.md 10, scenario 12: in binary floats the same counts fire a page.
        let page: Burn = "14.4".parse().unwrap();
        let at = Counts { good: 9_856, bad: 144 };
        let over = Counts { good: 9_855, bad: 145 };

        assert!(!page.is_exceeded_by(at, target("99.9"), Coverage::full(HOUR)));
        assert!(page.is_exceeded_by(over, target("99.9"), Coverage::full(HOUR)));
    }

    #[test]
    fn half_the_errors_allowed_is_half_a_burn() {
        // Scenario 6.
        let counts = Counts { good: 999_500, bad: 500 };

        assert_eq!(Burn::of(counts, target("99.9")).unwrap().to_string(), "0.5");
    }

    #[test]
    fn the_first_failure_of_a_process_is_no_burn_of_an_hour() {
        // Scenario 48.
        let page: Burn = "14.4".parse().unwrap();
        let seen = |seconds| Coverage::new(Duration::from_secs(seconds), HOUR);
        let lost = |bad| Counts { good: 0, bad };

        assert!(page.is_exceeded_by(lost(1), target("99.9"), Coverage::full(HOUR)), "naive");
        let observed = Burn::observed(lost(1), target("99.9"), seen(9)).unwrap();
        assert_eq!(observed.to_string(), "2.5");
        assert!(!page.is_exceeded_by(lost(1), target("99.9"), seen(1)));
        assert!(!page.is_exceeded_by(lost(51), target("99.9"), seen(51)));
        assert!(page.is_exceeded_by(lost(52), target("99.9"), seen(52)));
    }

    #[test]
    fn factors_follow_from_the_share_that_they_spend() {
        // Scenarios 13 to 15, and sloth's example for 7 days.
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let hours = [1, 6, 24, 72];
        for (period, shares, factors) in [
            (30, ["2%", "5%", "10%", "10%"], ["14.4", "6", "3", "1"]),
            (28, ["2%", "5%", "10%", "10%"], ["13.44", "5.6", "2.8", "0.933333"]),
            (90, ["2%", "5%", "10%", "10%"], ["43.2", "18", "9", "3"]),
            (7, ["8%", "12.5%", "20%", "42%"], ["13.44", "3.5", "1.4", "0.98"]),
        ] {
            for ((hours, share), factor) in hours.into_iter().zip(shares).zip(factors) {
                let window = Duration::from_secs(hours * 3600);
                let spending = Burn::spending(share.parse().unwrap(), days(period), window);
                assert_eq!(spending.to_string(), factor, "{hours} h of {period} d");
            }
        }
    }

    #[test]
    fn what_does_not_come_out_even_is_rounded_up() {
        let third = Counts { good: 2, bad: 1 };

        assert_eq!(Burn::of(third, target("99.9")).unwrap().to_string(), "333.333334");
    }

    #[test]
    fn no_counts_overflow() {
        let most = Counts { good: 0, bad: u64::MAX };
        let year = Coverage::full(Duration::from_secs(366 * 86_400));

        assert!(!Burn(u64::MAX).is_exceeded_by(most, target("99.9999999"), year));
        assert!(Burn::ONE.is_exceeded_by(most, target("99.9999999"), year));
        assert_eq!(Burn::of(most, target("99.9999999")), Some(Burn::times(1_000_000_000)));
    }

    #[test]
    fn nonsense_is_told_what_to_write() {
        for text in ["", ".5", "-1", "1e3", "1.2345678", "nan", "99999999999999999999"] {
            let error = text.parse::<Burn>().unwrap_err().to_string();
            assert!(error.contains("write it as"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(millionths: u64) {
            prop_assert_eq!(Burn(millionths).to_string().parse(), Ok(Burn(millionths)));
        }

        /// As at school, in digits of 32 bits.
        #[test]
        fn a_wide_product_is_the_product_of_the_digits(a: u128, b: u128) {
            let digits = |number: u128| (0..4).map(move |place| number >> (32 * place) & 0xFFFF_FFFF);
            let mut sum = [0_u128; 9];
            for (i, x) in digits(a).enumerate() {
                for (j, y) in digits(b).enumerate() {
                    sum[i + j] += (x * y) & 0xFFFF_FFFF;
                    sum[i + j + 1] += (x * y) >> 32;
                }
            }
            for place in 0..8 {
                sum[place + 1] += sum[place] >> 32;
                sum[place] &= 0xFFFF_FFFF;
            }
            let number = |half: &[u128]| half.iter().rev().fold(0, |all, digit| all << 32 | digit);

            prop_assert_eq!(wide_product(a, b), (number(&sum[4..8]), number(&sum[..4])));
        }

        #[test]
        fn a_wide_product_is_the_product(a: u128, b: u64) {
            let (high, low) = wide_product(a, u128::from(b));
            let (upper, lower) = (a >> 64, a & u128::from(u64::MAX));
            let (upper, lower) = (upper * u128::from(b), lower * u128::from(b));
            let middle = upper.checked_add(lower >> 64);

            if let Some(middle) = middle {
                prop_assert_eq!(high, middle >> 64);
                prop_assert_eq!(low >> 64, middle & u128::from(u64::MAX));
                prop_assert_eq!(low & u128::from(u64::MAX), lower & u128::from(u64::MAX));
            }
            prop_assert_eq!(wide_product(u128::from(b), a), (high, low));
        }
    }
}
