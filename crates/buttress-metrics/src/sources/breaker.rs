use std::sync::Arc;

use buttress_core::{
    Observe,
    breaker::{Refusal, State, Totals},
};
use buttress_layers::breaker::{BreakerHandle, KeyedBreakerHandle};

use crate::{
    Report, Source,
    names::{BREAKER_CALLS, BREAKER_REFUSED, BREAKER_SHADOW, BREAKER_STATE, BREAKER_WOULD_REFUSE},
};

/// All states are there, and exactly one is 1.
impl Source for BreakerHandle {
    fn catch_up(&self) {
        let _ = self.state();
    }

    fn report(&self, report: &mut Report) {
        let state = self.last_state();
        let states = State::ALL.map(|other| (other, usize::from(other == state)));
        report_breaker(report, self.name(), states, &self.totals(), self.is_shadow());
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

/// All states are there, with the number of keys in each: keys are no labels, for there may be
/// any number of them.
impl Source for KeyedBreakerHandle {
    fn catch_up(&self) {
        let _ = self.states();
    }

    fn report(&self, report: &mut Report) {
        let mut states = State::ALL.map(|state| (state, 0));
        for breaker in self.keys() {
            let state = breaker.last_state();
            states
                .iter_mut()
                .filter(|(other, _)| *other == state)
                .for_each(|(_, count)| *count += 1);
        }
        report_breaker(report, self.name(), states, &self.totals(), self.is_shadow());
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

fn report_breaker(
    report: &mut Report,
    breaker: &str,
    states: [(State, usize); State::ALL.len()],
    totals: &Totals,
    shadow: bool,
) {
    let breaker = ("breaker", breaker);
    for (state, count) in states {
        #[expect(clippy::cast_precision_loss, reason = "there are not 2^53 breakers")]
        report.amount(BREAKER_STATE.name, &[breaker, ("state", state.as_str())], count as f64);
    }
    let outcomes = [
        ("success", totals.successes),
        ("failure", totals.failures),
        ("soft_failure", totals.soft_failures),
        ("ignored", totals.ignored),
        ("cancelled", totals.cancelled),
        ("void", totals.void),
    ];
    for (outcome, count) in outcomes {
        report.counter(BREAKER_CALLS.name, &[breaker, ("outcome", outcome)], count);
    }
    for why in Refusal::ALL {
        let labels = [breaker, ("reason", why.as_str())];
        report.counter(BREAKER_REFUSED.name, &labels, totals.refused(why));
    }
    report.counter(BREAKER_WOULD_REFUSE.name, &[breaker], totals.would_refuse);
    report.highest(BREAKER_SHADOW.name, &[breaker], f64::from(u8::from(shadow)));
}
