use std::sync::Arc;

use buttress_core::{Observe, retry::Stop};
use buttress_layers::retry::RetryHandle;

use crate::{
    Report, Source,
    names::{RETRY_ATTEMPTS, RETRY_BALANCE, RETRY_REQUESTS, RETRY_SHADOW, RETRY_STOPPED},
};

impl Source for RetryHandle {
    fn report(&self, report: &mut Report) {
        let (retry, snapshot) = (self.name(), self.snapshot());
        let labels = [("retry", retry)];
        report.counter(RETRY_REQUESTS.name, &labels, snapshot.requests());
        for (kind, count) in [
            ("retry", snapshot.retries()),
            ("transparent", snapshot.transparent()),
            ("would_retry", snapshot.would_retry()),
        ] {
            report.counter(RETRY_ATTEMPTS.name, &[("retry", retry), ("kind", kind)], count);
        }
        for stop in Stop::ALL {
            let labels = [("retry", retry), ("reason", stop.as_str())];
            report.counter(RETRY_STOPPED.name, &labels, snapshot.stopped(stop));
        }
        // A budget that several layers share has the same balance in all of them.
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 retries")]
        let balance = self.balance().map_or(f64::INFINITY, |balance| balance as f64);
        report.lowest(RETRY_BALANCE.name, &labels, balance);
        report.highest(RETRY_SHADOW.name, &labels, f64::from(u8::from(self.is_shadow())));
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
