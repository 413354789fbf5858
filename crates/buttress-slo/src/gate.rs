//! Whether a change may be released.
//!
//! One pure function, [`decide`], which the status page and the command line share: the same
//! standings give the same answer with the same words.
//!
//! ```
//! use buttress_slo::{Change, Ratio, Release, Share, Standing, gate::{Ask, Scope, decide}};
//!
//! let shop = Standing {
//!     name: "checkout".parse()?,
//!     level: "freeze".into(),
//!     place: 3,
//!     release: Release::Nothing,
//!     exempt: vec![Change::Security],
//!     remaining: Share::percent(-3),
//!     paging: false,
//!     has_data: true,
//!     coverage: Ratio::ONE,
//! };
//!
//! let decision = decide([&shop], &Ask::new(Change::Feature, Scope::Instance));
//! assert!(!decision.allowed);
//! assert_eq!(
//!     decision.to_string(),
//!     "refused: a feature may not be released now\n\
//!      - checkout: -3% of the error budget is left, and the policy says freeze\n\
//!      - this speaks for one instance, not for the fleet"
//! );
//! assert!(decide([&shop], &Ask::new(Change::Security, Scope::Instance)).allowed);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use buttress_core::Ratio;

use crate::{Change, Name, Release, Share};

/// How one objective, or a composite, stands before the gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its name.
    pub name: Name,
    /// The level of its policy.
    pub level: Box<str>,
    /// How far down the ladder that is; 0 is the best.
    pub place: usize,
    /// What may be released on it.
    pub release: Release,
    /// What is released on any level.
    pub exempt: Vec<Change>,
    /// What is left of the budget.
    pub remaining: Share,
    /// Whether a page fires.
    pub paging: bool,
    /// Whether there were any events to judge by.
    pub has_data: bool,
    /// How much was observed of that part of the period that has passed.
    pub coverage: Ratio,
}

/// A question to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    change: Change,
    scope: Scope,
    at_least: Option<Share>,
    needs_data: bool,
}

/// For whom the standings speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// For one instance, which sees its own traffic only.
    Instance,
    /// For the sum of all instances.
    Fleet,
}

impl Ask {
    /// May this change be released?
    #[must_use]
    pub const fn new(change: Change, scope: Scope) -> Self {
        Self { change, scope, at_least: None, needs_data: false }
    }

    /// Only if so much of every budget is left, whatever the policies say.
    #[must_use]
    pub const fn at_least(mut self, remaining: Share) -> Self {
        self.at_least = Some(remaining);
        self
    }

    /// Only if every objective has events to judge by.
    #[must_use]
    pub const fn needs_data(mut self) -> Self {
        self.needs_data = true;
        self
    }
}

/// The gate's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Whether the change may be released.
    pub allowed: bool,
    /// What change it is.
    pub change: Change,
    /// Why, those that refuse first. An answer that allows may have reasons to be careful.
    pub reasons: Vec<Reason>,
}

/// One reason of a [`Decision`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The policy does not admit the change.
    Policy {
        /// Of which objective.
        name: Name,
        /// The level that its policy stands on.
        level: Box<str>,
        /// What is left of its budget.
        remaining: Share,
    },
    /// Less is left than was asked for.
    TooLittleLeft {
        /// Of which objective.
        name: Name,
        /// What is left of its budget.
        remaining: Share,
        /// What was asked for.
        at_least: Share,
    },
    /// There were no events to judge by.
    NoData {
        /// Of which objective.
        name: Name,
        /// Whether the policy excepts this kind of change, which then needs none.
        excepted: bool,
    },
    /// There is nothing to judge by at all.
    NoObjectives,
    /// The policies would refuse it, and except this kind of change.
    Excepted {
        /// Of which objective.
        name: Name,
        /// The level that its policy stands on.
        level: Box<str>,
    },
    /// A page fires.
    Paging {
        /// Of which objective.
        name: Name,
    },
    /// The policy asks for small steps.
    Carefully {
        /// Of which objective.
        name: Name,
        /// The level that its policy stands on.
        level: Box<str>,
    },
    /// Not all of the period was observed.
    PartlyObserved {
        /// Of which objective.
        name: Name,
        /// How much of it was.
        coverage: Ratio,
    },
    /// The standings are of one instance.
    OneInstance,
}

impl Reason {
    /// A word for it that stays, for a page that answers in JSON and for a label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Policy { .. } => "policy",
            Self::TooLittleLeft { .. } => "too_little_left",
            Self::NoData { .. } => "no_data",
            Self::NoObjectives => "no_objectives",
            Self::Excepted { .. } => "excepted",
            Self::Paging { .. } => "paging",
            Self::Carefully { .. } => "carefully",
            Self::PartlyObserved { .. } => "partly_observed",
            Self::OneInstance => "one_instance",
        }
    }

    const fn refuses(&self, needs_data: bool) -> bool {
        match self {
            Self::Policy { .. } | Self::TooLittleLeft { .. } | Self::NoObjectives => true,
            Self::NoData { excepted, .. } => needs_data && !*excepted,
            _ => false,
        }
    }
}

/// Decides whether a change may be released.
///
/// It may, if every policy admits it on its level or excepts it, and as much is left of every
/// budget as was asked for. Exceptions go before what was asked for: a fix of a hole waits for
/// no budget, nor for data. Nothing to judge by is no permission.
#[must_use]
pub fn decide<'a>(standings: impl IntoIterator<Item = &'a Standing>, ask: &Ask) -> Decision {
    let mut reasons = Vec::new();
    let mut any = false;
    for standing in standings {
        any = true;
        judge(standing, ask, &mut reasons);
    }
    if !any {
        reasons.push(Reason::NoObjectives);
    }
    if ask.scope == Scope::Instance {
        reasons.push(Reason::OneInstance);
    }
    reasons.sort_by_key(|reason| !reason.refuses(ask.needs_data));
    let allowed = !reasons.iter().any(|reason| reason.refuses(ask.needs_data));
    Decision { allowed, change: ask.change, reasons }
}

fn judge(standing: &Standing, ask: &Ask, reasons: &mut Vec<Reason>) {
    let name = || standing.name.clone();
    let level = || standing.level.clone();
    let remaining = standing.remaining;
    let excepted = standing.exempt.contains(&ask.change);
    if !standing.release.admits(ask.change) {
        reasons.push(if excepted {
            Reason::Excepted { name: name(), level: level() }
        } else {
            Reason::Policy { name: name(), level: level(), remaining }
        });
    } else if standing.release == Release::Carefully {
        reasons.push(Reason::Carefully { name: name(), level: level() });
    }
    if let Some(at_least) = ask.at_least.filter(|at_least| remaining < *at_least && !excepted) {
        reasons.push(Reason::TooLittleLeft { name: name(), remaining, at_least });
    }
    if !standing.has_data {
        reasons.push(Reason::NoData { name: name(), excepted });
    } else if standing.coverage < Ratio::ONE {
        reasons.push(Reason::PartlyObserved { name: name(), coverage: standing.coverage });
    }
    if standing.paging {
        reasons.push(Reason::Paging { name: name() });
    }
}

impl fmt::Display for Decision {
    /// A line with the answer, and one for each reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allowed, change, .. } = self;
        let (answer, may) = if *allowed { ("allowed", "may") } else { ("refused", "may not") };
        match change {
            Change::Urgent => write!(f, "{answer}: an urgent fix {may} be released now")?,
            Change::Security => write!(f, "{answer}: a security fix {may} be released now")?,
            change => write!(f, "{answer}: a {change} {may} be released now")?,
        }
        self.reasons.iter().try_for_each(|reason| write!(f, "\n- {reason}"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { name, level, remaining } => {
                write!(
                    f,
                    "{name}: {remaining} of the error budget is left, and the policy says {level}"
                )
            }
            Self::TooLittleLeft { name, remaining, at_least } => {
                write!(
                    f,
                    "{name}: {remaining} of the error budget is left, and {at_least} was asked for"
                )
            }
            Self::NoData { name, .. } => write!(f, "{name}: there is no data to judge by"),
            Self::NoObjectives => f.write_str("there is no objective to judge by"),
            Self::Excepted { name, level } => {
                write!(f, "{name}: the policy says {level}, and excepts this")
            }
            Self::Paging { name } => write!(f, "{name}: a page fires"),
            Self::Carefully { name, level } => {
                write!(f, "{name}: the policy says {level}: in small steps, and watched")
            }
            Self::PartlyObserved { name, coverage } => {
                // Rounded down: what is not all of it is not called 100 %.
                let parts = coverage.parts_per_billion() / 10_000 * 10_000;
                let percent = Share::per_billion(i64::from(parts));
                write!(f, "{name}: only {percent} of the period was observed")
            }
            Self::OneInstance => f.write_str("this speaks for one instance, not for the fleet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(release: Release, left: i32) -> Standing {
        Standing {
            name: "up".parse().unwrap(),
            level: "some level".into(),
            place: 0,
            release,
            exempt: vec![Change::Security, Change::Urgent, Change::Rollback],
            remaining: Share::percent(left),
            paging: false,
            has_data: true,
            coverage: Ratio::ONE,
        }
    }

    fn allows(standings: &[Standing], change: Change) -> bool {
        decide(standings, &Ask::new(change, Scope::Fleet)).allowed
    }

    #[test]
    fn one_objective_that_is_frozen_refuses_for_all() {
        let well = standing(Release::Normally, 60);
        let frozen = standing(Release::Nothing, 0);

        assert!(allows(std::slice::from_ref(&well), Change::Feature));
        assert!(!allows(&[well, frozen], Change::Feature));
    }

    #[test]
    fn a_freeze_lets_its_exceptions_through_and_says_so() {
        let frozen = standing(Release::Nothing, 0);

        for change in [Change::Security, Change::Urgent, Change::Rollback] {
            let decision = decide([&frozen], &Ask::new(change, Scope::Fleet).at_least(Share::ONE));
            assert!(decision.allowed);
            assert!(matches!(decision.reasons[..], [Reason::Excepted { .. }]), "{decision}");
        }
        assert!(!allows(&[frozen], Change::Fix));
        assert!(allows(&[standing(Release::FixesOnly, 5)], Change::Fix));
    }

    #[test]
    fn less_than_was_asked_for_refuses_and_exactly_that_does_not() {
        let normal = standing(Release::Normally, 25);
        let ask =
            |percent| Ask::new(Change::Feature, Scope::Fleet).at_least(Share::percent(percent));

        assert!(decide([&normal], &ask(25)).allowed);
        assert!(!decide([&normal], &ask(26)).allowed);
    }

    #[test]
    fn nothing_to_judge_by_is_no_permission() {
        let silent = Standing { has_data: false, ..standing(Release::Freely, 100) };
        let ask = Ask::new(Change::Feature, Scope::Fleet);

        let decision = decide([], &ask);
        assert_eq!((decision.allowed, decision.reasons), (false, vec![Reason::NoObjectives]));
        assert!(decide([&silent], &ask).allowed, "a new service may ship");
        assert!(!decide([&silent], &ask.needs_data()).allowed);
    }

    #[test]
    fn an_exception_waits_for_no_data_either() {
        let silent = Standing { has_data: false, ..standing(Release::Freely, 100) };
        let ask = |change| Ask::new(change, Scope::Fleet).needs_data();

        for change in [Change::Security, Change::Urgent, Change::Rollback] {
            let decision = decide([&silent], &ask(change));
            assert!(decision.allowed, "{decision}");
            assert!(decision.to_string().contains("there is no data"), "{decision}");
        }
        assert!(!decide([&silent], &ask(Change::Fix)).allowed);
    }

    #[test]
    fn what_was_observed_but_for_seconds_is_not_called_all_of_it() {
        let observed = |parts| Reason::PartlyObserved {
            name: "up".parse().unwrap(),
            coverage: Ratio::per_billion(parts).unwrap(),
        };

        // A restart of ten seconds in thirty days.
        let said = observed(999_996_142).to_string();
        assert_eq!(said, "up: only 99.999% of the period was observed");
        assert_eq!(observed(30_000_000).to_string(), "up: only 3% of the period was observed");
    }

    #[test]
    fn every_reason_has_its_word_and_its_sentence() {
        let ask = Ask::new(Change::Security, Scope::Instance).at_least(Share::percent(50));
        let said = |standings: &[Standing], ask: &Ask| -> Vec<_> {
            let reasons = decide(standings, ask).reasons;
            reasons.iter().map(|reason| format!("{}: {reason}", reason.as_str())).collect()
        };
        let feature = Ask::new(Change::Feature, Scope::Fleet).at_least(Share::percent(50));
        let young = Standing {
            coverage: Ratio::percent(3),
            paging: true,
            ..standing(Release::Carefully, 90)
        };
        let silent = Standing { has_data: false, ..standing(Release::Freely, 100) };

        assert_eq!(
            said(&[standing(Release::Nothing, -1)], &ask),
            [
                "excepted: up: the policy says some level, and excepts this",
                "one_instance: this speaks for one instance, not for the fleet",
            ]
        );
        assert_eq!(
            said(&[standing(Release::FixesOnly, 20), young], &feature),
            [
                "policy: up: 20% of the error budget is left, and the policy says some level",
                "too_little_left: up: 20% of the error budget is left, and 50% was asked for",
                "carefully: up: the policy says some level: in small steps, and watched",
                "partly_observed: up: only 3% of the period was observed",
                "paging: up: a page fires",
            ]
        );
        assert_eq!(said(&[silent], &feature), ["no_data: up: there is no data to judge by"]);
        assert_eq!(said(&[], &feature), ["no_objectives: there is no objective to judge by"]);
    }

    #[test]
    fn each_release_admits_its_changes_at_the_gate_and_no_others() {
        use Change::{Feature, Fix, Rollback, Security, Urgent};
        let all = [Feature, Fix, Security, Urgent, Rollback];
        for release in Release::ALL {
            let strict = Standing { exempt: Vec::new(), ..standing(release, 50) };
            let admitted: Vec<_> = all
                .into_iter()
                .filter(|change| allows(std::slice::from_ref(&strict), *change))
                .collect();
            let expected: &[Change] = match release {
                Release::Freely | Release::Normally | Release::Carefully => &all,
                Release::FixesOnly => &[Fix],
                Release::Nothing => &[],
            };
            assert_eq!(admitted, expected, "{release:?} without exceptions");
            let usual = standing(release, 50);
            for change in [Security, Urgent, Rollback] {
                assert!(allows(std::slice::from_ref(&usual), change), "{release:?} {change}");
            }
        }
    }

    #[test]
    fn what_refuses_is_said_first_and_what_to_mind_after() {
        let paging = Standing { paging: true, ..standing(Release::Carefully, 90) };
        let frozen = standing(Release::Nothing, -1);
        let young = Standing { coverage: Ratio::percent(3), ..standing(Release::Freely, 100) };

        let decision =
            decide([&paging, &young, &frozen], &Ask::new(Change::Urgent, Scope::Instance));
        assert!(decision.to_string().starts_with("allowed: an urgent fix may be released now"));

        let text = decide([&paging, &young, &frozen], &Ask::new(Change::Fix, Scope::Instance));
        assert_eq!(
            text.to_string(),
            "refused: a fix may not be released now\n\
             - up: -1% of the error budget is left, and the policy says some level\n\
             - up: the policy says some level: in small steps, and watched\n\
             - up: a page fires\n\
             - up: only 3% of the period was observed\n\
             - this speaks for one instance, not for the fleet"
        );
    }
}
