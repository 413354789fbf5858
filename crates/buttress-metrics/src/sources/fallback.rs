use std::sync::Arc;

use buttress_core::{Observe, fallback::Skip};
use buttress_layers::fallback::{FallbackHandle, RungCounts};

use crate::{
    Report, Source,
    names::{
        FALLBACK_AGES, FALLBACK_BYTES, FALLBACK_RUNGS, FALLBACK_SHADOW, FALLBACK_SKIPPED,
        FALLBACK_STORED, FALLBACK_TRIGGERED, FALLBACK_UNANSWERED, FALLBACK_WOULD,
    },
};

impl Source for FallbackHandle {
    fn report(&self, report: &mut Report) {
        let (fallback, snapshot) = (self.name(), self.snapshot());
        for (reason, count) in snapshot.triggered() {
            let labels = [("fallback", fallback), ("reason", reason.as_str())];
            report.counter(FALLBACK_TRIGGERED.name, &labels, count);
        }
        for rung in &snapshot.rungs {
            report_rung(report, fallback, rung);
        }
        let labels = [("fallback", fallback)];
        report.counter(FALLBACK_UNANSWERED.name, &labels, snapshot.unanswered);
        report.counter(FALLBACK_WOULD.name, &labels, snapshot.would_trigger);
        report.amount(FALLBACK_STORED.name, &labels, to_float(snapshot.stored));
        report.amount(FALLBACK_BYTES.name, &labels, to_float(snapshot.stored_bytes));
        report.highest(FALLBACK_SHADOW.name, &labels, f64::from(u8::from(self.is_shadow())));
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

fn report_rung(report: &mut Report, fallback: &str, rung: &RungCounts) {
    let (this, name) = (("fallback", fallback), ("rung", &*rung.name));
    for (outcome, count) in [
        ("answered", rung.answered),
        ("failed", rung.failed),
        ("timed_out", rung.timed_out),
        ("skipped", rung.all_skipped()),
    ] {
        report.counter(FALLBACK_RUNGS.name, &[this, name, ("outcome", outcome)], count);
    }
    for skip in Skip::ALL {
        let labels = [this, name, ("reason", skip.as_str())];
        report.counter(FALLBACK_SKIPPED.name, &labels, rung.skipped(skip));
    }
    report.counter(FALLBACK_AGES.name, &[this, name], rung.age_seconds);
}

#[expect(clippy::cast_precision_loss, reason = "memory has no 2^53 bytes")]
fn to_float(amount: usize) -> f64 {
    amount as f64
}
