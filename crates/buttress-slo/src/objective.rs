use std::{error::Error, fmt, str::FromStr};

use crate::{AlertPlan, Exclusions, Method, Policy, RouteSet, Sli, Target, Window};

/// What is promised: so many of these events are good, over this window.
///
/// ```
/// use buttress_slo::{Objective, RouteSet, Sli, Window};
///
/// let checkout = Objective::new("checkout".parse()?, Sli::Availability, "99.9%".parse()?)
///     .for_routes(RouteSet::only(["/cart", "/orders/*"]))
///     .over(Window::month("Europe/Berlin".parse()?));
///
/// assert_eq!(checkout.to_string(), "checkout: 99.9% availability over month (Europe/Berlin)");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Defaults
///
/// Rolling 30 days, every event counts, all routes but health checks, the four burn-rate pairs
/// of [`AlertPlan::for_window`], and the policy [`Policy::quarters`].
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    name: Name,
    sli: Sli,
    target: Target,
    window: Window,
    method: Method,
    routes: RouteSet,
    exclusions: Exclusions,
    alerts: AlertPlan,
    policy: Policy,
}

impl Objective {
    /// An objective with everything else as by default.
    #[must_use]
    pub fn new(name: Name, sli: Sli, target: Target) -> Self {
        let window = Window::THIRTY_DAYS;
        Self {
            name,
            sli,
            target,
            alerts: AlertPlan::for_window(&window),
            window,
            method: Method::Occurrences,
            routes: RouteSet::ALL,
            exclusions: Exclusions::default(),
            policy: Policy::quarters(),
        }
    }

    /// Holds over another window, with the alerts that suit it. To have others, set them after.
    #[must_use]
    pub fn over(mut self, window: Window) -> Self {
        self.alerts = AlertPlan::for_window(&window);
        self.window = window;
        self
    }

    /// Counts another way.
    #[must_use]
    pub const fn counted_by(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Is of some routes only.
    #[must_use]
    pub fn for_routes(mut self, routes: RouteSet) -> Self {
        self.routes = routes;
        self
    }

    /// Leaves out other events.
    ///
    /// A change takes effect from the next event on: what a snapshot has counted stays counted,
    /// for thirty days of counts are worth more than their last percent of likeness.
    #[must_use]
    pub fn excluding(mut self, exclusions: Exclusions) -> Self {
        self.exclusions = exclusions;
        self
    }

    /// Alerts by other rules.
    #[must_use]
    pub fn alerting(mut self, alerts: AlertPlan) -> Self {
        self.alerts = alerts;
        self
    }

    /// Follows another policy.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it measures.
    #[must_use]
    pub fn sli(&self) -> Sli {
        self.sli
    }

    /// What it promises.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Over which period.
    #[must_use]
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// How events are counted.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Of which routes.
    #[must_use]
    pub fn routes(&self) -> &RouteSet {
        &self.routes
    }

    /// What is left out.
    #[must_use]
    pub fn exclusions(&self) -> &Exclusions {
        &self.exclusions
    }

    /// When somebody is told.
    #[must_use]
    pub fn alerts(&self) -> &AlertPlan {
        &self.alerts
    }

    /// What follows from what is left of the budget.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn set_target(&mut self, target: Target) {
        self.target = target;
    }

    /// What its counts mean, whatever its target: counts of one meaning are kept through a
    /// restart, and those of another are not. A hash of the words that people read, which a test
    /// holds fast.
    pub(crate) fn meaning(&self) -> u64 {
        let words = format!("{}\n{}\n{}", self.sli, self.method, self.routes);
        // FNV-1a, 64 bits.
        words.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        })
    }

    /// The longest window that is read for it, in seconds.
    pub(crate) fn longest(&self) -> u64 {
        self.alerts.longest().max(self.window.longest())
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, target, sli, window, .. } = self;
        write!(f, "{name}: {target} {sli} over {window}")
    }
}

/// The name of an objective: a label of RFC 1123, which every system that may hear of it takes.
///
/// ```
/// use buttress_slo::Name;
///
/// let name: Name = "checkout-availability".parse().unwrap();
/// assert_eq!(name.as_str(), "checkout-availability");
/// assert!("Checkout availability".parse::<Name>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let edges = bytes.first().is_some_and(|byte| plain(*byte))
            && bytes.last().is_some_and(|byte| plain(*byte));
        if edges && bytes.len() <= 63 && bytes.iter().all(|byte| plain(*byte) || *byte == b'-') {
            Ok(Self(text.into()))
        } else {
            Err(NameError { text: text.into() })
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    text: String,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no name of a service or an objective: write up to 63 lower-case letters, digits and \
             dashes, with no dash at either end",
            self.text
        )
    }
}

impl Error for NameError {}

#[cfg(test)]
mod tests {
    use buttress_core::TimeLimit;

    use super::*;
    use crate::Part;

    fn objective(sli: Sli, target: &str) -> Objective {
        Objective::new("it".parse().unwrap(), sli, target.parse().unwrap())
    }

    #[test]
    fn a_target_does_not_change_what_counts_mean_and_a_threshold_does() {
        let fast =
            |millis| Sli::Latency { within: TimeLimit::from_millis(millis), part: Part::Total };
        let meaning = |sli, target| objective(sli, target).meaning();

        assert_eq!(meaning(fast(300), "99"), meaning(fast(300), "99.9"));
        assert_ne!(meaning(fast(300), "99"), meaning(fast(301), "99"));
        assert_ne!(meaning(fast(300), "99"), meaning(Sli::Availability, "99"));
    }

    #[test]
    fn names_that_some_system_would_refuse_cannot_be_said() {
        for text in ["", "-a", "a-", "A", "a_b", "a b", "ä", &"a".repeat(64)] {
            let error = text.parse::<Name>().unwrap_err().to_string();
            assert!(error.contains("lower-case"), "{error}");
        }
        assert!("a".repeat(63).parse::<Name>().is_ok());
    }
}
