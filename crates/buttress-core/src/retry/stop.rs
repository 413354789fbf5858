/// Why a request that failed is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// It failed in a way that another try does not mend.
    Final,
    /// Its method is not idempotent, and it has no `Idempotency-Key`.
    Method,
    /// Its body is longer than what is kept of one, or cannot be kept.
    BodyTooLarge,
    /// Its body was not sent to its end.
    BodyUnfinished,
    /// It had all its attempts.
    Attempts,
    /// Its backoff has no more waits.
    Backoff,
    /// The budget is spent.
    Budget,
    /// Its caller would be gone before the next attempt.
    Deadline,
    /// The circuit breaker further in is open.
    CircuitOpen,
    /// A layer of ours further in refused it.
    Rejected,
    /// The server asked not to be tried again.
    Pushback,
    /// The server asked for a longer wait than anybody has time for.
    Ceiling,
    /// The service failed before it was ready for the next attempt.
    Unready,
}

impl Stop {
    /// All reasons, each at the place of its number.
    pub const ALL: [Self; 13] = [
        Self::Final,
        Self::Method,
        Self::BodyTooLarge,
        Self::BodyUnfinished,
        Self::Attempts,
        Self::Backoff,
        Self::Budget,
        Self::Deadline,
        Self::CircuitOpen,
        Self::Rejected,
        Self::Pushback,
        Self::Ceiling,
        Self::Unready,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Method => "method",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyUnfinished => "body_unfinished",
            Self::Attempts => "attempts",
            Self::Backoff => "backoff",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::CircuitOpen => "circuit_open",
            Self::Rejected => "rejected",
            Self::Pushback => "pushback",
            Self::Ceiling => "ceiling",
            Self::Unready => "unready",
        }
    }
}
