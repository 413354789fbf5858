use std::{fmt, time::Duration};

use crate::{Reason, retry::Stop};

/// What happened in a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Turn {
    /// A call failed, and is answered for; the event's key says with what.
    Triggered(Reason),
    /// A rung failed; the event's key says which, and with what.
    Failed,
    /// A rung took too long; the event's key says which.
    TimedOut,
    /// A rung was of no use for a call; the event's key says which.
    Skipped(Skip),
    /// A rung answered: the event's key.
    Answered {
        /// How old its answer was, if it is a stored one.
        age: Option<Duration>,
    },
    /// No rung answered: the caller got the failure itself.
    Unanswered,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Triggered(reason) => write!(f, "the service failed ({})", reason.as_str()),
            Self::Failed => f.write_str("a rung failed"),
            Self::TimedOut => f.write_str("a rung took too long"),
            Self::Skipped(skip) => write!(f, "a rung was skipped: {}", skip.as_str()),
            Self::Answered { age: None } => f.write_str("a rung answered"),
            Self::Answered { age: Some(age) } => {
                write!(f, "a rung answered with what is {} s old", age.as_secs())
            }
            Self::Unanswered => f.write_str("no rung answered: the failure is passed on"),
        }
    }
}

/// Why a rung was of no use for a call: a closed set, fit for a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Skip {
    /// The request's body is longer than what is kept of one.
    BodyTooLarge,
    /// The request's body was not sent to its end.
    BodyUnfinished,
    /// Nothing good is stored that the request may be answered with.
    NotStored,
    /// What is stored is too old.
    TooOld,
    /// A function had no answer.
    Declined,
    /// The call is gRPC, and the answer is a page, which its caller would take for `INTERNAL`.
    NotForGrpc,
}

impl Skip {
    /// All reasons, each at the place of its number.
    pub const ALL: [Self; 6] = [
        Self::BodyTooLarge,
        Self::BodyUnfinished,
        Self::NotStored,
        Self::TooOld,
        Self::Declined,
        Self::NotForGrpc,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyTooLarge => "body_too_large",
            Self::BodyUnfinished => "body_unfinished",
            Self::NotStored => "not_stored",
            Self::TooOld => "too_old",
            Self::Declined => "declined",
            Self::NotForGrpc => "not_for_grpc",
        }
    }
}

impl From<Stop> for Skip {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::BodyUnfinished => Self::BodyUnfinished,
            _ => Self::BodyTooLarge,
        }
    }
}
