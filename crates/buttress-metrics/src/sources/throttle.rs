use std::sync::Arc;

use buttress_core::Observe;
use buttress_layers::throttle::ThrottleHandle;

use crate::{
    Report, Source,
    names::{THROTTLE_PROBABILITY, THROTTLE_REFUSED, THROTTLE_REQUESTS, THROTTLE_SHADOW},
};

impl Source for ThrottleHandle {
    fn report(&self, report: &mut Report) {
        let (throttle, snapshot) = (self.name(), self.snapshot());
        for (outcome, count) in
            [("accepted", snapshot.accepted()), ("unaccepted", snapshot.unaccepted())]
        {
            let labels = [("throttle", throttle), ("outcome", outcome)];
            report.counter(THROTTLE_REQUESTS.name, &labels, count);
        }
        let labels = [("throttle", throttle)];
        report.counter(THROTTLE_REFUSED.name, &labels, snapshot.refused());
        let probability = f64::from(self.probability().parts_per_billion()) / 1e9;
        report.highest(THROTTLE_PROBABILITY.name, &labels, probability);
        report.highest(THROTTLE_SHADOW.name, &labels, f64::from(u8::from(self.is_shadow())));
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
