use std::time::SystemTime;

use crate::{
    Counts, Exclusion, Happening, Method, Moment, Name, Period, Tracker, TrackerError,
    maintenance::unix, track::Track,
};

impl Tracker {
    /// Excuses an objective for a time that has passed: what it counted from `from` on and before
    /// `until` is taken out of every window, and out of the budget. For maintenance that nobody
    /// had announced, a fault of the measurement, or an outage that was agreed not to count.
    ///
    /// Both ends are exact to the slot of the ring that they fall into; see [`WindowCounts`]. What
    /// is known of a time slice that is under way is forgotten, if all of it so far is excused.
    /// Alerts and the policy look again at the next tick, and a policy rises as slowly as ever.
    /// What was counted in events is counted as excluded by maintenance as well. The counts of
    /// the recorder stay, since whoever scrapes them would take it for a restart if they went
    /// back: what Prometheus computes from them still has it.
    ///
    /// # Errors
    ///
    /// If there is no such objective.
    ///
    /// [`WindowCounts`]: crate::WindowCounts
    pub fn excuse(
        &mut self,
        objective: &Name,
        from: SystemTime,
        until: SystemTime,
    ) -> Result<Happening, TrackerError> {
        let now = self.now();
        let period = Period { start: unix(from), end: unix(until) };
        let track = self.tracks.iter_mut().find(|track| track.objective.name() == objective);
        let track = track.ok_or_else(|| TrackerError::Unknown(objective.clone()))?;
        let counts = track.excuse(period, now);
        track.publish(&self.gaps, now);
        Ok(Happening::Excused { objective: objective.clone(), period, counts })
    }
}

impl Track {
    fn excuse(&mut self, period: Period, now: Moment) -> Counts {
        // By today's wall clock, as the start of a period of the calendar is.
        let offset = now.steady.saturating_sub(now.wall);
        let steady = |wall: i64| wall.saturating_add(offset);
        let taken = self.ring.take_out(steady(period.start), steady(period.end));
        self.excused = self.excused.plus(taken.counts);
        if let Some((period, at_start)) = &mut self.period {
            *at_start = taken.apply(steady(period.start), *at_start);
        }
        self.excuse_slice(steady(period.start), steady(period.end), now);
        if self.objective.method() == Method::Occurrences {
            self.recorder.exclude(Exclusion::Maintenance, taken.counts.total());
        }
        taken.counts
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        Share, SliceLength, TimeSlices, Window, Zone,
        testing::{Bench, available},
    };

    const GOOD: Counts = Counts { good: 10, bad: 0 };
    const BAD: Counts = Counts { good: 0, bad: 10 };

    fn ago(bench: &Bench, seconds: u64) -> SystemTime {
        bench.clocks.wall - Duration::from_secs(seconds)
    }

    fn excuse(bench: &mut Bench, from: u64, until: u64) -> Counts {
        let (from, until) = (ago(bench, from), ago(bench, until));
        match bench.tracker.excuse(&"up".parse().unwrap(), from, until).unwrap() {
            Happening::Excused { counts, .. } => counts,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_outage_that_is_excused_is_out_of_every_window_and_the_page_with_it() {
        let mut bench = Bench::new([available("up", "99.9")]);
        bench.month("up", 10);
        // On the steps of the finest ring, so that nothing is left of it.
        bench.run("up", 600, 1, BAD);
        bench.run("up", 60, 1, GOOD);
        assert!(bench.tracker.standings()[0].paging);
        let exported = bench.tracker.recorder("up").unwrap().counts();

        let counts = excuse(&mut bench, 660, 60);

        assert_eq!(counts, Counts { good: 0, bad: 6_000 });
        for window in [300, 3_600, 21_600, 86_400, 259_200, 2_592_000] {
            assert_eq!(bench.counts("up", window).bad, 0, "{window} s");
        }
        assert_eq!(bench.counts("up", 300), Counts { good: 600, bad: 0 });
        assert_eq!(bench.tracker.numbers("up").unwrap().budget.remaining(), Share::ONE);
        let recorder = bench.tracker.recorder("up").unwrap();
        assert_eq!(recorder.counts(), exported, "what was exported stays");
        let excluded = recorder.excluded().find(|(why, _)| *why == Exclusion::Maintenance);
        assert_eq!(excluded, Some((Exclusion::Maintenance, 6_000)));

        bench.run("up", 1, 1, GOOD);
        let standing = &bench.tracker.standings()[0];
        assert!(!standing.paging);
        assert_eq!(&*standing.level, "slow", "an hour on its level, as ever");
        assert_eq!(bench.counts("up", 300), Counts { good: 610, bad: 0 }, "and it counts on");
    }

    #[test]
    fn only_what_was_counted_then_is_taken_out_and_only_of_that_objective() {
        let mut bench = Bench::new([available("up", "99.9"), available("stock", "99")]);
        bench.run("up", 100, 1, BAD);
        bench.run("stock", 100, 1, BAD);
        bench.run("up", 100, 1, BAD);

        assert_eq!(excuse(&mut bench, 250, 50), Counts { good: 0, bad: 1_000 });
        assert_eq!(bench.counts("up", 3_600), Counts { good: 0, bad: 1_000 });
        assert_eq!(bench.counts("stock", 3_600), Counts { good: 0, bad: 1_000 });
        assert_eq!(excuse(&mut bench, 250, 50), Counts::default(), "once");
        assert_eq!(excuse(&mut bench, 50, 100), Counts::default(), "backwards");
        let (from, until) = (ago(&bench, 10), ago(&bench, 0) + Duration::from_secs(60));
        bench.tracker.excuse(&"up".parse().unwrap(), from, until).unwrap();
        bench.run("up", 1, 1, BAD);
        assert_eq!(bench.counts("up", 3_600), Counts { good: 0, bad: 910 }, "not what comes");
        let nobody = bench.tracker.excuse(&"nobody".parse().unwrap(), from, until);
        assert_eq!(nobody.unwrap_err().to_string(), "there is no objective named nobody");
    }

    #[test]
    fn a_slice_under_way_that_is_excused_is_judged_by_what_comes_after() {
        let minutes = TimeSlices::new(SliceLength::Minute, "95%".parse().unwrap());
        for (from, judged) in [
            (90, Counts { good: 1, bad: 0 }),
            (30, Counts { good: 1, bad: 1 }),
            // Of a part of it nobody can tell what came in it.
            (29, Counts { good: 0, bad: 2 }),
        ] {
            let up = available("up", "99.9").counted_by(Method::TimeSlices(minutes));
            let mut bench = Bench::new([up]);
            bench.run("up", 90, 1, BAD);

            excuse(&mut bench, from, 0);
            bench.run("up", 30, 1, GOOD);

            assert_eq!(bench.counts("up", 3_600), judged, "the last {from} s");
        }
    }

    #[test]
    fn what_is_excused_stays_so_through_a_restart() {
        let mut bench = Bench::new([available("up", "99.9")]);
        bench.run("up", 100, 1, BAD);
        bench.run("up", 100, 1, GOOD);
        excuse(&mut bench, 200, 100);

        let snapshot = bench.tracker.snapshot(crate::InstanceId::new(1));
        let mut other = Bench::at(bench.clocks, [available("up", "99.9")]);
        other.tracker.restore(&snapshot).unwrap();
        other.run("up", 10, 1, GOOD);

        assert_eq!(other.counts("up", 3_600), Counts { good: 1_100, bad: 0 });
    }

    #[test]
    fn a_month_of_the_calendar_that_began_after_it_keeps_its_own() {
        let month = Window::month(Zone::UTC);
        let mut bench = Bench::new([available("up", "99").over(month)]);
        bench.run("up", 31 * 1_440 - 60, 60, GOOD);
        bench.run("up", 60, 60, BAD);
        bench.run("up", 60, 60, Counts { good: 9, bad: 1 });
        let before = bench.tracker.numbers("up").unwrap().budget.counts();
        assert_eq!(before, Counts { good: 540, bad: 60 }, "of February");

        assert_eq!(excuse(&mut bench, 7_200, 3_600), Counts { good: 0, bad: 600 });
        assert_eq!(bench.tracker.numbers("up").unwrap().budget.counts(), before);
        excuse(&mut bench, 1_800, 0);
        let after = bench.tracker.numbers("up").unwrap().budget.counts();
        assert_eq!(after, Counts { good: 270, bad: 30 });
    }

    proptest! {
        #![proptest_config(crate::testing::fewer(32))]

        /// Against a log of all events, from which those of the time are struck.
        #[test]
        fn windows_without_it_are_what_the_log_without_it_says(
            traffic in prop::collection::vec((0..5_u64, 0..3_u64), 1..2_000),
            from in 0..2_000_u64,
            length in 0..1_000_u64,
            more in prop::collection::vec((0..5_u64, 0..3_u64), 0..100),
        ) {
            let mut bench = Bench::new([available("up", "99.9")]);
            for (good, bad) in &traffic {
                bench.run("up", 1, 1, Counts { good: *good, bad: *bad });
            }
            // On the steps of the finest ring, which reaches back for six minutes.
            let (from, until) = (from / 5 * 5, (from + length) / 5 * 5);
            let reaches = (traffic.len() as u64).saturating_sub(360);
            prop_assume!(from >= reaches);
            let total = bench.counts("up", 86_400);
            let struck = traffic.iter().zip(1..).filter(|(_, at)| (from + 1..=until).contains(at));
            let struck = struck.fold(Counts::default(), |sum, ((good, bad), _)| {
                sum.plus(Counts { good: *good, bad: *bad })
            });
            let start = traffic.len() as u64;
            let ago = |second: u64| bench.clocks.wall - Duration::from_secs(start) + Duration::from_secs(second);
            let (from, until) = (ago(from), ago(until));

            let name = "up".parse().unwrap();
            let Happening::Excused { counts, .. } = bench.tracker.excuse(&name, from, until).unwrap()
            else { unreachable!() };

            prop_assert_eq!(counts, struck);
            prop_assert_eq!(bench.counts("up", 86_400), total.since(struck));
            let mut added = Counts::default();
            for (good, bad) in more {
                bench.run("up", 1, 1, Counts { good, bad });
                added = added.plus(Counts { good, bad });
            }
            prop_assert_eq!(bench.counts("up", 86_400), total.since(struck).plus(added));
            // No window has less than a longer one lacks: cumulative counts never go back.
            let windows = [1, 60, 300, 1_800, 3_600, 7_200, 86_400];
            let held = windows.map(|window| bench.counts("up", window));
            prop_assert!(held.is_sorted_by_key(|counts| counts.bad));
        }
    }
}
