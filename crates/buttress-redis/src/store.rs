use std::{error::Error, fmt, time::Duration};

use crate::{Debt, Scale};

/// Where the buckets of a fleet are kept: [`RedisStore`](crate::RedisStore), or anything else that
/// can take from all buckets of a key or from none, in one step.
///
/// Who asks waits for an answer no longer than its layer allows, and drops it then. What was taken
/// for it stays taken.
pub trait Store: Clone + Send + Sync + 'static {
    /// An answer that has been asked for.
    type Answer<T: Send + 'static>: Future<Output = Result<T, StoreError>> + Send + Unpin;

    /// Takes as many tokens as there are, between [`least`](Take::least) and [`most`](Take::most),
    /// from the bucket of each limit or from none.
    fn take(&self, key: &[u8], limits: &[Scale], take: Take) -> Self::Answer<Taken>;

    /// Gives back tokens that were taken and not used. No bucket gets more than full.
    fn give(&self, key: &[u8], limits: &[Scale], tokens: u32) -> Self::Answer<()>;

    /// Says that a member of a group is there, and asks how many have said so within `lasting`.
    fn beat(&self, group: &[u8], member: &[u8], lasting: Duration) -> Self::Answer<u32>;
}

/// What is asked of a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// Nothing is taken if there is not so much.
    pub least: u32,
    /// And no more than this.
    pub most: u32,
    /// So many have to be left in each bucket.
    pub left: u32,
}

/// What a [`Store`] answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many tokens were taken: none, or at least as many as were asked for.
    pub granted: u32,
    /// What the bucket of each limit owes afterwards. Those of limits that there are not are zero.
    pub debts: [Debt; MOST],
}

/// How many limits a layer has at the most.
pub const MOST: usize = 4;

/// Why a [`Store`] has not answered.
#[derive(Debug)]
pub struct StoreError {
    failure: Failure,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kept a [`Store`] from answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// There was no answer in time.
    TimedOut,
    /// It cannot be reached.
    Unreachable,
    /// It answered with an error: a wrong password, a script that failed, another kind of server.
    Refused,
}

impl Failure {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 3] = [Self::TimedOut, Self::Unreachable, Self::Refused];

    /// The value of a `failure` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

impl StoreError {
    /// An error of this kind, in words that say what to do.
    #[must_use]
    pub fn new(failure: Failure, what: impl Into<String>) -> Self {
        Self { failure, what: what.into(), source: None }
    }

    /// And what it came from.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kept it from answering.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        self.failure
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
