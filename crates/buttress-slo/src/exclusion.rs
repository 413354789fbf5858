use buttress_core::{Judgement, Kind, Reason, Verdict};

use crate::RouteSet;

/// Why an event is on neither side of the ratio: a closed set, fit for a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exclusion {
    /// The caller's mistake: a 4xx, or the gRPC code of one.
    ClientError,
    /// The handler said so.
    Application,
    /// The caller's deadline had passed.
    Deadline,
    /// The caller left.
    Left,
    /// It failed, and the objective is of those that did not: a latency.
    Failed,
    /// Nobody said whether it was right, and the objective is of what was said.
    Unsaid,
    /// There was maintenance.
    Maintenance,
    /// It was a health check.
    HealthCheck,
    /// Another reason of the judge.
    Other,
    /// A layer of ours refused it.
    Refused(Kind),
}

impl Exclusion {
    /// All exclusions, each at the place of its number.
    pub const ALL: [Self; PLAIN + Kind::ALL.len()] = {
        let mut all = [Self::Other; PLAIN + Kind::ALL.len()];
        let plain = [
            Self::ClientError,
            Self::Application,
            Self::Deadline,
            Self::Left,
            Self::Failed,
            Self::Unsaid,
            Self::Maintenance,
            Self::HealthCheck,
            Self::Other,
        ];
        let mut place = 0;
        while place < all.len() {
            all[place] =
                if place < PLAIN { plain[place] } else { Self::Refused(Kind::ALL[place - PLAIN]) };
            place += 1;
        }
        all
    };

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientError => "client_error",
            Self::Application => "application",
            Self::Deadline => "deadline",
            Self::Left => "left",
            Self::Failed => "failed",
            Self::Unsaid => "unsaid",
            Self::Maintenance => "maintenance",
            Self::HealthCheck => "health_check",
            Self::Other => "other",
            Self::Refused(kind) => kind.as_str(),
        }
    }

    /// The place in [`Exclusion::ALL`]. A kind of refusal that is newer than this crate goes to
    /// [`Exclusion::Other`].
    pub(crate) fn place(self) -> usize {
        Self::ALL.iter().position(|other| *other == self).unwrap_or(PLAIN - 1)
    }

    fn of(reason: Reason) -> Self {
        match reason {
            Reason::Status => Self::ClientError,
            Reason::Application => Self::Application,
            Reason::Deadline => Self::Deadline,
            Reason::Left => Self::Left,
            Reason::Refused(kind) => Self::Refused(kind),
            _ => Self::Other,
        }
    }
}

const PLAIN: usize = 9;

/// What does not count, beyond what the judge excluded already.
///
/// By default health checks do not, and everything else is as judged: 4xx excluded, refusals of
/// ours as their status says. Maintenance is the tracker's. Health checks are `/health`,
/// `/health/*`, `/healthz`, `/livez`, `/readyz`, `/live`, `/ready`, `/ping` and gRPC's
/// `/grpc.health.v1.Health/*`, unless said otherwise.
///
/// ```
/// use buttress_core::{Kind, Verdict};
/// use buttress_slo::Exclusions;
///
/// let exclusions = Exclusions::default()
///     .client_errors(Verdict::Good)
///     .refused(Kind::RateLimited, Verdict::Bad)
///     .refused(Kind::Overloaded, Verdict::Excluded);
/// # drop(exclusions);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusions {
    client_errors: Verdict,
    refused: [Option<Verdict>; Kind::ALL.len()],
    health_checks: RouteSet,
}

impl Exclusions {
    /// What calls count as that the judge excluded for their status.
    #[must_use]
    pub const fn client_errors(mut self, verdict: Verdict) -> Self {
        self.client_errors = verdict;
        self
    }

    /// What refusals of one kind count as, whatever the judge says: who holds that turning
    /// callers away is a failure counts them as bad.
    #[must_use]
    pub fn refused(mut self, kind: Kind, verdict: Verdict) -> Self {
        if let Some(place) = Kind::ALL.iter().position(|other| *other == kind) {
            self.refused[place] = Some(verdict);
        }
        self
    }

    /// Which routes are health checks.
    #[must_use]
    pub fn health_checks(mut self, routes: RouteSet) -> Self {
        self.health_checks = routes;
        self
    }

    /// What a call counts as once the exclusions are applied.
    #[inline]
    pub(crate) fn apply(
        &self,
        judgement: Judgement,
        route: Option<&str>,
    ) -> Result<Judgement, Exclusion> {
        if route.is_some() && self.health_checks.contains(route) {
            return Err(Exclusion::HealthCheck);
        }
        let Judgement { verdict, reason } = judgement;
        let verdict = match reason {
            Reason::Refused(kind) => {
                let place = Kind::ALL.iter().position(|other| *other == kind);
                place.and_then(|place| self.refused[place]).unwrap_or(verdict)
            }
            Reason::Status if verdict == Verdict::Excluded => self.client_errors,
            _ => verdict,
        };
        match verdict {
            Verdict::Excluded => Err(Exclusion::of(reason)),
            verdict => Ok(Judgement { verdict, reason }),
        }
    }
}

impl Default for Exclusions {
    fn default() -> Self {
        const HEALTH_CHECKS: [&str; 9] = [
            "/health",
            "/health/*",
            "/healthz",
            "/livez",
            "/readyz",
            "/live",
            "/ready",
            "/ping",
            "/grpc.health.v1.Health/*",
        ];
        Self {
            client_errors: Verdict::Excluded,
            refused: [None; Kind::ALL.len()],
            health_checks: RouteSet::only(HEALTH_CHECKS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exclusion_has_its_own_place_and_name() {
        for (place, exclusion) in Exclusion::ALL.into_iter().enumerate() {
            assert_eq!(exclusion.place(), place);
            let same = Exclusion::ALL.iter().filter(|other| other.as_str() == exclusion.as_str());
            assert_eq!(same.count(), 1, "{exclusion:?}");
        }
    }

    #[test]
    fn refusals_count_as_was_said_of_their_kind() {
        let exclusions = Exclusions::default()
            .refused(Kind::RateLimited, Verdict::Bad)
            .refused(Kind::Overloaded, Verdict::Excluded);
        let judged =
            |kind, verdict| exclusions.apply(Judgement::new(verdict, Reason::Refused(kind)), None);

        let limited = judged(Kind::RateLimited, Verdict::Excluded).unwrap();
        assert_eq!(limited.verdict, Verdict::Bad);
        let overloaded = judged(Kind::Overloaded, Verdict::Bad);
        assert_eq!(overloaded, Err(Exclusion::Refused(Kind::Overloaded)));
        assert_eq!(judged(Kind::CircuitOpen, Verdict::Bad).unwrap().verdict, Verdict::Bad);
    }

    #[test]
    fn client_errors_count_as_was_said() {
        let not_found = Judgement::new(Verdict::Excluded, Reason::Status);
        let apply = |exclusions: Exclusions| exclusions.apply(not_found, Some("/shop"));

        assert_eq!(apply(Exclusions::default()), Err(Exclusion::ClientError));
        let good = apply(Exclusions::default().client_errors(Verdict::Good)).unwrap();
        assert_eq!(good.verdict, Verdict::Good);
    }

    #[test]
    fn a_call_of_no_route_is_no_health_check_however_those_are_said() {
        let good = Judgement::new(Verdict::Good, Reason::Status);
        let all_but = Exclusions::default().health_checks(RouteSet::except(["/shop/*"]));

        assert_eq!(all_but.apply(good, Some("/up")), Err(Exclusion::HealthCheck));
        assert_eq!(all_but.apply(good, None), Ok(good));
    }

    #[test]
    fn health_checks_are_excluded_and_calls_of_no_route_are_not() {
        let good = Judgement::new(Verdict::Good, Reason::Status);
        let exclusions = Exclusions::default();

        for route in ["/healthz", "/health/db", "/grpc.health.v1.Health/Check"] {
            assert_eq!(exclusions.apply(good, Some(route)), Err(Exclusion::HealthCheck), "{route}");
        }
        assert_eq!(exclusions.apply(good, Some("/healthy")), Ok(good));
        assert_eq!(exclusions.apply(good, None), Ok(good));
    }
}
