use std::ops::RangeInclusive;

use super::{Classify, RequestHead, ResponseHead};
use crate::{
    Code, End, Facts, Judgement, Kind, Protocol, Reason, Rejection, Timing, Verdict,
    plain::{GOOD, failed, unjudged},
};

/// Which HTTP statuses and gRPC codes are good, bad and excluded.
///
/// [`StatusRules::DEFAULT`] has the conventions: HTTP 2xx and 3xx are good, 5xx is bad, 4xx is
/// excluded, 429 among them. gRPC `OK` is good; `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`,
/// `INTERNAL`, `UNAVAILABLE` and `DATA_LOSS` are bad, as OpenTelemetry has it for servers; the
/// rest is the caller's doing, and excluded. Failures, broken bodies, deadlines, panics and gRPC
/// responses without a status are always bad.
///
/// ```
/// use buttress_core::{Code, Verdict, http::StatusRules};
///
/// // Only 2xx is good; a quota that ran out is our fault.
/// const RULES: StatusRules = StatusRules::DEFAULT
///     .only_good(200..=299)
///     .grpc(Code::ResourceExhausted, Verdict::Bad);
///
/// assert_eq!(RULES.of_status(301), Verdict::Bad);
/// assert_eq!(RULES.of_status(404), Verdict::Excluded);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRules {
    good: Statuses,
    excluded: Statuses,
    good_codes: u32,
    excluded_codes: u32,
}

impl StatusRules {
    /// The conventions.
    pub const DEFAULT: Self = Self {
        good: Statuses::NONE,
        excluded: Statuses::NONE,
        good_codes: 1,
        excluded_codes: ALL_CODES & !BAD_CODES & !1,
    }
    .http(100..=399, Verdict::Good)
    .http(400..=499, Verdict::Excluded);

    /// Counts these HTTP statuses as `verdict`.
    #[must_use]
    pub const fn http(mut self, statuses: RangeInclusive<u16>, verdict: Verdict) -> Self {
        let (first, last) = (*statuses.start(), *statuses.end());
        self.good = self.good.set(first, last, matches!(verdict, Verdict::Good));
        self.excluded = self.excluded.set(first, last, matches!(verdict, Verdict::Excluded));
        self
    }

    /// Counts these HTTP statuses as good and all others that were good as bad.
    #[must_use]
    pub const fn only_good(mut self, statuses: RangeInclusive<u16>) -> Self {
        self.good = Statuses::NONE;
        self.http(statuses, Verdict::Good)
    }

    /// Counts a gRPC code as `verdict`.
    #[must_use]
    pub const fn grpc(mut self, code: Code, verdict: Verdict) -> Self {
        let bit = 1 << code.number();
        self.good_codes &= !bit;
        self.excluded_codes &= !bit;
        match verdict {
            Verdict::Good => self.good_codes |= bit,
            Verdict::Excluded => self.excluded_codes |= bit,
            Verdict::Bad => {}
        }
        self
    }

    /// What an HTTP status counts as.
    #[must_use]
    #[inline]
    pub const fn of_status(&self, status: u16) -> Verdict {
        if self.good.has(status) {
            Verdict::Good
        } else if self.excluded.has(status) {
            Verdict::Excluded
        } else {
            Verdict::Bad
        }
    }

    /// What a gRPC response counts as that ended with this code, or with none.
    #[must_use]
    #[inline]
    pub const fn of_code(&self, code: Option<Code>) -> Judgement {
        let Some(code) = code else {
            return Judgement::new(Verdict::Bad, Reason::MissingStatus);
        };
        let bit = 1 << code.number();
        let verdict = if self.good_codes & bit != 0 {
            Verdict::Good
        } else if self.excluded_codes & bit != 0 {
            Verdict::Excluded
        } else {
            Verdict::Bad
        };
        Judgement::new(verdict, Reason::Status)
    }

    /// What a refusal of ours counts as: what its status or code would. Work that had expired
    /// before it came is excluded, for nobody here was slow.
    #[must_use]
    pub fn of_rejection(&self, protocol: Protocol, rejection: &Rejection) -> Judgement {
        let verdict = match protocol {
            _ if rejection.kind() == Kind::Expired => Verdict::Excluded,
            Protocol::Grpc => self.of_code(Some(rejection.grpc_code())).verdict,
            Protocol::Http | Protocol::Plain => self.of_status(rejection.http_status()),
        };
        Judgement::new(verdict, Reason::Refused(rejection.kind()))
    }

    /// Judges the head of a response; `None` while only the trailers can tell.
    #[must_use]
    #[inline]
    pub fn head(&self, facts: Facts, response: ResponseHead<'_>) -> Option<Judgement> {
        if !response.extensions.is_empty() {
            if let Some(rejection) = response.extensions.get() {
                return Some(self.of_rejection(facts.protocol, rejection));
            }
            if let Some(verdict) = response.extensions.get() {
                return Some(Judgement::new(*verdict, Reason::Application));
            }
        }
        if facts.protocol == Protocol::Grpc {
            return facts.code.map(|code| self.of_code(Some(code)));
        }
        Some(Judgement::new(self.of_status(response.status.as_u16()), Reason::Status))
    }

    /// Judges the end of a call. `head` is what [`StatusRules::head`] said.
    #[must_use]
    #[inline]
    pub fn judge(&self, facts: Facts, head: Option<Judgement>, end: End<'_>) -> Judgement {
        let grpc = facts.protocol == Protocol::Grpc;
        match (end, head) {
            (End::Failed(error), _) => {
                failed(error, |refused| self.of_rejection(facts.protocol, refused).verdict)
            }
            (End::Complete { code }, None) if grpc => self.of_code(code),
            // The handler's word is good for what it knew: not for a call that never got its
            // status, or that was cut off.
            (End::Complete { code: code @ (None | Some(Code::DeadlineExceeded)) }, Some(head))
                if grpc && facts.code.is_none() && head.reason == Reason::Application =>
            {
                self.of_code(code)
            }
            (end, head) => unjudged(end, head.unwrap_or(GOOD)),
        }
    }
}

impl Default for StatusRules {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const ALL_CODES: u32 = (1 << Code::ALL.len()) - 1;

const BAD_CODES: u32 = 1 << Code::Unknown.number()
    | 1 << Code::DeadlineExceeded.number()
    | 1 << Code::Unimplemented.number()
    | 1 << Code::Internal.number()
    | 1 << Code::Unavailable.number()
    | 1 << Code::DataLoss.number();

/// A set of HTTP statuses, a bit for each from 100 to 611.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Statuses([u64; 8]);

impl Statuses {
    const NONE: Self = Self([0; 8]);
    const FIRST: u16 = 100;
    const COUNT: u16 = 512;

    const fn set(mut self, first: u16, last: u16, value: bool) -> Self {
        let mut status = first;
        while status <= last && status < Self::FIRST + Self::COUNT {
            if status >= Self::FIRST {
                let index = (status - Self::FIRST) as usize;
                if value {
                    self.0[index / 64] |= 1 << (index % 64);
                } else {
                    self.0[index / 64] &= !(1 << (index % 64));
                }
            }
            status += 1;
        }
        self
    }

    #[inline]
    const fn has(&self, status: u16) -> bool {
        let index = status.wrapping_sub(Self::FIRST) as usize;
        index < Self::COUNT as usize && self.0[index / 64] >> (index % 64) & 1 == 1
    }
}

impl Classify for StatusRules {
    const TIMED: bool = false;
    const HEARS_END: bool = false;

    type Note = ();

    #[inline]
    fn begin(&self, _: RequestHead<'_>) {}

    #[inline]
    fn head(&self, (): &mut (), facts: Facts, response: ResponseHead<'_>) -> Option<Judgement> {
        self.head(facts, response)
    }

    #[inline]
    fn end(
        &self,
        (): &mut (),
        facts: Facts,
        head: Option<Judgement>,
        end: End<'_>,
        _: Timing,
    ) -> Judgement {
        self.judge(facts, head, end)
    }
}

/// [`StatusRules::DEFAULT`] as a type, which takes no room in a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conventional;

impl Classify for Conventional {
    const TIMED: bool = false;
    const HEARS_END: bool = false;

    type Note = ();

    #[inline]
    fn begin(&self, _: RequestHead<'_>) {}

    #[inline]
    fn head(&self, (): &mut (), facts: Facts, response: ResponseHead<'_>) -> Option<Judgement> {
        RULES.head(facts, response)
    }

    #[inline]
    fn end(
        &self,
        (): &mut (),
        facts: Facts,
        head: Option<Judgement>,
        end: End<'_>,
        _: Timing,
    ) -> Judgement {
        RULES.judge(facts, head, end)
    }
}

static RULES: StatusRules = StatusRules::DEFAULT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_count_as_convention_has_it() {
        let of = |status| StatusRules::DEFAULT.of_status(status);

        for status in [100, 200, 204, 301, 399] {
            assert_eq!(of(status), Verdict::Good, "{status}");
        }
        for status in [400, 404, 429, 499] {
            assert_eq!(of(status), Verdict::Excluded, "{status}");
        }
        for status in [500, 503, 599, 600, 611, 612, 999, 99, 0] {
            assert_eq!(of(status), Verdict::Bad, "{status}");
        }
    }

    #[test]
    fn codes_count_as_convention_has_it() {
        let bad = Code::ALL
            .into_iter()
            .filter(|code| StatusRules::DEFAULT.of_code(Some(*code)).verdict == Verdict::Bad);

        let expected = [
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
        ];
        assert!(bad.eq(expected));
        assert_eq!(StatusRules::DEFAULT.of_code(Some(Code::Ok)).verdict, Verdict::Good);
        let missing = StatusRules::DEFAULT.of_code(None);
        assert_eq!(missing, Judgement::new(Verdict::Bad, Reason::MissingStatus));
    }

    #[test]
    fn a_status_can_be_moved_both_ways() {
        let rules =
            StatusRules::DEFAULT.http(429..=429, Verdict::Bad).http(503..=503, Verdict::Excluded);

        assert_eq!(rules.of_status(429), Verdict::Bad);
        assert_eq!(rules.of_status(428), Verdict::Excluded);
        assert_eq!(rules.of_status(503), Verdict::Excluded);
        assert_eq!(rules.http(503..=503, Verdict::Bad).of_status(503), Verdict::Bad);
    }
}
