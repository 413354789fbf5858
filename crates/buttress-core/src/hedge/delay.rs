use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Unhedged, latencies::Latencies};
use crate::{Ratio, TimeLimit};

/// When a second attempt is made of a request that has no answer yet.
///
/// What was learned belongs to the value: clones of it learn together.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress_core::{Ratio, hedge::{Delay, Quantile, Unhedged}};
///
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// let now = Instant::now();
/// assert_eq!(Delay::at_once().at(now), Ok(Duration::ZERO));
///
/// let delay = Delay::from(Quantile::new(Ratio::percent(90)).minimum(10));
/// assert_eq!(delay.at(now), Err(Unhedged::Unknown));
/// for millis in 1..=10 {
///     delay.learn(Duration::from_millis(10 * millis), true, now);
/// }
/// // 90 ms, and a sixteenth more at the most.
/// let learned = delay.at(now).unwrap();
/// assert!((90..96).contains(&learned.as_millis()));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Delay(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Never,
    Fixed(Duration),
    Learned { quantile: Quantile, latencies: Arc<Latencies> },
}

impl Delay {
    /// At once: all attempts are made together, unless the first has ended when it is first
    /// polled. For what is cheap and matters much.
    pub const fn at_once() -> Self {
        Self::fixed(Duration::ZERO)
    }

    /// After so long, always.
    pub const fn fixed(delay: Duration) -> Self {
        Self(Kind::Fixed(delay))
    }

    /// Not at all: for a switch that somebody throws while the layer works.
    pub const fn never() -> Self {
        Self(Kind::Never)
    }

    /// Whether it is [`Delay::never`].
    #[must_use]
    pub const fn is_never(&self) -> bool {
        matches!(self.0, Kind::Never)
    }

    /// Whether it is learned, so that latencies are of use.
    #[must_use]
    #[inline]
    pub const fn learns(&self) -> bool {
        matches!(self.0, Kind::Learned { .. })
    }

    /// The delay of a request that begins now.
    ///
    /// # Errors
    ///
    /// [`Unhedged::Off`] if there is none, [`Unhedged::Unknown`] if it has not been learned yet.
    #[inline]
    pub fn at(&self, now: Instant) -> Result<Duration, Unhedged> {
        match &self.0 {
            Kind::Never => Err(Unhedged::Off),
            Kind::Fixed(delay) => Ok(*delay),
            Kind::Learned { quantile, latencies } => match latencies.quantile(now) {
                Some(nanos) => Ok(Duration::from_nanos(nanos)),
                None => return quantile.until_known.ok_or(Unhedged::Unknown),
            }
            .map(|learned| learned.min(quantile.ceiling.get()).max(quantile.floor)),
        }
    }

    /// Learns how long a first attempt took to its head. One that was not `answered` well, or was
    /// given up, took so long at least: that says something if it is longer than the delay, and
    /// nothing if it is not. Were it left out, the slowest would never count, for they are those
    /// whose second attempt wins; the delay would sink and sink.
    #[inline]
    pub fn learn(&self, took: Duration, answered: bool, now: Instant) {
        let Kind::Learned { latencies, .. } = &self.0 else { return };
        if answered || self.at(now).is_ok_and(|delay| took >= delay) {
            latencies.record(took, now);
        }
    }

    pub(super) fn inheriting(self, others: &Self) -> Self {
        let (Kind::Learned { quantile, latencies }, Kind::Learned { latencies: old, .. }) =
            (&self.0, &others.0)
        else {
            return self;
        };
        if latencies.is_new() && old.window() == latencies.window() {
            let latencies = Arc::new(old.seen_by(quantile.share, quantile.minimum));
            return Self(Kind::Learned { quantile: *quantile, latencies });
        }
        self
    }
}

impl From<Quantile> for Delay {
    fn from(quantile: Quantile) -> Self {
        let Quantile { share, window, minimum, .. } = quantile;
        let latencies = Arc::new(Latencies::new(share, window, minimum));
        Self(Kind::Learned { quantile, latencies })
    }
}

/// A delay that so many requests in a hundred do not exceed, learned from those of a sliding
/// window.
///
/// As in *The Tail at Scale* (Dean and Barroso, CACM 56(2), 2013): what takes longer than 95 in a
/// hundred is asked for again, which is 5 % more load at the most. The quantile is rounded up, by
/// a sixteenth at the most, so that it is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Quantile {
    share: Ratio,
    floor: Duration,
    ceiling: TimeLimit,
    window: TimeLimit,
    minimum: NonZeroU32,
    until_known: Option<Duration>,
}

impl Quantile {
    /// The latency that this share of the last 30 seconds does not exceed, from a hundred requests
    /// on: 30 seconds are long enough to see a tail and short enough to follow a service that is
    /// slower today, and of a hundred there are five above the 95th. Until then nothing is hedged.
    pub const fn new(share: Ratio) -> Self {
        const HUNDRED: NonZeroU32 = NonZeroU32::new(100).expect("not 0");
        Self {
            share,
            // Nothing shorter can be waited for.
            floor: Duration::from_millis(1),
            ceiling: TimeLimit::from_secs(60),
            window: TimeLimit::from_secs(30),
            minimum: HUNDRED,
            until_known: None,
        }
    }

    /// Never less than this, whatever was learned: a millisecond unless told otherwise. It holds
    /// over a ceiling that is lower.
    pub const fn floor(mut self, delay: Duration) -> Self {
        self.floor = delay;
        self
    }

    /// Never more than this, whatever was learned: a minute unless told otherwise.
    pub const fn ceiling(mut self, delay: TimeLimit) -> Self {
        self.ceiling = delay;
        self
    }

    /// How far it looks back; it forgets an eighth of that at a time.
    pub const fn over(mut self, window: TimeLimit) -> Self {
        self.window = window;
        self
    }

    /// So many requests tell enough.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub const fn minimum(mut self, requests: u32) -> Self {
        self.minimum = NonZeroU32::new(requests).expect("nothing is learned from no requests");
        self
    }

    /// The delay until so many have come; without it there are no hedges until then.
    pub const fn until_known(mut self, delay: Duration) -> Self {
        self.until_known = Some(delay);
        self
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
    fn start() -> Instant {
        Instant::now()
    }

    fn p90() -> Quantile {
        Quantile::new(Ratio::percent(90)).minimum(10).over(TimeLimit::from_secs(8))
    }

    fn learned(quantile: Quantile, now: Instant) -> Delay {
        let delay = Delay::from(quantile);
        (1..=10).for_each(|n| delay.learn(n * 10 * MS, true, now));
        delay
    }

    #[test]
    fn until_enough_have_come_the_delay_is_what_was_said_or_there_is_none() {
        let (now, delay) = (start(), Delay::from(p90().until_known(7 * MS)));
        (0..9).for_each(|_| delay.learn(MS, true, now));

        assert_eq!(delay.at(now), Ok(7 * MS));
        assert_eq!(Delay::from(p90()).at(now), Err(Unhedged::Unknown));
        delay.learn(MS, true, now);
        assert!(delay.at(now).unwrap() < 2 * MS);
    }

    #[test]
    fn it_stays_between_its_floor_and_its_ceiling() {
        let now = start();

        assert_eq!(learned(p90().floor(200 * MS), now).at(now), Ok(200 * MS));
        assert_eq!(learned(p90().ceiling(TimeLimit::from_millis(50)), now).at(now), Ok(50 * MS));
        let crossed = p90().ceiling(TimeLimit::from_millis(50)).floor(200 * MS);
        assert_eq!(learned(crossed, now).at(now), Ok(200 * MS));
    }

    #[test]
    fn what_was_learned_is_forgotten_with_its_window() {
        let now = start();
        let delay = learned(p90(), now);

        assert!(delay.at(now + Duration::from_secs(7)).is_ok());
        assert_eq!(delay.at(now + Duration::from_secs(8)), Err(Unhedged::Unknown));
    }

    #[test]
    fn one_that_was_given_up_counts_if_it_had_outlasted_the_delay() {
        let (now, next) = (start(), start() + Duration::from_secs(2));
        let (cut_early, cut_late) = (learned(p90(), now), learned(p90(), now));

        (0..10).for_each(|_| cut_early.learn(MS, false, now));
        (0..10).for_each(|_| cut_late.learn(500 * MS, false, now));

        assert_eq!(cut_early.at(next), learned(p90(), now).at(next));
        assert!(cut_late.at(next).unwrap() >= 500 * MS);
    }

    #[test]
    fn another_quantile_of_the_same_window_goes_on_from_what_was_learned() {
        let now = start();
        let old = learned(p90(), now);

        let median = Delay::from(Quantile { share: Ratio::percent(50), ..p90() });
        let median = median.inheriting(&old);
        assert!((50 * MS..54 * MS).contains(&median.at(now).unwrap()));
        median.learn(MS, true, now);

        let longer = Delay::from(p90().over(TimeLimit::from_secs(9))).inheriting(&old);
        assert_eq!(longer.at(now), Err(Unhedged::Unknown));
    }
}
