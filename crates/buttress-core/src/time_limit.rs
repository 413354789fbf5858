use std::{error::Error, fmt, time::Duration};

/// How long something may take: more than nothing, and not for ever.
///
/// A timeout of zero refuses everything and one without end refuses nothing; both are mistakes,
/// so neither can be said.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::TimeLimit;
///
/// const HALF_A_SECOND: TimeLimit = TimeLimit::from_millis(500);
/// assert_eq!(HALF_A_SECOND.get(), Duration::from_millis(500));
/// assert!(TimeLimit::try_from(Duration::ZERO).is_err());
/// assert!(TimeLimit::try_from(Duration::MAX).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeLimit(Duration);

impl TimeLimit {
    /// The longest limit there is. A day is past what any caller waits for; a year is past what
    /// any stream should live for without somebody having said so.
    pub const MAX: Self = Self(Duration::from_secs(365 * 24 * 60 * 60));

    /// A limit of so many seconds.
    ///
    /// # Panics
    ///
    /// If `seconds` is 0 or more than a year. In a constant that is an error of the compiler;
    /// for a number that is only known later, use `try_from`.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self::new(Duration::from_secs(seconds))
    }

    /// A limit of so many milliseconds.
    ///
    /// # Panics
    ///
    /// As [`TimeLimit::from_secs`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self::new(Duration::from_millis(millis))
    }

    const fn new(limit: Duration) -> Self {
        assert!(!limit.is_zero(), "a time limit of zero would refuse everything");
        assert!(limit.as_nanos() <= Self::MAX.0.as_nanos(), "a time limit is a year at the most");
        Self(limit)
    }

    /// The limit as a duration.
    #[must_use]
    #[inline]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<Duration> for TimeLimit {
    type Error = TimeLimitError;

    fn try_from(limit: Duration) -> Result<Self, TimeLimitError> {
        if limit.is_zero() {
            Err(TimeLimitError::Zero)
        } else if limit > Self::MAX.0 {
            Err(TimeLimitError::TooLong(limit))
        } else {
            Ok(Self(limit))
        }
    }
}

/// Why a duration is no [`TimeLimit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimitError {
    /// It is zero.
    Zero,
    /// It is more than a year.
    TooLong(Duration),
}

impl fmt::Display for TimeLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str(
                "a time limit of zero would refuse everything; set a longer one, or leave the clock out",
            ),
            Self::TooLong(limit) => {
                write!(f, "a time limit of {limit:?} is more than a year; set a shorter one")
            }
        }
    }
}

impl Error for TimeLimitError {}
