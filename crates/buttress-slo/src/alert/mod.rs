//! When somebody is told that an error budget burns.
//!
//! # Two windows
//!
//! A rule fires when the budget burns faster than a factor over a *long* window, so that it is
//! worth telling, and over a *short* one of a twelfth, so that it still goes on (SRE workbook,
//! chapter 5, "multiwindow, multi-burn-rate alerts"). The four rules of a 30-day objective:
//!
//! | severity | long | short | factor | spends of the budget | total outage is told after |
//! |---|---|---|---|---|---|
//! | page | 1 h | 5 min | 14.4 | 2 % | 52 s |
//! | page | 6 h | 30 min | 6 | 5 % | 130 s |
//! | ticket | 1 d | 2 h | 3 | 10 % | 260 s |
//! | ticket | 3 d | 6 h | 1 | 10 % | 260 s |
//!
//! The times are of 99.9 % after clean traffic: `factor * (1 - target) * long / error ratio`.
//! Comparisons are strict and exact: what burns at exactly 14.4 does not page.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use buttress_slo::{AlertPlan, Rule, Severity, Window};
//!
//! let hour = Duration::from_secs(3600);
//! let five_minutes = Duration::from_secs(300);
//! let plan = AlertPlan::for_window(&Window::THIRTY_DAYS)
//!     .with(Rule::burn("ten-times", Severity::Ticket, "10".parse().unwrap(), hour))
//!     .with(Rule::burn("held", Severity::Page, "14.4".parse().unwrap(), hour).hold(five_minutes))
//!     .with(Rule::below_target("below", Severity::Page, five_minutes).min_events(100));
//!
//! assert_eq!(plan.rules().len(), 7);
//! assert_eq!(plan.rules()[0].to_string(), "page-fast: burn over 14.4 in 1h and in 5m");
//! ```
//!
//! "p99 above 500 ms for five minutes" is [`Rule::below_target`] on a latency objective of 99 %
//! within 500 ms: the two say the same, and counting is exact where a quantile is estimated.
//!
//! # Few events
//!
//! [`Rule::min_bad`] waits for so many failures, [`Rule::min_events`] for so many events.
//! [`Rule::spent`] fires on the share of the period's budget that a window has spent, however few
//! events the window has: 2 % of one request a second at night is nothing of a budget that was
//! earned at a hundred a second by day.
//!
//! # After a start
//!
//! What was not observed is taken to be free of errors, so the first failure of a process does
//! not page, and a total outage from its first second does, as late as any other.
//! A rule that fires already, in the process before it, is asked of what was observed alone: a
//! restart in the middle of an outage does not resolve its page only to fire it again.
//!
//! # When it clears
//!
//! A rule that fires goes on until its condition is gone, for as long as [`Rule::keep`] says and
//! down to [`Rule::clear_at`]. Traffic that dwindles or stops resolves nothing: a rule that fires
//! needs no fewest events to go on, one that has no events left to judge stays as it is, and after
//! [`AlertPlan::stale_after`] it is [`AlertState::Lost`].

mod plan;
mod rule;
mod state;

#[cfg(test)]
mod tests;

pub use self::{
    plan::AlertPlan,
    rule::{Condition, Rule, Severity},
    state::AlertState,
};
pub(crate) use self::{rule::View, state::Alert};
