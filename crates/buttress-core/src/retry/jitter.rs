use std::time::Duration;

use super::backoff::duration;
use crate::Ratio;

/// How the waits of a [`Backoff`](super::Backoff) are spread.
///
/// `m` is the wait before it is spread. All keep to the cap, but for [`Jitter::Around`], and all
/// go on spreading at the cap, where many clients would otherwise meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Not at all: `m`.
    None,
    /// This share more or less: from `m - share` to `m + share`, and no longer than the cap.
    Proportional(Ratio),
    /// As [`Jitter::Proportional`], but past the cap too. gRPC does it so, with 20 %.
    Around(Ratio),
    /// Up to so much more: from `m` to `m + more`; at the cap from `cap - more` to the cap.
    Added(Duration),
    /// Anything from nothing to `m`. It spreads the most, and so spares a busy server the most
    /// (Brooker, *Exponential Backoff And Jitter*, 2015).
    Full,
    /// Anything from half of `m` to `m`.
    Equal,
    /// Anything from the first wait to three times the one before, as far as the cap allows.
    Decorrelated,
}

impl Jitter {
    /// Spreads `wait`, which keeps to `cap`, was `first` in the beginning, and followed upon
    /// `previous`. All draws from 0 to the largest are as likely.
    #[must_use]
    pub(super) fn spread(
        self,
        wait: Duration,
        cap: Duration,
        first: Duration,
        previous: Option<Duration>,
        draw: u64,
    ) -> Duration {
        let (m, cap) = (wait.as_nanos(), cap.as_nanos());
        let (least, most, cap) = match self {
            Self::None => return wait,
            Self::Proportional(share) => (m - part(m, share), m + part(m, share), cap),
            Self::Around(share) => (m - part(m, share), m + part(m, share), u128::MAX),
            Self::Added(more) => {
                let least = m.min(cap.saturating_sub(more.as_nanos()));
                (least, least.saturating_add(more.as_nanos()), cap)
            }
            Self::Full => (0, m, cap),
            Self::Equal => (m - m / 2, m, cap),
            Self::Decorrelated => {
                let first = first.as_nanos().min(cap);
                let thrice = previous.map_or(first, |previous| previous.as_nanos());
                (first, thrice.saturating_mul(3).max(first).min(cap), cap)
            }
        };
        duration((least + drawn(draw, most - least)).min(cap))
    }
}

fn part(nanos: u128, share: Ratio) -> u128 {
    nanos * u128::from(share.parts_per_billion()) / 1_000_000_000
}

/// A number from 0 to `most`. No duration has so many nanoseconds that this would overflow.
fn drawn(draw: u64, most: u128) -> u128 {
    let (high, low) = (most >> 64, most & u128::from(u64::MAX));
    let draw = u128::from(draw);
    // One more than the most, so that the largest draw is the most itself.
    high * draw + ((low * draw + draw) >> 64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Random,
        retry::{Backoff, Progress},
    };

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);
    const QUARTER: Jitter = Jitter::Proportional(Ratio::percent(25));

    /// The draw that stands for so many tenths.
    const fn tenths(tenths: u64) -> u64 {
        if tenths == 10 { u64::MAX } else { (u64::MAX / 10 + 1) * tenths }
    }

    fn close(wait: Duration, millis: u64) -> bool {
        wait.abs_diff(Duration::from_millis(millis)) < Duration::from_micros(1)
    }

    fn nth(backoff: &Backoff, retry: u32, draw: u64) -> Duration {
        let mut progress = Progress::default();
        for _ in 1..retry {
            let wait = backoff.next(&progress, 0).unwrap();
            progress.waited(wait);
        }
        backoff.next(&progress, draw).unwrap()
    }

    // R02
    #[test]
    fn a_quarter_more_or_less() {
        let constant = Backoff::constant(S).jitter(QUARTER);
        for (draw, millis) in [(0, 750), (4, 950), (6, 1050), (10, 1250)] {
            assert!(close(nth(&constant, 1, tenths(draw)), millis), "{draw}");
        }
        let linear = Backoff::linear(S, S).jitter(QUARTER);
        for (draw, millis) in [(0, 2250), (4, 2850), (5, 3000), (6, 3150), (10, 3750)] {
            assert!(close(nth(&linear, 3, tenths(draw)), millis), "{draw}");
        }
        for jitter in [Jitter::None, QUARTER] {
            let capped = Backoff::exponential(10 * S).up_to(S).jitter(jitter);
            assert_eq!(nth(&capped, 1, tenths(5)), S);
        }
    }

    // R03
    #[test]
    fn a_randomised_hundred_milliseconds_are_from_fifty_to_a_hundred_and_fifty() {
        let backoff = Backoff::constant(100 * MS).jitter(Jitter::Proportional(Ratio::percent(50)));

        let waits: Vec<_> = backoff.waits(3).take(49).collect();

        assert!(waits.iter().all(|wait| (50 * MS..=150 * MS).contains(wait)), "{waits:?}");
    }

    // R03
    #[test]
    fn full_jitter_has_half_of_the_wait_for_its_mean() {
        let backoff = Backoff::constant(S).jitter(Jitter::Full);

        let sum: Duration = backoff.waits(7).take(10_000).sum();

        assert!((sum / 10_000).abs_diff(500 * MS) <= 10 * MS, "{sum:?} with seed 7");
    }

    // R03, where Finagle returns exactly the cap
    #[test]
    fn waits_at_the_cap_still_differ() {
        let families = [
            QUARTER,
            Jitter::Around(Ratio::percent(20)),
            Jitter::Added(S),
            Jitter::Full,
            Jitter::Equal,
            Jitter::Decorrelated,
        ];
        for jitter in families {
            let backoff = Backoff::exponential(S).up_to(10 * S).jitter(jitter);
            let mut late: Vec<_> = backoff.waits(11).skip(50).take(1_000).collect();
            late.sort();
            late.dedup();

            assert!(late.len() > 400, "{jitter:?}: {} of 1,000 differ", late.len());
        }
    }

    fn wait() -> impl Strategy<Value = Duration> {
        (0..=u64::MAX / 4, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s >> 20, n))
    }

    proptest! {
        // R03
        #[test]
        fn families_keep_to_their_bounds(
            m in wait(), first in wait(), previous in wait(), cap in wait(), draw: u64,
        ) {
            let m = m.min(cap);
            let less = |by: Duration| m.saturating_sub(by);
            let spread = |jitter: Jitter| jitter.spread(m, cap, first, Some(previous), draw);

            prop_assert!((less(m / 4)..=(m + m / 4).min(cap)).contains(&spread(QUARTER)));
            let around = spread(Jitter::Around(Ratio::percent(20)));
            prop_assert!((less(m / 5 + Duration::from_nanos(1))..=m + m / 5).contains(&around));
            prop_assert!(spread(Jitter::Full) <= m);
            prop_assert!((m / 2..=m).contains(&spread(Jitter::Equal)));
            prop_assert!(spread(Jitter::Added(S)) <= cap.max(m));
            let apart = spread(Jitter::Decorrelated);
            prop_assert!(apart >= first.min(cap) && apart <= cap);
            prop_assert!(apart <= previous.saturating_mul(3).max(first));
        }

        // R02
        #[test]
        fn a_spread_wait_is_never_nothing_and_never_past_the_cap(retry in 1_u32..=1025, draw: u64) {
            let backoff = Backoff::exponential(2 * S).up_to(30 * S).jitter(QUARTER);

            let wait = nth(&backoff, retry, draw);

            prop_assert!(!wait.is_zero() && wait <= 30 * S);
        }

        #[test]
        fn a_draw_is_within_its_bound_and_reaches_both_ends(most in 0..=Duration::MAX.as_nanos(), draw: u64) {
            prop_assert!(drawn(draw, most) <= most);
            prop_assert_eq!(drawn(0, most), 0);
        }
    }

    #[test]
    fn the_largest_draw_is_the_most() {
        for most in [0, 1, 2, 1_000, u128::from(u64::MAX), u128::from(u64::MAX) + 1] {
            assert!(most - drawn(u64::MAX, most) <= most >> 63, "{most}");
        }
        assert_ne!(Random::at(1, 0), Random::at(1, 1));
    }
}
