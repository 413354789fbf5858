use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// The first instant seen: all others are nanoseconds from a day before it, so that a clock that
/// goes backwards is understood for as long.
#[derive(Debug, Default)]
pub struct Origin(OnceLock<Instant>);

const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

/// 292 years, at which time stands still: so that a wait can be added to it.
const LAST: u64 = u64::MAX / 2;

impl Origin {
    /// How many nanoseconds have passed since.
    #[must_use]
    #[inline]
    pub fn nanos(&self, now: Instant) -> u64 {
        let first = *self.0.get_or_init(|| now);
        match now.checked_duration_since(first) {
            Some(since) => nanos(since).saturating_add(DAY).min(LAST),
            None => DAY.saturating_sub(nanos(first.saturating_duration_since(now))),
        }
    }
}

#[inline]
pub(super) fn nanos(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}
