use buttress_core::{Judgement, Timing};

use crate::{
    Counts, Exclusion, Exclusions, Name, Objective, Outcome, RouteSet, Sli,
    atomic::{AtomicBool, AtomicU64, Ordering},
    cells::Cells,
};

/// One call that has ended, as an SLI layer tells it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What it counts as, and why.
    pub judgement: Judgement,
    /// The template of its route; `None` where nothing tells.
    pub route: Option<&'a str>,
    /// How long it took.
    pub timing: Timing,
}

/// Where the events of one objective are counted.
///
/// Shared by whoever records; the tracker reads it once a tick. Recording a call compares its
/// route and its timing and adds to one striped atomic: no lock, no allocation, and no clock. That
/// took 7.7 ns where the addition alone took 5.3.
///
/// What it counts has started at 0 with the process, which is what a `_total` series needs: a
/// restored tracker knows of more, and exporting that would be counted twice.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::{Judgement, Reason, TimeLimit, Timing, Verdict};
/// use buttress_slo::{Call, Objective, Outcome, Part, Recorder, Sli};
///
/// let fast = Sli::Latency { within: TimeLimit::from_millis(300), part: Part::Total };
/// let recorder = Recorder::new(&Objective::new("fast".parse().unwrap(), fast, "95%".parse().unwrap()));
///
/// let call = Call {
///     judgement: Judgement::new(Verdict::Good, Reason::Status),
///     route: Some("/orders/{id}"),
///     timing: Timing { to_head: None, total: Duration::from_millis(300) },
/// };
/// assert_eq!(recorder.record(&call), Outcome::Good, "exactly the threshold is within it");
/// assert_eq!(recorder.counts().good, 1);
/// ```
#[derive(Debug)]
pub struct Recorder {
    name: Name,
    sli: Sli,
    routes: RouteSet,
    exclusions: Exclusions,
    maintenance: AtomicBool,
    cells: Cells,
    revised: Revised,
}

impl Recorder {
    /// An empty one for `objective`. A tracker makes its own.
    #[must_use]
    pub fn new(objective: &Objective) -> Self {
        Self {
            name: objective.name().clone(),
            sli: objective.sli(),
            routes: objective.routes().clone(),
            exclusions: objective.exclusions().clone(),
            maintenance: AtomicBool::new(false),
            cells: Cells::new(),
            revised: Revised::new(),
        }
    }

    /// The name of its objective.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether calls of a route are events here: who has many objectives asks once for each
    /// route.
    #[must_use]
    #[inline]
    pub fn covers(&self, route: Option<&str>) -> bool {
        self.sli != Sli::Events && self.routes.contains(route)
    }

    /// Counts a call, and says as what.
    #[inline]
    pub fn record(&self, call: &Call<'_>) -> Outcome {
        let outcome = self.outcome(call);
        self.cells.add(outcome, 1);
        outcome
    }

    #[inline]
    fn outcome(&self, call: &Call<'_>) -> Outcome {
        if !self.covers(call.route) {
            return Outcome::Outside;
        }
        match self.exclusions.apply(call.judgement, call.route) {
            Err(exclusion) => Outcome::Excluded(exclusion),
            Ok(_) if self.in_maintenance() => Outcome::Excluded(Exclusion::Maintenance),
            Ok(judgement) => self.sli.outcome(judgement, call.timing),
        }
    }

    /// Counts events that are no calls: jobs, probes, or verdicts that were waited for, of an
    /// objective whose calls are not counted until then; see [`Sli::Correctness`]. In maintenance
    /// they are excluded.
    ///
    /// What was counted as good already and is found bad later goes to [`Recorder::revise`].
    #[inline]
    pub fn add(&self, counts: Counts) {
        if self.in_maintenance() {
            self.cells.add(Outcome::Excluded(Exclusion::Maintenance), counts.total());
            return;
        }
        self.cells.add(Outcome::Good, counts.good);
        self.cells.add(Outcome::Bad, counts.bad);
    }

    /// Takes a verdict that comes late: so many events that were counted as good were bad, such
    /// as a token found forged or an order found lost. They are bad as of now, and were events of
    /// when they were counted.
    ///
    /// Counts never go back, since whoever scrapes them would take that for a restart. So the
    /// next good events stand for those that were not: until as many have come, there are so many
    /// too many in all, on the good side.
    ///
    /// ```
    /// use buttress_slo::{Counts, Objective, Recorder, Sli};
    ///
    /// let right = Objective::new("right".parse().unwrap(), Sli::Events, "99".parse().unwrap());
    /// let recorder = Recorder::new(&right);
    /// recorder.add(Counts { good: 10, bad: 0 });
    /// assert_eq!(recorder.counts(), Counts { good: 10, bad: 0 });
    ///
    /// recorder.revise(1);
    /// assert_eq!(recorder.counts(), Counts { good: 10, bad: 1 });
    /// recorder.add(Counts { good: 10, bad: 0 });
    /// assert_eq!(recorder.counts(), Counts { good: 19, bad: 1 });
    /// ```
    pub fn revise(&self, events: u64) {
        self.cells.add(Outcome::Bad, events);
        self.revised.add(events);
    }

    /// Counts events as excluded.
    #[inline]
    pub fn exclude(&self, exclusion: Exclusion, events: u64) {
        self.cells.add(Outcome::Excluded(exclusion), events);
    }

    /// The events of this process. Neither count is ever less than it was.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut bad = 0;
        let good = self.revised.good(|| {
            let counts = self.cells.counts();
            bad = counts.bad;
            counts.good
        });
        Counts { good, bad }
    }

    /// What this process has excluded, by reason; those that never happened are among it.
    pub fn excluded(&self) -> impl Iterator<Item = (Exclusion, u64)> + use<> {
        Exclusion::ALL.into_iter().zip(self.cells.excluded())
    }

    /// The bytes that its counts take, whatever it counts: 256 for each stripe, 4,096 at the
    /// most.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cells.bytes()
    }

    pub(crate) fn set_maintenance(&self, on: bool) {
        // Relaxed: an event near the edge may fall on either side, as one tick's may.
        self.maintenance.store(on, Ordering::Relaxed);
    }

    #[inline]
    fn in_maintenance(&self) -> bool {
        self.maintenance.load(Ordering::Relaxed)
    }
}

/// Takes what was found bad out of the good events, without their count ever going back.
#[derive(Debug)]
struct Revised {
    /// How many of those counted as good were bad after all.
    events: AtomicU64,
    /// The most good events that anybody was told of.
    told: AtomicU64,
}

impl Revised {
    fn new() -> Self {
        Self { events: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    fn add(&self, events: u64) {
        // Relaxed: addition has no order, and who reads it a moment later tells of a moment ago.
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    fn good(&self, counted: impl FnOnce() -> u64) -> u64 {
        let revised = self.events.load(Ordering::Relaxed);
        let good = counted().saturating_sub(revised);
        // Written by those who read, once a tick: no recorder fights over the line.
        good.max(self.told.fetch_max(good, Ordering::Relaxed))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::time::Duration;

    use buttress_core::{Reason, Verdict};

    use super::*;

    fn recorder(objective: &Objective) -> Recorder {
        Recorder::new(objective)
    }

    fn available() -> Objective {
        Objective::new("up".parse().unwrap(), Sli::Availability, "99.9".parse().unwrap())
    }

    fn call(verdict: Verdict, reason: Reason, route: &str) -> Call<'_> {
        let timing = Timing { to_head: None, total: Duration::ZERO };
        Call { judgement: Judgement::new(verdict, reason), route: Some(route), timing }
    }

    #[test]
    fn every_excluded_event_is_counted_by_its_reason() {
        let recorder = recorder(&available());

        recorder.record(&call(Verdict::Excluded, Reason::Status, "/"));
        recorder.record(&call(Verdict::Excluded, Reason::Left, "/"));
        recorder.record(&call(Verdict::Good, Reason::Status, "/healthz"));
        recorder.set_maintenance(true);
        recorder.record(&call(Verdict::Bad, Reason::Failed, "/"));
        recorder.add(Counts { good: 2, bad: 3 });

        let excluded: Vec<_> = recorder.excluded().filter(|(_, events)| *events > 0).collect();
        assert_eq!(
            excluded,
            [
                (Exclusion::ClientError, 1),
                (Exclusion::Left, 1),
                (Exclusion::Maintenance, 6),
                (Exclusion::HealthCheck, 1),
            ]
        );
        assert!(recorder.counts().is_empty());
    }

    #[test]
    fn calls_of_other_routes_are_no_events() {
        let recorder = recorder(&available().for_routes(RouteSet::only(["/cart"])));

        assert_eq!(recorder.record(&call(Verdict::Bad, Reason::Failed, "/")), Outcome::Outside);
        assert_eq!(recorder.record(&call(Verdict::Bad, Reason::Failed, "/cart")), Outcome::Bad);
        assert_eq!(recorder.counts(), Counts { good: 0, bad: 1 });
        assert_eq!(recorder.excluded().map(|(_, events)| events).sum::<u64>(), 0);
    }

    #[test]
    fn a_late_verdict_turns_a_good_event_into_a_bad_one_and_no_count_goes_back() {
        let recorder = recorder(&available());
        let good = |events| recorder.add(Counts { good: events, bad: 0 });
        let (mut last, mut all) = (Counts::default(), Vec::new());
        let mut look = || {
            let now = recorder.counts();
            assert!(now.good >= last.good && now.bad >= last.bad, "{now:?} after {last:?}");
            last = now;
            all.push((now.good, now.bad));
        };

        good(10);
        look();
        recorder.revise(3);
        look();
        good(2);
        look();
        good(2);
        look();
        // Nobody was told of them yet, so they were never good.
        good(5);
        recorder.revise(5);
        look();

        assert_eq!(all, [(10, 0), (10, 3), (10, 3), (11, 3), (11, 8)]);
    }

    #[test]
    fn a_late_verdict_counts_in_maintenance_as_the_call_came_before_it() {
        let recorder = recorder(&available());
        recorder.add(Counts { good: 2, bad: 0 });
        recorder.set_maintenance(true);

        recorder.revise(1);

        assert_eq!(recorder.counts(), Counts { good: 1, bad: 1 });
    }

    #[test]
    fn counts_do_not_go_back_for_anybody_while_verdicts_come_late() {
        let recorder = recorder(&available());
        recorder.add(Counts { good: 10_000, bad: 0 });
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..5_000).for_each(|_| recorder.revise(1)));
                scope.spawn(|| {
                    let mut last = Counts::default();
                    while last.bad < 10_000 {
                        let now = recorder.counts();
                        assert!(now.good >= last.good && now.bad >= last.bad);
                        last = now;
                    }
                });
            }
        });
        recorder.add(Counts { good: 10_000, bad: 0 });

        assert_eq!(recorder.counts(), Counts { good: 10_000, bad: 10_000 });
    }

    #[test]
    fn events_and_exclusions_are_added() {
        let recorder = recorder(&available());

        recorder.add(Counts { good: 0, bad: 1 });
        recorder.exclude(Exclusion::Application, 2);

        assert_eq!(recorder.counts(), Counts { good: 0, bad: 1 });
    }
}

/// Run with `RUSTFLAGS="--cfg buttress_loom" cargo test -p buttress-slo --release --lib loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::{sync::Arc, thread};

    use super::*;

    #[test]
    fn loom_a_late_verdict_moves_no_count_back() {
        loom::model(|| {
            let counted = Arc::new((AtomicU64::new(1), Revised::new()));
            let writer = Arc::clone(&counted);
            let writer = thread::spawn(move || {
                writer.1.add(1);
                writer.0.fetch_add(1, Ordering::Relaxed);
            });
            let told = || counted.1.good(|| counted.0.load(Ordering::Relaxed));

            let (first, second) = (told(), told());
            writer.join().unwrap();
            let last = told();

            assert!(first <= second && second <= last, "{first}, {second}, {last}");
            assert!((1..=2).contains(&last), "two were counted, and one of them was bad");
        });
    }
}
