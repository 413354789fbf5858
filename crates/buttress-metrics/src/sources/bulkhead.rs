use std::sync::Arc;

use buttress_core::{Criticality, Observe};
use buttress_layers::bulkhead::{BulkheadHandle, Refusal};

use crate::{
    Report, Source,
    names::{
        BULKHEAD_ABANDONED, BULKHEAD_ADMITTED, BULKHEAD_BYPASSED, BULKHEAD_IN_FLIGHT,
        BULKHEAD_LIMIT, BULKHEAD_PARTITION_IN_FLIGHT, BULKHEAD_PARTITION_QUEUED,
        BULKHEAD_QUEUE_LIMIT, BULKHEAD_QUEUED, BULKHEAD_REFUSED, BULKHEAD_SHADOW, BULKHEAD_SHED,
        BULKHEAD_WAITED,
    },
};

impl Source for BulkheadHandle {
    fn report(&self, report: &mut Report) {
        let (bulkhead, now) = (self.name(), self.snapshot());
        let labels = [("bulkhead", bulkhead)];
        for (name, total) in [
            (BULKHEAD_ADMITTED, now.admitted),
            (BULKHEAD_WAITED, now.waited),
            (BULKHEAD_ABANDONED, now.abandoned),
            (BULKHEAD_BYPASSED, now.bypassed),
        ] {
            report.counter(name.name, &labels, total);
        }
        for why in Refusal::ALL {
            let labels = [("bulkhead", bulkhead), ("reason", why.as_str())];
            report.counter(BULKHEAD_REFUSED.name, &labels, now.refused(why));
        }
        for class in Criticality::ALL {
            let labels = [("bulkhead", bulkhead), ("criticality", class.as_str())];
            report.counter(BULKHEAD_SHED.name, &labels, now.shed(class));
        }
        report.amount(BULKHEAD_IN_FLIGHT.name, &labels, now.in_flight.into());
        report.amount(BULKHEAD_QUEUED.name, &labels, now.queued.into());
        // Several layers of one name have room for all of theirs together.
        report.amount(BULKHEAD_LIMIT.name, &labels, now.limit.into());
        report.amount(BULKHEAD_QUEUE_LIMIT.name, &labels, now.queue.into());
        for part in &now.partitions {
            let labels = [("bulkhead", bulkhead), ("partition", part.name)];
            report.amount(BULKHEAD_PARTITION_IN_FLIGHT.name, &labels, part.in_flight.into());
            report.amount(BULKHEAD_PARTITION_QUEUED.name, &labels, part.queued.into());
        }
        report.highest(BULKHEAD_SHADOW.name, &labels, f64::from(u8::from(self.is_shadow())));
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
