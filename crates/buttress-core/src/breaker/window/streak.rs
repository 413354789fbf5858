use std::num::NonZeroU32;

use super::Level;
use crate::{
    atomic::{AtomicU32, Ordering},
    breaker::Outcome,
};

/// Failures in a row.
#[derive(Debug)]
pub(in crate::breaker) struct Streak(AtomicU32);

impl Streak {
    pub(in crate::breaker) fn of(length: u32) -> Self {
        Self(AtomicU32::new(length))
    }

    #[inline]
    pub(in crate::breaker) fn record(&self, outcome: Outcome, most: NonZeroU32) -> Level {
        match outcome {
            Outcome::Success => {
                // Read first: while all is well no thread writes, and none waits for the line.
                if self.length() != 0 {
                    self.0.store(0, Ordering::Relaxed);
                }
                Level::Below
            }
            Outcome::Failure => {
                let before = self.0.fetch_add(1, Ordering::Relaxed);
                let length = before.saturating_add(1);
                if length >= most.get() { Level::Reached } else { Level::Below }
            }
            Outcome::Soft | Outcome::Ignored | Outcome::Cancelled => Level::Unchanged,
        }
    }

    pub(in crate::breaker) fn length(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(in crate::breaker) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
