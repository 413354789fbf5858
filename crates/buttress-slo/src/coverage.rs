use std::time::Duration;

use buttress_core::Ratio;

/// How much of a window was observed, in whole seconds.
///
/// A process that has run for a minute knows a minute of the hour. What it saw counts for that
/// minute, and the rest is taken to be free of errors, so that neither the first failure of a
/// process pages nor a restart.
///
/// ```
/// use std::time::Duration;
/// use buttress_slo::Coverage;
///
/// let minute = Coverage::new(Duration::from_secs(60), Duration::from_secs(3600));
/// assert_eq!(minute.ratio().to_string(), "0.016666666");
/// assert!(!minute.is_full());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coverage {
    observed: u64,
    length: u64,
}

impl Coverage {
    /// `observed` of `length`, in whole seconds: no more than all of it, and of a second at the
    /// least and 136 years at the most.
    #[must_use]
    pub fn new(observed: Duration, length: Duration) -> Self {
        Self::of_seconds(observed.as_secs(), length.as_secs())
    }

    /// All of `length`.
    #[must_use]
    pub fn full(length: Duration) -> Self {
        Self::new(length, length)
    }

    pub(crate) fn of_seconds(observed: u64, length: u64) -> Self {
        let length = length.clamp(1, LONGEST);
        Self { observed: observed.min(length), length }
    }

    /// How many seconds of the window were observed.
    #[must_use]
    pub const fn observed_seconds(self) -> u64 {
        self.observed
    }

    /// How many seconds the window has.
    #[must_use]
    pub const fn length_seconds(self) -> u64 {
        self.length
    }

    /// The observed share, rounded down.
    #[must_use]
    pub fn ratio(self) -> Ratio {
        let parts = u128::from(self.observed) * 1_000_000_000 / u128::from(self.length);
        u32::try_from(parts).ok().and_then(Ratio::per_billion).unwrap_or(Ratio::ONE)
    }

    /// Whether all of the window was observed.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.observed == self.length
    }
}

/// What 32 bits hold, so that no product with any counts overflows.
const LONGEST: u64 = u32::MAX as u64;

/// The times when nobody was counting: the process was down, or the machine asleep.
///
/// A bounded list of `(from, until)` on the steady timeline, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gaps(Vec<(i64, i64)>);

impl Gaps {
    /// As many as are told apart. A service that restarts more often than this within its
    /// period forgets the shortest of its gaps, and so thinks it has seen a little more.
    pub(crate) const MOST: usize = 64;

    pub(crate) fn add(&mut self, from: i64, until: i64) {
        if until <= from {
            return;
        }
        self.0.push((from, until));
        if self.0.len() > Self::MOST {
            let shortest = (0..self.0.len()).min_by_key(|gap| self.0[*gap].1 - self.0[*gap].0);
            self.0.remove(shortest.expect("one was just added"));
        }
    }

    /// Whether the newest of them ends then.
    pub(crate) fn ends_at(&self, time: i64) -> bool {
        self.0.last().is_some_and(|(_, until)| *until == time)
    }

    /// Forgets what ended before `time`.
    pub(crate) fn forget_before(&mut self, time: i64) {
        if self.0.first().is_some_and(|(_, until)| *until < time) {
            self.0.retain(|(_, until)| *until >= time);
        }
    }

    /// How many seconds from `from` to `until` were observed, by somebody who counts from
    /// `since` on.
    pub(crate) fn observed(&self, since: i64, from: i64, until: i64) -> u64 {
        let from = from.max(since);
        let gaps = self.0.iter().map(|gap| (gap.1.min(until) - gap.0.max(from)).max(0));
        u64::try_from(until - from - gaps.sum::<i64>()).unwrap_or(0)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (i64, i64)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_is_so_long_that_a_budget_of_it_overflows() {
        let ages = Coverage::full(Duration::MAX);
        let most = crate::Counts { good: 1, bad: u64::MAX - 1 };

        let budget = crate::Budget::new("0.0000001%".parse().unwrap(), most, ages);

        assert!(ages.is_full());
        assert!(budget.allowed() < u64::MAX);
        assert!(budget.remaining() < crate::Share::ZERO, "one event more than allowed");
        assert!(crate::Burn::observed(most, "99.9".parse().unwrap(), ages).is_some());
    }

    #[test]
    fn gaps_are_not_observed() {
        let mut gaps = Gaps::default();
        gaps.add(100, 110);
        gaps.add(200, 250);

        assert_eq!(gaps.observed(0, 0, 300), 240);
        assert_eq!(gaps.observed(0, 105, 220), 90);
        assert_eq!(gaps.observed(150, 0, 300), 100);
        assert_eq!(gaps.observed(400, 0, 300), 0);
    }

    #[test]
    fn a_list_that_is_full_forgets_the_shortest_gap() {
        let mut gaps = Gaps::default();
        for number in 0..=64 {
            gaps.add(number * 100, number * 100 + 10 - i64::from(number == 7));
        }

        assert_eq!(gaps.iter().len(), Gaps::MOST);
        assert!(gaps.iter().all(|(from, _)| from != 700));
        gaps.forget_before(6_000);
        assert_eq!(gaps.iter().len(), 5);
    }
}
