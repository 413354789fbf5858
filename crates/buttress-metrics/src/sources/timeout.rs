use std::sync::Arc;

use buttress_core::Observe;
use buttress_layers::timeout::{Clock, TimeoutHandle};

use crate::{
    Report, Source,
    names::{TIMEOUT_EXPIRED, TIMEOUT_LIMIT, TIMEOUT_REFUSED, TIMEOUT_SHADOW, TIMEOUT_SPARED},
};

impl Source for TimeoutHandle {
    fn report(&self, report: &mut Report) {
        let (timeout, snapshot, limits) = (self.name(), self.snapshot(), self.limits());
        for clock in Clock::ALL {
            let labels = [("timeout", timeout), ("clock", clock.as_str())];
            report.counter(TIMEOUT_EXPIRED.name, &labels, snapshot.expired(clock));
            let limit = match clock {
                Clock::Head => limits.of_head(),
                Clock::Total => limits.of_total(),
                Clock::Idle => limits.of_idle(),
                Clock::Deadline => continue,
            };
            // A clock that does not run has a limit that is never reached.
            let limit = limit.map_or(f64::INFINITY, |limit| limit.get().as_secs_f64());
            report.lowest(TIMEOUT_LIMIT.name, &labels, limit);
        }
        let labels = [("timeout", timeout)];
        report.counter(TIMEOUT_REFUSED.name, &labels, snapshot.refused());
        report.counter(TIMEOUT_SPARED.name, &labels, snapshot.spared());
        report.highest(TIMEOUT_SHADOW.name, &labels, f64::from(u8::from(self.is_shadow())));
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
