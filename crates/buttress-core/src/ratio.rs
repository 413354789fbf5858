use std::{error::Error, fmt, str::FromStr};

/// A share of a whole, from 0 to 1, to nine decimals.
///
/// Kept in parts per billion, and read from decimals, because objectives are compared exactly:
/// 0.999 has no binary float.
///
/// ```
/// use buttress_core::Ratio;
///
/// let target: Ratio = "99.9%".parse().unwrap();
/// assert_eq!(target, "0.999".parse().unwrap());
/// assert_eq!(target.parts_per_billion(), 999_000_000);
/// assert_eq!(target.to_string(), "0.999");
/// assert_eq!(target.of(1_999), 1_997);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(u32);

impl Ratio {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole.
    pub const ONE: Self = Self(WHOLE);

    /// A ratio of so many hundredths.
    ///
    /// # Panics
    ///
    /// If `percent` is over 100. In a constant that is an error of the compiler.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        assert!(percent <= 100, "a ratio is 100 percent at the most");
        Self(percent * (WHOLE / 100))
    }

    /// The ratio of so many billionths; `None` above 1,000,000,000.
    #[must_use]
    pub const fn per_billion(parts: u32) -> Option<Self> {
        if parts <= WHOLE { Some(Self(parts)) } else { None }
    }

    /// How many billionths it is.
    #[must_use]
    pub const fn parts_per_billion(self) -> u32 {
        self.0
    }

    /// What is left to the whole.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(WHOLE - self.0)
    }

    /// This share of `amount`, rounded down: a share is never overspent.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a share is no more than the amount")]
    pub const fn of(self, amount: u64) -> u64 {
        (amount as u128 * self.0 as u128 / WHOLE as u128) as u64
    }
}

const WHOLE: u32 = 1_000_000_000;
const DECIMALS: usize = 9;

impl FromStr for Ratio {
    type Err = ParseRatioError;

    /// Reads `0.999`, `99.9%` or `1`.
    fn from_str(text: &str) -> Result<Self, ParseRatioError> {
        let error = |why| ParseRatioError { text: text.into(), why };
        let (number, decimals) = match text.strip_suffix('%') {
            Some(percent) => (percent, DECIMALS - 2),
            None => (text, DECIMALS),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = whole.bytes().chain(fraction.bytes());
        if whole.is_empty() || !digits.clone().all(|digit| digit.is_ascii_digit()) {
            return Err(error("it is not a decimal number"));
        }
        if fraction.len() > decimals {
            return Err(error("it has more decimals than nine of the ratio"));
        }
        let zeros = std::iter::repeat_n(b'0', decimals - fraction.len());
        let parts = digits.chain(zeros).try_fold(0_u32, |parts, digit| {
            parts.checked_mul(10)?.checked_add(u32::from(digit - b'0'))
        });
        parts.and_then(Self::per_billion).ok_or_else(|| error("it is more than the whole"))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == WHOLE {
            return f.write_str("1");
        }
        let digits = format!("{:09}", self.0);
        match digits.trim_end_matches('0') {
            "" => f.write_str("0"),
            decimals => write!(f, "0.{decimals}"),
        }
    }
}

/// Why a text is no [`Ratio`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseRatioError {
    text: String,
    why: &'static str,
}

impl fmt::Display for ParseRatioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, why } = self;
        write!(f, "{text:?} is no ratio: {why}; write it as 0.999 or 99.9%")
    }
}

impl Error for ParseRatioError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nonsense_is_told_what_to_write() {
        for text in
            ["", "%", ".5", "-0.1", "1.1", "100.1%", "1e-3", "0.1234567891", "nan", "99.99999999%"]
        {
            let error = text.parse::<Ratio>().unwrap_err().to_string();
            assert!(error.contains("write it as"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(parts in 0..=WHOLE) {
            let ratio = Ratio::per_billion(parts).unwrap();

            prop_assert_eq!(ratio.to_string().parse(), Ok(ratio));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Ratio>();
        }
    }
}
