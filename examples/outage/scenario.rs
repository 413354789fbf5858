//! Thirty seconds in which a dependency is out, at 100 calls a second, behind five stacks.

use std::{ops::Range, sync::Arc, time::Duration};

use buttress::{
    BoxError, Observe, Plain, Ratio, TimeLimit,
    breaker::{BreakerLayer, Settings, State, Trip},
    timeout::TimeoutLayer,
};
use buttress_testkit::sim::{
    Answer, Call, Dependency, Latency, Report, Script, Simulation, Spell, Traffic,
};
use tower::{Layer, Service, ServiceBuilder};

/// When the dependency is out.
pub(crate) const OUTAGE: Range<Duration> = Duration::from_secs(30)..Duration::from_secs(60);
/// What callers call in time.
pub(crate) const IN_TIME: TimeLimit = TimeLimit::from_millis(500);

/// What stands around the dependency, inside a timeout of a second.
pub(crate) fn stacks() -> [(&'static str, Option<Settings>); 5] {
    let rate = || Settings::rate().seeded(SEED);
    [
        ("no breaker", None),
        ("rate()", Some(rate())),
        ("consecutive(5)", Some(Settings::consecutive(5).seeded(SEED))),
        ("rate() or 20 in a row", Some(rate().or(Trip::consecutive(20)))),
        ("rate() + ramp", Some(rate().ramp(TimeLimit::from_secs(10)))),
    ]
}

const SEED: u64 = 42;

/// Plays the outage.
pub(crate) fn play(outage: Spell, breaker: Option<Settings>) -> Report {
    let tail =
        Latency::fixed(Duration::from_millis(15)).plus_exponential(Duration::from_millis(10));
    let script = Script::answering_in(tail).during(OUTAGE, outage);
    let simulation = Simulation::new(Traffic::per_second(100), script)
        .lasting(TimeLimit::from_secs(120))
        .seeded(SEED);
    match breaker {
        Some(settings) => {
            simulation.run(|dependency, observer| behind(settings, dependency, observer))
        }
        None => simulation.run(|dependency, _| timeout().layer(dependency)),
    }
}

/// A breaker around the dependency, inside the timeout.
pub(crate) fn behind(
    settings: Settings,
    dependency: Dependency,
    observer: Arc<dyn Observe>,
) -> impl Service<Call, Error = BoxError> + Clone {
    let breaker = BreakerLayer::new("dependency", settings).exchange(Plain);
    breaker.handle().observe(observer);
    ServiceBuilder::new().layer(timeout()).layer(breaker).service(dependency)
}

fn timeout() -> TimeoutLayer<Plain> {
    TimeoutLayer::new("outside", TimeLimit::from_secs(1)).exchange(Plain)
}

/// What one stack made of the outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Calls that reached the dependency while it was out, of 3,000.
    pub(crate) reached: usize,
    /// How long after the dependency failed.
    pub(crate) opened: Option<Duration>,
    /// How long after it was well again.
    pub(crate) closed: Option<Duration>,
    /// The share of all callers who were told something in time.
    pub(crate) answered: Ratio,
    /// Of 12,000 callers, how many got what they wanted.
    pub(crate) good: usize,
}

impl Row {
    pub(crate) fn of(report: &Report) -> Self {
        let after = |state, since| Some(report.first(state, since)?.saturating_sub(since));
        Self {
            reached: report.reached_during(OUTAGE),
            opened: after(State::Open, OUTAGE.start),
            closed: after(State::Closed, OUTAGE.end),
            answered: report.answered_within(IN_TIME).expect("there are calls"),
            good: report.count(Answer::Good),
        }
    }
}
