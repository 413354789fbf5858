use std::fmt;

use crate::{Facts, Judgement, Kind, Reason, Verdict};

/// What makes a fallback answer.
///
/// Unless told otherwise: errors, responses that are judged bad, and what layers of ours further
/// in refuse, time that ran out among it. A rate limit that is used up is not, for whoever asks
/// too much is to be told so, and neither is a request that had expired when it came, for its
/// caller is gone. Never what is the caller's doing, such as a 404, nor a call that was dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Triggers(u32);

const ERRORS: u32 = 1 << 31;
const FAILURES: u32 = 1 << 30;

impl Triggers {
    /// The default.
    pub fn new() -> Self {
        let kinds =
            Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::RateLimited | Kind::Expired));
        kinds.fold(Self(ERRORS | FAILURES), Self::on)
    }

    /// Nothing at all; what does is said with [`Triggers::on`], [`Triggers::errors`] and
    /// [`Triggers::failures`].
    pub const fn none() -> Self {
        Self(0)
    }

    /// Refusals of this kind do, be they errors or responses.
    pub fn on(self, kind: Kind) -> Self {
        Self(self.0 | bit(kind))
    }

    /// Refusals of this kind do not.
    pub fn without(self, kind: Kind) -> Self {
        Self(self.0 & !bit(kind))
    }

    /// Whether errors of the service do that are no refusals of ours.
    pub const fn errors(self, fire: bool) -> Self {
        self.set(ERRORS, fire)
    }

    /// Whether responses do that are judged bad and are no refusals of ours.
    pub const fn failures(self, fire: bool) -> Self {
        self.set(FAILURES, fire)
    }

    const fn set(self, bit: u32, fire: bool) -> Self {
        Self(if fire { self.0 | bit } else { self.0 & !bit })
    }

    /// Whether a call that was judged so is answered for. `is_error` tells an error from a
    /// response.
    #[must_use]
    pub fn fire(self, judgement: Judgement, facts: Facts, is_error: bool) -> bool {
        let has = |bit| self.0 & bit != 0;
        match judgement.reason {
            Reason::Refused(kind) => has(bit(kind)),
            _ if judgement.verdict != Verdict::Bad => false,
            // Who says himself how bad his answer is has answered as well as he can.
            Reason::Application if !is_error && facts.is_well() => false,
            _ => has(if is_error { ERRORS } else { FAILURES }),
        }
    }

    /// As a word, for whoever keeps it in an atomic.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From a word that [`Triggers::to_bits`] made.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

fn bit(kind: Kind) -> u32 {
    1 << kind as u32
}

impl Default for Triggers {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Triggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| self.0 & bit(*kind) != 0).collect();
        f.debug_struct("Triggers")
            .field("errors", &(self.0 & ERRORS != 0))
            .field("failures", &(self.0 & FAILURES != 0))
            .field("refusals", &kinds)
            .finish()
    }
}
