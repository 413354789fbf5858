use std::{array, fmt};

use buttress_core::cells::{Padded, stripe, stripes};

use crate::{
    Counts, Exclusion, Outcome,
    atomic::{AtomicU64, Ordering},
};

/// The counts that recorders write and the ticker reads: a few cache lines for each stripe, with
/// good and bad in the first.
///
/// One `fetch_add` an event, on a line that a thread has most often to itself; reading adds the
/// stripes up. An event is in exactly one count, so no reader can see half of one.
pub(crate) struct Cells {
    lines: Box<[Padded<Line>]>,
}

struct Line {
    good: AtomicU64,
    bad: AtomicU64,
    excluded: [AtomicU64; Exclusion::ALL.len()],
}

impl Cells {
    pub(crate) fn new() -> Self {
        Self::with_stripes(stripes())
    }

    fn with_stripes(stripes: usize) -> Self {
        let line = |_| {
            let zero = || AtomicU64::new(0);
            Padded(Line { good: zero(), bad: zero(), excluded: array::from_fn(|_| zero()) })
        };
        Self { lines: (0..stripes).map(line).collect() }
    }

    #[inline]
    pub(crate) fn add(&self, outcome: Outcome, events: u64) {
        self.add_at(stripe(), outcome, events);
    }

    #[inline]
    fn add_at(&self, stripe: usize, outcome: Outcome, events: u64) {
        let line = &self.lines[stripe & (self.lines.len() - 1)].0;
        let cell = match outcome {
            Outcome::Good => &line.good,
            Outcome::Bad => &line.bad,
            Outcome::Excluded(exclusion) => &line.excluded[exclusion.place()],
            Outcome::Outside => return,
        };
        // Relaxed: nothing else is published through a count, and addition has no order.
        cell.fetch_add(events, Ordering::Relaxed);
    }

    /// What has been counted so far. Neither count is ever less than it was at an earlier read.
    pub(crate) fn counts(&self) -> Counts {
        self.lines.iter().fold(Counts::default(), |sum, line| {
            let of = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
            sum.plus(Counts { good: of(&line.0.good), bad: of(&line.0.bad) })
        })
    }

    pub(crate) fn excluded(&self) -> [u64; Exclusion::ALL.len()] {
        array::from_fn(|place| {
            self.lines.iter().map(|line| line.0.excluded[place].load(Ordering::Relaxed)).sum()
        })
    }

    /// The bytes of all stripes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells").field("stripes", &self.lines.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_stripe_is_two_pairs_of_cache_lines() {
        assert_eq!(Cells::with_stripes(1).bytes(), 256);
        assert_eq!(Cells::with_stripes(16).bytes(), 4_096);
    }

    #[test]
    fn many_threads_and_a_ticker_lose_nothing() {
        // slo.md 10, scenario 56. One stripe, so that all of them meet.
        let cells = Cells::with_stripes(1);

        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for event in 0..10_000 {
                        let outcome = if event % 10 == 0 { Outcome::Bad } else { Outcome::Good };
                        cells.add(outcome, 1);
                        cells.add(Outcome::Excluded(Exclusion::Left), 1);
                    }
                });
            }
            scope.spawn(|| {
                let mut last = Counts::default();
                while last.total() < 80_000 {
                    let now = cells.counts();
                    assert!(now.good >= last.good && now.bad >= last.bad);
                    last = now;
                }
            });
        });

        assert_eq!(cells.counts(), Counts { good: 72_000, bad: 8_000 });
        assert_eq!(cells.excluded()[Exclusion::Left.place()], 80_000);
        assert_eq!(cells.excluded().iter().sum::<u64>(), 80_000);
    }
}

/// Run with `RUSTFLAGS="--cfg buttress_loom" cargo test -p buttress-slo --release --lib loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::{sync::Arc, thread};

    use super::*;
    use crate::ring::Ring;

    #[test]
    fn loom_two_recorders_and_a_ticker_lose_nothing_and_count_nothing_twice() {
        loom::model(|| {
            let cells = Arc::new(Cells::with_stripes(1));
            let recorders: Vec<_> = [Outcome::Good, Outcome::Bad]
                .into_iter()
                .map(|outcome| {
                    let cells = Arc::clone(&cells);
                    thread::spawn(move || {
                        cells.add_at(0, outcome, 1);
                        cells.add_at(1, Outcome::Bad, 1);
                    })
                })
                .collect();

            let mut ring = Ring::new(300, 0, Counts::default());
            let mut seen = Counts::default();
            for second in 1..=2 {
                let counts = cells.counts();
                assert!(counts.good >= seen.good && counts.bad >= seen.bad);
                ring.advance(second, counts);
                seen = counts;
            }
            for recorder in recorders {
                recorder.join().unwrap();
            }
            ring.advance(3, cells.counts());

            assert_eq!(ring.window(300).unwrap().counts, Counts { good: 1, bad: 3 });
        });
    }
}
