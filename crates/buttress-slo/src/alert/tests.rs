use std::time::Duration;

use super::*;
use crate::{Budget, Burn, Counts, Coverage, Share, Target, Window, coverage::Gaps, ring::Ring};

const DAY: i64 = 86_400;
const MONTH: i64 = 30 * DAY;

/// A ring, the rules over it and their states: one objective, without the rest of a tracker.
#[derive(Clone)]
struct Bench {
    target: Target,
    plan: AlertPlan,
    alerts: Vec<Alert>,
    ring: Ring,
    total: Counts,
    since: i64,
    gaps: Gaps,
    last_event: Option<i64>,
}

impl Bench {
    /// After so many seconds of clean traffic.
    fn after(clean: i64, per_second: u64, target: &str, plan: AlertPlan) -> Self {
        let mut ring = Ring::new(MONTH.unsigned_abs(), -clean, Counts::default());
        let mut total = Counts::default();
        let fine = clean.min(3 * 3600);
        let coarse = usize::try_from((clean - fine) / 300).unwrap();
        let mut now = -clean;
        for step in [300].repeat(coarse).into_iter().chain((0..fine).map(|_| 1)) {
            now += step;
            total.good += per_second * step.unsigned_abs();
            ring.advance(now, total);
        }
        let target = target.parse().unwrap();
        let alerts = vec![Alert::default(); plan.rules().len()];
        let last_event = (clean > 0).then_some(0);
        let gaps = Gaps::default();
        Self { target, plan, alerts, ring, total, since: -clean, gaps, last_event }
    }

    fn month_of_traffic(per_second: u64, target: &str) -> Self {
        Self::after(MONTH, per_second, target, AlertPlan::for_window(&Window::THIRTY_DAYS))
    }

    fn view(&self) -> View<'_> {
        let (month, now) = (MONTH.unsigned_abs(), self.ring.now());
        let observed = self.gaps.observed(self.since, now - MONTH, now);
        let counts = self.ring.window(month).unwrap().counts;
        let budget = Budget::new(self.target, counts, Coverage::of_seconds(observed, month));
        let (ring, gaps) = (&self.ring, &self.gaps);
        View { ring, target: self.target, budget, since: self.since, gaps, unit: 1 }
    }

    /// A second in which so much came.
    fn tick(&mut self, good: u64, bad: u64) {
        self.total = self.total.plus(Counts { good, bad });
        self.ring.advance(self.ring.now() + 1, self.total);
        if good + bad > 0 {
            self.last_event = Some(self.ring.now());
        }
        let mut alerts = std::mem::take(&mut self.alerts);
        for (alert, rule) in alerts.iter_mut().zip(self.plan.rules()) {
            alert.step(rule, &self.plan, &self.view(), self.last_event);
        }
        self.alerts = alerts;
    }

    fn state(&self, name: &str) -> AlertState {
        let place = self.plan.rules().iter().position(|rule| rule.name() == name).unwrap();
        self.alerts[place].state
    }

    fn fires(&self, severity: Severity) -> bool {
        let rules = self.plan.rules().iter().zip(&self.alerts);
        rules
            .filter(|(rule, _)| rule.severity() == severity)
            .any(|(_, alert)| alert.state.is_firing())
    }
}

/// When the rules first fire and when they clear, by second, within `seconds`.
fn watch(bench: &mut Bench, seconds: i64, mut traffic: impl FnMut(i64) -> (u64, u64)) -> Watched {
    let mut watched = Watched::default();
    for second in 1..=seconds {
        let (good, bad) = traffic(second);
        bench.tick(good, bad);
        for (severity, edges) in
            [(Severity::Page, &mut watched.page), (Severity::Ticket, &mut watched.ticket)]
        {
            if bench.fires(severity) == edges.len().is_multiple_of(2) {
                edges.push(second);
            }
        }
        let first = bench.state("page-fast").is_firing().then_some(second);
        watched.fast = watched.fast.or(first);
        let first = bench.state("page-slow").is_firing().then_some(second);
        watched.slow = watched.slow.or(first);
    }
    watched
}

#[derive(Debug, Default)]
struct Watched {
    /// When it fires, clears, fires again.
    page: Vec<i64>,
    ticket: Vec<i64>,
    /// When the pair over an hour fires, and that over six.
    fast: Option<i64>,
    slow: Option<i64>,
}

/// Ten thousand a second, of which so many fail.
fn failing(bad: u64) -> impl FnMut(i64) -> (u64, u64) {
    move |_| (10_000 - bad, bad)
}

#[test]
fn a_constant_error_ratio_is_told_when_it_has_spent_its_share() {
    // slo.md 10, scenarios 16 to 20.
    let month = Bench::month_of_traffic(10_000, "99.9");
    for (bad, fast, slow, ticket) in
        [(10_000, 52, 130, 260), (5_000, 104, 260, 519), (1_000, 519, 1297, 2593)]
    {
        let watched = watch(&mut month.clone(), 2_600, failing(bad));
        assert_eq!(watched.page[0], fast, "{bad} of 10,000");
        assert_eq!((watched.fast, watched.slow), (Some(fast), Some(slow)));
        assert_eq!(watched.ticket[0], ticket);
    }
    let watched = watch(&mut month.clone(), 12_961, failing(200));
    assert_eq!((watched.page[0], watched.ticket[0]), (2593, 12_961));
}

#[test]
fn exactly_the_factor_never_fires_its_pair() {
    // Scenario 22: 1.44 % is 14.4 times, and no more.
    let mut month = Bench::month_of_traffic(10_000, "99.9");

    let watched = watch(&mut month, 18_001, failing(144));

    assert_eq!(watched.fast, None);
    assert_eq!((watched.slow, watched.ticket[0]), (Some(9001), 18_001));
}

#[test]
fn slow_burns_are_tickets_and_what_is_within_budget_is_nothing() {
    // Scenarios 24, 26, 28 and 29.
    let month = Bench::month_of_traffic(10_000, "99.9");
    for (bad, ticket) in [(60, Some(43_201)), (20, Some(129_601))] {
        let watched = watch(&mut month.clone(), 129_601, failing(bad));
        assert!(watched.page.is_empty(), "{bad} of 10,000");
        assert_eq!(watched.ticket.first().copied(), ticket);
    }
    for bad in [10, 5] {
        let watched = watch(&mut month.clone(), 270_000, failing(bad));
        assert_eq!((watched.page, watched.ticket), (vec![], vec![]));
    }
}

#[test]
fn other_targets_are_told_at_their_pace() {
    // Scenario 31: total outages.
    for (target, fast) in [("99", 519), ("99.99", 6), ("95", 2593)] {
        let mut month = Bench::month_of_traffic(10_000, target);
        assert_eq!(watch(&mut month, 2_593, failing(10_000)).fast, Some(fast), "{target}");
    }
    let mut month = Bench::month_of_traffic(10_000, "90");
    let watched = watch(&mut month, 12_961, failing(10_000));
    assert_eq!((watched.fast, watched.slow), (None, Some(12_961)), "144 % of errors cannot be");
}

#[test]
fn an_outage_of_ten_minutes_clears_when_its_windows_do() {
    // Scenario 32.
    let mut month = Bench::month_of_traffic(10, "99.9");

    let watched = watch(&mut month, 23_000, |second| if second <= 600 { (0, 10) } else { (10, 0) });

    assert_eq!(watched.page, [52, 2_390]);
    assert_eq!(watched.ticket, [260, 22_179]);
}

#[test]
fn a_blip_that_spends_less_than_its_share_is_not_told() {
    // Scenarios 33, 34 and 35.
    for (blip, page) in [(40, vec![]), (51, vec![]), (52, vec![52, 348])] {
        let mut month = Bench::month_of_traffic(10, "99.9");
        let watched =
            watch(&mut month, 1_000, |second| if second <= blip { (0, 10) } else { (10, 0) });
        assert_eq!(watched.page, page, "{blip} s");
    }
}

#[test]
fn few_requests_page_for_one_failure_unless_told_to_wait_for_three() {
    // Scenario 45: ten requests an hour.
    let hourly = |second: i64, bad: bool| match second % 360 == 0 {
        true if bad => (0, 1),
        true => (1, 0),
        false => (0, 0),
    };
    let history = |plan: AlertPlan| {
        let mut bench = Bench::after(0, 0, "99.9", plan);
        bench.since = -MONTH;
        watch(&mut bench, 7_200, |second| hourly(second, false));
        bench
    };
    let plan = AlertPlan::for_window(&Window::THIRTY_DAYS);

    let mut naive = history(plan.clone());
    assert_eq!(watch(&mut naive, 400, |second| hourly(second, true)).page, [360]);

    let mut patient = history(plan.each(|rule| rule.min_bad(3)));
    let watched = watch(&mut patient, 2_000, |second| hourly(second, second <= 720));
    assert!(watched.page.is_empty(), "two failures");
    let watched = watch(&mut patient, 400, |second| hourly(second, true));
    assert_eq!(watched.page.len() % 2, 1, "the third within an hour");
}

#[test]
fn a_quiet_night_pages_by_burn_and_not_by_budget() {
    // Scenario 46: a hundred a second on average, one at night with 2 % bad.
    let night = |second: i64| (u64::from(second % 50 != 0), u64::from(second % 50 == 0));
    let run = |plan: AlertPlan| {
        let mut bench = Bench::after(MONTH, 100, "99.9", plan);
        watch(&mut bench, 3_600, |_| (1, 0));
        watch(&mut bench, 3_600, night)
    };

    assert!(!run(AlertPlan::for_window(&Window::THIRTY_DAYS)).page.is_empty());
    assert_eq!(run(AlertPlan::by_budget_spent()).page, [] as [i64; 0]);
}

#[test]
fn spending_by_share_is_the_same_as_burning_while_traffic_is_even() {
    let bench = Bench::after(MONTH, 10_000, "99.9", AlertPlan::by_budget_spent());

    for (bad, fast, slow, ticket) in [(10_000, 52, 130, 260), (1_000, 519, 1_297, 2_593)] {
        let watched = watch(&mut bench.clone(), ticket, failing(bad));
        assert_eq!((watched.page[0], watched.slow), (fast, Some(slow)), "{bad} of 10,000");
        assert_eq!(watched.ticket, [ticket]);
    }
}

#[test]
fn a_cold_start_does_not_page_for_one_failure_and_does_for_an_outage() {
    // Scenario 48.
    for plan in [AlertPlan::for_window(&Window::THIRTY_DAYS), AlertPlan::by_budget_spent()] {
        let cold = Bench::after(0, 0, "99.9", plan);

        let one = |second| (u64::from(second > 1), u64::from(second == 1));
        let watched = watch(&mut cold.clone(), 3_600, one);
        assert!(watched.page.is_empty());
        let watched = watch(&mut cold.clone(), 60, |_| (0, 1));
        assert_eq!(watched.page, [52]);
    }
}

#[test]
fn without_traffic_nothing_fires() {
    // Scenario 8.
    let mut month = Bench::after(0, 0, "99.9", AlertPlan::for_window(&Window::THIRTY_DAYS));

    let watched = watch(&mut month, 4_000, |_| (0, 0));

    assert_eq!((watched.page, watched.ticket), (vec![], vec![]));
}

#[test]
fn traffic_that_stops_resolves_no_page() {
    let mut month = Bench::month_of_traffic(10, "99.9");
    watch(&mut month, 60, |_| (0, 10));
    assert_eq!(month.state("page-fast"), AlertState::Firing { since: 52 });

    watch(&mut month, 3_599, |_| (0, 0));
    assert_eq!(month.state("page-fast"), AlertState::Firing { since: 52 }, "frozen");
    watch(&mut month, 1, |_| (0, 0));
    assert_eq!(month.state("page-fast"), AlertState::Lost { since: 3_660 }, "and lost");
    assert!(month.fires(Severity::Page));

    watch(&mut month, 1, |_| (10, 0));
    assert_eq!(month.state("page-fast"), AlertState::Quiet, "traffic says that it is well");
}

#[test]
fn traffic_that_dwindles_below_a_minimum_resolves_no_page() {
    let five_minutes = Duration::from_secs(300);
    let rule = |name: &str| Rule::below_target(name, Severity::Page, five_minutes);
    let plan = AlertPlan::none()
        .with(rule("page-fast").min_events(100))
        .with(rule("page-slow").min_bad(100));
    let mut month = Bench::after(MONTH, 10, "99.9", plan);
    watch(&mut month, 60, |_| (0, 10));
    let fired = [month.state("page-fast"), month.state("page-slow")];
    assert!(fired.iter().all(|state| state.is_firing()), "{fired:?}");

    // At the end ten failures are left in the window.
    watch(&mut month, 299, |_| (0, 0));

    assert_eq!([month.state("page-fast"), month.state("page-slow")], fired);
    month.tick(0, 1);
    assert_eq!([month.state("page-fast"), month.state("page-slow")], fired, "it still fails");
    watch(&mut month, 300, |_| (1, 0));
    assert_eq!(month.state("page-fast"), AlertState::Quiet, "and now it does not");
}

#[test]
fn a_restart_in_an_outage_does_not_resolve_its_page_to_fire_it_again() {
    for plan in [AlertPlan::for_window(&Window::THIRTY_DAYS), AlertPlan::by_budget_spent()] {
        let mut month = Bench::after(MONTH, 100, "99.9", plan);
        watch(&mut month, 60, |_| (0, 100));
        assert!(month.state("page-fast").is_firing());
        // Ten minutes down: the window of five minutes is empty, and of no second observed.
        month.gaps.add(60, 660);
        month.ring.advance(660, month.total);

        let watched = watch(&mut month, 20, |_| (1, 99));

        assert_eq!(watched.page, [1], "it fires from the first second on, and goes on");
        month.gaps.add(680, 1_280);
        month.ring.advance(1_280, month.total);
        month.tick(100, 0);
        assert_eq!(month.state("page-fast"), AlertState::Quiet, "what is seen is well");
    }
}

#[test]
fn a_rule_that_is_lost_stays_so_until_there_is_something_to_judge() {
    let mut month = Bench::month_of_traffic(10, "99.9");
    watch(&mut month, 60, |_| (0, 10));
    watch(&mut month, 3_600, |_| (0, 0));
    let lost = month.state("page-fast");
    assert!(matches!(lost, AlertState::Lost { .. }), "{lost:?}");

    watch(&mut month, 7_200, |_| (0, 0));

    assert_eq!(month.state("page-fast"), lost);
}

#[test]
fn a_condition_that_comes_back_is_kept_from_its_last_end_on() {
    let five_minutes = Duration::from_secs(300);
    let rule = Rule::below_target("page-fast", Severity::Page, five_minutes).keep(five_minutes);
    let mut month = Bench::after(MONTH, 1, "99.9", AlertPlan::none().with(rule.clone()));
    // It is over five minutes after each failure, and kept for five more; the second failure comes
    // in the middle of those.
    month.plan = month.plan.with(Rule::below_target("page-slow", Severity::Ticket, five_minutes));
    month.alerts.push(Alert::default());

    let watched = watch(&mut month, 2_000, |second| match second {
        5 | 400 => (0, 1),
        _ => (1, 0),
    });

    assert_eq!(watched.ticket, [5, 305, 400, 700]);
    assert_eq!(watched.page, [5, 1_000]);
}

#[test]
fn what_is_left_fires_at_exactly_its_share() {
    let month = Bench::after(0, 0, "99.9", AlertPlan::none());
    let full = Coverage::full(Duration::from_secs(MONTH.unsigned_abs()));
    // One of two thousand is half of a thousandth.
    let budget = Budget::new(month.target, Counts { good: 1_999, bad: 1 }, full);
    let met = |at_most| {
        let rule = Rule::left("it", Severity::Ticket, Share::per_billion(at_most));
        rule.is_met(&View { budget, ..month.view() }, false)
    };

    assert_eq!([met(500_000_000), met(499_999_999)], [Some(true), Some(false)]);
}

#[test]
fn minimums_are_of_events_and_slices_and_not_of_their_billionths() {
    let hour = Duration::from_secs(3600);
    let rule = Rule::below_target("it", Severity::Page, hour).min_events(3).min_bad(2);
    let month = Bench::after(0, 0, "99.9", AlertPlan::none());
    let met = |good: u64, bad: u64| {
        let (mut ring, unit) = (month.ring.clone(), 1_000_000_000);
        ring.advance(3_600, Counts { good: good * unit, bad: bad * unit });
        let view = View { ring: &ring, unit, since: -MONTH, ..month.view() };
        rule.is_met(&view, false)
    };

    assert_eq!([met(1, 2), met(0, 2), met(2, 1)], [Some(true), Some(false), Some(false)]);
}

#[test]
fn the_simple_forms_fire_and_clear_on_one_window() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let plan = AlertPlan::none()
        .with(Rule::burn("ten", Severity::Ticket, Burn::times(10), minutes(60)))
        .with(
            Rule::burn("held", Severity::Page, "14.4".parse().unwrap(), minutes(60))
                .hold(minutes(5)),
        )
        .with(Rule::below_target("page-fast", Severity::Ticket, minutes(5)))
        .with(Rule::left("page-slow", Severity::Ticket, Share::percent(98)));
    let mut bench = Bench::after(MONTH, 10, "99.9", plan);
    let mut first = [None; 3];

    for second in 1..=400 {
        bench.tick(0, 10);
        for (name, first) in ["page-fast", "ten", "held"].into_iter().zip(&mut first) {
            *first = first.or(bench.state(name).is_firing().then_some(second));
        }
    }

    // 0.1 % of 300 s is 0.3 s; ten times 0.1 % of an hour is 36 s; 52 s and five minutes of hold.
    assert_eq!(first, [Some(1), Some(37), Some(352)]);
    assert_eq!(bench.state("page-slow"), AlertState::Firing { since: 52 }, "51.84 s are 2 %");
}

#[test]
fn a_rule_that_clears_lower_or_later_does_not_flap() {
    let hour = Duration::from_secs(3600);
    let rule = |name: &str| Rule::burn(name, Severity::Page, Burn::times(10), hour);
    let plan = AlertPlan::none()
        .with(rule("page-fast"))
        .with(rule("page-slow").clear_at(Burn::times(5)))
        .with(rule("kept").keep(Duration::from_secs(600)));
    let mut bench = Bench::after(MONTH, 1, "99.9", plan);
    let mut cleared = [None; 3];

    for second in 1..=8_000 {
        bench.tick(u64::from(second > 40), u64::from(second <= 40));
        for (name, cleared) in ["page-fast", "page-slow", "kept"].into_iter().zip(&mut cleared) {
            let quiet = second > 40 && !bench.state(name).is_firing();
            *cleared = cleared.or(quiet.then_some(second));
        }
    }

    // 36 and 18 of the 40 bad seconds may be left in the hour.
    assert_eq!(cleared, [Some(3_604), Some(3_622), Some(4_204)]);
}

#[test]
fn plans_scale_factors_for_a_month_and_windows_for_the_rest() {
    let lines = |window: &Window| -> Vec<_> {
        AlertPlan::for_window(window).rules().iter().map(ToString::to_string).collect()
    };

    assert_eq!(
        lines(&Window::TWENTY_EIGHT_DAYS),
        [
            "page-fast: burn over 13.44 in 1h and in 5m",
            "page-slow: burn over 5.6 in 6h and in 30m",
            "ticket-fast: burn over 2.8 in 1d and in 2h",
            "ticket-slow: burn over 0.933333 in 3d and in 6h",
        ]
    );
    assert_eq!(lines(&Window::NINETY_DAYS)[0], "page-fast: burn over 14.4 in 3h and in 15m");
    assert_eq!(lines(&Window::SEVEN_DAYS)[3], "ticket-slow: burn over 1 in 16h48m and in 1h24m");
    assert_eq!(lines(&Window::days(1)), ["below-target: burn over 1 in 1d"]);
    assert_eq!(lines(&Window::month(crate::Zone::UTC)), lines(&Window::THIRTY_DAYS));
}

#[test]
fn a_rule_says_when_it_clears() {
    let target: Target = "99.9".parse().unwrap();
    let plan = AlertPlan::for_window(&Window::THIRTY_DAYS);

    let words = plan.rules()[0].clone().keep(Duration::from_secs(120)).clears_when(target);

    assert_eq!(words, "clears when at most 1.44% of the events in 1h or in 5m are bad, for 2m");
}

#[test]
fn a_rule_that_was_to_clear_above_what_it_fires_at_does_not_flap() {
    let rule = Rule::burn("page-fast", Severity::Page, Burn::times(10), Duration::from_secs(300));
    let page_slow = Rule::left("page-slow", Severity::Ticket, Share::ZERO);
    let plan = AlertPlan::none().with(rule.clear_at(Burn::times(20))).with(page_slow);
    // A burn of 15, evenly.
    let mut month = Bench::after(MONTH, 1_000, "99.9", plan);
    watch(&mut month, 300, |_| (985, 15));
    let fires = month.state("page-fast");
    assert!(fires.is_firing());

    for _ in 0..300 {
        month.tick(985, 15);
        assert_eq!(month.state("page-fast"), fires);
    }
}
