use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use crate::{Random, Ratio, TimeLimit};

/// How long a breaker stays open before it lets a probe pass.
///
/// ```
/// use buttress_core::{Ratio, TimeLimit, breaker::{OpenFor, Opening}};
///
/// let growing = OpenFor::fixed(TimeLimit::from_secs(5)).doubling().up_to(TimeLimit::from_secs(60));
/// let waits = [1, 2, 3, 4, 5, 6].map(|opening| growing.wait(&Opening::number(opening), 0).as_secs());
/// assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
/// ```
#[derive(Clone)]
#[must_use]
pub struct OpenFor {
    base: Base,
    growth: Ratio,
    cap: TimeLimit,
    jitter: Ratio,
    asked: Option<TimeLimit>,
}

#[derive(Clone)]
enum Base {
    Fixed(TimeLimit),
    Computed(Arc<dyn Fn(&Opening) -> TimeLimit + Send + Sync>),
}

/// One opening of a breaker, as far as its duration may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opening {
    /// Which one it is since the breaker was last closed, counted from 1.
    pub number: NonZeroU32,
    /// The share of calls that failed, in the window or among the probes; `None` where failures
    /// in a row or a hand opened it.
    pub failure_rate: Option<Ratio>,
    /// How many of them failed.
    pub failures: u64,
    /// What the last failure asked for, in `Retry-After` or `grpc-retry-pushback-ms`.
    pub retry_after: Option<Duration>,
}

impl Opening {
    /// The opening of this number, counted from 1, without failures.
    ///
    /// # Panics
    ///
    /// If `number` is 0.
    #[must_use]
    pub const fn number(number: u32) -> Self {
        let number = NonZeroU32::new(number).expect("openings are counted from 1");
        Self { number, failure_rate: None, failures: 0, retry_after: None }
    }
}

impl OpenFor {
    /// Always this long.
    pub const fn fixed(wait: TimeLimit) -> Self {
        Self::of(Base::Fixed(wait))
    }

    /// As long as a function of the opening says. It is called while the breaker moves, and must
    /// not ask the breaker itself, which would wait for the answer. Should it panic, the breaker
    /// opens for as long as it says of a first opening; that it is asked for when it is set.
    pub fn computed(wait: impl Fn(&Opening) -> TimeLimit + Send + Sync + 'static) -> Self {
        Self::of(Base::Computed(Arc::new(wait)))
    }

    const fn of(base: Base) -> Self {
        Self { base, growth: Ratio::ZERO, cap: TimeLimit::MAX, jitter: Ratio::ZERO, asked: None }
    }

    /// Twice as long each time the breaker opens again without having closed.
    pub const fn doubling(self) -> Self {
        self.growing_by(Ratio::ONE)
    }

    /// Longer by this share each time the breaker opens again without having closed: 50 % is one
    /// and a half times as long.
    pub const fn growing_by(mut self, growth: Ratio) -> Self {
        self.growth = growth;
        self
    }

    /// Never longer than this, unless the server asks for it.
    pub const fn up_to(mut self, cap: TimeLimit) -> Self {
        self.cap = cap;
        self
    }

    /// Shorter by up to this share, at random, so that many breakers do not probe in step. Taken
    /// off after the cap, and so at the cap too.
    pub const fn jitter(mut self, share: Ratio) -> Self {
        self.jitter = share;
        self
    }

    /// At least as long as the server asks for in `Retry-After` or `grpc-retry-pushback-ms`, as
    /// far as that is no more than `ceiling`: whoever answers must not close us for a day.
    pub const fn or_as_asked(mut self, ceiling: TimeLimit) -> Self {
        self.asked = Some(ceiling);
        self
    }

    /// The time that this opening takes. `draw` decides the jitter.
    #[must_use]
    pub fn wait(&self, opening: &Opening, draw: u64) -> Duration {
        let (base, cap) = (self.base(opening), nanos(self.cap.get()));
        let mut wait = base.min(cap);
        // It is at the cap, or has stopped growing, long before the numbers become large.
        for _ in 1..opening.number.get().min(MOST_STEPS) {
            if wait >= cap || self.growth == Ratio::ZERO {
                break;
            }
            wait = wait.saturating_add(self.growth.of(wait)).min(cap);
        }
        let spread = self.jitter.of(wait);
        let jittered = wait - Random::below(draw, spread.saturating_add(1)).min(wait - 1);
        let asked = opening.retry_after.zip(self.asked).map(|(asked, most)| asked.min(most.get()));
        Duration::from_nanos(jittered).max(asked.unwrap_or_default())
    }

    fn base(&self, opening: &Opening) -> u64 {
        match &self.base {
            Base::Fixed(wait) => nanos(wait.get()),
            Base::Computed(wait) => nanos(wait(opening).get()),
        }
    }

    /// The shortest wait of a first opening: what a caller may be told that nobody can tell more.
    pub(super) fn least(&self) -> Duration {
        self.wait(&Opening::number(1), u64::MAX)
    }
}

/// Even 1 % more each time has gone from a nanosecond to a year by then.
const MOST_STEPS: u32 = 4_000;

/// A limit is a year at the most, which fits.
fn nanos(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for OpenFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("OpenFor");
        match &self.base {
            Base::Fixed(wait) => debug.field("base", wait),
            Base::Computed(_) => debug.field("base", &format_args!("a function")),
        };
        debug
            .field("growth", &self.growth)
            .field("cap", &self.cap)
            .field("jitter", &self.jitter)
            .field("asked", &self.asked)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: TimeLimit = TimeLimit::from_secs(1);

    #[test]
    fn jitter_shortens_by_its_share_at_the_most_and_at_the_cap_too() {
        let wait = OpenFor::fixed(SECOND).doubling().up_to(SECOND).jitter(Ratio::percent(20));
        let random = Random::seeded(11);

        let waits: Vec<_> =
            (0..10_000).map(|_| wait.wait(&Opening::number(9), random.draw())).collect();

        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!((800..=801).contains(&least.as_millis()), "{least:?} with seed 11");
        assert!((999..=1000).contains(&most.as_millis()), "{most:?} with seed 11");
    }

    #[test]
    fn what_the_server_asks_for_is_kept_within_the_ceiling() {
        let wait = OpenFor::fixed(SECOND).or_as_asked(TimeLimit::from_secs(30));
        let asked = |seconds| Opening {
            retry_after: Some(Duration::from_secs(seconds)),
            ..Opening::number(1)
        };

        let waits = [0, 7, 3_600].map(|seconds| wait.wait(&asked(seconds), 0).as_secs());

        assert_eq!(waits, [1, 7, 30]);
        assert_eq!(OpenFor::fixed(SECOND).wait(&asked(7), 0).as_secs(), 1);
    }

    #[test]
    fn a_function_sees_how_bad_it_is() {
        let wait = OpenFor::computed(|opening| {
            TimeLimit::from_secs(u64::from(opening.number.get()) * opening.failures)
        });

        let waited = wait.wait(&Opening { failures: 7, ..Opening::number(3) }, 0);

        assert_eq!(waited, Duration::from_secs(21));
    }

    #[test]
    fn no_number_of_openings_overflows() {
        let wait = OpenFor::fixed(TimeLimit::MAX).doubling().jitter(Ratio::ONE);

        assert_eq!(wait.wait(&Opening::number(u32::MAX), 0), TimeLimit::MAX.get());
        assert!(!wait.wait(&Opening::number(u32::MAX), u64::MAX).is_zero());
    }
}
