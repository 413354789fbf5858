use std::fmt;

use buttress_core::{Judgement, Reason, TimeLimit, Timing, Verdict};

use crate::Exclusion;

/// What an objective measures: how a call becomes a good or a bad event.
///
/// ```
/// use buttress_core::TimeLimit;
/// use buttress_slo::{Part, Sli};
///
/// // "200 within 500 ms".
/// let sli = Sli::Served { within: TimeLimit::from_millis(500), part: Part::Total };
/// assert_eq!(sli.to_string(), "served within 500ms (total)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sli {
    /// Answered as promised, as the judge says.
    Availability,
    /// Answered as fast as promised. Calls that failed are not in it: a fast failure is no good
    /// latency, and a slow one is counted by availability already.
    Latency {
        /// The longest that is good; exactly so long is.
        within: TimeLimit,
        /// What has to be that fast.
        part: Part,
    },
    /// Answered as promised, and as fast: the two together.
    Served {
        /// The longest that is good; exactly so long is.
        within: TimeLimit,
        /// What has to be that fast.
        part: Part,
    },
    /// Answered rightly, as the application says: with a `Verdict` in the response's extensions,
    /// or later through the recorder. Failed calls that nobody vouched for are not in it.
    Correctness {
        /// What a good answer counts as of which nothing is said: good, if the application marks
        /// what is wrong; excluded, if it vouches for what is right.
        unsaid: Verdict,
    },
    /// Events of any kind, which only the recorder is told: jobs, messages, probes. Calls do not
    /// count.
    Events,
}

/// Which part of a call a latency is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// To the head of the response.
    Head,
    /// To the end of the body.
    Total,
}

/// What one call is for one objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An event that was as promised.
    Good,
    /// An event that was not.
    Bad,
    /// On neither side, and why.
    Excluded(Exclusion),
    /// No event of this objective at all: another route, or a call where only events count.
    Outside,
}

impl Sli {
    /// What a call is that was judged so, after the exclusions.
    #[inline]
    pub(crate) fn outcome(self, judgement: Judgement, timing: Timing) -> Outcome {
        let served = judgement.verdict == Verdict::Good;
        match self {
            Self::Availability => good(served),
            Self::Latency { .. } if !served => Outcome::Excluded(Exclusion::Failed),
            Self::Latency { within, part } => good(part.is_within(within, timing)),
            Self::Served { within, part } => good(served && part.is_within(within, timing)),
            Self::Correctness { .. } if judgement.reason == Reason::Application => good(served),
            Self::Correctness { .. } if !served => Outcome::Excluded(Exclusion::Failed),
            Self::Correctness { unsaid: Verdict::Good } => Outcome::Good,
            Self::Correctness { unsaid: Verdict::Bad } => Outcome::Bad,
            Self::Correctness { unsaid: Verdict::Excluded } => Outcome::Excluded(Exclusion::Unsaid),
            Self::Events => Outcome::Outside,
        }
    }
}

fn good(good: bool) -> Outcome {
    if good { Outcome::Good } else { Outcome::Bad }
}

impl Part {
    /// A call that never had a head was not within any limit.
    fn is_within(self, limit: TimeLimit, timing: Timing) -> bool {
        let took = match self {
            Self::Head => timing.to_head,
            Self::Total => Some(timing.total),
        };
        took.is_some_and(|took| took <= limit.get())
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Total => "total",
        }
    }
}

impl fmt::Display for Sli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Availability => f.write_str("availability"),
            Self::Latency { within, part } => {
                write!(f, "latency within {:?} ({})", within.get(), part.as_str())
            }
            Self::Served { within, part } => {
                write!(f, "served within {:?} ({})", within.get(), part.as_str())
            }
            Self::Correctness { unsaid } => {
                write!(f, "correctness (unsaid is {})", unsaid.as_str())
            }
            Self::Events => f.write_str("events"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: TimeLimit = TimeLimit::from_millis(300);
    const GOOD: Judgement = Judgement::new(Verdict::Good, Reason::Status);
    const BAD: Judgement = Judgement::new(Verdict::Bad, Reason::Status);

    fn took(nanos: u64) -> Timing {
        Timing { to_head: Some(Duration::from_millis(1)), total: Duration::from_nanos(nanos) }
    }

    #[test]
    fn exactly_the_threshold_is_within_it() {
        // slo.md 10, scenario 55.
        for sli in [
            Sli::Latency { within: LIMIT, part: Part::Total },
            Sli::Served { within: LIMIT, part: Part::Total },
        ] {
            assert_eq!(sli.outcome(GOOD, took(300_000_000)), Outcome::Good);
            assert_eq!(sli.outcome(GOOD, took(300_000_001)), Outcome::Bad);
        }
    }

    #[test]
    fn a_fast_failure_is_bad_when_served_and_no_latency() {
        let latency = Sli::Latency { within: LIMIT, part: Part::Total };
        let served = Sli::Served { within: LIMIT, part: Part::Total };

        assert_eq!(latency.outcome(BAD, took(1)), Outcome::Excluded(Exclusion::Failed));
        assert_eq!(served.outcome(BAD, took(1)), Outcome::Bad);
    }

    #[test]
    fn a_call_without_a_head_has_no_time_to_it() {
        let sli = Sli::Served { within: LIMIT, part: Part::Head };
        let headless = Timing { to_head: None, total: Duration::ZERO };

        assert_eq!(sli.outcome(GOOD, headless), Outcome::Bad);
        assert_eq!(sli.outcome(GOOD, took(u64::MAX)), Outcome::Good, "the body is not in it");
    }

    #[test]
    fn the_application_has_the_word_on_what_is_right() {
        let wrong = Judgement::new(Verdict::Bad, Reason::Application);
        let right = Judgement::new(Verdict::Good, Reason::Application);
        let marks = Sli::Correctness { unsaid: Verdict::Good };
        let vouches = Sli::Correctness { unsaid: Verdict::Excluded };

        for sli in [marks, vouches] {
            assert_eq!(sli.outcome(wrong, took(0)), Outcome::Bad);
            assert_eq!(sli.outcome(right, took(0)), Outcome::Good);
            assert_eq!(sli.outcome(BAD, took(0)), Outcome::Excluded(Exclusion::Failed));
        }
        assert_eq!(marks.outcome(GOOD, took(0)), Outcome::Good);
        assert_eq!(vouches.outcome(GOOD, took(0)), Outcome::Excluded(Exclusion::Unsaid));
    }

    #[test]
    fn calls_are_no_events_of_their_own() {
        assert_eq!(Sli::Events.outcome(GOOD, took(0)), Outcome::Outside);
    }
}
