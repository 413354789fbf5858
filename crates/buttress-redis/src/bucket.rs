//! The algorithm of the scripts, in Rust: what a store in memory keeps for one limit.

use crate::{Debt, Scale, Take, store::MOST};

/// One bucket: the microsecond at which it is full again, and the part of that.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// In parts of a microsecond.
    full_at: u128,
}

impl Bucket {
    fn owed(&self, scale: &Scale, now: u64) -> u128 {
        self.full_at.saturating_sub(u128::from(now) * u128::from(scale.parts()))
    }

    fn owe(&mut self, scale: &Scale, now: u64, owed: u128) {
        self.full_at = u128::from(now) * u128::from(scale.parts()) + owed;
    }
}

/// Takes from all buckets or from none; how many tokens.
pub(crate) fn take(buckets: &mut [Bucket], scales: &[Scale], now: u64, take: Take) -> u32 {
    let available =
        |(bucket, scale): (&Bucket, &Scale)| scale.available(bucket.owed(scale, now), take.left);
    let granted = buckets.iter().zip(scales).map(available).min().unwrap_or(0).min(take.most);
    if granted < take.least {
        return 0;
    }
    for (bucket, scale) in buckets.iter_mut().zip(scales) {
        let owed = bucket.owed(scale, now) + scale.weight(granted);
        bucket.owe(scale, now, owed);
    }
    granted
}

/// Gives back. No bucket gets more than full.
pub(crate) fn give(buckets: &mut [Bucket], scales: &[Scale], now: u64, tokens: u32) {
    for (bucket, scale) in buckets.iter_mut().zip(scales) {
        let owed = bucket.owed(scale, now).saturating_sub(scale.weight(tokens));
        bucket.owe(scale, now, owed);
    }
}

pub(crate) fn debts(buckets: &[Bucket], scales: &[Scale], now: u64) -> [Debt; MOST] {
    let mut debts = [Debt::default(); MOST];
    for ((bucket, scale), debt) in buckets.iter().zip(scales).zip(&mut debts) {
        *debt = scale.debt(bucket.owed(scale, now));
    }
    debts
}
