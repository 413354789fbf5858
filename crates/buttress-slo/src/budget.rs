use std::time::Duration;

use crate::{Counts, Coverage, Share, Target, burn::saturate};

/// An error budget: what a target allows to be bad in a period, and what is left of it.
///
/// It is counted in events. Where only a part of the period was observed, the budget is that of
/// the whole period at the traffic seen so far, and what was not observed is taken to be free of
/// errors; over a fully observed period this is the plain `1 - bad / (allowed share * total)` of
/// the SRE workbook, chapter 2. Rounding never makes it look larger than it is.
///
/// ```
/// use std::time::Duration;
/// use buttress_slo::{Budget, Counts, Coverage, Share};
///
/// let month = Coverage::full(Duration::from_secs(30 * 86_400));
/// let counts = Counts { good: 999_500, bad: 500 };
/// let budget = Budget::new("99.9%".parse().unwrap(), counts, month);
///
/// assert_eq!(budget.allowed(), 1_000);
/// assert_eq!(budget.remaining(), Share::percent(50));
/// assert_eq!(budget.time(), Duration::from_secs(43 * 60 + 12));
/// assert_eq!(budget.time_left(), Duration::from_secs(21 * 60 + 36));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    target: Target,
    counts: Counts,
    coverage: Coverage,
}

impl Budget {
    /// The budget of a period of which so much was observed, with these counts.
    #[must_use]
    pub const fn new(target: Target, counts: Counts, coverage: Coverage) -> Self {
        Self { target, counts, coverage }
    }

    /// What was counted.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// How much of the period was observed.
    #[must_use]
    pub const fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// How many events may be bad in the whole period, rounded down.
    #[must_use]
    pub fn allowed(&self) -> u64 {
        let (observed, length) = self.scale();
        // 2^64 events times 2^30 parts times 2^32 seconds is below 2^127.
        let projected = u128::from(self.counts.total()) * u128::from(length);
        saturate(projected * u128::from(self.target.error_parts()) / (WHOLE * observed))
    }

    /// How much of the budget is spent, rounded up. Nothing without events.
    #[must_use]
    pub fn consumed(&self) -> Share {
        let (observed, length) = self.scale();
        let spendable = u128::from(self.counts.total()) * u128::from(self.target.error_parts());
        if spendable == 0 {
            return Share::ZERO;
        }
        let bad = u128::from(self.counts.bad) * WHOLE * observed;
        let parts = (bad.div_ceil(u128::from(length)) * WHOLE).div_ceil(spendable);
        Share::per_billion(i64::try_from(parts).unwrap_or(i64::MAX))
    }

    /// What is left of the budget, rounded down; below nothing once it is overspent.
    #[must_use]
    pub fn remaining(&self) -> Share {
        self.consumed().complement()
    }

    /// The budget in time: how long of the period everything may be bad. Rounded down.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.target.error_time(Duration::from_secs(self.coverage.length_seconds()))
    }

    /// What is left of [`Budget::time`], rounded down; nothing once it is overspent.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        let share = u128::try_from(self.remaining().parts_per_billion()).unwrap_or(0);
        Duration::from_nanos(saturate(self.time().as_nanos() * share / WHOLE))
    }

    /// The observed seconds, one at the least, and those of the period.
    fn scale(&self) -> (u128, u64) {
        let observed = u128::from(self.coverage.observed_seconds().max(1));
        (observed, self.coverage.length_seconds())
    }
}

const WHOLE: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    fn month(target: &str, total: u64, bad: u64) -> Budget {
        let full = Coverage::full(Duration::from_secs(30 * DAY));
        Budget::new(target.parse().unwrap(), Counts { good: total - bad, bad }, full)
    }

    #[test]
    fn what_is_left_keeps_its_sign() {
        // slo.md 10, scenarios 6 and 7, of a million events.
        for (bad, left) in [
            (249, "75.1%"),
            (250, "75%"),
            (500, "50%"),
            (750, "25%"),
            (751, "24.9%"),
            (999, "0.1%"),
            (1_000, "0%"),
            (1_001, "-0.1%"),
            (2_000, "-100%"),
        ] {
            assert_eq!(month("99.9", 1_000_000, bad).remaining().to_string(), left, "{bad} bad");
        }
    }

    #[test]
    fn without_events_nothing_is_spent() {
        // Scenario 8.
        let budget = month("99.9", 0, 0);

        assert_eq!((budget.allowed(), budget.consumed()), (0, Share::ZERO));
        assert_eq!(budget.remaining(), Share::ONE);
    }

    #[test]
    fn excluded_events_are_in_neither_side() {
        // Scenario 10: the 500 excluded of a million are not in here.
        let budget = month("99.9", 999_500, 500);

        assert_eq!(budget.allowed(), 999, "rounded down");
        assert_eq!(budget.remaining().to_string(), "49.975%");
    }

    #[test]
    fn burning_at_a_factor_spends_its_share_of_the_month() {
        // Scenarios 13 and 14: a thousand events an hour, bad at so many times a thousandth.
        let hours = |hours: u64, per_10_000: u64| hours * 10_000 * per_10_000 / 10_000;
        for (bad, spent) in [
            (hours(1, 144), "2%"),
            (hours(6, 60), "5%"),
            (hours(24, 30), "10%"),
            (hours(72, 10), "10%"),
            (hours(50, 144), "100%"),
        ] {
            let budget = month("99.9", 720 * 10_000, bad);
            assert_eq!(budget.consumed().to_string(), spent);
        }
    }

    #[test]
    fn outages_spend_what_they_last() {
        // Scenarios 32, 33 and 35, at one event a second.
        for (seconds, spent) in [(600, "23.148%"), (40, "1.543%"), (52, "2.006%"), (1296, "50%")] {
            let budget = month("99.9", 30 * DAY, seconds);
            assert_eq!(budget.consumed().to_string(), spent);
        }
    }

    #[test]
    fn few_requests_make_a_small_budget() {
        // Scenario 45: ten requests an hour, one of them fails.
        let budget = month("99.9", 7_200, 1);

        assert_eq!(budget.allowed(), 7, "7.2, rounded down");
        assert_eq!(budget.consumed().to_string(), "13.889%");
    }

    #[test]
    fn a_latency_objective_is_a_ratio_like_any_other() {
        // Scenario 55: 960 of 1000 within the threshold, 95 % promised.
        let budget = month("95", 1_000, 40);

        assert_eq!(budget.counts().sli().unwrap().to_string(), "0.96");
        assert_eq!(budget.remaining(), Share::percent(20));
    }

    #[test]
    fn a_fleet_is_a_sum_of_counts_and_no_mean_of_ratios() {
        // Scenario 54.
        let of = |total, bad| Counts { good: total - bad, bad };
        let fleet = [of(1_000_000, 500), of(2_000_000, 1_000), of(1_000_000, 2_500)];
        let sum = fleet.into_iter().fold(Counts::default(), Counts::plus);

        assert_eq!(sum.sli().unwrap().to_string(), "0.999");
        assert_eq!(month("99.9", sum.total(), sum.bad).remaining(), Share::ZERO);
        let mean: i64 = fleet
            .iter()
            .map(|one| month("99.9", one.total(), one.bad).remaining().parts_per_billion() / 3)
            .sum();
        assert_eq!(Share::per_billion(mean).to_string(), "-16.667%", "which is wrong");
    }

    #[test]
    fn uneven_traffic_weighs_by_events() {
        // Scenario 44: twelve hours at 100 a second clean, twelve at 0.1 with 1 % bad.
        let budget = month("99.9", 12 * 3600 * 100 + 4320, 43);

        // 43.2 bad events cannot be: 43 and 44 bracket 99.001 %.
        assert_eq!(budget.remaining().to_string(), "99.006%");
        assert_eq!(month("99.9", 12 * 3600 * 100 + 4320, 44).remaining().to_string(), "98.982%");
        let tenfold = month("99.9", 10 * (12 * 3600 * 100 + 4320), 432);
        assert_eq!(tenfold.remaining().to_string(), "99.001%");
    }

    #[test]
    fn what_is_left_in_time_is_rounded_down() {
        let third = Coverage::full(Duration::from_secs(1));
        let budget = Budget::new("50".parse().unwrap(), Counts { good: 2, bad: 1 }, third);

        // Of half a second a third is left, and less than a billionth more.
        assert_eq!(budget.remaining().parts_per_billion(), 333_333_333);
        assert_eq!(budget.time_left(), Duration::from_nanos(166_666_666));
    }

    #[test]
    fn an_hour_seen_spends_an_hour_of_the_month() {
        let hour = Coverage::of_seconds(3600, 30 * DAY);
        let counts = Counts { good: 0, bad: 2592 };

        let budget = Budget::new("99.9".parse().unwrap(), counts, hour);

        // All bad for an hour is 3600 s of the 2592 s that 30 days allow.
        assert_eq!(budget.allowed(), 1866, "2592 a hour for 720 hours, one in a thousand");
        assert_eq!(budget.consumed().to_string(), "138.889%");
        assert_eq!(budget.time_left(), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn one_more_bad_event_never_leaves_more(
            good: u64, bad: u64, more: u32, observed in 0..=30 * DAY, target in 1..1_000_000_000_u32,
        ) {
            let target = buttress_core::Ratio::per_billion(target).unwrap().try_into().unwrap();
            let coverage = Coverage::of_seconds(observed, 30 * DAY);
            let left = |bad| Budget::new(target, Counts { good, bad }, coverage).remaining();

            prop_assert!(left(bad.saturating_add(more.into())) <= left(bad));
        }

        #[test]
        fn the_budget_is_never_overspent_before_it_says_so(
            total in 1..1_000_000_u64, bad in 0..2_000_u64, target in 1..1_000_000_000_u32,
        ) {
            let bad = bad.min(total);
            let target: Target = buttress_core::Ratio::per_billion(target).unwrap().try_into().unwrap();
            let full = Coverage::full(Duration::from_secs(3600));
            let budget = Budget::new(target, Counts { good: total - bad, bad }, full);

            let overspent = u128::from(bad) * WHOLE
                > u128::from(total) * u128::from(target.error_parts());
            prop_assert_eq!(bad > budget.allowed(), overspent);
            prop_assert!(!overspent || budget.remaining() < Share::ZERO);
            // What is said to be spent is no less than what is, and by less than a billionth more.
            let spendable = u128::from(total) * u128::from(target.error_parts());
            let said = u128::try_from(budget.consumed().parts_per_billion()).unwrap();
            prop_assert!(said * spendable >= u128::from(bad) * WHOLE * WHOLE);
            prop_assert!(said * spendable < u128::from(bad) * WHOLE * WHOLE + spendable);
        }
    }
}
