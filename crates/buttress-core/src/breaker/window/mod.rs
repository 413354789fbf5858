//! The calls of which a breaker takes a share: the last so many, or those of the last so long.

use std::num::NonZeroU16;

use crate::{Ratio, TimeLimit};

mod calls;
mod streak;
mod time;

pub(super) use self::{
    calls::{CallWindow, Seen},
    streak::Streak,
    time::TimeWindow,
};

/// The calls of which a share is taken. Both kinds truly slide, and both cost the same however
/// many calls they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Window(pub(super) Span);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Calls(NonZeroU16),
    Time { length: TimeLimit, buckets: NonZeroU16 },
}

impl Window {
    /// The last so many calls, exactly. All threads count into one place.
    ///
    /// # Panics
    ///
    /// If `calls` is 0.
    pub const fn calls(calls: u16) -> Self {
        Self(Span::Calls(NonZeroU16::new(calls).expect("a window of no calls sees nothing")))
    }

    /// The calls of so long, in 20 buckets: a call leaves the window when its bucket does, up to
    /// a twentieth of the window early. Each thread counts for itself.
    pub const fn time(length: TimeLimit) -> Self {
        const BUCKETS: NonZeroU16 = NonZeroU16::new(20).expect("not 0");
        Self(Span::Time { length, buckets: BUCKETS })
    }

    /// Another number of buckets. More make the window slide in smaller steps; each costs 40
    /// bytes and, once, as much as a failure does.
    ///
    /// # Panics
    ///
    /// If `buckets` is 0, or this is no window of time.
    pub const fn buckets(self, buckets: u16) -> Self {
        let Span::Time { length, .. } = self.0 else {
            panic!("a window of calls has no buckets");
        };
        let buckets = NonZeroU16::new(buckets).expect("a window has one bucket at least");
        Self(Span::Time { length, buckets })
    }
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that failed, softly or not.
    pub failures: u64,
    /// Calls that were slow, whether they succeeded or failed. Counted for a slow rate only.
    pub slow: u64,
    /// Calls that said nothing, which no rate counts. A window of calls does not hold them.
    pub ignored: u64,
}

impl Tally {
    /// The calls of which shares are taken.
    #[must_use]
    pub const fn calls(&self) -> u64 {
        self.successes + self.failures
    }

    /// The share of calls that failed, rounded down; `None` without calls.
    #[must_use]
    pub fn failure_rate(&self) -> Option<Ratio> {
        share(self.failures, self.calls())
    }

    /// The share of calls that were slow, rounded down; `None` without calls.
    #[must_use]
    pub fn slow_rate(&self) -> Option<Ratio> {
        share(self.slow, self.calls())
    }
}

fn share(part: u64, whole: u64) -> Option<Ratio> {
    let billionths = (u128::from(part) * WHOLE).checked_div(u128::from(whole))?;
    Ratio::per_billion(u32::try_from(billionths).ok()?)
}

/// Whether so many of so many calls are this share of them or more. Exact.
#[inline]
pub(super) fn reaches(hits: u64, calls: u64, rate: Ratio) -> bool {
    u128::from(hits) * WHOLE >= u128::from(rate.parts_per_billion()) * u128::from(calls)
}

const WHOLE: u128 = 1_000_000_000;

/// What one more outcome makes of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// It cannot have been reached by this.
    Unchanged,
    Below,
    Reached,
}
