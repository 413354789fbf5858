use std::{error::Error, fmt};

/// One of the [laws](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// [`calls_the_readied_instance`](super::calls_the_readied_instance).
    CallsTheReadiedInstance,
    /// [`keeps_clones_unready`](super::keeps_clones_unready).
    KeepsClonesUnready,
    /// [`settles_once`](super::settles_once).
    SettlesOnce,
    /// [`survives_panics`](super::survives_panics).
    SurvivesPanics,
    /// [`refuses_in_call_only`](super::refuses_in_call_only).
    RefusesInCallOnly,
    /// [`waits_to_be_woken`](super::waits_to_be_woken).
    WaitsToBeWoken,
    /// [`has_one_state`](super::has_one_state).
    HasOneState,
    /// [`passes_errors_on`](super::passes_errors_on).
    PassesErrorsOn,
}

impl Law {
    /// The law in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallsTheReadiedInstance => "the instance that was found ready is the one called",
            Self::KeepsClonesUnready => "a clone is never ready",
            Self::SettlesOnce => "each call is settled once and gives back what it held",
            Self::SurvivesPanics => "a panic goes on unwinding and leaves the layer working",
            Self::RefusesInCallOnly => "nothing is refused in poll_ready",
            Self::WaitsToBeWoken => "who waits is woken, and does not poll until then",
            Self::HasOneState => "one layer value has one state",
            Self::PassesErrorsOn => "an error of the inner service is passed on",
        }
    }

    pub(super) fn broken(self, what: impl Into<String>) -> Violation {
        Violation { law: self, what: what.into() }
    }
}

/// A [`Law`] was broken, and so.
///
/// Its `Debug` is its `Display`, for that is what a test prints that returns it or unwraps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Violation {
    law: Law,
    what: String,
}

impl Violation {
    pub(super) fn after(mut self, what: &str) -> Self {
        self.what = format!("After {what}: {}", self.what);
        self
    }

    /// The law that was broken.
    #[must_use]
    pub fn law(&self) -> Law {
        self.law
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken law: {}. {}", self.law.as_str(), self.what)
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Violation {}
