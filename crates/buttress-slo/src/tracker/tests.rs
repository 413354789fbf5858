use buttress_core::{TimeLimit, cells::stripes};

use super::*;
use crate::{
    AlertState, Burn, Change, Combine, Exclusion, Exhaustion, Method, Period, Policy, Ratio,
    Release, Share, SliceLength, TimeSlices, Window, Zone,
    gate::{Ask, Scope, decide},
    testing::{Bench, available},
};

mod time;

const DAY: u64 = 86_400;
const MONTH: u64 = 30 * DAY;

fn good(events: u64) -> Counts {
    Counts { good: events, bad: 0 }
}

fn bad(events: u64) -> Counts {
    Counts { good: 0, bad: events }
}

#[test]
fn an_outage_pages_slows_releases_and_is_written_up() {
    // slo.md 10, scenario 32, from the recorder to the gate.
    let mut bench = Bench::new([available("up", "99.9")]);
    bench.month("up", 10);
    let signal = bench.tracker.signal("up").unwrap();
    assert_eq!(signal.release(), Release::Freely);
    assert!(signal.allows_chaos(Burn::ONE));

    let outage = bench.run("up", 52, 1, bad(10));

    let page = Happening::Alert {
        objective: "up".parse().unwrap(),
        rule: "page-fast".into(),
        severity: Severity::Page,
        from: AlertState::Quiet,
        to: AlertState::Firing { since: bench.tracker.now().steady },
    };
    assert_eq!(outage[0], page);
    assert_eq!(outage[0].to_string(), "up: page page-fast is firing, was quiet");
    assert!(matches!(&outage[1], Happening::Level { to, .. } if &**to == "slow"), "{outage:?}");
    assert_eq!(outage.len(), 2);
    let severity = |severity| bench.tracker.severity("up", severity).unwrap().as_str();
    assert_eq!((severity(Severity::Page), severity(Severity::Ticket)), ("firing", "quiet"));
    assert!(signal.is_paging() && signal.sheds() && !signal.allows_chaos(Burn::times(1_000)));
    // 52 s of 300 are bad: a burn of 173.34 over five minutes.
    assert_eq!(signal.retry_share(Burn::times(10)).to_string(), "0.057692307");
    let standings = bench.tracker.standings();
    let decision = decide(&standings, &Ask::new(Change::Feature, Scope::Instance));
    assert!(decision.to_string().contains("a page fires"), "{decision}");

    bench.run("up", 548, 1, bad(10));
    let numbers = bench.tracker.numbers("up").unwrap();
    assert_eq!(numbers.budget.consumed().to_string(), "23.148%");
    let recovery = bench.run("up", 1_790, 1, good(10));

    let cleared = recovery.iter().filter(|happening| {
        matches!(
            happening,
            Happening::Alert { severity: Severity::Page, to: AlertState::Quiet, .. }
        )
    });
    assert_eq!(cleared.count(), 2);
    assert!(!signal.is_paging(), "2390 s after it began");
    let written_up: Vec<_> = recovery
        .iter()
        .filter_map(|happening| match happening {
            Happening::PostmortemDue { spent, .. } => Some(spent.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(written_up, ["23.148%"], "once, when the last page clears");
    bench.run("up", 3_600, 1, good(10));
    assert_eq!(bench.tracker.standings()[0].level, "normal".into(), "76.8 % is not 77 %");
}

#[test]
fn without_events_there_is_no_data_and_nothing_fires() {
    // Scenario 8.
    let mut bench = Bench::new([available("up", "99.9")]);

    let happened = bench.run("up", 4_000, 1, Counts::default());

    let numbers = bench.tracker.numbers("up").unwrap();
    assert_eq!((numbers.sli(), numbers.has_data(), numbers.quiet_for), (None, false, None));
    assert_eq!(numbers.budget.remaining(), Share::ONE);
    assert!(numbers.burns.iter().all(|burn| burn.burn.is_none()));
    assert_eq!(numbers.forecast.rolling, Exhaustion::Unknown);
    assert_eq!(happened, []);
    assert!(!bench.tracker.standings()[0].has_data);
}

#[test]
fn excluded_events_are_no_data() {
    // Scenario 9.
    let mut bench = Bench::new([available("up", "99.9")]);

    bench.tracker.recorder("up").unwrap().exclude(Exclusion::ClientError, 10_000);
    bench.after(1);

    let numbers = bench.tracker.numbers("up").unwrap();
    assert_eq!((numbers.sli(), numbers.has_data()), (None, false));
    assert_eq!(numbers.budget.remaining(), Share::ONE);
}

#[test]
fn the_first_failure_of_a_process_neither_pages_nor_freezes() {
    // Scenario 48.
    let mut bench = Bench::new([available("up", "99.9")]);

    let happened = bench.run("up", 1, 1, bad(1));

    assert_eq!(happened, []);
    let numbers = bench.tracker.numbers("up").unwrap();
    assert_eq!(numbers.sli(), Some(Ratio::ZERO), "the SLI is what it is");
    assert_eq!(numbers.budget.consumed().to_string(), "0.039%", "a second of 2592");
    assert_eq!(numbers.budget.coverage().observed_seconds(), 1);
    let signal = bench.tracker.signal("up").unwrap();
    assert_eq!(signal.burn().unwrap().to_string(), "3.333334", "a second of five minutes");
    assert_eq!(signal.retry_share(Burn::times(14)), Ratio::ONE);

    let happened = bench.run("up", 51, 1, bad(1));
    assert!(matches!(happened[0], Happening::Alert { .. }), "52 s of it page");
}

#[test]
fn a_step_of_the_wall_clock_leaves_the_windows_as_they_are() {
    // Scenario 51.
    let mut bench = Bench::new([available("up", "99.9")]);
    bench.run("up", 600, 1, Counts { good: 9, bad: 1 });
    let before = bench.counts("up", 300);

    bench.clocks.wall += Duration::from_secs(7200);
    let happened = bench.run("up", 1, 1, Counts { good: 9, bad: 1 });

    assert_eq!(bench.counts("up", 300), before);
    assert_eq!(bench.tracker.clock_changes(), 1);
    assert!(matches!(happened[0], Happening::Clock(_)));
    bench.clocks.wall -= Duration::from_secs(4 * 3600);
    bench.run("up", 1, 1, Counts { good: 9, bad: 1 });
    assert_eq!(bench.counts("up", 300), before);
    assert_eq!(bench.tracker.clock_changes(), 2);
}

#[test]
fn sleep_empties_the_short_windows_and_is_not_observed() {
    // Scenario 52.
    let mut bench = Bench::new([available("up", "99.9")]);
    bench.clocks.boot = Some(Duration::ZERO);
    bench.run("up", 600, 1, Counts { good: 9, bad: 1 });
    let month = bench.counts("up", MONTH);

    let hours = Duration::from_secs(7200);
    bench.clocks.wall += hours;
    bench.clocks.boot = bench.clocks.boot.map(|boot| boot + hours);
    bench.after(1);

    assert_eq!(bench.counts("up", 3600), Counts::default());
    assert_eq!(bench.counts("up", MONTH), month);
    let (_, coverage) = bench.tracker.window("up", Duration::from_secs(3600)).unwrap();
    assert_eq!(coverage.observed_seconds(), 0);
    let seen = bench.tracker.numbers("up").unwrap().budget.coverage().observed_seconds();
    assert_eq!(seen, 601, "and the second after it");
}

#[test]
fn a_late_tick_that_brings_events_is_no_gap() {
    // Whoever ticks only when a page is read still spends what is spent.
    let mut bench = Bench::new([available("up", "99.9")]);

    let happened = bench.run("up", 6, 600, bad(600));

    assert_eq!(happened[0].to_string(), "the ticker was held up: the last tick was 600s ago");
    let budget = bench.tracker.numbers("up").unwrap().budget;
    assert_eq!(budget.coverage().observed_seconds(), 3_600);
    assert_eq!(budget.consumed().to_string(), "138.889%", "an hour of 43 min 12 s");

    bench.after(600);
    let budget = bench.tracker.numbers("up").unwrap().budget;
    assert_eq!(budget.coverage().observed_seconds(), 3_600, "one that brings none is");
}

#[test]
fn a_month_begins_with_a_full_budget_at_local_midnight() {
    let berlin: Zone = "Europe/Berlin".parse().unwrap();
    let mut bench = Bench::new([available("up", "99").over(Window::month(berlin))]);
    // Midnight in Berlin comes 743 hours after the new year of UTC.
    bench.run("up", 743 * 72 - 1, 50, Counts { good: 90, bad: 10 });
    let january = bench.tracker.numbers("up").unwrap();

    let begun = bench.run("up", 1, 50, Counts { good: 90, bad: 10 });
    let at_once = bench.tracker.numbers("up").unwrap();
    bench.run("up", 38, 1, Counts { good: 90, bad: 10 });

    assert_eq!(
        january.period,
        Period { start: at("2025-12-31T23:00:00Z"), end: at("2026-01-31T23:00:00Z") }
    );
    assert_eq!(january.budget.counts().total(), 100 * (743 * 72 - 1));
    let words: Vec<_> = begun.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "up: a new budget for 2026-01-31T23:00:00Z to 2026-02-28T22:59:59Z",
            // A tenth of all fails, so that a page still fires.
            "up: the policy is on slow, was on freeze; 100% is left",
        ]
    );
    assert_eq!(at_once.budget.remaining(), Share::ONE);
    let february = bench.tracker.numbers("up").unwrap();
    assert!(february.observed.is_full() && february.budget.coverage().observed_seconds() == 38);
    assert_eq!(february.budget.counts(), Counts { good: 90 * 38, bad: 10 * 38 });

    // A wall clock that is set back goes back to January, and what was counted stays there.
    bench.clocks.wall -= Duration::from_secs(3600);
    bench.after(1);
    let back = bench.tracker.numbers("up").unwrap();
    assert_eq!(back.period, january.period);
    assert_eq!(back.budget.counts().total(), 100 * (743 * 72 + 38));
}

fn at(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

#[test]
fn maintenance_excludes_what_ends_within_it() {
    let start = crate::testing::clocks();
    let planned = Maintenance::planned(
        start.wall + Duration::from_secs(10),
        start.wall + Duration::from_secs(20),
    );
    let mut bench = Bench::at(start, [available("up", "99.9")]);
    bench.tracker = bench.tracker.with_maintenance([planned]);

    let happened = bench.run("up", 30, 1, bad(1));

    let recorder = bench.tracker.recorder("up").unwrap();
    // Each second's events come before its tick: the tick at 10 begins it, that at 20 ends it.
    assert_eq!(recorder.counts(), bad(20));
    let excluded: Vec<_> = recorder.excluded().filter(|(_, events)| *events > 0).collect();
    assert_eq!(excluded, [(Exclusion::Maintenance, 10)]);
    assert_eq!(happened, [Happening::Maintenance(true), Happening::Maintenance(false)]);

    bench.tracker.begin_maintenance(Duration::from_secs(3600));
    bench.after(1);
    assert!(bench.tracker.in_maintenance());
    bench.tracker.end_maintenance();
    bench.after(1);
    assert!(!bench.tracker.in_maintenance());
}

#[test]
fn a_changed_target_keeps_the_counts() {
    let mut bench = Bench::new([available("up", "99.9")]);
    bench.run("up", 1, 1, Counts { good: 99, bad: 1 });
    let before = bench.tracker.numbers("up").unwrap().budget;

    bench.tracker.retarget(&"up".parse().unwrap(), "99".parse().unwrap()).unwrap();

    let after = bench.tracker.numbers("up").unwrap().budget;
    assert_eq!(after.counts(), before.counts());
    assert!(after.remaining() > before.remaining());
    let unknown = bench.tracker.retarget(&"down".parse().unwrap(), "99".parse().unwrap());
    assert_eq!(unknown.unwrap_err().to_string(), "there is no objective named down");
}

#[test]
fn a_composite_stands_as_the_worst_of_its_parts() {
    // Scenario 57.
    let policy = Policy::quarters().rising_slowly(Share::ZERO, Duration::ZERO);
    let mut bench = Bench::new([available("a", "99.9"), available("b", "99.9")]);
    let name = |name: &str| name.parse::<Name>().unwrap();
    let both = Composite::new(name("both"), Combine::Any, [name("a"), name("b")]);
    bench.tracker.compose(both.with_policy(policy)).unwrap();
    bench.run("a", MONTH / 50, 50, Counts::default());
    bench.tracker.recorder("a").unwrap().add(Counts { good: 999_500, bad: 500 });
    bench.tracker.recorder("b").unwrap().add(Counts { good: 998_900, bad: 1_100 });
    let happened = bench.after(1);

    let standings = bench.tracker.standings();
    let left: Vec<_> = standings.iter().map(|one| one.remaining.to_string()).collect();

    assert_eq!(left, ["50%", "-10%", "-10%"]);
    assert_eq!(&*standings[2].level, "freeze");
    let told = happened.iter().any(|one| {
        matches!(one, Happening::Level { name, to, .. } if name.as_str() == "both" && &**to == "freeze")
    });
    assert!(told, "{happened:?}");
    let twice = bench.tracker.add(available("both", "99"));
    assert_eq!(twice, Err(TrackerError::Duplicate(name("both"))));
    let stray = Composite::new(name("stray"), Combine::Any, [name("c")]);
    assert_eq!(bench.tracker.compose(stray), Err(TrackerError::Unknown(name("c"))));
}

#[test]
fn a_composite_of_which_nothing_could_ever_be_left_is_refused() {
    // It would stand nowhere, and the gate would never hear of it.
    let name = |name: &str| name.parse::<Name>().unwrap();
    let mut bench = Bench::new([available("a", "99.9")]);
    let empty = Composite::new(name("all"), Combine::Any, []);
    let weightless = Composite::new(name("all"), Combine::Weighted, []).weighing(name("a"), 0);

    for composite in [empty, weightless] {
        let error = bench.tracker.compose(composite).unwrap_err();
        assert_eq!(error, TrackerError::Weightless(name("all")));
        assert!(error.to_string().contains("give it a part that weighs something"), "{error}");
    }
}

#[test]
fn an_objective_takes_the_bytes_that_the_docs_state() {
    let bench = Bench::new([available("up", "99.9")]);

    let cells = 256 * stripes();
    assert_eq!(bench.tracker.bytes("up"), Some(21_408 + cells));
    assert!(cells <= 4_096);
}

#[test]
fn the_history_adds_up_to_all_that_was_counted() {
    let mut bench = Bench::new([available("up", "99.9")]);
    bench.run("up", 200, 60, Counts { good: 5, bad: 1 });

    let history = bench.tracker.history("up").unwrap();

    let sum = history.iter().fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts));
    assert_eq!(sum, Counts { good: 1_000, bad: 200 });
    let (start, last) = *history.last().unwrap();
    assert_eq!(start.rem_euclid(3600), 0);
    assert_eq!(last, Counts { good: 5 * 20, bad: 20 }, "twenty minutes of the fourth hour");
}

#[test]
fn slices_go_the_way_of_events() {
    // Scenario 42, through the tracker: 43 bad minutes of 43,200.
    let minutes = TimeSlices::new(SliceLength::Minute, "95%".parse().unwrap());
    let mut bench = Bench::new([available("up", "99.9").counted_by(Method::TimeSlices(minutes))]);

    bench.run("up", 43, 60, Counts { good: 18, bad: 2 });
    bench.run("up", 43_200 - 43, 60, Counts { good: 19, bad: 1 });

    let numbers = bench.tracker.numbers("up").unwrap();
    assert_eq!(numbers.budget.counts(), Counts { good: 43_157, bad: 43 });
    assert_eq!(numbers.budget.remaining().to_string(), "0.463%");
}

#[test]
fn a_window_of_five_minutes_pages_when_its_quantile_is_over() {
    let fast =
        crate::Sli::Latency { within: TimeLimit::from_millis(500), part: crate::Part::Total };
    let window = Window::sliding(TimeLimit::from_secs(300));
    let objective =
        Objective::new("p99".parse().unwrap(), fast, "99".parse().unwrap()).over(window);
    let mut bench = Bench::new([objective]);
    bench.run("p99", 400, 1, good(100));

    let slow = bench.run("p99", 4, 1, bad(100));
    let recovery = bench.run("p99", 300, 1, good(100));

    // 3 s of 300 are exactly 1 %; the fourth is more.
    let fired = AlertState::Firing { since: bench.tracker.now().steady - 300 };
    assert!(slow.iter().any(|one| matches!(one, Happening::Alert { to, .. } if *to == fired)));
    assert_eq!(slow.iter().filter(|one| matches!(one, Happening::Alert { .. })).count(), 1);
    assert!(
        recovery
            .iter()
            .any(|one| { matches!(one, Happening::Alert { to: AlertState::Quiet, .. }) })
    );
    assert_eq!(bench.tracker.bytes("p99"), Some(1_184 + 256 * stripes()));
}

#[test]
fn it_can_be_shared_behind_a_lock() {
    fn is_shared<T: Send + Sync>(_: &T) {}

    let bench = Bench::new([available("up", "99")]);
    is_shared(&bench.tracker);
    is_shared(&bench.tracker.recorder("up"));
}

#[test]
fn two_objectives_of_one_name_are_refused() {
    let two = [available("up", "99"), available("up", "99.9")];
    let error = Tracker::new("shop".parse().unwrap(), two, crate::testing::clocks()).unwrap_err();

    assert!(error.to_string().contains("name one of them otherwise"));
}

/// What is left and when it will be spent, of an objective that agrees with itself.
fn left_and_wait(bench: &Bench) -> (Share, Exhaustion) {
    let numbers = bench.tracker.numbers("up").unwrap();
    (numbers.budget.remaining(), numbers.forecast.rolling)
}

#[test]
fn a_budget_that_is_spent_is_spent_also_while_nothing_fails() {
    let mut bench = Bench::new([available("up", "99.9")]);
    bench.run("up", 3_600, 1, bad(1));

    bench.run("up", 2 * 3_600, 1, good(1));

    let (left, wait) = left_and_wait(&bench);
    assert!(left < Share::ZERO, "an hour of the 43 minutes of a month: {left}");
    assert_eq!(wait, Exhaustion::In(Duration::ZERO));
    let naive = bench.tracker.numbers("up").unwrap().forecast.naive;
    assert_eq!(naive, wait);

    // Nor does it need traffic to be so.
    bench.run("up", 2 * 3_600, 1, Counts::default());
    let forecast = bench.tracker.numbers("up").unwrap().forecast;
    assert_eq!((forecast.naive, forecast.rolling), (wait, wait));
}

#[test]
fn what_was_not_observed_had_the_traffic_of_the_rest_for_the_forecast_too() {
    // Ten busy hours with a few failures too many, and a quiet one: budgets scale by what was seen
    // of the month, and so do forecasts, or they would say spent where 96 % is left.
    let mut bench = Bench::new([available("up", "99.9")]);
    let quiet_hour = |bench: &mut Bench| {
        bench.run("up", 1, 1, bad(1));
        bench.run("up", 3_599, 1, good(1));
    };
    bench.run("up", 3_600, 10, Counts { good: 997, bad: 3 });

    quiet_hour(&mut bench);

    // In four weeks the busy hours will be all that was busy in the window, and too much.
    let (left, wait) = left_and_wait(&bench);
    assert!(left > Share::percent(95), "{left}");
    assert!(matches!(wait, Exhaustion::In(wait) if wait > Duration::from_secs(28 * DAY)), "{wait}");

    // Nor is a machine that sleeps for weeks one that was there without traffic.
    let weeks = Duration::from_secs(20 * DAY);
    bench.clocks.boot = Some(Duration::ZERO);
    bench.after(1);
    bench.clocks.wall += weeks;
    bench.clocks.boot = bench.clocks.boot.map(|boot| boot + weeks);
    quiet_hour(&mut bench);
    let (left, wait) = left_and_wait(&bench);
    assert!(left > Share::percent(95), "{left}");
    assert_eq!(wait, Exhaustion::Never);
}

#[test]
fn an_incident_of_exactly_the_share_is_not_written_up_and_one_of_more_is() {
    for (share, written_up) in [(231_481_482, false), (231_481_481, true)] {
        let policy = Policy::quarters().postmortem_above(Share::per_billion(share));
        let mut bench = Bench::new([available("up", "99.9").with_policy(policy)]);
        bench.month("up", 10);
        bench.run("up", 600, 1, bad(10));

        let told = bench.run("up", 1_800, 1, good(10));

        let due = told.iter().any(|one| matches!(one, Happening::PostmortemDue { .. }));
        assert_eq!(due, written_up, "600 s of 2,592 s are 23.1481481 % and a little");
    }
}

#[test]
fn clocks_that_are_put_back_past_midnight_give_a_new_budget_once() {
    // Newfoundland, 1 November 2009: at 00:01, which is 02:31 UTC, it was 23:01 of October again.
    let november = at("2009-11-01T02:30:00Z");
    for started in ["2009-11-01T02:00:00Z", "2009-11-01T02:45:00Z"] {
        let mut clocks = crate::testing::clocks();
        clocks.wall =
            std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(at(started).unsigned_abs());
        let month = Window::month("America/St_Johns".parse().unwrap());
        let mut bench = Bench::at(clocks, [available("up", "99").over(month)]);

        let told = bench.run("up", 180, 60, good(1));

        let begun: Vec<_> = told
            .iter()
            .filter_map(|one| match one {
                Happening::NewPeriod { period, .. } => Some(period.start),
                _ => None,
            })
            .collect();
        assert_eq!(begun, [november], "{started}");
    }
}
