use std::time::{Duration, Instant};

use super::{Aimd, Gradient2};
use crate::TimeLimit;

/// A rule that moves a limit with what is measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Adaptive {
    /// One more after each good spell, a share less after each bad one.
    Aimd(Aimd),
    /// By how latency compares with what it has long been.
    Gradient2(Gradient2),
}

impl Adaptive {
    /// Moves by drops: see [`Aimd`].
    #[must_use]
    pub fn aimd() -> Aimd {
        Aimd::new()
    }

    /// Moves by latency: see [`Gradient2`].
    #[must_use]
    pub fn gradient2() -> Gradient2 {
        Gradient2::new()
    }

    /// Begins at `limit`. The bounds make room for it.
    fn start(&mut self, limit: u32) {
        match self {
            Self::Aimd(aimd) => aimd.start(limit),
            Self::Gradient2(gradient) => gradient.start(limit),
        }
    }

    fn update(&mut self, measured: Measured) -> u32 {
        match self {
            Self::Aimd(aimd) => aimd.update(measured),
            Self::Gradient2(gradient) => gradient.update(measured),
        }
    }

    fn period(&self) -> TimeLimit {
        match self {
            Self::Aimd(aimd) => aimd.period,
            Self::Gradient2(gradient) => gradient.period,
        }
    }
}

impl From<Aimd> for Adaptive {
    fn from(aimd: Aimd) -> Self {
        Self::Aimd(aimd)
    }
}

impl From<Gradient2> for Adaptive {
    fn from(gradient: Gradient2) -> Self {
        Self::Gradient2(gradient)
    }
}

/// How one call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// It held its place for so long, and was answered.
    Answered(Duration),
    /// It was given up, for want of time or of room.
    Dropped,
}

/// What a rule is told: the calls of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// For how long they held their places, on average; zero if none was answered.
    pub latency: Duration,
    /// How many were under way at once.
    pub in_flight: u32,
    /// Whether calls were dropped.
    pub dropped: bool,
}

/// Gathers samples and moves a limit when there are enough of them.
///
/// A single call says little: one that found a cold cache, one whose client left. So calls are
/// gathered for a period, and until there are ten.
#[derive(Debug)]
pub struct Control {
    rule: Adaptive,
    since: Option<Instant>,
    answered: u32,
    dropped: u32,
    held: Duration,
    in_flight: u32,
}

impl Control {
    /// A rule that begins at `limit`.
    #[must_use]
    pub fn new(rule: impl Into<Adaptive>, limit: u32) -> Self {
        let mut rule = rule.into();
        rule.start(limit);
        Self { rule, since: None, answered: 0, dropped: 0, held: Duration::ZERO, in_flight: 0 }
    }

    /// Goes on from another limit, which somebody has set.
    pub fn restart(&mut self, limit: u32) {
        *self = Self::new(self.rule.clone(), limit);
    }

    /// Takes a call that has ended while so many were under way, itself included; the limit, when
    /// it is time to set it.
    pub fn feed(&mut self, sample: Sample, in_flight: u32, now: Instant) -> Option<u32> {
        let since = *self.since.get_or_insert(now);
        match sample {
            Sample::Answered(held) => {
                self.answered = self.answered.saturating_add(1);
                self.held = self.held.saturating_add(held);
            }
            Sample::Dropped => self.dropped = self.dropped.saturating_add(1),
        }
        self.in_flight = self.in_flight.max(in_flight);
        let calls = self.answered.saturating_add(self.dropped);
        let over = now.saturating_duration_since(since) >= self.rule.period().get();
        if !over || calls < ENOUGH {
            return None;
        }
        let measured = Measured {
            latency: self.held / self.answered.max(1),
            in_flight: self.in_flight,
            dropped: self.dropped > 0 && self.dropped.saturating_mul(NOTABLE) >= calls,
        };
        (self.since, self.answered, self.dropped) = (Some(now), 0, 0);
        (self.held, self.in_flight) = (Duration::ZERO, 0);
        Some(self.rule.update(measured))
    }
}

/// Calls that make a mean, as in Netflix's `WindowedLimit`.
const ENOUGH: u32 = 10;

/// One in so many calls that are dropped are a sign of overload. Fewer are people who closed a
/// page.
const NOTABLE: u32 = 20;

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn fed(control: &mut Control, samples: impl IntoIterator<Item = Sample>) -> Vec<u32> {
        #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
        let mut now = Instant::now();
        let feed = |sample| {
            now += 20 * MILLISECOND;
            control.feed(sample, 20, now)
        };
        samples.into_iter().filter_map(feed).collect()
    }

    #[test]
    fn a_limit_moves_once_a_period_and_not_for_fewer_than_ten_calls() {
        let mut control = Control::new(Adaptive::aimd(), 20);

        let moved = fed(&mut control, [Sample::Answered(MILLISECOND); 29]);

        assert_eq!(moved, [21, 22]);
    }

    #[test]
    fn one_call_in_many_that_is_dropped_is_somebody_who_left_and_one_in_ten_is_overload() {
        let good = Sample::Answered(MILLISECOND);
        let every = Adaptive::aimd().every(TimeLimit::from_millis(800));

        let few = (0..41).map(|call| if call == 7 { Sample::Dropped } else { good });
        let many = (0..41).map(|call| if call % 10 == 7 { Sample::Dropped } else { good });

        assert_eq!(fed(&mut Control::new(every.clone(), 20), few), [21]);
        assert_eq!(fed(&mut Control::new(every, 20), many), [18]);
    }
}
