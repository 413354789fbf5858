//! Objectives, error budgets, burn rates, alerts and policy: in process, exact, and pure.
//!
//! A [`Tracker`] follows the [`Objective`]s of one service. Layers count into its [`Recorder`]s
//! from any thread, at the price of one atomic addition an event; once a second somebody ticks it
//! with the clocks, and everything else is read from it: numbers, alerts, policy, forecasts. It
//! has no runtime, does no I/O, holds no lock and asks no clock, so thirty days of it pass in a
//! second of a test.
//!
//! # Example
//!
//! ```
//! use std::time::{Duration, Instant, SystemTime};
//! use buttress_slo::{
//!     Change, Clocks, Counts, Exhaustion, Happening, Objective, Severity, Sli, Tracker,
//!     gate::{Ask, Scope, decide},
//! };
//!
//! let up = Objective::new("checkout".parse()?, Sli::Availability, "99.9%".parse()?);
//! # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
//! let mut clocks = Clocks { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH, boot: None };
//! let mut tracker = Tracker::new("shop".parse()?, [up], clocks)?;
//!
//! // An outage from the first second on, at ten calls a second.
//! let recorder = tracker.recorder("checkout").unwrap();
//! let mut happened = Vec::new();
//! for _ in 0..52 {
//!     recorder.add(Counts { good: 0, bad: 10 });
//!     clocks.monotonic += Duration::from_secs(1);
//!     clocks.wall += Duration::from_secs(1);
//!     happened.extend(tracker.tick(clocks));
//! }
//!
//! // The page comes when 2 % of the budget of 30 days are spent, and releases slow down.
//! assert!(matches!(&happened[0], Happening::Alert { severity: Severity::Page, .. }));
//! let numbers = tracker.numbers("checkout").unwrap();
//! assert_eq!(numbers.budget.consumed().to_string(), "2.006%");
//! assert_eq!(numbers.budget.time(), Duration::from_secs(43 * 60 + 12));
//! assert_eq!(numbers.forecast.rolling, Exhaustion::In(Duration::from_secs(2_540)));
//! let decision = decide(&tracker.standings(), &Ask::new(Change::Feature, Scope::Instance));
//! assert!(decision.to_string().contains("in small steps, and watched"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//!
//! | to say or to read | see |
//! |---|---|
//! | what is promised | [`Objective`], [`Sli`], [`Target`], [`Window`], [`Method`], [`RouteSet`] |
//! | what does not count | [`Exclusions`], [`Maintenance`] |
//! | several as one | [`Composite`] |
//! | how it stands | [`Numbers`], [`Budget`], [`Burn`], [`Forecast`] |
//! | who is told when | [`alert`] |
//! | what follows | [`policy`], [`gate`], and for layers [`Signals`] |
//! | what was said badly | [`lint`] |
//! | a restart | [`snapshot`] |
//!
//! # Exactness
//!
//! Targets and shares are parts per billion, comparisons are of integers of 128 bits and more, and
//! no decision is made on a binary float. Where something must be rounded, a budget looks rather
//! smaller than it is, and an alert comes rather too early. No traffic is no data: a `None`,
//! neither NaN nor 100 %.
//!
//! What is counted is exact. Where a window begins is off by less than a second for the tick, and
//! the slot of the ring that it begins in is counted in part: at the most 1.62 % of any window of
//! the four pairs of 30 days, and 8 % of any other from a minute on, such as the short ones of a
//! week. Both bounds are told; see [`WindowCounts`].
//!
//! # After a start
//!
//! What was not observed is taken to be free of errors and to have had the traffic of what was:
//! see [`Coverage`]. So a young process neither pages for one failure nor freezes releases, and
//! spends the budget of a month at the pace of a month.
//!
//! # Memory
//!
//! An objective of 30 days takes 21,408 bytes of rings and 256 for each stripe of its counts
//! (4,096 at the most), for as long as it lives and however much is recorded. Of 7 days 12,576, of
//! 28 days 20,640, of 90 days 44,448, of five minutes 1,184. Recording allocates nothing.
//!
//! # Time
//!
//! The windows run on a steady timeline, made of monotonic time: a wall clock that steps changes
//! no window, and calendars follow it. A machine that sleeps is found out by a clock since boot;
//! see [`Clocks`].
//!
//! # When not to use
//!
//! For the truth about a fleet: each instance sees its own traffic. Sum the counts of all
//! instances where they meet, in Prometheus most often, and divide there.

pub mod alert;
mod anchor;
mod budget;
mod burn;
mod cells;
mod composed;
mod composite;
mod counts;
mod coverage;
mod exclusion;
mod excuse;
mod forecast;
pub mod gate;
mod happening;
pub mod lint;
mod maintenance;
mod numbers;
mod objective;
pub mod policy;
mod recorder;
mod ring;
mod routes;
mod share;
mod signal;
mod signals;
mod sli;
mod slices;
pub mod snapshot;
mod target;
mod track;
mod tracker;
mod window;
mod zone;

#[cfg(test)]
mod testing;

#[cfg(not(buttress_loom))]
use std::sync::atomic;

#[cfg(buttress_loom)]
use loom::sync::atomic;

pub use buttress_core::Ratio;

pub use self::{
    alert::{AlertPlan, AlertState, Condition, Rule, Severity},
    anchor::{ClockChange, Clocks, Moment},
    budget::Budget,
    burn::{Burn, ParseBurnError},
    composite::{Combine, Composite},
    counts::Counts,
    coverage::Coverage,
    exclusion::{Exclusion, Exclusions},
    forecast::{Exhaustion, Forecast},
    gate::Standing,
    happening::Happening,
    maintenance::{Maintenance, TimeOfDay, TimeOfDayError, Weekday},
    numbers::{AlertStatus, Numbers, WindowBurn},
    objective::{Name, NameError, Objective},
    policy::{Action, Change, Floor, Level, Policy, Release},
    recorder::{Call, Recorder},
    ring::WindowCounts,
    routes::RouteSet,
    share::Share,
    signal::Signal,
    signals::Signals,
    sli::{Outcome, Part, Sli},
    slices::{Method, SliceLength, TimeSlices},
    snapshot::{
        DecodeError, InstanceId, Note, RestoreError, Restored, SharedPlace, Snapshot, Tenancy,
    },
    target::{Target, TargetError},
    tracker::{Tracker, TrackerError},
    window::{Period, Window},
    zone::{Zone, ZoneError},
};
