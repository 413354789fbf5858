//! What callers got before, during and after the bad spell.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use buttress::{
    Reason, Verdict,
    sli::{Record, Sink, SliHandle},
    slo::{SloTracker, Standing},
};
use hdrhistogram::Histogram;

use crate::app::App;

/// Records calls by the phase in which they came.
#[derive(Debug)]
pub(crate) struct Report {
    seconds: u64,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    started: OnceLock<Instant>,
    phase: Duration,
    phases: Mutex<[Phase; 3]>,
}

const PHASES: [&str; 3] = ["before", "during", "after"];

#[derive(Debug)]
struct Phase {
    good: u64,
    bad: u64,
    excluded: u64,
    refused: BTreeMap<&'static str, u64>,
    /// In microseconds.
    durations: Histogram<u64>,
}

impl Default for Phase {
    fn default() -> Self {
        // A microsecond to a minute, three digits: what a person tells apart.
        let durations = Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that fit");
        Self { good: 0, bad: 0, excluded: 0, refused: BTreeMap::new(), durations }
    }
}

impl Report {
    pub(crate) fn new(seconds: u64) -> Self {
        let phase = Duration::from_secs(seconds) / 3;
        Self { seconds, shared: Arc::new(Shared { phase, ..Shared::default() }) }
    }

    /// The traffic starts now.
    pub(crate) fn start(&self, now: Instant) {
        // Set once: a report is of one run.
        let _ = self.shared.started.set(now);
    }

    /// Whether the spell is on, so long after the start.
    pub(crate) fn is_spell(&self, elapsed: Duration) -> bool {
        self.shared.index(elapsed) == 1
    }

    /// Takes what the SLI layer records.
    pub(crate) fn sink(&self) -> impl Sink + use<> {
        let shared = Arc::clone(&self.shared);
        move |record: &Record<'_>| shared.record(record)
    }

    /// A line for those who wait.
    pub(crate) fn progress(&self, elapsed: Duration, app: &App) -> String {
        let counts = app.sli().counts();
        let what = if self.is_spell(elapsed) { "the stock is ill" } else { "all is well" };
        format!(
            "{:>3} of {} s  {what:<16}  breaker {:<9}  {:>5} calls: {:>5} good {:>4} bad ({:>3} refused) {:>4} excluded",
            elapsed.as_secs(),
            self.seconds,
            app.breaker().state().as_str(),
            counts.total(),
            counts.good,
            counts.bad,
            app.breaker().totals().refused.iter().sum::<u64>(),
            counts.excluded,
        )
    }

    /// The whole run, phase by phase.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "          requests    good     bad  excluded       p50       p99  refused\n",
        );
        let phases = self.shared.phases.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, phase) in PHASES.iter().zip(phases.iter()) {
            let requests = phase.good + phase.bad + phase.excluded;
            let at = |quantile| millis(phase.durations.value_at_quantile(quantile));
            let refused: Vec<_> =
                phase.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let refused = if refused.is_empty() { "none".into() } else { refused.join(", ") };
            let _ = writeln!(
                table,
                "{name:<8}  {requests:>8}  {:>6}  {:>6}  {:>8}  {:>8}  {:>8}  {refused}",
                phase.good,
                phase.bad,
                phase.excluded,
                at(0.5),
                at(0.99),
            );
        }
        table
    }
}

impl Shared {
    fn record(&self, record: &Record<'_>) {
        let Some(started) = self.started.get() else { return };
        let ended = record.ended.saturating_duration_since(*started);
        let index = self.index(ended.saturating_sub(record.timing.total));
        let micros = u64::try_from(record.timing.total.as_micros()).unwrap_or(u64::MAX);

        let phase = &mut self.phases.lock().unwrap_or_else(PoisonError::into_inner)[index];
        match record.judgement.verdict {
            Verdict::Good => phase.good += 1,
            Verdict::Bad => phase.bad += 1,
            Verdict::Excluded => phase.excluded += 1,
        }
        if let Reason::Refused(kind) = record.judgement.reason {
            *phase.refused.entry(kind.as_str()).or_default() += 1;
        }
        phase.durations.saturating_record(micros);
    }

    fn index(&self, elapsed: Duration) -> usize {
        [self.phase, self.phase * 2].iter().filter(|end| elapsed >= **end).count()
    }
}

fn millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

/// How the service stands with its objectives, a line for each.
pub(crate) fn objectives(tracker: &SloTracker) -> Vec<String> {
    tracker.tick();
    let line = |standing: Standing| {
        let name = standing.name.as_str();
        let (objective, numbers) = (tracker.objective(name)?, tracker.numbers(name)?);
        let sli = numbers
            .sli()
            .map_or_else(|| "no data".to_owned(), |sli| percent(sli.parts_per_billion()));
        let fastest = numbers.burns.first();
        let burn = fastest.map_or_else(String::new, |burn| {
            let times = burn.burn.map_or("none".into(), |burn| format!("{:.1}", burn.as_f64()));
            format!("  burn {times} over {} min", burn.window.as_secs() / 60)
        });
        Some(format!(
            "{name} ({} in {}): SLI {sli}  budget left {}{burn}  policy {}",
            numbers.target,
            objective.window(),
            standing.remaining,
            standing.level,
        ))
    };
    tracker.standings().into_iter().filter_map(line).collect()
}

/// Billionths as a percentage of three decimals, rounded down.
fn percent(billionths: u32) -> String {
    let thousandths = billionths / 10_000;
    format!("{}.{:03}%", thousandths / 1000, thousandths % 1000)
}

/// What the service answered while it was kept up.
pub(crate) fn counts(sli: &SliHandle) -> String {
    let counts = sli.counts();
    format!(
        "{} calls: {} good, {} bad, {} excluded",
        counts.total(),
        counts.good,
        counts.bad,
        counts.excluded
    )
}
