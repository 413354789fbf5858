use std::{fmt, sync::Arc, time::Duration};

use crate::{Code, Facts, Reason, Rejection};

/// Why a fallback answers: what the call that it answers for ended in.
///
/// ```
/// use buttress_core::{Facts, Method, Protocol, Reason, fallback::Why};
///
/// let facts = Facts { protocol: Protocol::Http, method: Method::Get, status: Some(503), code: None };
/// let why = Why::new(Reason::Status, facts);
///
/// assert_eq!((why.status(), why.to_string().as_str()), (Some(503), "it answered 503"));
/// ```
#[derive(Clone, Debug)]
pub struct Why {
    reason: Reason,
    status: Option<u16>,
    code: Option<Code>,
    rejection: Option<Rejection>,
}

impl Why {
    /// That a call ended so.
    #[must_use]
    pub fn new(reason: Reason, facts: Facts) -> Self {
        Self { reason, status: facts.status, code: facts.code, rejection: None }
    }

    /// And was refused so by a layer of ours.
    #[must_use]
    pub fn refused(mut self, rejection: Option<Rejection>) -> Self {
        self.rejection = rejection;
        self
    }

    /// In a word.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The HTTP status of the response, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The gRPC code that it ended in, if it had one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// The refusal of a layer of ours, if it was one.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.rejection, self.code, self.status) {
            (Some(rejection), _, _) => rejection.fmt(f),
            (None, Some(code), _) => write!(f, "it ended with {}", code.as_str()),
            (None, None, Some(status)) => write!(f, "it answered {status}"),
            (None, None, None) => f.write_str(self.reason.as_str()),
        }
    }
}

/// An answer that somebody else gave in the service's stead: an extension of the response.
#[derive(Clone, Debug)]
pub struct Degraded {
    /// The name of the fallback.
    pub layer: Arc<str>,
    /// The rung that answered.
    pub rung: Arc<str>,
    /// Why the service did not.
    pub why: Why,
    /// How old the answer is, if it is a stored one.
    pub age: Option<Duration>,
    /// Whether it is not fresh any more, if it is a stored one.
    pub stale: bool,
}

impl fmt::Display for Degraded {
    /// As the header says it: `shop; rung=stale; age=11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; rung={}", self.layer, self.rung)?;
        if let Some(age) = self.age {
            write!(f, "; age={}", age.as_secs())?;
        }
        if self.stale { f.write_str("; stale") } else { Ok(()) }
    }
}
