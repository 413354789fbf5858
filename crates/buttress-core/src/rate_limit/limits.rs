use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    Ask,
    scale::{Answer, LATE, Scale},
};
use crate::Rate;

/// Rates that all hold at once, and what is done with one bucket for each of them.
///
/// A bucket is a word: the tick at which it is full again. The words come from wherever they are
/// kept; that nobody else changes them at the same time is the keeper's business. Time is in the
/// nanoseconds of an [`Origin`](super::Origin). A clone is as cheap as a count.
#[derive(Clone, Debug)]
pub struct Limits(Arc<[Scale]>);

/// Why a request was not admitted: the limit that keeps it waiting longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    limit: usize,
    wait: Option<Duration>,
}

impl Shortage {
    /// Which limit it was, in the order in which they were named.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The time until the same request would be admitted if nobody came before it: exact but for a
    /// nanosecond, to which it is rounded up. One nanosecond earlier it is still refused. `None`
    /// if it never will be, because it asks for more than may come at once.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.wait
    }

    /// Whether it asks for more than may ever come at once.
    #[must_use]
    pub const fn is_hopeless(&self) -> bool {
        self.wait.is_none()
    }

    /// The one that takes longer.
    #[must_use]
    pub fn longer(self, other: Self) -> Self {
        let length = |short: Self| short.wait.unwrap_or(Duration::MAX);
        if length(other) > length(self) { other } else { self }
    }
}

/// What one limit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub rate: Rate,
    /// How many events may come at once, right now.
    pub available: u32,
    /// The time until there is one more, rounded up; `None` for a bucket that is full.
    pub next_in: Option<Duration>,
}

/// Until when a request has to wait: a nanosecond, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) limit: usize,
    pub(super) at: Option<u64>,
}

impl Due {
    pub(super) fn from(self, now: u64) -> Shortage {
        // Where time stands still it is past all that could be named.
        let wait = self.at.map(|at| Duration::from_nanos(at.saturating_sub(now).max(1)));
        Shortage { limit: self.limit, wait }
    }
}

impl Limits {
    /// Rates, each with buckets of its own.
    #[must_use]
    pub fn new(rates: impl IntoIterator<Item = Rate>) -> Self {
        Self(rates.into_iter().map(Scale::new).collect())
    }

    pub(super) fn scales(&self) -> &[Scale] {
        &self.0
    }

    /// The rates, in the order in which they were named.
    pub fn rates(&self) -> impl Iterator<Item = Rate> {
        self.0.iter().map(Scale::rate)
    }

    /// Takes from all buckets, or from none.
    ///
    /// # Errors
    ///
    /// When there is not enough.
    #[inline]
    pub fn take(&self, words: &mut [u64], now: u64, ask: Ask) -> Result<(), Shortage> {
        self.draw(words, now, ask).map_err(|due| due.from(now))
    }

    #[inline]
    pub(super) fn draw(&self, words: &mut [u64], now: u64, ask: Ask) -> Result<(), Due> {
        if let ([scale], [word]) = (&*self.0, &mut *words) {
            return match scale.parts.ask(*word, now, ask, 0) {
                Answer::Taken(full_at) => {
                    *word = full_at;
                    Ok(())
                }
                Answer::NotBefore(tick) => Err(Due { limit: 0, at: Some(scale.nanos_at(tick)) }),
                Answer::Never => Err(Due { limit: 0, at: None }),
            };
        }
        if let Some(due) = self.due(words, now, ask, 0) {
            return Err(due);
        }
        self.take_all(words, now, ask);
        Ok(())
    }

    /// When a request would be admitted behind others who ask for `ahead`: by the limit that is
    /// the last to do so. `None` for now.
    pub(super) fn due(&self, words: &[u64], now: u64, ask: Ask, ahead: u64) -> Option<Due> {
        let mut last: Option<Due> = None;
        for (limit, (scale, word)) in self.0.iter().zip(words).enumerate() {
            let at = match scale.parts.ask(*word, now, ask, ahead) {
                Answer::Taken(_) => continue,
                Answer::NotBefore(tick) => Some(scale.nanos_at(tick)),
                Answer::Never => return Some(Due { limit, at: None }),
            };
            if last.is_none_or(|last| at > last.at) {
                last = Some(Due { limit, at });
            }
        }
        last
    }

    /// Takes from all buckets what will be there within `patience`, in nanoseconds, though it is
    /// not there yet; or nothing. Returns the wait.
    ///
    /// # Errors
    ///
    /// When it would take longer.
    pub fn take_ahead(
        &self,
        words: &mut [u64],
        now: u64,
        ask: Ask,
        patience: u64,
    ) -> Result<Duration, Shortage> {
        let wait = match self.due(words, now, ask, 0) {
            None => Duration::ZERO,
            Some(due) => {
                let shortage = due.from(now);
                let in_time = |at: &u64| *at <= now.saturating_add(patience);
                due.at.filter(in_time).and(shortage.retry_after()).ok_or(shortage)?
            }
        };
        self.take_all(words, now, ask);
        Ok(wait)
    }

    /// Takes from all buckets, whether it is there or not.
    fn take_all(&self, words: &mut [u64], now: u64, ask: Ask) {
        for (scale, word) in self.0.iter().zip(words) {
            *word = scale.parts.taken(*word, now, u64::from(ask.cost.get()));
        }
    }

    /// Gives back so many events. No bucket gets more than full.
    pub fn give_back(&self, words: &mut [u64], now: u64, cost: u64) {
        for (scale, word) in self.0.iter().zip(words) {
            *word = scale.parts.give_back(*word, cost, now);
        }
    }

    /// Empties the buckets.
    pub fn drain(&self, words: &mut [u64], now: u64) {
        for (scale, word) in self.0.iter().zip(words) {
            *word = scale.parts.drained(*word, now);
        }
    }

    /// How many events may come at once, right now.
    #[must_use]
    pub fn available(&self, words: &[u64], now: u64) -> u64 {
        let available = |(scale, word): (&Scale, &u64)| scale.parts.available(*word, now);
        self.0.iter().zip(words).map(available).min().unwrap_or_default()
    }

    /// What each limit holds, for those who are to be told. Without words: full ones.
    #[must_use]
    pub fn standings(&self, words: Option<&[u64]>, now: u64) -> Vec<Standing> {
        let standing = |(limit, scale): (usize, &Scale)| {
            let word = words.map_or(0, |words| words[limit]);
            let rate = scale.rate();
            let available = scale.parts.available(word, now).min(rate.most_at_once().get().into());
            let available = u32::try_from(available).unwrap_or(u32::MAX);
            let more = NonZeroU32::MIN.saturating_add(available);
            let next_in = match scale.parts.ask(word, now, Ask::cost(more), 0) {
                Answer::NotBefore(tick) => {
                    Some(Duration::from_nanos(scale.nanos_at(tick).saturating_sub(now)))
                }
                _ => None,
            };
            Standing { rate, available, next_in }
        };
        self.0.iter().enumerate().map(standing).collect()
    }

    /// Whether all buckets are full, as new ones are.
    #[must_use]
    #[inline]
    pub fn are_full(&self, words: &[u64], now: u64) -> bool {
        self.0.iter().zip(words).all(|(scale, word)| *word <= scale.parts.ticks(now).0)
    }

    /// The same with another rate for one of them. Its ticks go on from `first`.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    pub fn with_rate(&self, limit: usize, rate: Rate, now: u64, first: u64) -> Self {
        let mut scales = self.0.to_vec();
        scales[limit] = Scale::from(rate, (first, now));
        Self(scales.into())
    }

    /// One of the limits that is to be [set anew](Self::with_rate), because time is about to stand
    /// still for it: decades after the first instant.
    #[must_use]
    pub fn worn_out(&self, now: u64) -> Option<(usize, Rate)> {
        let mut scales = self.0.iter().enumerate();
        let (limit, scale) = scales.find(|(_, scale)| scale.parts.ticks(now).0 > LATE)?;
        Some((limit, scale.rate()))
    }

    /// How many limits there are.
    #[must_use]
    #[inline]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Makes words for these rates of words for others. Buckets hold what they held, as far as it
    /// fits: a change is no burst.
    pub fn convert(&self, words: &mut [u64], now: u64, from: &Self) {
        for ((word, new), old) in words.iter_mut().zip(&*self.0).zip(&*from.0) {
            if new != old {
                *word = new.convert(*word, now, old);
            }
        }
    }
}
