use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use buttress_core::{
    Change, Event, Judgement, Observe, Observers, Reason, Shared, Side, Verdict,
    cells::{Buckets, Counter},
};

use super::{
    Series, Sink,
    routes::{RouteCells, Routes},
    sink::Sinks,
};

/// What one layer shares with all that it builds.
#[derive(Debug)]
pub(super) struct State {
    name: Arc<str>,
    pub(super) side: Side,
    pub(super) started: Counter,
    degraded: Counter,
    pub(super) degraded_is_bad: AtomicBool,
    pub(super) routes: Routes,
    pub(super) sinks: Sinks,
    observers: Observers,
}

impl State {
    pub(super) fn new(name: Arc<str>, side: Side, routes: usize) -> Self {
        Self {
            name,
            side,
            started: Counter::new(),
            degraded: Counter::new(),
            degraded_is_bad: AtomicBool::new(false),
            routes: Routes::new(routes),
            sinks: Sinks::default(),
            observers: Observers::default(),
        }
    }

    /// Counts a call that somebody else answered, and judges it. What is bad anyway stays so.
    pub(super) fn degraded(&self, judgement: Judgement) -> Judgement {
        if judgement.verdict != Verdict::Good {
            return judgement;
        }
        self.degraded.increment();
        if self.degraded_is_bad.load(Ordering::Relaxed) {
            return Judgement::new(Verdict::Bad, Reason::Degraded);
        }
        judgement
    }

    pub(super) fn emit(&self, change: Change) {
        self.observers.emit(&Event { layer: "sli", name: &self.name, key: None, change });
    }
}

/// Reads the counts of an [`SliLayer`](super::SliLayer) while it works.
#[derive(Clone, Debug)]
pub struct SliHandle {
    pub(super) state: Shared<State>,
}

impl SliHandle {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// On whose side it records.
    #[must_use]
    pub fn side(&self) -> Side {
        self.state.side
    }

    /// The calls that have ended, over all routes.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.routes.iter().map(counts).fold(Counts::default(), Counts::plus)
    }

    /// The calls that have ended, by route and kind of answer, and those under way.
    #[must_use]
    pub fn snapshot(&self) -> SliSnapshot {
        let routes: Vec<_> = self.state.routes.iter().map(route_counts).collect();
        // Read after the ends: a call that ends in between is then still counted as under way,
        // and never the other way round.
        let started = self.state.started.total();
        let ended: u64 = routes.iter().map(|route| route.counts().total()).sum();
        SliSnapshot { routes, in_flight: started.saturating_sub(ended) }
    }

    /// How many of the calls that ended well somebody else answered in the service's stead: part
    /// of the good ones, or of the bad ones if they
    /// [count as bad](super::SliLayer::degraded_is_bad).
    #[must_use]
    pub fn degraded(&self) -> u64 {
        self.state.degraded.total()
    }

    /// Hands every call that comes from now on to `sink` too, at its end.
    pub fn add_sink(&self, sink: impl Sink) {
        self.state.sinks.add(Arc::new(sink));
    }

    /// Tells `observer` of what happens to the layer from now on.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.state.observers.add(observer);
    }

    /// Whether nothing but this handle is left: no layer, no service, no call, no other handle.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.state.is_last()
    }

    /// What tells this layer from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        self.state.id()
    }
}

fn counts(route: &RouteCells) -> Counts {
    let series = route.series().map(|(series, histogram)| (series.verdict, histogram.read()));
    Counts::of(series.map(|(verdict, buckets)| (verdict, buckets.count())))
}

fn route_counts(route: &RouteCells) -> RouteCounts {
    let series = route
        .series()
        .map(|(series, histogram)| SeriesCounts { series: *series, durations: histogram.read() });
    RouteCounts { route: route.template.clone(), series: series.collect() }
}

/// Calls by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that got what was promised.
    pub good: u64,
    /// Calls that did not.
    pub bad: u64,
    /// Calls that count for nothing.
    pub excluded: u64,
}

impl Counts {
    fn of(counts: impl Iterator<Item = (Verdict, u64)>) -> Self {
        counts.fold(Self::default(), |mut sum, (verdict, count)| {
            match verdict {
                Verdict::Good => sum.good += count,
                Verdict::Bad => sum.bad += count,
                Verdict::Excluded => sum.excluded += count,
            }
            sum
        })
    }

    fn plus(self, other: Self) -> Self {
        Self {
            good: self.good + other.good,
            bad: self.bad + other.bad,
            excluded: self.excluded + other.excluded,
        }
    }

    /// The calls of one verdict.
    #[must_use]
    pub const fn of_verdict(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Good => self.good,
            Verdict::Bad => self.bad,
            Verdict::Excluded => self.excluded,
        }
    }

    /// All calls.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.good + self.bad + self.excluded
    }
}

/// What an [`SliLayer`](super::SliLayer) has counted.
#[derive(Clone, Debug)]
pub struct SliSnapshot {
    /// By route. Those that were called, and those that were named beforehand.
    pub routes: Vec<RouteCounts>,
    /// Calls that have started and not ended.
    pub in_flight: u64,
}

/// What one route has answered.
#[derive(Clone, Debug)]
pub struct RouteCounts {
    /// The template; empty for calls that nothing tells the route of.
    pub route: Box<str>,
    /// By kind of answer.
    pub series: Vec<SeriesCounts>,
}

impl RouteCounts {
    /// The calls by verdict.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::of(self.series.iter().map(|kind| (kind.series.verdict, kind.durations.count())))
    }
}

/// How long answers of one kind took.
#[derive(Clone, Copy, Debug)]
pub struct SeriesCounts {
    /// The kind.
    pub series: Series,
    /// From the call to the end of the body.
    pub durations: Buckets,
}
