//! Mistakes that an objective can make although each of its values is fine.
//!
//! ```
//! use buttress_slo::{Objective, Sli, lint::{Lint, lint}};
//!
//! let modest = Objective::new("batch".parse()?, Sli::Events, "90%".parse()?);
//! let found = lint(&modest, None);
//!
//! assert!(matches!(&found[..], [Lint::NeverFires { rule, .. }] if &**rule == "page-fast"));
//! assert_eq!(
//!     found[0].to_string(),
//!     "page-fast can never fire: all events bad is a burn of 10, and it waits for more than 14.4"
//! );
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::{fmt, time::Duration};

use crate::{
    Burn, Condition, Method, Objective, Rule, Severity, Share, burn::saturate, window::short,
};

/// One mistake. It is for people: an objective with some still works as it says.
///
/// A target of 100 % is none of these, for it cannot be said: see
/// [`TargetError`](crate::TargetError).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lint {
    /// Not even a total outage burns so fast.
    NeverFires {
        /// Which rule.
        rule: Box<str>,
        /// How fast a total outage burns.
        most: Burn,
        /// How fast it would have to.
        factor: Burn,
    },
    /// One of its windows is shorter than a second, and holds nothing.
    EmptyWindow {
        /// Which rule.
        rule: Box<str>,
    },
    /// It waits for more events than its window has.
    TooFewForMinimum {
        /// Which rule.
        rule: Box<str>,
        /// How many events it waits for.
        minimum: u64,
        /// How many its long window has.
        events: u64,
    },
    /// It fires although the budget lasts.
    FiresWithinBudget {
        /// Which rule.
        rule: Box<str>,
        /// Its factor, below 1.
        factor: Burn,
    },
    /// A single failure fires it.
    OneFailureFires {
        /// Which rule.
        rule: Box<str>,
        /// Whom it tells.
        severity: Severity,
        /// How many events its long window has.
        events: u64,
    },
    /// A single failure spends much of the budget, or more than all.
    OneFailureSpends {
        /// How much.
        share: Share,
    },
    /// A rule looks at more than the period.
    LongerThanPeriod {
        /// Which rule.
        rule: Box<str>,
        /// Its window.
        window: Duration,
    },
    /// A mean of ratios weighs a quiet night like a busy noon.
    MeanOfRatios,
    /// Whatever is left of the budget, the policy is never on this level.
    LevelNeverHolds {
        /// Which level.
        level: Box<str>,
    },
}

/// Looks for mistakes, given how many events a period is expected to have, if that is known. With
/// time slices it always is: a slice is an event.
#[must_use]
pub fn lint(objective: &Objective, expected_events: Option<u64>) -> Vec<Lint> {
    let slices = objective.method().slices_in(objective.window().nominal().as_secs());
    let expected_events = slices.or(expected_events);
    let mut found = Vec::new();
    for rule in objective.alerts().rules() {
        if rule.windows().any(|window| window.as_secs() == 0) {
            found.push(Lint::EmptyWindow { rule: rule.name().into() });
            continue;
        }
        found.extend(unreachable(objective, rule));
        found.extend(within_budget(objective, rule));
        found.extend(too_long(objective, rule));
        found.extend(expected_events.and_then(|events| too_few(objective, rule, events)));
        found.extend(expected_events.and_then(|events| one_failure(objective, rule, events)));
    }
    found.extend(expected_events.and_then(|events| few_events(objective, events)));
    if matches!(objective.method(), Method::RatioTimeSlices(_)) {
        found.push(Lint::MeanOfRatios);
    }
    let never = objective.policy().unreachable();
    found.extend(never.map(|level| Lint::LevelNeverHolds { level: level.name().into() }));
    found
}

/// The factor of a rule, were its condition one of burn.
fn factor(objective: &Objective, rule: &Rule) -> Option<Burn> {
    match rule.condition() {
        Condition::Burn { factor, .. } => Some(factor),
        Condition::Spent { share, long, .. } => {
            Some(Burn::spending(share, objective.window().nominal(), long))
        }
        Condition::Left { .. } => None,
    }
}

fn unreachable(objective: &Objective, rule: &Rule) -> Option<Lint> {
    let factor = factor(objective, rule)?;
    let error_parts = u128::from(objective.target().error_parts());
    let most = Burn::millionths(saturate(1_000_000_000_000_000 / error_parts));
    let reached = u128::from(factor.as_millionths()) * error_parts < 1_000_000_000_000_000;
    (!reached).then(|| Lint::NeverFires { rule: rule.name().into(), most, factor })
}

fn within_budget(objective: &Objective, rule: &Rule) -> Option<Lint> {
    // 28 days scaled: 0.933333 is 10 % of the budget in three days, as sloth has it.
    let factor = factor(objective, rule).filter(|factor| *factor < Burn::millionths(900_000))?;
    Some(Lint::FiresWithinBudget { rule: rule.name().into(), factor })
}

fn too_long(objective: &Objective, rule: &Rule) -> Option<Lint> {
    let window = rule.windows().max()?;
    let rule = rule.name().into();
    (window > objective.window().nominal()).then_some(Lint::LongerThanPeriod { rule, window })
}

/// How many of the events of a period its long window has, if they come evenly.
fn in_long_window(objective: &Objective, rule: &Rule, expected: u64) -> Option<u64> {
    let long = u128::from(rule.windows().next()?.as_secs());
    let period = u128::from(objective.window().nominal().as_secs().max(1));
    Some(saturate(u128::from(expected) * long / period))
}

fn too_few(objective: &Objective, rule: &Rule, expected: u64) -> Option<Lint> {
    let events = in_long_window(objective, rule, expected)?;
    // One bad event is waited for by every rule; that there may be none for hours is no mistake.
    let minimum = rule.fewest_events().max(rule.fewest_bad()).max(1);
    let rule = rule.name().into();
    (minimum > events.max(1)).then_some(Lint::TooFewForMinimum { rule, minimum, events })
}

fn one_failure(objective: &Objective, rule: &Rule, expected: u64) -> Option<Lint> {
    let factor = u128::from(factor(objective, rule)?.as_millionths());
    let events = in_long_window(objective, rule, expected)?;
    let allowed = u128::from(events.max(1)) * u128::from(objective.target().error_parts());
    let fires = 1_000_000_000_000_000 > allowed.saturating_mul(factor);
    let waits = rule.fewest_bad() > 1 || rule.fewest_events() > events;
    let (rule, severity) = (rule.name().into(), rule.severity());
    (fires && !waits).then_some(Lint::OneFailureFires { rule, severity, events })
}

/// Ten failures in a period are few enough to look at each by hand.
fn few_events(objective: &Objective, expected: u64) -> Option<Lint> {
    let allowed = u128::from(expected.max(1)) * u128::from(objective.target().error_parts());
    let parts = 1_000_000_000_000_000_000_u128.div_ceil(allowed);
    let share = Share::per_billion(i64::try_from(parts).unwrap_or(i64::MAX));
    (share > Share::percent(10)).then_some(Lint::OneFailureSpends { share })
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverFires { rule, most, factor } => write!(
                f,
                "{rule} can never fire: all events bad is a burn of {most}, and it waits for \
                 more than {factor}"
            ),
            Self::EmptyWindow { rule } => write!(
                f,
                "{rule} can never fire: its window is shorter than a second; give it minutes"
            ),
            Self::TooFewForMinimum { rule, minimum, events } => write!(
                f,
                "{rule} will hardly ever fire: it waits for {minimum} events, and its window has \
                 about {events}; let it wait for fewer, or look at a longer window"
            ),
            Self::FiresWithinBudget { rule, factor } => {
                write!(f, "{rule} fires although the budget lasts: its factor {factor} is below 1")
            }
            Self::OneFailureFires { rule, severity, events } => write!(
                f,
                "one failure fires {rule} ({}): its window has about {events} events; let it \
                 wait for three failures, or send it traffic of your own",
                severity.as_str()
            ),
            Self::OneFailureSpends { share } => write!(
                f,
                "there are too few events: one failure spends {share} of the budget; lower the \
                 target, lengthen the period, or take several objectives as one"
            ),
            Self::LongerThanPeriod { rule, window } => {
                write!(f, "{rule} looks at {}, which is more than the period", short(*window))
            }
            Self::MeanOfRatios => f.write_str(
                "a mean of ratios weighs a quiet night like a busy noon; count occurrences",
            ),
            Self::LevelNeverHolds { level } => write!(
                f,
                "the policy is never on {level}, whatever is left: put levels under better ones, \
                 each with a lower floor and the best at 100 % at the most"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AlertPlan, Floor, Level, Policy, Release, Sli, SliceLength, TimeSlices, Window};

    fn objective(target: &str) -> Objective {
        Objective::new("it".parse().unwrap(), Sli::Availability, target.parse().unwrap())
    }

    fn below() -> Rule {
        Rule::below_target("below", Severity::Page, Duration::from_secs(3_600))
    }

    fn never(target: &str) -> Vec<String> {
        let found = lint(&objective(target), None);
        let names = found.into_iter().filter_map(|lint| match lint {
            Lint::NeverFires { rule, .. } => Some(rule.into()),
            _ => None,
        });
        names.collect()
    }

    #[test]
    fn a_rule_that_no_outage_reaches_is_found() {
        // slo.md 10, scenario 31, and the edges of section 2: 93.06 % and 83.3 %.
        assert_eq!(never("90"), ["page-fast"]);
        assert_eq!(never("93.05"), ["page-fast"]);
        assert_eq!(never("93.06"), [] as [&str; 0]);
        assert_eq!(never("83.3"), ["page-fast", "page-slow"]);
        assert_eq!(never("83.4"), ["page-fast"]);
    }

    #[test]
    fn one_failure_that_pages_is_found() {
        // Scenario 45: ten requests an hour.
        let found = lint(&objective("99.9"), Some(7_200));

        let pages = found.iter().filter(|lint| {
            matches!(lint, Lint::OneFailureFires { severity: Severity::Page, events: 10 | 60, .. })
        });
        assert_eq!(pages.count(), 2);
        let spends = found.iter().find_map(|lint| match lint {
            Lint::OneFailureSpends { share } => Some(share.to_string()),
            _ => None,
        });
        assert_eq!(spends.unwrap(), "13.889%");

        let plan = AlertPlan::for_window(&Window::THIRTY_DAYS).each(|rule| rule.min_bad(3));
        let patient = lint(&objective("99.9").alerting(plan), Some(7_200));
        assert!(matches!(patient[..], [Lint::OneFailureSpends { .. }]), "{patient:?}");
    }

    #[test]
    fn a_minimum_of_all_that_is_expected_can_still_be_met() {
        let plan = |events| AlertPlan::none().with(below().min_events(events));
        let found = |events| lint(&objective("99.9").alerting(plan(events)), Some(7_200));

        // Ten an hour are expected.
        assert!(found(10).iter().any(|lint| matches!(lint, Lint::OneFailureFires { .. })));
        assert!(!found(11).iter().any(|lint| matches!(lint, Lint::OneFailureFires { .. })));
    }

    #[test]
    fn a_rule_whose_window_holds_nothing_is_found() {
        let share = buttress_core::Ratio::percent(2);
        let plan = AlertPlan::none()
            .with(Rule::burn("burn", Severity::Page, Burn::ONE, Duration::ZERO))
            .with(Rule::spent("spent", Severity::Page, share, Duration::from_millis(999)))
            .with(Rule::burn("fine", Severity::Page, Burn::ONE, Duration::from_secs(300)));

        let found = lint(&objective("99.9").alerting(plan), Some(1_000_000_000));

        let words: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[0].starts_with("burn can never fire: its window is shorter than a second"));
        assert!(words[1].starts_with("spent can never fire: its window"), "{words:?}");
    }

    #[test]
    fn a_minimum_that_no_window_reaches_is_found() {
        let plan = |rule: Rule| AlertPlan::none().with(rule);
        let found = |rule| {
            let found = lint(&objective("99.9").alerting(plan(rule)), Some(7_200));
            found.iter().any(|lint| matches!(lint, Lint::TooFewForMinimum { .. }))
        };

        // Ten an hour.
        assert!(!found(below().min_events(10)) && found(below().min_events(11)));
        assert!(!found(below().min_bad(10)) && found(below().min_bad(11)));
        let unknown = lint(&objective("99.9").alerting(plan(below().min_bad(11))), None);
        assert_eq!(unknown, []);
    }

    #[test]
    fn a_share_that_is_spent_within_budget_is_found() {
        let plan = AlertPlan::by_budget_spent();
        let of = |window: Window| {
            let objective = objective("99.9").over(window).alerting(plan.clone());
            let found = lint(&objective, None).into_iter().filter_map(|lint| match lint {
                Lint::FiresWithinBudget { rule, factor } => Some(format!("{rule} {factor}")),
                _ => None,
            });
            found.collect::<Vec<_>>()
        };

        // A tenth of a week's budget in three of its days is no reason to worry.
        assert_eq!(of(Window::SEVEN_DAYS), ["ticket-fast 0.7", "ticket-slow 0.233333"]);
        assert_eq!(of(Window::THIRTY_DAYS), [""; 0]);
    }

    #[test]
    fn enough_events_are_fine() {
        assert_eq!(lint(&objective("99.9"), Some(10_000_000)), []);
        assert_eq!(lint(&objective("99.9").over(Window::TWENTY_EIGHT_DAYS), None), []);
    }

    #[test]
    fn a_single_bad_slice_that_pages_is_found_without_a_guess_of_the_traffic() {
        // 43,200 minutes, of which 43 may be bad; 60 in the hour of the fast page.
        let minutes = TimeSlices::new(SliceLength::Minute, "95%".parse().unwrap());
        let found = |target: &str| {
            let found = lint(&objective(target).counted_by(Method::TimeSlices(minutes)), None);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };

        let words = found("99.9");
        assert!(
            words[0].starts_with("one failure fires page-fast (page): its window has about 60")
        );
        assert_eq!(words.len(), 1, "{words:?}");
        assert_eq!(found("99"), [""; 0]);
        let last = found("99.99").pop().unwrap();
        assert!(last.contains("one failure spends 23.148% of the budget"), "{last}");
    }

    #[test]
    fn a_level_that_never_holds_is_found() {
        let level = |name: &str, floor| Level::new(name, floor, Release::Normally);
        let at_least = |percent| Floor::AtLeast(Share::percent(percent));
        let above = |percent| Floor::Above(Share::percent(percent));
        let last = || Policy::new(Level::new("freeze", Floor::Always, Release::Nothing));
        let found = |policy: Policy| {
            let found = lint(&objective("99.9").with_policy(policy), None);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };

        assert_eq!(found(Policy::quarters()), [""; 0]);
        assert_eq!(found(Policy::escalating()), [""; 0]);
        // The wrong way round, twice the same, and more than there is.
        let upside_down =
            last().under(level("better", at_least(75))).under(level("good", at_least(25)));
        assert!(
            found(upside_down)[0].starts_with("the policy is never on better, whatever is left")
        );
        assert_eq!(
            found(last().under(level("a", above(25))).under(level("b", above(25)))).len(),
            1
        );
        assert_eq!(
            found(last().under(level("a", at_least(25))).under(level("b", above(25)))),
            [""; 0]
        );
        assert_eq!(found(last().under(level("a", above(100)))).len(), 1);
        assert_eq!(found(last().under(level("a", at_least(100)))), [""; 0]);
    }

    #[test]
    fn other_mistakes_are_found_and_told_in_words() {
        let week = Window::SEVEN_DAYS;
        let plan = AlertPlan::with_scaled_factors(week.nominal()).with(Rule::burn(
            "long",
            Severity::Ticket,
            Burn::ONE,
            Duration::from_secs(864_000),
        ));
        let found = lint(
            &objective("99.9")
                .over(week)
                .alerting(plan)
                .counted_by(Method::RatioTimeSlices(SliceLength::FiveMinutes)),
            None,
        );

        let words: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), 4);
        assert!(words[0].contains("ticket-fast") && words[0].contains("0.7 is below 1"));
        assert!(words[1].contains("ticket-slow") && words[1].contains("0.233333"));
        assert!(words[2].contains("long looks at 10d"));
        assert!(words[3].contains("count occurrences"));
    }
}
