use std::{sync::Arc, time::Duration};

use super::Jitter;
use crate::Ratio;

/// How long to wait before each retry, and how often.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::retry::Backoff;
///
/// let backoff = Backoff::exponential(Duration::from_secs(2)).up_to(Duration::from_secs(30));
/// let waits: Vec<_> = backoff.waits(0).take(5).map(|wait| wait.as_secs()).collect();
/// assert_eq!(waits, [2, 4, 8, 16, 30]);
///
/// let twice = Backoff::constant(Duration::from_secs(1)).take(2);
/// let then = twice.then(&Backoff::list([Duration::from_secs(7)]));
/// assert_eq!(then.waits(0).map(|wait| wait.as_secs()).collect::<Vec<_>>(), [1, 1, 7]);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Backoff {
    waits: Arc<Waits>,
    jitter: Jitter,
    total: Duration,
}

/// The waits before anything random is done to them.
#[derive(Debug)]
enum Waits {
    Linear { first: Duration, step: Duration },
    Exponential { first: Duration, factor: u64 },
    List(Box<[Duration]>),
    Capped(Arc<Waits>, Duration),
    Taken(Arc<Waits>, u32),
    Then(Arc<Waits>, Arc<Waits>),
}

/// How far one request has come in its [`Backoff`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many waits it had since its backoff started, or started again.
    step: u32,
    /// The last of them.
    previous: Option<Duration>,
    /// All of them, and all that somebody asked for.
    waited: Duration,
}

impl Backoff {
    /// Always this long. Zero is no wait.
    pub fn constant(wait: Duration) -> Self {
        Self::linear(wait, Duration::ZERO)
    }

    /// Longer by `step` each time.
    pub fn linear(first: Duration, step: Duration) -> Self {
        Self::of(Waits::Linear { first, step })
    }

    /// Twice as long each time.
    pub fn exponential(first: Duration) -> Self {
        Self::growing_by(first, Ratio::ONE)
    }

    /// Longer by this share each time: 60 % is 1.6 times as long.
    pub fn growing_by(first: Duration, growth: Ratio) -> Self {
        let factor = WHOLE + u64::from(growth.parts_per_billion());
        Self::of(Waits::Exponential { first, factor })
    }

    /// These, and then no more.
    pub fn list(waits: impl IntoIterator<Item = Duration>) -> Self {
        Self::of(Waits::List(waits.into_iter().collect()))
    }

    fn of(waits: Waits) -> Self {
        Self { waits: Arc::new(waits), jitter: Jitter::None, total: Duration::MAX }
    }

    fn map(self, waits: impl FnOnce(Arc<Waits>) -> Waits) -> Self {
        Self { waits: Arc::new(waits(self.waits)), ..self }
    }

    /// No wait so far is longer than this. What a [`then`](Self::then) adds later is not capped.
    pub fn up_to(self, cap: Duration) -> Self {
        self.map(|waits| Waits::Capped(waits, cap))
    }

    /// The first so many waits, and then no more.
    pub fn take(self, retries: u32) -> Self {
        self.map(|waits| Waits::Taken(waits, retries))
    }

    /// The waits of `next` once these are used up. Of `next` only its waits: jitter and total are
    /// those of the whole.
    pub fn then(self, next: &Self) -> Self {
        self.map(|waits| Waits::Then(waits, Arc::clone(&next.waits)))
    }

    /// No more waits once those so far have come to this. The last one may go past it.
    pub fn until_total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Spreads the waits, so that many clients do not come again in step.
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The next wait; `None` if there are no more. `draw` decides the jitter.
    #[must_use]
    pub fn next(&self, progress: &Progress, draw: u64) -> Option<Duration> {
        if progress.waited >= self.total {
            return None;
        }
        let (wait, cap) = self.waits.at(progress.step)?;
        let first = self.waits.at(0).map_or(wait, |(first, _)| first);
        Some(self.jitter.spread(wait, cap, first, progress.previous, draw))
    }

    /// All its waits, with a jitter that `seed` decides: to look at, or for a loop of one's own.
    pub fn waits(&self, seed: u64) -> impl Iterator<Item = Duration> {
        let mut progress = Progress::default();
        let mut draws = (0..).map(move |index| crate::Random::at(seed, index));
        std::iter::from_fn(move || {
            let wait = self.next(&progress, draws.next().unwrap_or_default())?;
            progress.waited(wait);
            Some(wait)
        })
    }
}

impl Progress {
    /// Notes that the request waits so long, as its backoff says.
    pub fn waited(&mut self, wait: Duration) {
        self.step = self.step.saturating_add(1);
        self.previous = Some(wait);
        self.waited = self.waited.saturating_add(wait);
    }

    /// Notes that it waits so long because the server asked for it: its backoff starts again
    /// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md)).
    pub fn waited_as_asked(&mut self, wait: Duration) {
        *self = Self { waited: self.waited.saturating_add(wait), ..Self::default() };
    }
}

const WHOLE: u64 = 1_000_000_000;

/// Past so many steps an exponential wait has met its cap, or grows by next to nothing.
const MOST_STEPS: u32 = 4_096;

impl Waits {
    /// A wait, counted from 0, and the cap that it keeps to.
    fn at(&self, step: u32) -> Option<(Duration, Duration)> {
        match self {
            Self::Linear { first, step: longer } => {
                Some((first.saturating_add(longer.saturating_mul(step)), Duration::MAX))
            }
            Self::Exponential { first, factor } => {
                Some((exponential(*first, *factor, step, Duration::MAX), Duration::MAX))
            }
            Self::List(waits) => Some((*waits.get(usize::try_from(step).ok()?)?, Duration::MAX)),
            Self::Capped(waits, cap) => {
                // The commonest stack of two, without going where the numbers are large.
                if let Self::Exponential { first, factor } = **waits {
                    return Some((exponential(first, factor, step, *cap), *cap));
                }
                let (wait, inner) = waits.at(step)?;
                Some((wait.min(*cap), inner.min(*cap)))
            }
            Self::Taken(waits, retries) => waits.at((step < *retries).then_some(step)?),
            Self::Then(waits, next) => match waits.len() {
                Some(len) if step >= len => next.at(step - len),
                _ => waits.at(step),
            },
        }
    }

    /// How many waits there are; `None` if there is no end to them.
    fn len(&self) -> Option<u32> {
        match self {
            Self::Linear { .. } | Self::Exponential { .. } => None,
            Self::List(waits) => Some(u32::try_from(waits.len()).unwrap_or(u32::MAX)),
            Self::Capped(waits, _) => waits.len(),
            Self::Taken(waits, retries) => {
                Some(waits.len().map_or(*retries, |len| len.min(*retries)))
            }
            Self::Then(waits, next) => Some(waits.len()?.saturating_add(next.len()?)),
        }
    }
}

fn exponential(first: Duration, factor: u64, step: u32, cap: Duration) -> Duration {
    let most = cap.as_nanos();
    let mut nanos = first.as_nanos().min(most);
    for _ in 0..step.min(MOST_STEPS) {
        if nanos >= most || nanos == 0 || factor == WHOLE {
            break;
        }
        // A product past the last number there is, is past the longest duration as well.
        nanos = (nanos.saturating_mul(u128::from(factor)) / u128::from(WHOLE)).min(most);
    }
    duration(nanos)
}

/// The longest there is, for more nanoseconds than that has.
pub(super) fn duration(nanos: u128) -> Duration {
    let (seconds, nanos) = (nanos / u128::from(WHOLE), nanos % u128::from(WHOLE));
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds), Ok(nanos)) => Duration::new(seconds, nanos),
        _ => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn millis(backoff: &Backoff, most: usize) -> Vec<u128> {
        backoff.waits(0).take(most).map(|wait| wait.as_millis()).collect()
    }

    // R01
    #[test]
    fn schedules_are_what_they_say() {
        let rows = [
            (Backoff::constant(S), vec![1000, 1000, 1000]),
            (Backoff::linear(S, S), vec![1000, 2000, 3000]),
            (Backoff::exponential(S), vec![1000, 2000, 4000]),
            (Backoff::exponential(2 * S).up_to(30 * S), vec![2000, 4000, 8000, 16000, 30000]),
            (Backoff::exponential(2 * MS).up_to(15 * MS), vec![2, 4, 8, 15, 15]),
            (Backoff::linear(7 * MS, 10 * MS), vec![7, 17, 27, 37, 47]),
            (Backoff::linear(9 * MS, 30 * MS).up_to(99 * MS), vec![9, 39, 69, 99, 99]),
            (Backoff::growing_by(S, Ratio::percent(60)), vec![1000, 1600, 2560, 4096]),
        ];

        for (backoff, expected) in rows {
            assert_eq!(millis(&backoff, expected.len()), expected, "{backoff:?}");
        }
    }

    // R01
    #[test]
    fn a_hundred_milliseconds_meet_their_cap_at_the_eleventh_retry() {
        let free = Backoff::exponential(100 * MS);
        let capped = free.clone().up_to(100 * S);

        assert_eq!(millis(&free, 11)[10], 102_400);
        assert_eq!(millis(&capped, 13)[10..], [100_000, 100_000, 100_000]);
    }

    // R01
    #[test]
    fn a_backoff_ends_at_its_total_and_after_its_last_piece() {
        let until = Backoff::linear(S, S).until_total(9 * S);
        let pieces = Backoff::constant(S)
            .take(3)
            .then(&Backoff::linear(2 * S, S).take(2))
            .then(&Backoff::constant(7 * S).take(3));

        assert_eq!(millis(&until, 99), [1000, 2000, 3000, 4000]);
        assert_eq!(millis(&pieces, 99), [1000, 1000, 1000, 2000, 3000, 7000, 7000, 7000]);
    }

    // R01
    #[test]
    fn no_base_is_no_wait_whatever_is_done_to_it() {
        for jitter in [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
            let backoff = Backoff::exponential(Duration::ZERO).jitter(jitter);
            assert_eq!(millis(&backoff, 3), [0, 0, 0], "{jitter:?}");
        }
        assert_eq!(millis(&Backoff::constant(Duration::ZERO), 2), [0, 0]);
    }

    // R04
    #[test]
    fn nothing_overflows() {
        let day = Duration::from_secs(86_400);
        let at = |backoff: &Backoff, retry: u32| {
            let progress = Progress { step: retry - 1, ..Progress::default() };
            backoff.next(&progress, u64::MAX).unwrap()
        };

        assert_eq!(at(&Backoff::exponential(day).up_to(2 * day), 1000), 2 * day);
        assert_eq!(at(&Backoff::exponential(day), 1000), Duration::MAX);
        assert_eq!(at(&Backoff::linear(Duration::MAX, Duration::MAX), u32::MAX), Duration::MAX);
        for jitter in [Jitter::Full, Jitter::Equal, Jitter::Around(Ratio::ONE)] {
            at(&Backoff::exponential(day).jitter(jitter), 1000);
        }
        for retry in [33, 100_000] {
            assert_eq!(at(&Backoff::exponential(S).up_to(20 * S), retry), 20 * S);
        }
    }

    // R08
    #[test]
    fn a_wait_that_was_asked_for_starts_the_backoff_again() {
        let backoff = Backoff::exponential(10 * MS).until_total(2 * S);
        let mut progress = Progress::default();
        progress.waited(10 * MS);
        assert_eq!(backoff.next(&progress, 0), Some(20 * MS));

        progress.waited_as_asked(S);
        assert_eq!(backoff.next(&progress, 0), Some(10 * MS));

        progress.waited_as_asked(S);
        assert_eq!(backoff.next(&progress, 0), None, "and counts for the total");
    }
}
