use std::{sync::Arc, time::Duration};

use buttress_core::{Observe, hedge::Unhedged};
use buttress_layers::hedge::{Fate, HedgeHandle};

use crate::{
    Report, Source,
    names::{
        HEDGE_BALANCE, HEDGE_DELAY, HEDGE_ENDED, HEDGE_FIRED, HEDGE_REQUESTS, HEDGE_SHADOW,
        HEDGE_UNHEDGED, HEDGE_WOULD_FIRE,
    },
};

impl Source for HedgeHandle {
    fn report(&self, report: &mut Report) {
        let (hedge, snapshot) = (self.name(), self.snapshot());
        let labels = [("hedge", hedge)];
        report.counter(HEDGE_REQUESTS.name, &labels, snapshot.requests());
        report.counter(HEDGE_FIRED.name, &labels, snapshot.fired());
        report.counter(HEDGE_WOULD_FIRE.name, &labels, snapshot.would_fire());
        for fate in Fate::ALL {
            let labels = [("hedge", hedge), ("outcome", fate.as_str())];
            report.counter(HEDGE_ENDED.name, &labels, snapshot.ended(fate));
        }
        for why in Unhedged::ALL {
            let labels = [("hedge", hedge), ("reason", why.as_str())];
            report.counter(HEDGE_UNHEDGED.name, &labels, snapshot.unhedged(why));
        }
        let delay = self.delay().map_or(f64::INFINITY, |delay: Duration| delay.as_secs_f64());
        report.highest(HEDGE_DELAY.name, &labels, delay);
        // A budget that several layers share has the same balance in all of them.
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 hedges")]
        let balance = self.balance().map_or(f64::INFINITY, |balance| balance as f64);
        report.lowest(HEDGE_BALANCE.name, &labels, balance);
        report.highest(HEDGE_SHADOW.name, &labels, f64::from(u8::from(self.is_shadow())));
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
