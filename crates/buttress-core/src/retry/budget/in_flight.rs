use std::sync::Arc;

use crate::{
    Ratio,
    atomic::{AtomicU64, Ordering},
    cells::Counter,
};

/// Retries in flight as a share of the requests in flight, and so many in any case: Envoy's rule.
///
/// It needs no clock and no window, and answers at once to a backlog; it says nothing about how
/// many retries there are in a second, which fast failures make many of.
///
/// ```
/// use buttress_core::{Ratio, retry::{Budget, InFlight}};
///
/// let budget = Budget::from(InFlight::new(Ratio::percent(20)).floor(5));
/// assert_eq!(budget.balance(std::time::Instant::now()), Some(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct InFlight {
    share: Ratio,
    floor: u32,
}

impl InFlight {
    /// This share, and three in any case.
    pub const fn new(share: Ratio) -> Self {
        Self { share, floor: 3 }
    }

    /// So many in any case.
    pub const fn floor(mut self, retries: u32) -> Self {
        self.floor = retries;
        self
    }
}

#[derive(Debug)]
pub(super) struct Flights {
    share: Ratio,
    floor: u64,
    started: Counter,
    ended: Counter,
    retries: AtomicU64,
}

impl Flights {
    pub(super) fn new(in_flight: InFlight) -> Self {
        Self {
            share: in_flight.share,
            floor: in_flight.floor.into(),
            started: Counter::new(),
            ended: Counter::new(),
            retries: AtomicU64::new(0),
        }
    }

    pub(super) fn start(self: &Arc<Self>) -> Flight {
        self.started.increment();
        Flight(Arc::clone(self))
    }

    fn allowance(&self) -> u64 {
        // The started ones first: a request that ends in between is not counted, and one that
        // starts is not either. A share is never overspent for what came too late.
        let started = self.started.total();
        let in_flight = started.saturating_sub(self.ended.total());
        self.share.of(in_flight).max(self.floor)
    }

    pub(super) fn withdraw(this: &Arc<Self>, of: Ratio) -> Option<Repeat> {
        let allowance = of.of(this.allowance());
        // Relaxed: the word is all there is, and nothing is published through it.
        let mut seen = this.retries.load(Ordering::Relaxed);
        while seen < allowance {
            match this.retries.compare_exchange_weak(
                seen,
                seen + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Repeat(Arc::clone(this))),
                Err(now) => seen = now,
            }
        }
        None
    }

    pub(super) fn balance(&self, of: Ratio) -> u64 {
        of.of(self.allowance()).saturating_sub(self.retries.load(Ordering::Relaxed))
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Flight(Arc<Flights>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.ended.increment();
    }
}

/// A retry in flight.
#[derive(Debug)]
pub(super) struct Repeat(Arc<Flights>);

impl Drop for Repeat {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    // R17
    #[test]
    fn the_share_of_what_is_in_flight_is_allowed_but_never_less_than_the_floor() {
        let flights = Arc::new(Flights::new(InFlight::new(Ratio::percent(20)).floor(5)));
        let mut held = Vec::new();

        for (in_flight, allowed) in [(0, 5), (10, 5), (25, 5), (30, 6), (50, 10), (100, 20), (0, 5)]
        {
            held.resize_with(in_flight, || flights.start());
            let retries: Vec<_> =
                std::iter::from_fn(|| Flights::withdraw(&flights, Ratio::ONE)).collect();

            assert_eq!(retries.len(), allowed, "{in_flight} in flight");
            assert_eq!(flights.balance(Ratio::ONE), 0);
        }
        assert_eq!(flights.balance(Ratio::ONE), 5);
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::thread;

    use super::*;

    #[test]
    fn loom_two_that_want_the_last_one_get_one_and_give_it_back() {
        loom::model(|| {
            let flights = Arc::new(Flights::new(InFlight::new(Ratio::ZERO).floor(1)));
            let other = Arc::clone(&flights);
            let thread = thread::spawn(move || Flights::withdraw(&other, Ratio::ONE));
            let mine = Flights::withdraw(&flights, Ratio::ONE);
            let theirs = thread.join().unwrap();

            assert_eq!(usize::from(mine.is_some()) + usize::from(theirs.is_some()), 1);
            drop((mine, theirs));
            assert_eq!(flights.balance(Ratio::ONE), 1);
        });
    }
}
