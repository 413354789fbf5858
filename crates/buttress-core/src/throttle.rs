//! A client that holds back what its service would refuse.
//!
//! A service that is overloaded spends what it has left on refusing. So a client counts what it
//! asks for and what is accepted, and when it asks for more than `K` times that, it refuses the
//! excess itself, with the probability
//!
//! ```text
//! max(0, (requests - K x accepts) / (requests + 1))
//! ```
//!
//! From *Site Reliability Engineering*, chapter 21, "Client-Side Throttling". What is refused here
//! counts as a request too, so the probability goes up with the excess; what still passes tells
//! when the service accepts again.
//!
//! ```
//! use buttress_core::{Ratio, throttle::Settings};
//!
//! let settings = Settings::new();
//! assert_eq!(settings.probability(100, 50), Ratio::ZERO);
//! assert_eq!(settings.probability(100, 25).to_string(), "0.495049504");
//! ```

use std::time::Instant;

use crate::{
    Ratio, TimeLimit,
    atomic::{AtomicU64, Ordering},
    slices::{Slicer, Slices, pack, unpack},
};

/// How much more than what is accepted a client may ask for, and how that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Settings {
    /// In billionths.
    multiplier: u64,
    allowance: u32,
    minimum: u32,
    most: Ratio,
    window: TimeLimit,
    one_in: TimeLimit,
}

impl Settings {
    /// Twice what is accepted, over two minutes, as the book has it; nine in ten are refused at
    /// the most, and one request passes each second in any case, so that a service which has
    /// recovered is found out.
    pub const fn new() -> Self {
        Self {
            multiplier: 2 * WHOLE,
            allowance: 0,
            minimum: 0,
            most: Ratio::percent(90),
            window: TimeLimit::from_secs(120),
            one_in: TimeLimit::from_secs(1),
        }
    }

    /// `K` in hundredths: 200 lets through twice of what is accepted, 110 little more than that.
    /// More finds out sooner that a service has recovered, less spares it more.
    ///
    /// # Panics
    ///
    /// If it is under 100, which refuses what a service would accept.
    pub const fn percent_of_accepts(mut self, percent: u32) -> Self {
        assert!(percent >= 100, "less than what is accepted would throttle a service that is well");
        self.multiplier = percent as u64 * (WHOLE / 100);
        self
    }

    /// Nothing is refused as long as this share of the requests is accepted: `K` is one over it.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub const fn success_goal(mut self, share: Ratio) -> Self {
        let share = share.parts_per_billion() as u64;
        assert!(share > 0, "a goal of 0 is met by a service that accepts nothing");
        // Rounded up: who meets the goal is not throttled.
        self.multiplier = (WHOLE * WHOLE).div_ceil(share);
        self
    }

    /// So many requests of a window are not held against anybody, so that a client with little
    /// traffic is not throttled for a few failures.
    pub const fn allowance(mut self, requests: u32) -> Self {
        self.allowance = requests;
        self
    }

    /// Nothing is refused as long as a window holds fewer requests than this: so few say nothing
    /// about a service. From there on all of them count, which is how it differs from an
    /// [`allowance`](Self::allowance).
    ///
    /// 0 unless told otherwise, as the book has it, and as Envoy's admission control has its
    /// `rps_threshold`: a first failure then counts for half, which a client that asks often has
    /// forgotten a moment later. One that asks a few times in a window wants 10 or more.
    pub const fn minimum(mut self, requests: u32) -> Self {
        self.minimum = requests;
        self
    }

    /// No more than this share is refused.
    pub const fn at_most(mut self, share: Ratio) -> Self {
        self.most = share;
        self
    }

    /// How far it looks back.
    pub const fn over(mut self, window: TimeLimit) -> Self {
        self.window = window;
        self
    }

    /// When none has passed for so long, one does.
    pub const fn one_in(mut self, time: TimeLimit) -> Self {
        self.one_in = time;
        self
    }

    /// The probability with which a request is refused, after so many of which so many were
    /// accepted. Rounded down.
    #[must_use]
    pub fn probability(&self, requests: u64, accepts: u64) -> Ratio {
        if requests < self.minimum.into() {
            return Ratio::ZERO;
        }
        let whole = u128::from(WHOLE);
        let counted = u128::from(requests.saturating_sub(self.allowance.into())) * whole;
        let excess = counted.saturating_sub(u128::from(self.multiplier) * u128::from(accepts));
        let probability = u32::try_from(excess / (u128::from(requests) + 1)).ok();
        probability.and_then(Ratio::per_billion).unwrap_or(Ratio::ONE).min(self.most)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

const WHOLE: u64 = 1_000_000_000;

/// The requests of a sliding window and those that were accepted.
#[derive(Debug)]
pub struct Throttle {
    settings: Settings,
    slicer: Slicer,
    accepts: Slices,
    /// The other requests. So each is counted in one place.
    failures: Slices,
    /// The slice in which the probability was worked out, and the probability in billionths. As
    /// long as that is 0 a call costs no more than to look here.
    known: AtomicU64,
    /// When a request last passed while others were refused, in nanoseconds.
    passed: AtomicU64,
}

impl Throttle {
    /// A throttle that has seen nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            slicer: Slicer::new(settings.window),
            accepts: Slices::new(),
            failures: Slices::new(),
            known: AtomicU64::new(0),
            passed: AtomicU64::new(0),
        }
    }

    /// A throttle with other settings. Where they look back as far, it shares the window of this
    /// one, and what is recorded in either counts in both; otherwise it has seen nothing.
    #[must_use]
    pub fn with_settings(&self, settings: Settings, now: Instant) -> Self {
        if settings.window != self.settings.window {
            return Self::new(settings);
        }
        let throttle = Self {
            settings,
            slicer: self.slicer.beginning(now),
            accepts: self.accepts.share(),
            failures: self.failures.share(),
            known: AtomicU64::new(0),
            passed: AtomicU64::new(self.passed.load(Ordering::Relaxed)),
        };
        throttle.work_out(throttle.slicer.number(now));
        throttle
    }

    /// What it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a request passes. `draw` decides, and `now` is asked for when there is a doubt.
    ///
    /// Who is refused here is to be [recorded](Self::record) as not accepted.
    #[inline]
    pub fn admits(&self, now: impl FnOnce() -> Instant, draw: impl FnOnce() -> u64) -> bool {
        let (_, known) = unpack(self.known.load(Ordering::Relaxed));
        known == 0 || self.admits_in_doubt(now(), draw())
    }

    fn admits_in_doubt(&self, now: Instant, draw: u64) -> bool {
        let probability = self.probability(now);
        let at = self.slicer.since_origin(now);
        let last = self.passed.load(Ordering::Relaxed);
        let one_in = u64::try_from(self.settings.one_in.get().as_nanos()).unwrap_or(u64::MAX);
        if !crate::Random::hits(draw, probability) {
            self.passed.fetch_max(at, Ordering::Relaxed);
            return true;
        }
        // Of those that come when none has passed for long enough, the first.
        at.saturating_sub(last) >= one_in
            && self.passed.compare_exchange(last, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes what became of a request: accepted, or refused by the service or by us.
    #[inline]
    pub fn record(&self, accepted: bool, now: Instant) {
        let slice = self.slicer.number(now);
        let outcomes = if accepted { &self.accepts } else { &self.failures };
        outcomes.add(slice);
        // While all is well an acceptance changes nothing, and there is nothing to work out; but with
        // a minimum it may be the one that reaches that.
        let (of, known) = unpack(self.known.load(Ordering::Relaxed));
        if !accepted || known != 0 || of != slice || self.settings.minimum > 0 {
            self.work_out(slice);
        }
    }

    /// The probability with which a request is refused.
    #[must_use]
    pub fn probability(&self, now: Instant) -> Ratio {
        self.work_out(self.slicer.number(now))
    }

    /// How many requests the window holds, and how many of them were accepted.
    #[must_use]
    pub fn window(&self, now: Instant) -> (u64, u64) {
        self.sums(self.slicer.number(now))
    }

    fn sums(&self, slice: u32) -> (u64, u64) {
        let accepts = self.accepts.sum(slice);
        (accepts + self.failures.sum(slice), accepts)
    }

    fn work_out(&self, slice: u32) -> Ratio {
        let (requests, accepts) = self.sums(slice);
        let probability = self.settings.probability(requests, accepts);
        let known = pack(slice, probability.parts_per_billion());
        // Relaxed: the next outcome puts right what two threads at once got in the wrong order.
        if self.known.load(Ordering::Relaxed) != known {
            self.known.store(known, Ordering::Relaxed);
        }
        probability
    }

    /// Whether it refuses anything, as far as the last outcome tells.
    #[must_use]
    #[inline]
    pub fn is_throttling(&self) -> bool {
        unpack(self.known.load(Ordering::Relaxed)).1 != 0
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::time::Duration;

    use loom::{sync::Arc, thread};

    use super::*;

    #[test]
    fn loom_of_those_that_come_at_once_one_passes() {
        #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
        let start = Instant::now();
        loom::model(move || {
            let settings = Settings::new().at_most(Ratio::ONE);
            let throttle = Arc::new(Throttle::new(settings));
            throttle.slicer.number(start);
            (0..2).for_each(|_| throttle.record(false, start));
            let later = start + Duration::from_secs(1);

            let other = Arc::clone(&throttle);
            let thread = thread::spawn(move || other.admits(|| later, || 0));
            let mine = throttle.admits(|| later, || 0);
            let theirs = thread.join().unwrap();

            assert_eq!(usize::from(mine) + usize::from(theirs), 1);
        });
    }
}
