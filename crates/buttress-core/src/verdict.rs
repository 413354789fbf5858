use std::{error::Error, time::Duration};

use crate::{Code, Kind};

/// What one call means for an objective.
///
/// A handler that knows better than the status puts a `Verdict` into its response's extensions;
/// it is believed, unless the body breaks afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The caller got what was promised.
    Good,
    /// The caller did not; this spends error budget.
    Bad,
    /// Not ours to answer for: neither side of the ratio counts it.
    Excluded,
}

impl Verdict {
    /// All verdicts, in the order in which tables print them.
    pub const ALL: [Self; 3] = [Self::Good, Self::Bad, Self::Excluded];

    /// The value of the `outcome` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Excluded => "excluded",
        }
    }
}

/// Why a call was judged as it was: a closed set, fit for a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The status or code says so, and the end agrees.
    Status,
    /// The handler said so, through a [`Verdict`] in the response's extensions.
    Application,
    /// A layer of ours refused the call.
    Refused(Kind),
    /// The caller's deadline passed first.
    Deadline,
    /// The inner service failed before it had a response.
    Failed,
    /// The body broke off.
    Broken,
    /// A gRPC response ended without a status.
    MissingStatus,
    /// The caller left, or dropped the call.
    Left,
    /// The inner service panicked.
    Panicked,
    /// Somebody else answered in the service's stead, where that counts as bad.
    Degraded,
    /// One of those above: there was no room to tell them apart any more.
    Other,
}

impl Reason {
    /// All reasons: the closed set that a label can hold.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::Status,
            Self::Application,
            Self::Deadline,
            Self::Failed,
            Self::Broken,
            Self::MissingStatus,
            Self::Left,
            Self::Panicked,
            Self::Degraded,
            Self::Other,
        ];
        others.into_iter().chain(Kind::ALL.map(Self::Refused))
    }

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Application => "application",
            Self::Refused(kind) => kind.as_str(),
            Self::Deadline => "deadline",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::MissingStatus => "missing_status",
            Self::Left => "left",
            Self::Panicked => "panicked",
            Self::Degraded => "degraded",
            Self::Other => "other",
        }
    }
}

/// A [`Verdict`] with its [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Judgement {
    /// What the call counts as.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

impl Judgement {
    /// A judgement with a verdict and a reason.
    #[must_use]
    pub const fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason }
    }
}

/// How a call ended. It ends exactly once, also by being dropped.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// The response ended as it should; for gRPC with the code of its trailers or its head.
    Complete {
        /// The gRPC code, where there was one.
        code: Option<Code>,
    },
    /// The inner service failed before it had a response; `None` for an error type that this
    /// crate cannot look into.
    Failed(Option<&'a (dyn Error + 'static)>),
    /// The body failed after the head was out.
    Broken(&'a (dyn Error + 'static)),
    /// The call was dropped.
    Dropped {
        /// How far it had come.
        stage: Stage,
        /// On whose side it was recorded.
        side: Side,
        /// Whether the caller's deadline had passed by then.
        late: bool,
    },
    /// The inner service panicked.
    Panicked,
}

/// How far a call had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// There was no response yet.
    BeforeHead,
    /// The head was out, the body was not at its end.
    InBody,
}

/// On whose side a call is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// We answer: who drops the call is a client that left.
    Server,
    /// We ask: who drops the call is our own caller.
    Client,
}

impl Side {
    /// The value of the `side` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// How long a call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the call to the response head; `None` if there was none.
    pub to_head: Option<Duration>,
    /// From the call to its end.
    pub total: Duration,
}
