use crate::retry::Stop;

/// Why a request was not sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unhedged {
    /// Hedging is switched off: for this request, or altogether.
    Off,
    /// Its method may do harm twice, and nobody said that it does not.
    Method,
    /// Its body is longer than what is kept of one, or cannot be kept.
    BodyTooLarge,
    /// Its body was not sent to its end when its time had come.
    BodyUnfinished,
    /// Too few requests have come to tell which of them take long.
    Unknown,
    /// Its caller would be gone before a second attempt began.
    Deadline,
    /// The budget is spent.
    Budget,
    /// A server asked not to be tried again, or not yet.
    Pushback,
}

impl Unhedged {
    /// All reasons, each at the place of its number.
    pub const ALL: [Self; 8] = [
        Self::Off,
        Self::Method,
        Self::BodyTooLarge,
        Self::BodyUnfinished,
        Self::Unknown,
        Self::Deadline,
        Self::Budget,
        Self::Pushback,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Method => "method",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyUnfinished => "body_unfinished",
            Self::Unknown => "unknown",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::Pushback => "pushback",
        }
    }
}

/// Of a request that cannot be made again.
impl From<Stop> for Unhedged {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::BodyUnfinished => Self::BodyUnfinished,
            _ => Self::BodyTooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_number() {
        for (number, reason) in Unhedged::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }
}
