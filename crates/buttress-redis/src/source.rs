//! What a limit of a fleet counts, as series.

use std::sync::Arc;

use buttress_core::{Observe, breaker::State};
use buttress_metrics::{Report, Source as Watched};

use crate::{Failure, FleetLimitHandle, Source, Store, buckets::Buckets};

impl<St: Store, B: Buckets> Watched for FleetLimitHandle<St, B> {
    fn catch_up(&self) {
        let _ = self.store_state();
    }

    fn report(&self, report: &mut Report) {
        let limit = ("fleet_limit", self.name());
        let totals = self.totals();
        for source in Source::ALL {
            let decisions =
                [("admitted", totals.admitted(source)), ("refused", totals.refused(source))];
            for (outcome, count) in decisions {
                let labels = [limit, ("source", source.as_str()), ("outcome", outcome)];
                report.counter("buttress_fleet_limit_decisions_total", &labels, count);
            }
        }
        for failure in Failure::ALL {
            let labels = [limit, ("failure", failure.as_str())];
            report.counter(
                "buttress_fleet_limit_store_failures_total",
                &labels,
                totals.failed(failure),
            );
        }
        let alone = [
            ("buttress_fleet_limit_too_much_requests_total", totals.too_much),
            ("buttress_fleet_limit_left_requests_total", totals.left),
            ("buttress_fleet_limit_leased_tokens_total", totals.leased),
            ("buttress_fleet_limit_lapsed_tokens_total", totals.lapsed),
            ("buttress_fleet_limit_returned_tokens_total", totals.given_back),
        ];
        for (name, count) in alone {
            report.counter(name, &[limit], count);
        }
        let now = self.store_state();
        for state in State::ALL {
            let labels = [limit, ("state", state.as_str())];
            let is = f64::from(u8::from(state == now));
            report.amount("buttress_fleet_limit_store_state", &labels, is);
        }
        report.durations("buttress_fleet_limit_store_duration_seconds", &[limit], &self.answers());
        report.highest("buttress_fleet_limit_replicas", &[limit], self.replicas().get().into());
        let shadow = f64::from(u8::from(self.is_shadow()));
        report.highest("buttress_fleet_limit_shadow", &[limit], shadow);
        for (rate, place) in self.rates().iter().zip(["1", "2", "3", "4"]) {
            let labels = [limit, ("limit", place)];
            let per_second = f64::from(rate.events().get()) / rate.period().as_secs_f64();
            report.lowest("buttress_fleet_limit_rate_per_second", &labels, per_second);
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
