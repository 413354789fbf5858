use std::fmt;

/// A share of a whole that may be less than nothing or more than all, to nine decimals.
///
/// What is left of an error budget is one: it falls below nothing once the budget is overspent,
/// and the sign is kept. Decisions compare the parts per billion; [`Share::as_f64`] is for
/// gauges and pages only.
///
/// ```
/// use buttress_slo::Share;
///
/// let left = Share::percent(-100);
/// assert_eq!(left.parts_per_billion(), -1_000_000_000);
/// assert_eq!(left.to_string(), "-100%");
/// assert_eq!(Share::per_billion(499_754_999).to_string(), "49.975%");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(i64);

impl Share {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole.
    pub const ONE: Self = Self(WHOLE);

    /// So many hundredths.
    #[must_use]
    pub const fn percent(percent: i32) -> Self {
        Self(percent as i64 * (WHOLE / 100))
    }

    /// So many billionths.
    #[must_use]
    pub const fn per_billion(parts: i64) -> Self {
        Self(parts)
    }

    /// How many billionths it is.
    #[must_use]
    pub const fn parts_per_billion(self) -> i64 {
        self.0
    }

    /// What is left of the whole when this is gone.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(WHOLE.saturating_sub(self.0))
    }

    /// This share and another, at the most what nine decimals of 64 bits hold.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// This share without another.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// As a float, for display and export only: nothing is decided on it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for display; decisions use the integer")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / WHOLE as f64
    }
}

const WHOLE: i64 = 1_000_000_000;

impl fmt::Display for Share {
    /// In percent, to three decimals at the most, the last of them rounded to nearest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Thousandths of a percent are hundred-thousandths of the whole.
        let thousandths = self.0.unsigned_abs().saturating_add(5_000) / 10_000;
        let sign = if self.0 < 0 && thousandths > 0 { "-" } else { "" };
        write!(f, "{sign}{}", thousandths / 1_000)?;
        let decimals = format!("{:03}", thousandths % 1_000);
        match decimals.trim_end_matches('0') {
            "" => f.write_str("%"),
            decimals => write!(f, ".{decimals}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_as_people_write_it() {
        for (parts, text) in [
            (0, "0%"),
            (1_000_000_000, "100%"),
            (-190_476_191, "-19.048%"),
            (751_000_000, "75.1%"),
            (-1, "0%"),
            (i64::MIN, "-922337203685.478%"),
        ] {
            assert_eq!(Share::per_billion(parts).to_string(), text);
        }
    }

    #[test]
    fn it_saturates_and_never_wraps() {
        assert_eq!(Share(i64::MIN).complement(), Share(i64::MAX));
        assert_eq!(Share(i64::MAX).plus(Share::ONE), Share(i64::MAX));
        assert_eq!(Share(i64::MIN).minus(Share::ONE), Share(i64::MIN));
    }
}
