//! What tests of several modules need.

use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::ProptestConfig;

use crate::{Clocks, Counts, Happening, Objective, Sli, Tracker};

/// A first reading: midnight, 1 January 2026, UTC.
pub(crate) fn clocks() -> Clocks {
    #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
    let monotonic = Instant::now();
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NEW_YEAR);
    Clocks { monotonic, wall, boot: None }
}

/// Midnight, 1 January 2026, UTC, in Unix time.
pub(crate) const NEW_YEAR: u64 = 1_767_225_600;

/// An availability objective of this name.
pub(crate) fn available(name: &str, target: &str) -> Objective {
    Objective::new(name.parse().unwrap(), Sli::Availability, target.parse().unwrap())
}

/// A tracker on clocks that a test moves.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) tracker: Tracker,
    pub(crate) clocks: Clocks,
}

impl Bench {
    pub(crate) fn new(objectives: impl IntoIterator<Item = Objective>) -> Self {
        Self::at(clocks(), objectives)
    }

    pub(crate) fn at(clocks: Clocks, objectives: impl IntoIterator<Item = Objective>) -> Self {
        let tracker = Tracker::new("shop".parse().unwrap(), objectives, clocks).unwrap();
        Self { tracker, clocks }
    }

    /// Lets so many seconds pass, and ticks.
    pub(crate) fn after(&mut self, seconds: u64) -> Vec<Happening> {
        let passed = Duration::from_secs(seconds);
        self.clocks.monotonic += passed;
        self.clocks.wall += passed;
        self.clocks.boot = self.clocks.boot.map(|boot| boot + passed);
        self.tracker.tick(self.clocks)
    }

    /// So many times `step` seconds, with these events of `objective` in each.
    pub(crate) fn run(
        &mut self,
        objective: &str,
        times: u64,
        step: u64,
        counts: Counts,
    ) -> Vec<Happening> {
        let recorder = self.tracker.recorder(objective).unwrap();
        let mut happened = Vec::new();
        for _ in 0..times {
            recorder.add(counts);
            happened.extend(self.after(step));
        }
        happened
    }

    /// Thirty days of clean traffic of so much a second; by the second for the last three hours.
    pub(crate) fn month(&mut self, objective: &str, per_second: u64) {
        const FINE: u64 = 3 * 3600;
        let clean = |seconds| Counts { good: per_second * seconds, bad: 0 };
        self.run(objective, (30 * 86_400 - FINE) / 50, 50, clean(50));
        self.run(objective, FINE, 1, clean(1));
    }

    pub(crate) fn counts(&self, objective: &str, seconds: u64) -> Counts {
        let window = Duration::from_secs(seconds);
        self.tracker.window(objective, window).unwrap().0.counts
    }
}

/// So many cases, for a property that is slow to try; or as many as `PROPTEST_CASES` says.
pub(crate) fn fewer(cases: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(cases),
    }
}
