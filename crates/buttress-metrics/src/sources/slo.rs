use std::{sync::Arc, time::Duration};

use buttress_core::Observe;
use buttress_layers::slo::SloTracker;
use buttress_slo::{
    AlertState, Burn, Counts, Coverage, Exhaustion, Numbers, Objective, Recorder, Severity,
};

use crate::{
    Report, Source,
    names::{
        SLO_ALERT, SLO_BURN, SLO_CLOCKS, SLO_CONSUMED, SLO_COVERAGE, SLO_ERRORS, SLO_EVENTS,
        SLO_EXCLUDED, SLO_EXHAUSTION, SLO_INFO, SLO_OBJECTIVE, SLO_POLICY, SLO_REMAINING,
        SLO_SNAPSHOT_AGE, SLO_WINDOW_EVENTS,
    },
};

/// Counters are those of this process, and gauges those of the last tick. A ratio of no events is
/// not there until there are some. Once there are none any more it stays as it was, and
/// `slo_window_events` is 0: whoever must not act upon old news asks for both.
impl Source for SloTracker {
    fn report(&self, report: &mut Report) {
        let service = self.service().as_str();
        for recorder in self.recorders() {
            report_counts(report, service, &recorder);
        }
        for name in self.names() {
            let slo = name.as_str();
            let (Some(objective), Some(numbers)) = (self.objective(slo), self.numbers(slo)) else {
                continue;
            };
            report_info(report, service, &objective);
            report_numbers(report, service, &objective, &numbers);
            for severity in [Severity::Page, Severity::Ticket] {
                let state = self.severity(slo, severity).unwrap_or_default();
                let labels = [("service", service), ("slo", slo), ("severity", severity.as_str())];
                report.highest(SLO_ALERT.name, &labels, alert_value(state));
            }
        }
        // Of composites too: the gate asks for all of them.
        for standing in self.standings() {
            let labels = [("service", service), ("slo", standing.name.as_str())];
            #[expect(clippy::cast_precision_loss, reason = "a ladder of a handful")]
            report.highest(SLO_POLICY.name, &labels, standing.place as f64);
            report.lowest(SLO_REMAINING.name, &labels, standing.remaining.as_f64());
        }
        let labels = [("service", service)];
        report.counter(SLO_CLOCKS.name, &labels, self.clock_changes());
        if let Some(age) = self.snapshot_age() {
            report.highest(SLO_SNAPSHOT_AGE.name, &labels, age.as_secs_f64());
        }
    }

    fn observe(&self, observer: Arc<dyn Observe>) {
        self.observe(observer);
    }

    fn is_last(&self) -> bool {
        self.is_last()
    }

    fn id(&self) -> usize {
        self.id()
    }
}

/// All of them, so that each series is there before its first event.
fn report_counts(report: &mut Report, service: &str, recorder: &Recorder) {
    let (slo, counts) = (recorder.name().as_str(), recorder.counts());
    let mut excluded = 0;
    for (exclusion, events) in recorder.excluded() {
        let labels = [("service", service), ("slo", slo), ("reason", exclusion.as_str())];
        report.counter(SLO_EXCLUDED.name, &labels, events);
        excluded += events;
    }
    for (outcome, events) in [("good", counts.good), ("bad", counts.bad), ("excluded", excluded)] {
        let labels = [("service", service), ("slo", slo), ("outcome", outcome)];
        report.counter(SLO_EVENTS.name, &labels, events);
    }
}

fn report_numbers(report: &mut Report, service: &str, objective: &Objective, numbers: &Numbers) {
    // A calendar's by its name, for its months differ in length.
    let (slo, period) = (objective.name().as_str(), objective.window().to_string());
    let labels = [("service", service), ("slo", slo)];
    let target = numbers.target.ratio().parts_per_billion();
    report.highest(SLO_OBJECTIVE.name, &labels, f64::from(target) / WHOLE);
    report.highest(SLO_CONSUMED.name, &labels, numbers.budget.consumed().as_f64());
    match numbers.forecast.rolling {
        Exhaustion::Never => report.lowest(SLO_EXHAUSTION.name, &labels, f64::INFINITY),
        Exhaustion::In(wait) => report.lowest(SLO_EXHAUSTION.name, &labels, wait.as_secs_f64()),
        // Without traffic there is nothing to go by, and nothing is spent.
        Exhaustion::Unknown => {}
    }
    let errors = numbers.sli().map(|sli| f64::from(sli.complement().parts_per_billion()) / WHOLE);
    report.highest_known(SLO_ERRORS.name, &of(service, slo, &period), errors);
    let events = |counts: Counts| amount(counts.total() / numbers.unit.max(1));
    let whole = events(numbers.budget.counts());
    report.amount(SLO_WINDOW_EVENTS.name, &of(service, slo, &period), whole);
    let coverage = |of: Coverage| f64::from(of.ratio().parts_per_billion()) / WHOLE;
    let whole = coverage(numbers.budget.coverage());
    report.highest(SLO_COVERAGE.name, &of(service, slo, &period), whole);
    for burn in &numbers.burns {
        let window = window_name(burn.window);
        let labels = of(service, slo, &window);
        if window != period {
            report.highest(SLO_COVERAGE.name, &labels, coverage(burn.coverage));
            report.amount(SLO_WINDOW_EVENTS.name, &labels, events(burn.counts));
        }
        report.highest_known(SLO_BURN.name, &labels, burn.burn.map(Burn::as_f64));
    }
}

/// What dashboards join with: the identity that sloth's boards know an objective by among it.
fn report_info(report: &mut Report, service: &str, objective: &Objective) {
    let slo = objective.name().as_str();
    let labels = [
        ("service", service),
        ("slo", slo),
        ("sloth_id", &format!("{service}-{slo}")),
        ("sli", &objective.sli().to_string()),
        ("target", &objective.target().to_string()),
        ("window", &objective.window().to_string()),
        ("method", &objective.method().to_string()),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    report.highest(SLO_INFO.name, &labels, 1.0);
}

#[expect(clippy::cast_precision_loss, reason = "exact below nine quadrillions")]
fn amount(events: u64) -> f64 {
    events as f64
}

fn of<'a>(service: &'a str, slo: &'a str, window: &'a str) -> [(&'static str, &'a str); 3] {
    [("service", service), ("slo", slo), ("window", window)]
}

const WHOLE: f64 = 1e9;

/// 0 is quiet, 1 pending, and 2 fires; what fired until there was no traffic is not over.
fn alert_value(state: AlertState) -> f64 {
    match state {
        AlertState::Quiet => 0.0,
        AlertState::Pending { .. } => 1.0,
        AlertState::Firing { .. } | AlertState::Lost { .. } => 2.0,
    }
}

/// A window as Prometheus writes it: `5m`, `3d`, `30d`.
fn window_name(window: Duration) -> String {
    let seconds = window.as_secs();
    for (unit, name) in [(86_400, 'd'), (3600, 'h'), (60, 'm')] {
        if seconds >= unit && seconds.is_multiple_of(unit) {
            return format!("{}{name}", seconds / unit);
        }
    }
    format!("{seconds}s")
}
