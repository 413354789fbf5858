use std::{fmt, time::Duration};

use crate::{
    Budget, Burn, Counts, Target,
    burn::saturate,
    ring::{Ring, Tier, seconds},
    window::short,
};

/// When an error budget will be spent, if everything goes on as in the last hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhaustion {
    /// There was no traffic to go by.
    Unknown,
    /// It lasts: for ever, or until the calendar gives a new one.
    Never,
    /// In so long, rounded down; zero if it is spent.
    In(Duration),
}

impl fmt::Display for Exhaustion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Never => f.write_str("never"),
            Self::In(Duration::ZERO) => f.write_str("spent"),
            Self::In(wait) => f.write_str(&short(*wait)),
        }
    }
}

/// Two answers to when the budget will be spent.
///
/// ```
/// use buttress_slo::{Clocks, Counts, Exhaustion, Objective, Sli, Tracker};
/// # use std::time::{Duration, Instant, SystemTime};
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// # let mut clocks = Clocks { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH, boot: None };
///
/// let up = Objective::new("up".parse()?, Sli::Availability, "99.9%".parse()?);
/// let mut tracker = Tracker::new("shop".parse()?, [up], clocks)?;
/// tracker.recorder("up").unwrap().add(Counts { good: 1_000, bad: 0 });
/// clocks.monotonic += Duration::from_secs(1);
/// clocks.wall += Duration::from_secs(1);
/// tracker.tick(clocks);
///
/// let forecast = tracker.numbers("up").unwrap().forecast;
/// assert_eq!(forecast.rolling, Exhaustion::Never);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// What is left, divided by the burn: what everybody else computes, and wrong for a rolling
    /// window, out of which old errors go.
    pub naive: Exhaustion,
    /// The same, with what goes out of the window taken out of it: believe this one.
    pub rolling: Exhaustion,
}

/// What is left, at the burn of now.
pub(crate) fn naive(budget: &Budget, burn: Option<Burn>) -> Exhaustion {
    let Some(burn) = burn else { return Exhaustion::Unknown };
    let left = u128::try_from(budget.remaining().parts_per_billion()).unwrap_or(0);
    if left == 0 {
        return Exhaustion::In(Duration::ZERO);
    }
    let period = Duration::from_secs(budget.coverage().length_seconds()).as_nanos();
    // 2^30 parts times 2^57 nanoseconds times 2^20 is below 2^107.
    match (left * period * 1_000_000 / 1_000_000_000).checked_div(u128::from(burn.as_millionths()))
    {
        Some(nanos) => Exhaustion::In(Duration::from_nanos(saturate(nanos))),
        None => Exhaustion::Never,
    }
}

/// A budget that the calendar renews after `until_renewed` is not spent later than that.
pub(crate) fn before_renewal(exhaustion: Exhaustion, until_renewed: Duration) -> Exhaustion {
    match exhaustion {
        Exhaustion::In(wait) if wait >= until_renewed => Exhaustion::Never,
        exhaustion => exhaustion,
    }
}

/// The traffic of the last hour, or of what was observed of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current {
    pub(crate) counts: Counts,
    pub(crate) observed: u64,
}

/// Follows a rolling window of `length` seconds into the future: at each step of the coarsest
/// ring some of its past has gone and as much of the present has come.
///
/// Looks for the smallest `d` with `bad(past of d) + bad rate * d >= allowed share * (total(past
/// of d) + rate * d)`. What was not observed had the traffic of the rest of the window without its
/// errors, as the budget takes it: it must not say spent where that says that something is left.
/// `observed` tells how many of the seconds since a moment were.
pub(crate) fn rolling(
    ring: &Ring,
    target: Target,
    length: u64,
    observed: impl Fn(i64) -> u64,
    current: Current,
) -> Exhaustion {
    if current.counts.is_empty() || current.observed == 0 {
        return Exhaustion::Unknown;
    }
    let now = ring.now();
    let start = now.saturating_sub_unsigned(length);
    let whole = ring.since(start).map_or(0, |window| u128::from(window.counts.total()));
    let (present, seen) = (i128::from(current.observed), u128::from(observed(start).max(1)));
    let unseen = |edge: i64| {
        let seconds = seconds(edge, now).saturating_sub(observed(edge));
        i128::from(saturate(whole * u128::from(seconds) / seen))
    };
    // How much more than allowed would be bad once the window starts at `edge`.
    let excess = |edge: i64| -> Option<i128> {
        let past = ring.since(edge)?.counts;
        let ahead = i128::from(seconds(start, edge));
        let bad = i128::from(past.bad) * present + i128::from(current.counts.bad) * ahead;
        let total = (i128::from(past.total()) + unseen(edge)) * present
            + i128::from(current.counts.total()) * ahead;
        Some(bad * 1_000_000_000 - total * i128::from(target.error_parts()))
    };

    let step = ring.tiers().last().map_or(1, Tier::step);
    let first = (start.div_euclid(step) + 1) * step;
    let steps = (0..).map(|number| first + number * step).take_while(|edge| *edge < now);
    let Some(spent) = excess(start) else { return Exhaustion::Unknown };
    if spent >= 0 {
        // Also while nothing fails: it is spent until enough of the past has gone.
        return Exhaustion::In(Duration::ZERO);
    }
    let mut before = (start, spent);
    for edge in steps.chain([now]) {
        let Some(spent) = excess(edge) else { return Exhaustion::Unknown };
        let after = (edge, spent);
        if after.1 >= 0 && before.1 < 0 {
            let way = i128::from(after.0 - before.0).checked_mul(-before.1);
            // Counts past 2^50 take the start of the hour.
            let way = way.map_or(0, |way| way / (after.1 - before.1));
            let wait = seconds(start, before.0) + saturate(way.unsigned_abs());
            return Exhaustion::In(Duration::from_secs(wait));
        }
        before = after;
    }
    // From here on the window holds the present only, and that is within the target.
    Exhaustion::Never
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Coverage, Share};

    const DAY: u64 = 86_400;
    const MONTH: u64 = 30 * DAY;

    fn days(days: u64) -> Exhaustion {
        Exhaustion::In(Duration::from_secs(days * DAY))
    }

    /// Thirty days of even traffic at 10,000 every five minutes, of which so many are bad.
    fn history(bad: u64) -> Ring {
        let mut ring = Ring::new(MONTH, 0, Counts::default());
        let mut total = Counts::default();
        for now in (300..=MONTH.cast_signed()).step_by(300) {
            total = total.plus(Counts { good: 10_000 - bad, bad });
            ring.advance(now, total);
        }
        ring
    }

    /// An hour at this many in ten thousand.
    fn hour(bad: u64) -> Current {
        Current { counts: Counts { good: 12 * (10_000 - bad), bad: 12 * bad }, observed: 3600 }
    }

    /// The seconds observed by somebody who counts from `start` on.
    fn since(ring: &Ring, start: i64) -> impl Fn(i64) -> u64 {
        let now = ring.now();
        move |edge| seconds(edge.max(start), now)
    }

    fn both(history_bad: u64, bad: u64) -> (Exhaustion, Exhaustion) {
        let (ring, target) = (history(history_bad), "99.9".parse().unwrap());
        let counts = ring.window(MONTH).unwrap().counts;
        let full = Coverage::full(Duration::from_secs(MONTH));
        let budget = Budget::new(target, counts, full);
        let burn = Burn::of(hour(bad).counts, target);
        (naive(&budget, burn), rolling(&ring, target, MONTH, since(&ring, 0), hour(bad)))
    }

    #[test]
    fn old_errors_that_leave_the_window_are_budget_again() {
        // slo.md 10, scenario 39: half of the budget spent evenly.
        assert_eq!(both(5, 20), (Exhaustion::In(Duration::from_secs(15 * DAY / 2)), days(10)));
        assert_eq!(both(5, 10), (days(15), days(30)));
        assert_eq!(both(5, 9).1, Exhaustion::Never);
    }

    #[test]
    fn a_clean_month_is_spent_as_fast_as_the_table_says() {
        // Scenarios 16 to 29, last column.
        for (bad, seconds) in [
            (10_000, 2_592),
            (5_000, 5_184),
            (1_000, 25_920),
            (200, 36 * 3600),
            (144, 50 * 3600),
            (60, 5 * DAY),
            (20, 15 * DAY),
            (10, MONTH),
        ] {
            let wait = Exhaustion::In(Duration::from_secs(seconds));
            assert_eq!(both(0, bad), (wait, wait), "{bad} of 10,000");
        }
        let never = Exhaustion::Never;
        assert_eq!(both(0, 5), (Exhaustion::In(Duration::from_secs(60 * DAY)), never));
        assert_eq!(both(0, 0), (never, never));
    }

    #[test]
    fn what_is_spent_is_spent_now() {
        assert_eq!(both(20, 20).1.to_string(), "spent");
        assert_eq!(both(20, 20).0, Exhaustion::In(Duration::ZERO));
    }

    #[test]
    fn without_traffic_nothing_is_known() {
        let none = Current { counts: Counts::default(), observed: 3600 };
        let (ring, target) = (history(5), "99.9".parse().unwrap());

        assert_eq!(rolling(&ring, target, MONTH, since(&ring, 0), none), Exhaustion::Unknown);
        let budget = Budget::new(target, Counts::default(), Coverage::of_seconds(1, 2));
        assert_eq!((naive(&budget, None), budget.remaining()), (Exhaustion::Unknown, Share::ONE));
    }

    #[test]
    fn no_counts_overflow() {
        let most = Counts { good: u64::MAX / 2, bad: u64::MAX / 2 };
        let mut ring = Ring::new(MONTH, 0, Counts::default());
        ring.advance(3600, most);

        for target in ["99.9999999", "0.0000001%", "50.1"] {
            let current = Current { counts: most, observed: 3600 };
            let _ = rolling(&ring, target.parse().unwrap(), MONTH, since(&ring, 0), current);
            let _ = rolling(&ring, target.parse().unwrap(), MONTH, since(&ring, 3599), current);
        }
    }

    #[test]
    fn a_young_process_takes_its_past_for_clean() {
        let mut ring = Ring::new(MONTH, 0, Counts::default());
        ring.advance(3600, hour(10_000).counts);
        let target = "99.9".parse().unwrap();

        let spent = rolling(&ring, target, MONTH, since(&ring, 0), hour(10_000));
        assert_eq!(spent, Exhaustion::In(Duration::ZERO), "3600 s of 2592 are spent");
        let mut ring = Ring::new(MONTH, 0, Counts::default());
        ring.advance(3600, hour(20).counts);
        let fresh = rolling(&ring, target, MONTH, since(&ring, 0), hour(20));
        assert_eq!(fresh, Exhaustion::In(Duration::from_secs(15 * DAY - 3600)));
    }

    #[test]
    fn a_budget_that_is_renewed_before_lasts() {
        assert_eq!(before_renewal(days(3), Duration::from_secs(3 * DAY)), Exhaustion::Never);
        assert_eq!(before_renewal(days(2), Duration::from_secs(3 * DAY)), days(2));
    }

    proptest! {
        #![proptest_config(crate::testing::fewer(64))]

        /// Against a slow walk, hour by hour, over a week whose hours are all different.
        #[test]
        fn a_forecast_is_what_a_slow_simulation_says(
            hours in prop::collection::vec((0..400_u64, 0..6_u64), 168),
            burst in prop::option::of((0..167_usize, 0..300_u64)),
        ) {
            const WEEK: u64 = 7 * DAY;
            let mut hours: Vec<_> =
                hours.into_iter().map(|(good, bad)| Counts { good: 60 * good, bad: 10 * bad }).collect();
            if let Some((place, bad)) = burst {
                hours[place].bad += 60 * bad;
            }
            let mut ring = Ring::new(WEEK, 0, Counts::default());
            let mut total = Counts::default();
            for (hour, counts) in hours.iter().enumerate() {
                // Sixty even minutes, so that nothing is left to the edge of a window.
                for minute in 1..=60 {
                    let part = Counts { good: counts.good / 60, bad: 0 };
                    let bad = if minute == 60 { counts.bad } else { 0 };
                    total = total.plus(Counts { bad, ..part });
                    ring.advance(i64::try_from(hour * 60 + minute).unwrap() * 60, total);
                }
            }
            let now = hours[167];
            let current = Current { counts: now, observed: 3600 };

            let told = rolling(&ring, "97".parse().unwrap(), WEEK, since(&ring, 0), current);

            let spent_after = |gone: usize| {
                let ahead = Counts { good: now.good * gone as u64, bad: now.bad * gone as u64 };
                let window = hours[gone..].iter().copied().fold(ahead, Counts::plus);
                100 * window.bad >= 3 * window.total()
            };
            let slow = (0..=168).find(|gone| spent_after(*gone));
            match (told, slow) {
                (Exhaustion::Unknown, _) => prop_assert!(now.is_empty()),
                (Exhaustion::Never, slow) => prop_assert_eq!(slow, None),
                (Exhaustion::In(wait), slow) => {
                    // Told to the second, where the walk knows the hour.
                    let hours = wait.as_secs().div_ceil(3600);
                    let slow = slow.expect("it is spent at some time") as u64;
                    prop_assert!(hours == slow || wait.as_secs() == slow * 3600, "{wait:?}, {slow} h");
                }
            }
        }
    }
}
