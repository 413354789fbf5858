use crate::{Name, Policy, Share};

/// Several objectives taken as one: a journey through a shop, a service and what it needs.
///
/// ```
/// use buttress_slo::{Combine, Composite, Share};
///
/// let journey = Composite::new("journey".parse()?, Combine::Any, ["search".parse()?, "pay".parse()?]);
/// let left = journey.remaining(|name| match name.as_str() {
///     "search" => Some(Share::percent(50)),
///     _ => Some(Share::percent(-10)),
/// });
/// assert_eq!(left, Some(Share::percent(-10)));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Composite {
    name: Name,
    combine: Combine,
    parts: Vec<(Name, u32)>,
    policy: Policy,
}

/// How the budgets of the parts make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// It burns if any part burns: the least that is left. The default of `OpenSLO`.
    Any,
    /// It burns only if all parts burn, as for replicas: the most that is left.
    All,
    /// It burns as its parts do on average, by weight.
    Weighted,
}

impl Composite {
    /// A composite of equal parts, with the policy [`Policy::quarters`].
    #[must_use]
    pub fn new(name: Name, combine: Combine, parts: impl IntoIterator<Item = Name>) -> Self {
        let parts = parts.into_iter().map(|part| (part, 1)).collect();
        Self { name, combine, parts, policy: Policy::quarters() }
    }

    /// Gives a part another weight. Only [`Combine::Weighted`] asks for it; a part that is none
    /// is added.
    #[must_use]
    pub fn weighing(mut self, part: Name, weight: u32) -> Self {
        self.parts.retain(|(name, _)| *name != part);
        self.parts.push((part, weight));
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

    /// The names of its parts.
    pub fn parts(&self) -> impl Iterator<Item = &Name> {
        self.parts.iter().map(|(name, _)| name)
    }

    /// What follows from what is left.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is left of it, when this is left of its parts: rounded down. `None` if a part is not
    /// known, or nothing weighs anything.
    #[must_use]
    pub fn remaining(&self, mut part: impl FnMut(&Name) -> Option<Share>) -> Option<Share> {
        let parts: Option<Vec<_>> =
            self.parts.iter().map(|(name, weight)| Some((part(name)?, *weight))).collect();
        let parts = parts?;
        let shares = parts.iter().map(|(share, _)| *share);
        match self.combine {
            Combine::Any => shares.min(),
            Combine::All => shares.max(),
            Combine::Weighted => {
                let weights: i128 = parts.iter().map(|(_, weight)| i128::from(*weight)).sum();
                let weigh = |(share, weight): &(Share, u32)| {
                    i128::from(share.parts_per_billion()) * i128::from(*weight)
                };
                let sum: i128 = parts.iter().map(weigh).sum();
                let mean = (weights > 0).then(|| sum.div_euclid(weights))?;
                Some(Share::per_billion(i64::try_from(mean).ok()?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(combine: Combine) -> Option<Share> {
        let composite = Composite::new(
            "all".parse().unwrap(),
            combine,
            ["a", "b"].map(|name| name.parse().unwrap()),
        )
        .weighing("b".parse().unwrap(), 3);
        composite
            .remaining(|name| Some(Share::percent(if name.as_str() == "a" { 50 } else { -10 })))
    }

    #[test]
    fn the_least_that_is_left_is_what_is_left_of_any() {
        // slo.md 10, scenario 57.
        assert_eq!(left(Combine::Any), Some(Share::percent(-10)));
        assert_eq!(Policy::quarters().level_at(left(Combine::Any).unwrap()).name(), "freeze");
    }

    #[test]
    fn all_have_to_burn_or_weigh() {
        assert_eq!(left(Combine::All), Some(Share::percent(50)));
        assert_eq!(left(Combine::Weighted), Some(Share::percent(5)), "(50 - 3 * 10) / 4");
    }

    #[test]
    fn a_mean_is_rounded_down_on_both_sides_of_nothing() {
        let name = |name: &str| name.parse::<Name>().unwrap();
        let mean = Composite::new(name("all"), Combine::Weighted, ["a", "b"].map(name));
        let of = |a: i64, b: i64| {
            mean.remaining(|part| {
                Some(Share::per_billion(if part.as_str() == "a" { a } else { b }))
            })
        };

        assert_eq!(of(1, 2), Some(Share::per_billion(1)));
        assert_eq!(of(-1, -2), Some(Share::per_billion(-2)));
    }

    #[test]
    fn a_part_that_is_not_known_leaves_nothing_known() {
        let name = || "a".parse::<Name>().unwrap();
        let composite = Composite::new(name(), Combine::Any, [name()]);

        assert_eq!(composite.remaining(|_| None), None);
        let weightless = Composite::new(name(), Combine::Weighted, []).weighing(name(), 0);
        assert_eq!(weightless.remaining(|_| Some(Share::ONE)), None);
    }
}
