use std::{hash::Hash, sync::Arc};

use buttress_core::{Observe, Rate};
use buttress_layers::rate_limit::{KeyedRateLimitHandle, RateLimitHandle, Refusal, Totals};

use crate::{
    Report, Source,
    names::{
        RATE_LIMIT_ADMITTED, RATE_LIMIT_BURST, RATE_LIMIT_KEYS, RATE_LIMIT_LEFT, RATE_LIMIT_RATE,
        RATE_LIMIT_REFUSED, RATE_LIMIT_SHADOW, RATE_LIMIT_WAITED, RATE_LIMIT_WAITING,
    },
};

impl Source for RateLimitHandle {
    fn report(&self, report: &mut Report) {
        let (name, waiting) = (self.name(), self.peek().waiting);
        common(report, name, &self.totals(), waiting, &self.rates(), self.is_shadow());
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

/// All keys together: a key is no label, of which there may be any number.
impl<K: Hash + Eq + Clone + Send + Sync + 'static> Source for KeyedRateLimitHandle<K> {
    fn report(&self, report: &mut Report) {
        self.tidy();
        let (name, waiting) = (self.name(), self.waiting());
        common(report, name, &self.totals(), waiting, &self.rates(), self.is_shadow());
        report.amount(RATE_LIMIT_KEYS.name, &[("rate_limit", name)], amount(self.known()));
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

fn common(
    report: &mut Report,
    name: &str,
    totals: &Totals,
    waiting: usize,
    rates: &[Rate],
    shadow: bool,
) {
    let labels = [("rate_limit", name)];
    report.counter(RATE_LIMIT_ADMITTED.name, &labels, totals.admitted);
    report.counter(RATE_LIMIT_WAITED.name, &labels, totals.waited);
    report.counter(RATE_LIMIT_LEFT.name, &labels, totals.left);
    report.amount(RATE_LIMIT_WAITING.name, &labels, amount(waiting));
    report.highest(RATE_LIMIT_SHADOW.name, &labels, f64::from(u8::from(shadow)));
    for why in Refusal::ALL {
        let labels = [("rate_limit", name), ("reason", why.as_str())];
        report.counter(RATE_LIMIT_REFUSED.name, &labels, totals.refused(why));
    }
    for (rate, place) in rates.iter().zip(PLACES) {
        let labels = [("rate_limit", name), ("limit", place)];
        let per_second = f64::from(rate.events().get()) / rate.period().as_secs_f64();
        report.lowest(RATE_LIMIT_RATE.name, &labels, per_second);
        report.lowest(RATE_LIMIT_BURST.name, &labels, f64::from(rate.most_at_once().get()));
    }
}

/// As many as a layer has at the most.
const PLACES: [&str; 8] = ["1", "2", "3", "4", "5", "6", "7", "8"];

#[expect(clippy::cast_precision_loss, reason = "there are not 2^53 of anything here")]
fn amount(number: usize) -> f64 {
    number as f64
}
