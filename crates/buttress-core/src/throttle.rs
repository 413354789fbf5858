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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Random;

    #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
    fn start() -> Instant {
        Instant::now()
    }

    /// In millionths, as the rows have it.
    fn millionths(settings: Settings, requests: u64, accepts: u64) -> u32 {
        (settings.probability(requests, accepts).parts_per_billion() + 500) / 1_000
    }

    // A06
    #[test]
    fn the_formula_is_that_of_failsafe_go_with_a_success_goal() {
        let goal = Settings::new().success_goal(Ratio::percent(90)).at_most(Ratio::percent(80));

        for (requests, accepts, expected) in [
            (100, 95, 0),
            (100, 90, 0),
            (120, 90, 165_289),
            (100, 70, 220_022),
            (100, 50, 440_044),
            (200, 50, 718_629),
            (1_000, 10, 800_000),
            (100, 0, 800_000),
            (0, 0, 0),
            (1, 0, 500_000),
        ] {
            assert_eq!(millionths(goal, requests, accepts), expected, "{requests}, {accepts}");
        }
    }

    // A06
    #[test]
    fn the_formula_is_that_of_the_book() {
        let book = Settings::new().at_most(Ratio::ONE);

        for (requests, accepts, expected) in
            [(100, 100, 0), (100, 50, 0), (100, 25, 495_050), (200, 50, 497_512), (100, 0, 990_099)]
        {
            assert_eq!(millionths(book, requests, accepts), expected, "{requests}, {accepts}");
        }
    }

    // A06
    #[test]
    fn the_formula_is_that_of_go_zero_with_an_allowance_of_five() {
        let go_zero = Settings::new().percent_of_accepts(150).allowance(5).at_most(Ratio::ONE);

        for (requests, accepts, expected) in [
            (5, 0, 0),
            (6, 0, 142_857),
            (100, 60, 49_505),
            (100, 50, 198_020),
            (100, 10, 792_079),
            (100, 0, 940_594),
        ] {
            assert_eq!(millionths(go_zero, requests, accepts), expected, "{requests}, {accepts}");
        }
    }

    // A06
    #[test]
    fn when_none_has_passed_for_a_second_one_does() {
        let throttle = Throttle::new(Settings::new().at_most(Ratio::ONE));
        let start = start();
        (0..1_000_000).for_each(|_| throttle.record(false, start));
        // Refused in any case.
        let admits = |millis| throttle.admits(|| start + Duration::from_millis(millis), || 0);

        assert!(!admits(999));
        assert!(admits(1_000));
        assert!(!admits(1_001));
        assert!(!admits(1_999));
        assert!(admits(2_000));
    }

    // A06
    #[test]
    fn by_default_one_in_ten_passes_and_one_a_second_however_bad_it_is() {
        let throttle = Throttle::new(Settings::new());
        let (start, random) = (start(), Random::seeded(7));
        (0..10_000).for_each(|_| throttle.record(false, start));

        assert_eq!(throttle.probability(start), Ratio::percent(90));
        let passed = (0..10_000).filter(|_| throttle.admits(|| start, || random.draw())).count();
        // Four standard deviations.
        assert!(passed.abs_diff(1_000) < 120, "{passed} with seed 7");
        let later = start + Duration::from_secs(1);
        assert!(throttle.admits(|| later, || 0), "one that the dice refuse");
    }

    // A06, what failsafe-go has after a failure.
    #[test]
    fn after_one_failure_alone_every_second_one_is_held_back() {
        let throttle = Throttle::new(Settings::new());

        throttle.record(false, start());

        assert_eq!(throttle.probability(start()), Ratio::percent(50));
    }

    #[test]
    fn below_its_minimum_a_window_says_nothing_and_from_there_on_all_of_it_counts() {
        let settings = Settings::new().minimum(10);
        let throttle = Throttle::new(settings);

        (0..9).for_each(|_| throttle.record(false, start()));
        assert!(throttle.admits(|| unreachable!(), || unreachable!()));
        throttle.record(false, start());

        assert_eq!(throttle.probability(start()), Ratio::percent(90));
        // A06, from the minimum on.
        assert_eq!(millionths(settings.at_most(Ratio::ONE), 100, 25), 495_050);
        assert_eq!(millionths(settings, 9, 0), 0);
        assert_eq!(millionths(settings.at_most(Ratio::ONE), 10, 0), 909_091);
        // One that is accepted may reach it as well.
        let throttle = Throttle::new(settings);
        (0..9).for_each(|_| throttle.record(false, start()));
        throttle.record(true, start());
        assert!(throttle.is_throttling());
    }

    #[test]
    fn all_pass_while_all_is_accepted_and_nobody_asks_for_the_time() {
        let throttle = Throttle::new(Settings::new());
        let start = start();

        for _ in 0..100 {
            assert!(throttle.admits(|| unreachable!(), || unreachable!()));
            throttle.record(true, start);
        }
        // Half of what is asked for may fail.
        (0..100).for_each(|_| throttle.record(false, start));

        assert!(!throttle.is_throttling());
        throttle.record(false, start);
        assert!(throttle.is_throttling());
    }

    #[test]
    fn what_is_refused_is_the_share_that_it_says() {
        let throttle = Throttle::new(Settings::new());
        let (start, random) = (start(), Random::seeded(3));
        (0..100).for_each(|_| throttle.record(true, start));
        (0..300).for_each(|_| throttle.record(false, start));

        let admitted = (0..100_000).filter(|_| throttle.admits(|| start, || random.draw())).count();

        // (400 - 2 x 100) / 401, and four standard deviations.
        assert!(admitted.abs_diff(50_125) < 640, "{admitted} with seed 3");
    }

    #[test]
    fn other_settings_share_a_window_of_the_same_length_in_both_directions() {
        let (start, shorter) = (start(), Settings::new().over(TimeLimit::from_secs(60)));
        let throttle = Throttle::new(Settings::new());
        // Before anything was recorded, so that both number the slices alike.
        let capped = throttle.with_settings(Settings::new().at_most(Ratio::percent(80)), start);
        let later = start + Duration::from_secs(30);
        (0..100).for_each(|_| throttle.record(false, later));

        let other = capped.with_settings(Settings::new().percent_of_accepts(110), later);
        other.record(false, later);

        assert_eq!([&throttle, &capped, &other].map(|each| each.window(later)), [(101, 0); 3]);
        assert_eq!(capped.probability(later), Ratio::percent(80));
        assert!(other.is_throttling(), "at once");
        let empty = throttle.with_settings(shorter, later);
        assert_eq!((empty.window(later), empty.is_throttling()), ((0, 0), false));
    }

    #[test]
    fn an_outage_is_forgotten_when_its_window_has_passed() {
        let throttle = Throttle::new(Settings::new().over(TimeLimit::from_secs(16)));
        let start = start();
        (0..100).for_each(|_| throttle.record(false, start));
        let after = |seconds| start + Duration::from_secs(seconds);

        assert_eq!(throttle.probability(after(15)), Ratio::percent(90));
        assert_eq!(throttle.probability(after(16)), Ratio::ZERO);
        assert_eq!(throttle.window(after(16)), (0, 0));
    }

    #[test]
    fn failures_count_for_more_once_the_acceptances_before_them_are_forgotten() {
        let throttle = Throttle::new(Settings::new().over(TimeLimit::from_secs(16)));
        let start = start();
        (0..100).for_each(|_| throttle.record(true, start));
        let later = start + Duration::from_secs(10);
        (0..50).for_each(|_| throttle.record(false, later));
        assert!(!throttle.is_throttling());

        throttle.record(true, start + Duration::from_secs(17));

        assert!(throttle.is_throttling());
    }
}

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
