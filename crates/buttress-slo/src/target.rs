use std::{error::Error, fmt, str::FromStr, time::Duration};

use buttress_core::{ParseRatioError, Ratio};

use crate::burn::saturate;

/// The share of events that has to be good: more than nothing, and less than all.
///
/// Read from a decimal, exactly: 99.9 % is 999,000,000 parts per billion, where a binary float
/// would make it 0.9990000000000001. A target of 100 % leaves no error budget, so that no burn
/// rate is defined and every failure is a breach; it cannot be said.
///
/// ```
/// use std::time::Duration;
/// use buttress_slo::Target;
///
/// let target: Target = "99.9".parse().unwrap();
/// assert_eq!(target.ratio().parts_per_billion(), 999_000_000);
/// assert_eq!("0.999".parse(), Ok(target));
/// assert_eq!("99.9%".parse(), Ok(target));
/// assert_eq!(target.error_time(Duration::from_secs(30 * 86_400)), Duration::from_secs(2592));
/// assert!("100".parse::<Target>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(Ratio);

impl Target {
    /// The share of events that has to be good.
    #[must_use]
    pub const fn ratio(self) -> Ratio {
        self.0
    }

    /// The share of events that may be bad.
    #[must_use]
    pub const fn error_ratio(self) -> Ratio {
        self.0.complement()
    }

    /// How much of `period` may be bad: the error budget in time, rounded down.
    #[must_use]
    pub fn error_time(self, period: Duration) -> Duration {
        let nanos = period.as_nanos() * u128::from(self.error_parts()) / 1_000_000_000;
        Duration::from_secs(saturate(nanos / 1_000_000_000))
            + Duration::from_nanos(saturate(nanos % 1_000_000_000))
    }

    /// [`Target::error_ratio`] in parts per billion. Never 0.
    pub(crate) const fn error_parts(self) -> u32 {
        self.error_ratio().parts_per_billion()
    }
}

impl TryFrom<Ratio> for Target {
    type Error = TargetError;

    fn try_from(ratio: Ratio) -> Result<Self, TargetError> {
        match ratio {
            Ratio::ZERO => Err(TargetError::Nothing),
            Ratio::ONE => Err(TargetError::Everything),
            ratio => Ok(Self(ratio)),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// Reads `0.999`, `99.9%` or `99.9`: a number above 1 can only be a percentage.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let ratio = text.parse::<Ratio>().or_else(|error| {
            let percent = format!("{text}%").parse();
            percent.map_err(|_| TargetError::NoRatio(error))
        })?;
        Self::try_from(ratio)
    }
}

impl fmt::Display for Target {
    /// In percent, with all its decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:010}", self.0.parts_per_billion());
        let (whole, decimals) = digits.split_at(3);
        let whole = whole.trim_start_matches('0');
        f.write_str(if whole.is_empty() { "0" } else { whole })?;
        match decimals.trim_end_matches('0') {
            "" => f.write_str("%"),
            decimals => write!(f, ".{decimals}%"),
        }
    }
}

/// Why something is no [`Target`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// It is no ratio.
    NoRatio(ParseRatioError),
    /// It is 0: nothing is promised.
    Nothing,
    /// It is 100 %: there is no budget to spend.
    Everything,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRatio(error) => error.fmt(f),
            Self::Nothing => f.write_str("a target of 0 promises nothing; write it as 99.9%"),
            Self::Everything => f.write_str(
                "a target of 100 % leaves no error budget: every failure would breach it, and no \
                 burn rate is defined; set it below 100 %, such as 99.9%",
            ),
        }
    }
}

impl Error for TargetError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoRatio(error) => Some(error),
            Self::Nothing | Self::Everything => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 86_400)
    }

    #[test]
    fn budgets_in_time_are_exact() {
        // slo.md 10, scenarios 1 to 4.
        for (target, period, millis) in [
            ("99.9", days(30), 2_592_000),
            ("99.9", days(28), 2_419_200),
            ("99.9", days(90), 7_776_000),
            ("99.9", days(7), 604_800),
            ("99.95", days(30), 1_296_000),
            ("99.99", days(30), 259_200),
            ("99.999", days(30), 25_920),
            ("99.5", days(30), 12_960_000),
            ("99", days(30), 25_920_000),
        ] {
            let target: Target = target.parse().unwrap();
            assert_eq!(target.error_time(period), Duration::from_millis(millis), "{target}");
        }
    }

    #[test]
    fn a_target_of_everything_or_nothing_cannot_be_said() {
        // Scenario 11.
        for text in ["100", "100%", "1", "1.0"] {
            assert_eq!(text.parse::<Target>(), Err(TargetError::Everything), "{text}");
        }
        assert_eq!("0".parse::<Target>(), Err(TargetError::Nothing));
        for text in ["", "101", "99,9", "nan", "-1", "99.99999999"] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("write it as"), "{error}");
        }
    }

    #[test]
    fn it_is_read_exactly_and_printed_in_percent() {
        // Scenario 12.
        for (text, parts, printed) in [
            ("99.9", 999_000_000, "99.9%"),
            ("99.9999999", 999_999_999, "99.9999999%"),
            ("0.5", 500_000_000, "50%"),
            ("0.5%", 5_000_000, "0.5%"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.ratio().parts_per_billion(), parts);
            assert_eq!(target.to_string(), printed);
            assert_eq!(printed.parse(), Ok(target));
        }
    }
}
