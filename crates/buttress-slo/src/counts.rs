use buttress_core::Ratio;

use crate::burn::saturate;

/// Good and bad events: what every window, budget and alert is made of.
///
/// Counts of several instances or windows are added and then divided, never the other way round:
/// a mean of ratios weighs a quiet night like a busy noon.
///
/// ```
/// use buttress_slo::Counts;
///
/// let instances = [
///     Counts { good: 999_500, bad: 500 },
///     Counts { good: 1_999_000, bad: 1_000 },
///     Counts { good: 997_500, bad: 2_500 },
/// ];
/// let fleet = instances.into_iter().fold(Counts::default(), Counts::plus);
///
/// assert_eq!(fleet.sli().unwrap().to_string(), "0.999");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Events that were as promised.
    pub good: u64,
    /// Events that were not.
    pub bad: u64,
}

impl Counts {
    /// All events. What is excluded is none.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.good.saturating_add(self.bad)
    }

    /// Whether there are no events: then there is no ratio either.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.total() == 0
    }

    /// The share of good events, rounded down; `None` without events.
    #[must_use]
    pub fn sli(self) -> Option<Ratio> {
        let total = u128::from(self.total());
        let parts = (u128::from(self.good) * 1_000_000_000).checked_div(total)?;
        Ratio::per_billion(u32::try_from(parts).ok()?)
    }

    /// These and those.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            good: self.good.saturating_sub(earlier.good),
            bad: self.bad.saturating_sub(earlier.bad),
        }
    }

    /// Where a count stood on the way from `self` to `later`, if events came evenly.
    ///
    /// Good is rounded up and bad down, so that what is counted from there on has rather too
    /// many bad events than too few.
    pub(crate) fn towards(self, later: Self, way: u64, length: u64) -> Self {
        let rest = later.since(self);
        let part = |count: u64| u128::from(count) * u128::from(way);
        let length = u128::from(length.max(1));
        Self {
            good: self.good + saturate(part(rest.good).div_ceil(length)),
            bad: self.bad + saturate(part(rest.bad) / length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_events_have_no_ratio() {
        // slo.md 10, scenario 8: not 100 %, and not NaN.
        assert_eq!(Counts::default().sli(), None);
    }

    #[test]
    fn what_is_excluded_is_no_event() {
        // Scenario 10: 999 000 good, 500 bad and 500 excluded.
        let counts = Counts { good: 999_000, bad: 500 };

        assert_eq!(counts.total(), 999_500);
        assert_eq!(counts.sli().unwrap().to_string(), "0.999499749");
    }

    #[test]
    fn an_edge_between_two_samples_counts_rather_too_many_bad_events() {
        let before = Counts { good: 10, bad: 10 };
        let after = Counts { good: 13, bad: 13 };

        assert_eq!(before.towards(after, 0, 2), before);
        assert_eq!(before.towards(after, 1, 2), Counts { good: 12, bad: 11 });
        assert_eq!(before.towards(after, 2, 2), after);
    }
}
