use std::num::NonZeroU32;

use super::Measured;
use crate::{Ratio, TimeLimit};

/// Netflix's Gradient2: a limit that follows how latency compares with what it has long been.
///
/// While calls take no longer than usual the limit grows; when they take longer than `tolerance`
/// allows, it shrinks in proportion, by half at the most. Smoothed, and not grown while less than
/// half of it is used.
///
/// # What keeps it from drifting
///
/// The original knows no more than a mean over its last 600 periods, and drifts: under a load that
/// never lets up that mean learns the latency of its own queue, finds it usual, and lets the limit
/// grow to its ceiling; after a lasting rise that has nothing to do with the load it shrinks to
/// its floor first. So each move has to bear fruit here. Once a quarter more is let in, latency
/// must have grown by less than half as much (geometrically), or the calls have only queued: the
/// limit goes back to a little less than where it was, and stays there for 30 periods. Once a
/// quarter less is let in, latency must have fallen by at least half as much, or the calls were
/// slow for other reasons: that latency is usual from then on. So it hovers about the point past
/// which more calls bring no more answers.
#[derive(Clone, Debug)]
pub struct Gradient2 {
    limit: f64,
    floor: u32,
    ceiling: u32,
    queue: u32,
    smoothing: Ratio,
    tolerance: f64,
    pub(super) period: TimeLimit,
    usual: Average,
    trial: Option<Trial>,
    /// For how many more periods it does not grow.
    hold: u32,
}

/// What was measured before the limit moved, and what is measured since it has moved far enough to
/// tell.
#[derive(Clone, Copy, Debug)]
struct Trial {
    base: Mean,
    there: Mean,
}

/// How many were inside and how long they stayed, on average over some periods.
#[derive(Clone, Copy, Debug)]
struct Mean {
    periods: u32,
    inside: f64,
    latency: f64,
}

impl Mean {
    const NONE: Self = Self { periods: 0, inside: 0.0, latency: 0.0 };

    fn of(inside: f64, latency: f64) -> Self {
        Self { periods: 1, inside, latency }
    }

    fn add(&mut self, inside: f64, latency: f64) {
        self.periods += 1;
        let weight = 1.0 / f64::from(self.periods);
        self.inside += (inside - self.inside) * weight;
        self.latency += (latency - self.latency) * weight;
    }

    /// Whether latency went with the number of those inside, by half at least: then a queue is
    /// what they were in.
    fn queued(&self, since: &Self) -> bool {
        let (inside, latency) = (self.inside / since.inside, self.latency / since.latency);
        if inside > 1.0 { latency > inside.sqrt() } else { latency < inside.sqrt() }
    }
}

impl Gradient2 {
    /// From 1 to 1,000, with room for a queue of 4, a smoothing of a fifth, a tolerance of half as
    /// much again, an average over 600 periods, and a period of 1 s.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            limit: 1.0,
            floor: 1,
            ceiling: 1_000,
            queue: 4,
            smoothing: Ratio::percent(20),
            tolerance: 1.5,
            period: TimeLimit::from_secs(1),
            usual: Average::over(600),
            trial: None,
            hold: 0,
        }
    }

    /// The lowest limit.
    #[must_use]
    pub const fn floor(mut self, limit: NonZeroU32) -> Self {
        self.floor = limit.get();
        self
    }

    /// The highest limit.
    #[must_use]
    pub const fn ceiling(mut self, limit: NonZeroU32) -> Self {
        self.ceiling = limit.get();
        self
    }

    /// How many calls may queue further in: what a limit grows by when all is well, before it is
    /// smoothed.
    #[must_use]
    pub const fn queue(mut self, calls: u32) -> Self {
        self.queue = calls;
        self
    }

    /// How much of a change is made at once.
    #[must_use]
    pub const fn smoothing(mut self, share: Ratio) -> Self {
        self.smoothing = share;
        self
    }

    /// How much longer than usual calls may take before the limit shrinks: by this share.
    #[must_use]
    pub fn tolerance(mut self, share: Ratio) -> Self {
        self.tolerance = 1.0 + float(share);
        self
    }

    /// Over how many periods latency is averaged to say what is usual.
    #[must_use]
    pub const fn average_over(mut self, periods: NonZeroU32) -> Self {
        self.usual = Average::over(periods.get());
        self
    }

    /// How long calls are gathered before the limit is moved.
    #[must_use]
    pub const fn every(mut self, period: TimeLimit) -> Self {
        self.period = period;
        self
    }

    /// Begins at `limit`. The bounds make room for it.
    pub fn start(&mut self, limit: u32) {
        let limit = limit.max(1);
        self.limit = limit.into();
        self.floor = self.floor.min(limit);
        self.ceiling = self.ceiling.max(limit);
        (self.trial, self.hold) = (None, 0);
    }

    /// The limit after a period, rounded down.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies within its bounds"
    )]
    pub fn update(&mut self, measured: Measured) -> u32 {
        if let Some(limit) = self.next(measured) {
            let smoothing = float(self.smoothing);
            let smoothed = self.limit * (1.0 - smoothing) + limit * smoothing;
            self.set(smoothed);
        }
        self.limit as u32
    }

    /// Where the limit is to go, before it is smoothed.
    fn next(&mut self, measured: Measured) -> Option<f64> {
        let queue = f64::from(self.queue);
        if measured.dropped {
            self.trial = None;
            return Some(self.limit * STEEPEST + queue);
        }
        let latency = measured.latency.as_secs_f64();
        if latency <= 0.0 {
            return None;
        }
        let usual = self.usual.add(latency);
        if usual / latency > 2.0 {
            // What is usual now is much less than it was: forget faster.
            self.usual.value *= 0.95;
        }
        self.hold = self.hold.saturating_sub(1);
        let in_flight = f64::from(measured.in_flight);
        if in_flight < self.limit / 2.0 {
            self.trial = None;
            return None;
        }
        let inside = in_flight.min(self.limit);
        let gradient = (self.tolerance * usual / latency).clamp(STEEPEST, 1.0);
        let next = self.limit * gradient + queue;
        let bears_fruit = self.bears_fruit(inside, latency);
        // By which way it goes, and not by the gradient: with the room for a queue added, a limit
        // that is a little too high still grows.
        (bears_fruit && (next <= self.limit || self.hold == 0)).then_some(next)
    }

    /// Whether the limit may move on, by what its moves so far have brought.
    fn bears_fruit(&mut self, inside: f64, latency: f64) -> bool {
        let Some(Trial { base, there }) = &mut self.trial else {
            self.trial = Some(Trial { base: Mean::of(inside, latency), there: Mean::NONE });
            return true;
        };
        let moved = inside / base.inside;
        if (0.75..1.25).contains(&moved) && there.periods == 0 {
            let near = (0.95..1.05).contains(&moved);
            if near && !(0.8..1.25).contains(&(latency / base.latency)) {
                // Something has happened that has nothing to do with the limit.
                *base = Mean::of(inside, latency);
            } else if near && base.periods < UP {
                base.add(inside, latency);
            }
            return true;
        }
        there.add(inside, latency);
        let (base, there) = (*base, *there);
        let grown = there.inside > base.inside;
        if there.periods < if grown { UP } else { DOWN } {
            return false;
        }
        self.trial = Some(Trial { base: there, there: Mean::NONE });
        if grown && there.queued(&base) {
            // A little less than before, so that chance does not drive it up step by step.
            self.set(base.inside / 1.1);
            (self.trial, self.hold) = (None, HOLD);
            return false;
        }
        if !grown && !there.queued(&base) {
            self.usual.value = there.latency;
            return false;
        }
        true
    }

    fn set(&mut self, limit: f64) {
        // `max` last, and first of the two: whatever a float may be, the floor is a number.
        self.limit = f64::from(self.floor).max(limit.min(self.ceiling.into()));
    }
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self::new()
    }
}

fn float(ratio: Ratio) -> f64 {
    f64::from(ratio.parts_per_billion()) / 1e9
}

/// The limit never shrinks by more than half before it is smoothed.
const STEEPEST: f64 = 0.5;

/// For how many periods a limit stays whose growth has brought nothing. Half a minute: long
/// enough that the quarter more which is tried now and then costs its callers next to nothing.
const HOLD: u32 = 30;

/// Over how many periods a growth is looked at, at most before it and since. Means of eight
/// differ by chance half as much as a quarter more calls make them differ, even where single
/// periods are a fifth apart.
const UP: u32 = 8;

/// Over how many periods it is looked at since when the limit shrinks: fewer, because there is
/// hardly time when a service is overloaded.
const DOWN: u32 = 3;

/// An exponential average; of the first few values the plain one.
#[derive(Clone, Copy, Debug)]
struct Average {
    window: u32,
    count: u32,
    sum: f64,
    value: f64,
}

impl Average {
    const fn over(window: u32) -> Self {
        Self { window, count: 0, sum: 0.0, value: 0.0 }
    }

    fn add(&mut self, value: f64) -> f64 {
        /// How many values there have to be before they are weighed.
        const WARM: u32 = 10;
        if self.count < WARM {
            self.count += 1;
            self.sum += value;
            self.value = self.sum / f64::from(self.count);
        } else {
            let weight = 2.0 / (f64::from(self.window) + 1.0);
            self.value = self.value * (1.0 - weight) + value * weight;
        }
        self.value
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn gradient() -> Gradient2 {
        let mut gradient = Gradient2::new().floor(number(10)).ceiling(number(200));
        gradient.start(50);
        gradient
    }

    fn measured(millis: u64, in_flight: u32) -> Measured {
        Measured { latency: Duration::from_millis(millis), in_flight, dropped: false }
    }

    /// A03.
    #[test]
    fn grows_shrinks_and_stays_as_the_original_does() {
        let mut gradient = gradient();

        let growing: Vec<_> = (0..10).map(|_| gradient.update(measured(100, 50))).collect();
        let unused = gradient.update(measured(100, 10));
        let shrinking: Vec<_> = (0..3).map(|_| gradient.update(measured(400, 60))).collect();

        assert_eq!(growing, [50, 51, 52, 53, 54, 54, 55, 56, 57, 58]);
        assert_eq!(unused, 58);
        assert_eq!(shrinking, [53, 48, 44]);
    }

    /// A03.
    #[test]
    fn the_average_is_plain_at_first_and_then_exponential() {
        let mut average = Average::over(100);

        let first: Vec<_> = (10..20).map(|value| average.add(value.into())).collect();

        let expected: Vec<_> = (0..10).map(|half| 10.0 + f64::from(half) / 2.0).collect();
        assert!(first.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{first:?}");
        assert!((average.add(100.0) - 16.2).abs() < 0.1);
    }

    #[test]
    fn dropped_calls_shrink_it_and_nothing_measured_changes_nothing() {
        let mut gradient = gradient();

        assert_eq!(gradient.update(measured(0, 50)), 50);
        let dropped = Measured { dropped: true, ..measured(0, 50) };
        assert_eq!(gradient.update(dropped), 45);
        for _ in 0..1_000 {
            gradient.update(dropped);
        }
        assert_eq!(gradient.update(dropped), 10);
    }

    /// A service with so many workers, under a load that never lets up: what does not find a
    /// worker queues.
    struct Server {
        workers: u32,
        work: f64,
    }

    impl Server {
        fn run(&self, gradient: &mut Gradient2, periods: u32) -> (u32, u32) {
            let mut seen = (u32::MAX, 0);
            for period in 0..periods {
                let inside = gradient.update(measured(0, 0));
                let load = (f64::from(inside) / f64::from(self.workers)).max(1.0);
                // Five percent of noise, always the same.
                let noise = 0.95 + f64::from(period * 7 % 11) / 100.0;
                let latency = Duration::from_secs_f64(self.work * load * noise);
                let limit =
                    gradient.update(Measured { latency, in_flight: inside, dropped: false });
                // What it comes to, after it has settled.
                if period >= periods / 2 {
                    seen = (seen.0.min(limit), seen.1.max(limit));
                }
            }
            seen
        }
    }

    /// A03, the gap: Netflix/concurrency-limits#137.
    #[test]
    fn a_lasting_change_of_latency_ratchets_it_neither_to_its_ceiling_nor_to_its_floor() {
        let mut gradient = gradient();
        let mut seen = Vec::new();

        for (workers, work) in [(50, 0.1), (50, 0.4), (50, 0.02), (50, 2.0), (25, 2.0), (80, 0.1)] {
            let (low, high) = Server { workers, work }.run(&mut gradient, 4_000);
            seen.push((workers, low, high));
        }

        // Within a half and twice of what the service can work on at once.
        for (workers, low, high) in &seen {
            assert!(*low >= workers / 2 && *high <= workers * 2, "{seen:?}");
        }
    }

    #[test]
    fn a_lasting_rise_with_the_same_few_calls_under_way_leaves_it_within_its_bounds() {
        let mut gradient = gradient();

        for _ in 0..1_000 {
            gradient.update(measured(100, 60));
        }
        let mut low = u32::MAX;
        for _ in 0..5_000 {
            low = low.min(gradient.update(measured(400, 60)));
        }

        assert!(low > 20 && gradient.update(measured(400, 60)) < 150);
    }
}
