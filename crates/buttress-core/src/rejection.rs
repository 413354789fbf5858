use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::{Code, errors::chain, retry::Wait, tonic::StatusSlot};

/// This suite refused a request. The one error that all layers share.
///
/// Cheap to clone, and found wherever it surfaces: in an error chain with [`Rejection::find`],
/// in the extensions of a response that we made with `Rejection::of_response`.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::{BoxError, Kind, Rejection};
///
/// let rejection = Rejection::new(Kind::RateLimited, "checkout").with_retry_after(Duration::from_secs(2));
/// let error: BoxError = rejection.into();
///
/// let found = Rejection::find(&*error).expect("it is in there");
/// assert_eq!(found.kind(), Kind::RateLimited);
/// assert_eq!(found.retry_after(), Some(Duration::from_secs(2)));
/// assert_eq!(error.to_string(), "rate limit exceeded (checkout)");
/// ```
#[derive(Clone)]
pub struct Rejection(Arc<Inner>);

struct Inner {
    kind: Kind,
    layer: Arc<str>,
    why: &'static str,
    retry_after: Option<Duration>,
    hopeless: bool,
    surface: Surface,
    status: StatusSlot,
}

/// How a rejection looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Surface {
    http: u16,
    grpc: Code,
}

impl Rejection {
    /// A refusal by the layer named `layer`.
    #[must_use]
    pub fn new(kind: Kind, layer: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            layer: layer.into(),
            why: kind.message(),
            retry_after: None,
            hopeless: false,
            surface: kind.surface(),
            status: StatusSlot::default(),
        }))
    }

    /// Says after what time a caller may try again, and so not that it is refused
    /// [for good](Self::for_good).
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.change(|inner| (inner.retry_after, inner.hopeless) = (Some(wait), false))
    }

    /// Says that the same request will be refused for ever: to come again does not help.
    ///
    /// ```
    /// use buttress_core::{Kind, Rejection};
    ///
    /// let rejection = Rejection::new(Kind::RateLimited, "uploads").for_good();
    ///
    /// assert!(rejection.is_hopeless());
    /// assert_eq!(rejection.retry_after(), None);
    /// assert_eq!(rejection.pushback_millis(), Some(-1));
    /// ```
    #[must_use]
    pub fn for_good(self) -> Self {
        self.change(|inner| (inner.retry_after, inner.hopeless) = (None, true))
    }

    /// Says in other words why; they reach the caller, so they name no secrets.
    #[must_use]
    pub fn because(self, why: &'static str) -> Self {
        self.change(|inner| inner.why = why)
    }

    /// Answers with another HTTP status and gRPC code than those of its kind.
    ///
    /// # Panics
    ///
    /// If `http_status` is none: not within 100 and 999.
    #[must_use]
    pub fn surfacing_as(self, http_status: u16, grpc: Code) -> Self {
        assert!((100..1000).contains(&http_status), "{http_status} is no HTTP status");
        self.change(|inner| inner.surface = Surface { http: http_status, grpc })
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        let inner = Arc::get_mut(&mut self.0);
        if let Some(inner) = inner {
            change(inner);
            return self;
        }
        let Inner { kind, ref layer, why, retry_after, hopeless, surface, .. } = *self.0;
        let (layer, status) = (Arc::clone(layer), StatusSlot::default());
        let mut inner = Inner { kind, layer, why, retry_after, hopeless, surface, status };
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// What refused the request.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The name of the layer that did.
    #[must_use]
    pub fn layer(&self) -> &str {
        &self.0.layer
    }

    /// Why, in a few words without names.
    #[must_use]
    pub fn why(&self) -> &'static str {
        self.0.why
    }

    /// After what time a caller may try again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same request will be refused for ever, such as one that costs more than a rate
    /// limit ever allows at once.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.0.hopeless
    }

    /// What it asks of callers: to come again after a time, or not at all.
    #[must_use]
    pub fn asked(&self) -> Option<Wait> {
        if self.is_hopeless() { Some(Wait::Never) } else { self.retry_after().map(Wait::After) }
    }

    /// The HTTP status that it answers with.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        self.0.surface.http
    }

    /// The gRPC code that it answers with.
    #[must_use]
    pub fn grpc_code(&self) -> Code {
        self.0.surface.grpc
    }

    /// [`Rejection::retry_after`] in the whole seconds of a `Retry-After` header, rounded up and
    /// never 0: who waits that long is not early.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let wait = self.0.retry_after?;
        Some(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1))
    }

    /// [`Rejection::retry_after`] in the milliseconds of `grpc-retry-pushback-ms`
    /// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md)), rounded
    /// up, within the 32 bits that it allows; -1 for a [hopeless](Self::is_hopeless) request, which
    /// asks not to try again.
    #[must_use]
    pub fn pushback_millis(&self) -> Option<i32> {
        if self.0.hopeless {
            return Some(-1);
        }
        let millis = self.0.retry_after?.as_nanos().div_ceil(1_000_000);
        Some(i32::try_from(millis).unwrap_or(i32::MAX))
    }

    /// Finds a rejection in an error, or in what that error came from.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        chain(error).find_map(|error| error.downcast_ref())
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("kind", &self.0.kind)
            .field("layer", &self.0.layer)
            .field("why", &self.0.why)
            .field("retry_after", &self.0.retry_after)
            .field("hopeless", &self.0.hopeless)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.why, self.0.layer)
    }
}

impl Error for Rejection {
    /// With the `tonic` feature a `tonic::Status` of the right code: that is where tonic looks.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.status.source(self)
    }
}

/// What refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A circuit breaker is open: 503, `UNAVAILABLE`.
    CircuitOpen,
    /// A rate limit is used up: 429, `RESOURCE_EXHAUSTED`.
    RateLimited,
    /// There is no room for another request in flight: 503, `UNAVAILABLE`.
    Overloaded,
    /// It waited for room as long as it may, in vain: 503, `UNAVAILABLE`.
    QueueTimedOut,
    /// The service accepts too little of what it is asked: 503, `UNAVAILABLE`.
    Throttled,
    /// A deadline passed: 504, `DEADLINE_EXCEEDED`.
    TimedOut,
    /// A deadline had passed before the work could start: 504, `DEADLINE_EXCEEDED`.
    Expired,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::CircuitOpen,
        Self::RateLimited,
        Self::Overloaded,
        Self::QueueTimedOut,
        Self::Throttled,
        Self::TimedOut,
        Self::Expired,
    ];

    /// The value of a `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit_open",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::QueueTimedOut => "queue_timed_out",
            Self::Throttled => "throttled",
            Self::TimedOut => "timed_out",
            Self::Expired => "expired",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit breaker open",
            Self::RateLimited => "rate limit exceeded",
            Self::Overloaded => "too many requests in flight",
            Self::QueueTimedOut => "waited too long for other requests to end",
            Self::Throttled => "the service accepts too few requests",
            Self::TimedOut => "timed out",
            Self::Expired => "deadline passed before the work could start",
        }
    }

    const fn surface(self) -> Surface {
        let (http, grpc) = match self {
            Self::CircuitOpen | Self::Overloaded | Self::QueueTimedOut | Self::Throttled => {
                (503, Code::Unavailable)
            }
            Self::RateLimited => (429, Code::ResourceExhausted),
            Self::TimedOut | Self::Expired => (504, Code::DeadlineExceeded),
        };
        Surface { http, grpc }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        let after = |wait| {
            let rejection = Rejection::new(Kind::CircuitOpen, "b").with_retry_after(wait);
            (rejection.retry_after_seconds().unwrap(), rejection.pushback_millis().unwrap())
        };

        assert_eq!(after(Duration::ZERO), (1, 0));
        assert_eq!(after(Duration::from_nanos(1)), (1, 1));
        assert_eq!(after(Duration::from_millis(1500)), (2, 1500));
        assert_eq!(after(Duration::MAX), (u64::MAX, 2_147_483_647));
    }

    #[test]
    fn of_a_wait_and_for_good_the_last_that_is_said_holds() {
        let wait = Duration::from_secs(2);
        let plain = || Rejection::new(Kind::RateLimited, "limit");

        let comes_again = plain().for_good().with_retry_after(wait);
        let never = plain().with_retry_after(wait).for_good();

        let said = |it: &Rejection| (it.is_hopeless(), it.retry_after(), it.pushback_millis());
        assert_eq!(said(&comes_again), (false, Some(wait), Some(2000)));
        assert_eq!(comes_again.asked(), Some(Wait::After(wait)));
        assert_eq!(said(&never), (true, None, Some(-1)));
        assert_eq!(never.asked(), Some(Wait::Never));
    }

    #[test]
    fn a_change_leaves_clones_as_they_were() {
        let plain = Rejection::new(Kind::Overloaded, "bulkhead");

        let changed = plain.clone().surfacing_as(503, Code::ResourceExhausted).because("full");

        assert_eq!(plain.grpc_code(), Code::Unavailable);
        assert_eq!(changed.grpc_code(), Code::ResourceExhausted);
        assert_eq!(changed.to_string(), "full (bulkhead)");
    }
}
