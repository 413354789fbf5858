//! Plays traffic through a stack of layers around a dependency that has bad days, in virtual time.
//!
//! Calls come at a rate, or from users who wait for their answers; the dependency answers, fails,
//! hangs, slows down or runs out of room as its [`Script`] says; a [`Report`] tells what callers
//! got and when, what reached the dependency, and what the layers said of themselves. A minute of
//! 100 calls a second takes a fraction of a second, and is the same to the last nanosecond each
//! time: what a stack does in an outage becomes an ordinary test.
//!
//! # Example
//!
//! Ten seconds in which the dependency hangs, behind a timeout.
//!
//! ```
//! use std::time::Duration;
//! use buttress_core::{Ratio, TimeLimit};
//! use buttress_testkit::sim::{Answer, Latency, Script, Simulation, Spell, Traffic};
//! use tower::ServiceBuilder;
//!
//! let second = Duration::from_secs(1);
//! let script = Script::answering_in(Latency::fixed(Duration::from_millis(20)))
//!     .during(10 * second..20 * second, Spell::Hangs);
//!
//! let report = Simulation::new(Traffic::per_second(100), script)
//!     .lasting(TimeLimit::from_secs(40))
//!     .seeded(42)
//!     .run(|dependency, _| ServiceBuilder::new().timeout(second).service(dependency));
//!
//! // One caller in four waited for a second to be told of a failure.
//! assert_eq!(report.calls().len(), 4_000);
//! assert_eq!(report.count(Answer::Failed), 1_000);
//! assert_eq!(report.good_within(TimeLimit::from_millis(100)), Some(Ratio::percent(75)));
//! assert_eq!(report.latency(Ratio::percent(50)), Some(Duration::from_millis(20)));
//! assert_eq!(report.latency(Ratio::percent(99)), Some(second));
//! // And the dependency got no rest.
//! assert_eq!(report.reached_per_second()[9..=20], [100; 12]);
//! ```
//!
//! A layer that tells observers what it does is handed the observer that comes with the
//! dependency, as in `layer.handle().observe(observer)`; [`Report::events`] has all it said, with
//! the instant, and [`Report::picture`] draws the run.
//!
//! # Time
//!
//! It is that of a paused tokio runtime of the simulation's own: it moves when everybody waits.
//! So a stack must wait with tokio's timers and read tokio's clock; what reads the system's sees
//! a run that takes no time. Instants are counted from the start of the run, and are whole
//! milliseconds, because tokio's timers are: what falls between is rounded up.
//!
//! # The same again
//!
//! The seed decides arrivals and latencies, and nothing else is left to chance, as long as the
//! stack has none of its own: layers that jitter must be given a seed too.
//!
//! # When not to use
//!
//! To measure how fast code is: here all code takes no time. Nor for what belongs to a transport,
//! connections and their limits: there are none.

mod dependency;
mod journal;
mod latency;
mod picture;
mod report;
mod run;
mod script;
mod traffic;

#[cfg(test)]
mod tests;

pub use self::{
    dependency::{Dependency, Reply, Working},
    journal::Seen,
    latency::Latency,
    picture::Picture,
    report::{Answer, Called, Report},
    run::{Call, Simulation},
    script::{Script, Spell},
    traffic::Traffic,
};
