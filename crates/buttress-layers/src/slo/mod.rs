//! Holds a service to its objectives: error budgets, burn rates, alerts and policy, in process.
//!
//! An [`SloLayer`] is the SLI layer bound to an [`SloTracker`]: each call is judged at its end and
//! counted by every objective that it is an event of, at the price of one atomic addition each.
//! The tracker reads the counts once a second; everything else is asked of it.
//!
//! # Example
//!
//! ```
//! # use buttress_core::BoxError;
//! use std::{convert::Infallible, time::{Duration, SystemTime}};
//! use buttress_layers::slo::{SloLayer, SloTracker, clocks};
//! use buttress_slo::{Change, Objective, Severity, Sli, gate::{Ask, Scope}};
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let up = Objective::new("up".parse()?, Sli::Availability, "99.9%".parse()?);
//! // In a service: `SloTracker::new`. In a test time is paused, and the wall clock follows it.
//! let clocks = clocks::following(SystemTime::UNIX_EPOCH);
//! let tracker = SloTracker::with_clocks("checkout".parse()?, [up], clocks)?;
//! let mut service = ServiceBuilder::new()
//!     .layer(SloLayer::server("checkout", &tracker))
//!     .service_fn(|request: Request<()>| async move {
//!         let status = if request.uri().path() == "/" { 200 } else { 500 };
//!         Ok::<_, Infallible>(Response::builder().status(status).body(Full::new(&b"hello"[..])).unwrap())
//!     });
//! // Ticks once a second, for as long as the process lives.
//! tokio::spawn(tracker.clone().run());
//!
//! for path in ["/", "/", "/", "/broken"] {
//!     let response = service.ready().await?.call(Request::get(path).body(())?).await?;
//!     response.into_body().collect().await?;
//! }
//! tokio::time::sleep(Duration::from_secs(2)).await;
//!
//! let numbers = tracker.numbers("up").unwrap();
//! assert_eq!(numbers.sli().unwrap().to_string(), "0.75");
//! assert!(tracker.decide(&Ask::new(Change::Feature, Scope::Instance)).allowed);
//! # Ok(())
//! # }
//! ```
//!
//! # What counts as what
//!
//! What the [`sli`](crate::sli) module says of verdicts, routes and ends holds here: a call is
//! judged once, and its verdict is handed to each objective. Which calls are events of it, and
//! which are excluded, the [`Objective`](buttress_slo::Objective) says. A handler tells what the
//! status cannot, with a [`Verdict`](buttress_core::Verdict) in its response's extensions; what is
//! found out later goes to [`Recorder::revise`](buttress_slo::Recorder::revise), which
//! [`SloTracker::recorder`] hands out.
//!
//! # What layers do about it
//!
//! [`SloTracker::signals`] tells layers how all objectives stand, the worst of them, without a lock:
//! what may be released, what is left, how fast it burns, and whether a page fires. A
//! [`Leeway`](buttress_core::Leeway) made of it closes the loop: while the budget burns a retry
//! budget shrinks, and work that can be shed gets less of a bulkhead's room. It comes back by
//! itself, when the page has cleared and the policy has risen again.
//!
//! ```
//! # use buttress_core::{BoxError, retry::{Budget, Settings}};
//! # use buttress_layers::{bulkhead::{BulkheadLayer, Shedding}, retry::RetryLayer, slo::SloTracker};
//! # use buttress_slo::{Burn, Objective, Sli};
//! # fn main() -> Result<(), BoxError> {
//! let up = Objective::new("up".parse()?, Sli::Availability, "99.9%".parse()?);
//! let tracker = SloTracker::new("checkout".parse()?, [up])?;
//! let signals = tracker.signals();
//!
//! let budget = Budget::percent(20).leeway(signals.retries(Burn::times(14)));
//! let retry = RetryLayer::new("stock", Settings::default().budget(budget));
//! let bulkhead = BulkheadLayer::new("checkout", 100.try_into()?)
//!     .criticality(Shedding::new())
//!     .leeway(signals.optional_work());
//!
//! assert_eq!(retry.handle().balance(), Some(100));
//! assert!(!signals.allows_chaos(Burn::times(2)), "not before there is traffic");
//! # let _ = bulkhead;
//! # Ok(())
//! # }
//! ```
//!
//! # Restarts
//!
//! [`SloTracker::keep`] restores what a [`SnapshotFile`] holds, and [`SloTracker::run`] saves to
//! it every minute; call [`SloTracker::save`] at shutdown. Who is killed loses what was counted
//! since the last save, and never the rest. A file that is damaged, of a newer version or somebody
//! else's is set aside beside its place and counting begins anew; [`Start`] says so, and so does
//! an event. Two processes with one path are told apart, also where one is of a newer build: the
//! one that was there first stops saving, and says why.
//!
//! # Who is told
//!
//! What happens (an alert fires, a level is left, a clock steps, a snapshot cannot be saved) is
//! told once, to every [`Observe`](buttress_core::Observe) and every
//! [`listener`](SloTracker::listen), in the order in which it happened and without any lock held:
//! on the thread that ticked, or on one that ticked at the same time and is telling already.
//!
//! # Sharing
//!
//! An [`SloTracker`] is cheap to clone, and clones are the same. Any number of layers may be bound
//! to one; each counts into all objectives of the tracker, or with [`SloLayer::over`] into those
//! that it is given. Recording takes no lock: not even a tick in progress is waited for.
//!
//! # Readiness and cancellation
//!
//! Those of the SLI layer: `poll_ready` is the inner service's own, and a call that is dropped
//! ends there and then, excluded unless we were late.
//!
//! # Defaults
//!
//! A tick every second, a snapshot every 60 s where a file was named, and for each objective what
//! [`Objective::new`](buttress_slo::Objective::new) says: 30 days, four pairs of burn rates, the
//! policy of quarters.
//!
//! # When not to use
//!
//! For the truth about a fleet: each instance sees its own traffic. Sum the counts of all
//! instances in Prometheus. And not twice around one call with the same objectives: it would count
//! twice.

pub mod clocks;
mod file;
mod keeper;
mod layer;
mod news;
mod reading;
mod tell;
mod tracker;

#[cfg(test)]
mod tests;

pub use self::{
    file::{SnapshotError, SnapshotFile},
    keeper::Start,
    layer::SloLayer,
    tracker::SloTracker,
};
