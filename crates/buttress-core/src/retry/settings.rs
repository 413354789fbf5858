use std::{num::NonZeroU32, time::Duration};

use super::{Backoff, Budget, Jitter, Percentage};
use crate::{Code, Kind, Method, Protocol, Ratio, TimeLimit};

/// What is retried, how often, when, and who pays for it.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::{Code, retry::{Backoff, Budget, Settings}};
///
/// let settings = Settings::new(Backoff::constant(Duration::from_millis(100)))
///     .attempts(4)
///     .codes([Code::Unavailable, Code::Aborted])
///     .budget(Budget::percent(10));
///
/// assert_eq!(settings.most_attempts(), Some(4));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Settings {
    pub(super) backoff: Backoff,
    pub(super) attempts: Option<NonZeroU32>,
    pub(super) ceiling: Duration,
    budget: Budget,
    attempt: Option<TimeLimit>,
    body: usize,
    codes: u32,
    statuses: Statuses,
    methods: u16,
    rejections: bool,
    seed: Option<u64>,
}

/// Which HTTP statuses are retried.
#[derive(Clone, Debug)]
enum Statuses {
    /// Of those that are judged bad, whichever another try may mend, and those by which a server
    /// asks to be tried again.
    Judged,
    Named(Box<[u16]>),
}

impl Settings {
    /// The default: three attempts with full jitter, 50 milliseconds doubling up to 2 seconds,
    /// and no more retries than a fifth of the requests.
    ///
    /// Full jitter, for callers that failed together come again apart. 50 milliseconds outlast
    /// a lost packet, a leader's change or a collected heap; what lasts longer than 2 seconds
    /// is an outage, which a retry does not mend. A fifth keeps a service that is down from
    /// getting more than 1.2 times its load, where three attempts each would be three times.
    pub fn jittered() -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(50))
            .up_to(Duration::from_secs(2))
            .jitter(Jitter::Full);
        Self::new(backoff)
    }

    /// The plainest thing that works: three attempts, a second doubling up to ten, and up to a
    /// second more at random.
    ///
    /// For a job or a script that is alone with its service: a second outlasts a restart, the
    /// jitter keeps two of them apart, and three attempts is what people try by hand. It waits too
    /// long for a caller that waits itself, and its budget is a share of what little it asks.
    pub fn plain() -> Self {
        let backoff = Backoff::exponential(Duration::from_secs(1))
            .up_to(Duration::from_secs(10))
            .jitter(Jitter::Added(Duration::from_secs(1)));
        Self::new(backoff)
    }

    /// Three attempts with this backoff, and the rest as [`Settings::jittered`] has it.
    pub fn new(backoff: Backoff) -> Self {
        const THREE: NonZeroU32 = NonZeroU32::new(3).expect("not 0");
        Self {
            backoff,
            attempts: Some(THREE),
            ceiling: Duration::from_secs(30),
            budget: Percentage::new(Ratio::percent(20)).into(),
            attempt: None,
            body: 64 * 1024,
            codes: 1 << Code::Unavailable.number(),
            statuses: Statuses::Judged,
            methods: IDEMPOTENT,
            rejections: false,
            seed: None,
        }
    }

    /// So many attempts in all, the first one among them.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn attempts(mut self, attempts: u32) -> Self {
        let attempts = NonZeroU32::new(attempts);
        self.attempts = Some(attempts.expect("without an attempt nothing is ever called"));
        self
    }

    /// As many attempts as backoff, budget and deadline allow.
    pub fn unlimited_attempts(mut self) -> Self {
        self.attempts = None;
        self
    }

    /// When to try again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Who pays. Clone one budget into all that call the same service.
    pub fn budget(mut self, budget: impl Into<Budget>) -> Self {
        self.budget = budget.into();
        self
    }

    /// The longest wait that a server may ask for: 30 seconds unless told otherwise, past which
    /// few callers are still there. Who asks for more is not tried again at all.
    pub fn ceiling(mut self, ceiling: TimeLimit) -> Self {
        self.ceiling = ceiling.get();
        self
    }

    /// How long an attempt may take to its response head, its wait for a ready service included.
    /// The last one may take whatever is left until the caller's deadline, if there is one; so may
    /// one of gRPC that would not be [made again](Self::codes) in any case.
    pub fn attempt_timeout(mut self, limit: TimeLimit) -> Self {
        self.attempt = Some(limit);
        self
    }

    /// How many bytes of a request's body are kept to be sent again: 64 KiB unless told otherwise.
    /// A longer one is sent once.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body = bytes;
        self
    }

    /// The gRPC codes that are retried: `UNAVAILABLE` unless told otherwise. Each code needs a
    /// service that does no harm when it is asked twice.
    ///
    /// A call may also fail without a code, and then nobody knows whether it was done. One whose
    /// connection broke is retried where `UNAVAILABLE` is named; one that took longer than
    /// [`attempt_timeout`](Self::attempt_timeout), or than a timeout layer of ours further in, where
    /// `UNAVAILABLE` or `DEADLINE_EXCEEDED` is. So a service whose methods must not be done
    /// twice names neither, but `ABORTED`, say, which it answers when it has done nothing. What
    /// never reached the server was not done, and is retried whatever is named.
    ///
    /// ```
    /// use buttress_core::{Code, Protocol, retry::Settings};
    ///
    /// assert!(Settings::default().retries_timeout(Protocol::Grpc));
    /// let payments = Settings::default().codes([Code::Aborted]);
    /// assert!(!payments.retries_timeout(Protocol::Grpc));
    /// ```
    pub fn codes(mut self, codes: impl IntoIterator<Item = Code>) -> Self {
        self.codes = codes.into_iter().fold(0, |codes, code| codes | 1 << code.number());
        self
    }

    /// The HTTP statuses that are retried, and no others. Unless told otherwise they are all that
    /// are judged bad, less 501 and 505, and besides 408, 425 and 429.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.statuses = Statuses::Named(statuses.into_iter().collect());
        self
    }

    /// Retries this method too, which HTTP does not promise to be idempotent. An
    /// `Idempotency-Key` on a request does it for that request.
    pub fn method(mut self, method: Method) -> Self {
        self.methods |= 1 << method as u16;
        self
    }

    /// Retries what layers of ours further in refuse: an open breaker, a rate limit, a full
    /// bulkhead. A refusal is an answer, so unless told so they are not; only time that ran out
    /// is a failure like any other, told so or not. The waits are those of the backoff, whatever the
    /// refusal says.
    pub fn retry_rejections(mut self) -> Self {
        self.rejections = true;
        self
    }

    /// Draws the jitter from this seed, for a run that can be replayed. It holds from when the
    /// layer is made.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What the jitter is drawn from, if that was said.
    #[must_use]
    pub fn of_seed(&self) -> Option<u64> {
        self.seed
    }

    /// How many attempts there may be; `None` without a limit.
    #[must_use]
    pub fn most_attempts(&self) -> Option<u32> {
        self.attempts.map(NonZeroU32::get)
    }

    /// Who pays.
    #[must_use]
    pub fn of_budget(&self) -> &Budget {
        &self.budget
    }

    /// How long an attempt may take.
    #[must_use]
    pub fn of_attempt(&self) -> Option<TimeLimit> {
        self.attempt
    }

    /// How many bytes of a body are kept.
    #[must_use]
    pub fn of_body(&self) -> usize {
        self.body
    }

    /// Whether there may be a second attempt at all.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        self.attempts.is_none_or(|attempts| attempts.get() > 1)
    }

    /// Whether a request of this method may be sent twice.
    #[must_use]
    pub fn repeats(&self, method: Method) -> bool {
        self.methods & (1 << method as u16) != 0
    }

    pub(super) fn retries_code(&self, code: Code) -> bool {
        self.codes & (1 << code.number()) != 0
    }

    pub(super) fn retries_status(&self, status: u16, bad: bool) -> bool {
        match &self.statuses {
            Statuses::Named(statuses) => statuses.contains(&status),
            Statuses::Judged => {
                matches!(status, 408 | 425 | 429) || (bad && !matches!(status, 501 | 505))
            }
        }
    }

    /// Whether an attempt of this protocol is made again that took too long: what came of it
    /// nobody knows.
    #[must_use]
    pub fn retries_timeout(&self, protocol: Protocol) -> bool {
        const UNKNOWN: [Code; 2] = [Code::Unavailable, Code::DeadlineExceeded];
        protocol != Protocol::Grpc || UNKNOWN.into_iter().any(|code| self.retries_code(code))
    }

    pub(super) fn retries_rejection(&self, kind: Kind, protocol: Protocol) -> bool {
        match kind {
            Kind::TimedOut => self.retries_timeout(protocol),
            // The caller has left.
            Kind::Expired => false,
            _ => self.rejections,
        }
    }
}

impl Default for Settings {
    /// [`Settings::jittered`].
    fn default() -> Self {
        Self::jittered()
    }
}

/// RFC 9110, section 9.2.2.
const IDEMPOTENT: u16 = 1 << Method::Delete as u16
    | 1 << Method::Get as u16
    | 1 << Method::Head as u16
    | 1 << Method::Options as u16
    | 1 << Method::Put as u16
    | 1 << Method::Trace as u16;
