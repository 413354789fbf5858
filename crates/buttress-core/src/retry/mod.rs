//! Retries: how long to wait before the next one, whether there shall be one, and who pays for it.
//!
//! [`Settings`] say what is retried and how often, [`Backoff`] with its [`Jitter`] when, and a
//! [`Budget`] how many retries all requests together may have. [`Course`] is one request on its
//! way. Nothing here knows what time it is, or waits.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use buttress_core::retry::{Backoff, Class, Course, Failure, Settings, Stop, When};
//!
//! let settings = Settings::new(Backoff::constant(Duration::from_secs(1))).attempts(2);
//! let failure = Failure { class: Class::Retried, asked: None, unreached: false };
//! # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
//! let now = Instant::now();
//! let budget = settings.of_budget();
//! let mut course = Course::new();
//!
//! let mut again = || {
//!     let when = When { now, deadline: None, draw: 7 };
//!     course.again(&settings, failure, Ok(()), when, || budget.withdraw(now).is_some())
//! };
//! assert_eq!(again().unwrap().wait, Duration::from_secs(1));
//! assert_eq!(again(), Err(Stop::Attempts));
//! ```

mod backoff;
mod budget;
mod course;
mod jitter;
mod settings;
mod stop;

pub use self::{
    backoff::{Backoff, Progress},
    budget::{Budget, Covered, InFlight, Known, Percentage, Spent, Started, Tokens},
    course::{Again, Class, Course, Failure, Wait, When},
    jitter::Jitter,
    settings::Settings,
    stop::Stop,
};
