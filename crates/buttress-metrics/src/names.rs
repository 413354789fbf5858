//! Every series that we publish: its name, its unit, its words.

use buttress_core::cells::{BOUNDS, BUCKETS};
use metrics::Unit;

/// The upper bounds of the duration buckets, in seconds, for an exporter's configuration.
///
/// ```
/// assert_eq!(buttress_metrics::BUCKET_BOUNDS[0], 0.005);
/// ```
pub const BUCKET_BOUNDS: [f64; BUCKETS - 1] = bounds();

const fn bounds() -> [f64; BUCKETS - 1] {
    let mut seconds = [0.0; BUCKETS - 1];
    let mut index = 0;
    while index < seconds.len() {
        seconds[index] = BOUNDS[index].as_secs_f64();
        index += 1;
    }
    seconds
}

/// A series with all that a reader of the exporter's page should know.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    pub(crate) help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! names {
    ($($constant:ident: $kind:ident $name:literal $unit:ident $help:literal;)*) => {
        $(pub(crate) const $constant: &Described = &Described {
            name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help,
        };)*
        pub(crate) const ALL: &[&Described] = &[$($constant),*];
    };
}

names! {
    BREAKER_STATE: Gauge "buttress_breaker_state" Count
        "Where a breaker stands: 1 for its state, 0 for all others; of a keyed one the number of keys.";
    BREAKER_CALLS: Counter "buttress_breaker_calls_total" Count
        "Calls that were admitted and have ended, by outcome.";
    BREAKER_REFUSED: Counter "buttress_breaker_refused_calls_total" Count
        "Calls that were refused, by reason.";
    BREAKER_WOULD_REFUSE: Counter "buttress_breaker_shadow_refused_calls_total" Count
        "Calls that would have been refused, but for shadow mode.";
    BREAKER_SHADOW: Gauge "buttress_breaker_shadow" Count
        "1 while the breaker decides and counts but refuses nothing.";
    SLI_REQUESTS: Counter "buttress_sli_requests_total" Count
        "Calls that ended, by outcome: good, bad or excluded.";
    SLI_REASONS: Counter "buttress_sli_reasons_total" Count
        "Calls that ended bad or excluded, by reason.";
    SLI_ROUTES: Counter "buttress_sli_route_requests_total" Count
        "Calls that ended, by route template and outcome.";
    SLI_DEGRADED: Counter "buttress_sli_degraded_requests_total" Count
        "Calls that ended well because somebody else answered in the service's stead.";
    SLI_IN_FLIGHT: Gauge "buttress_sli_in_flight_requests" Count
        "Calls under way: started, and not at the end of the response.";
    TIMEOUT_EXPIRED: Counter "buttress_timeout_expired_requests_total" Count
        "Requests that ran out of time, by clock.";
    TIMEOUT_REFUSED: Counter "buttress_timeout_refused_requests_total" Count
        "Requests refused before they started, because their deadline had passed.";
    TIMEOUT_SPARED: Counter "buttress_timeout_spared_requests_total" Count
        "Requests served though their deadline had passed, because enough others were refused.";
    TIMEOUT_LIMIT: Gauge "buttress_timeout_limit_seconds" Seconds
        "The time limits in force, by clock; infinite for a clock that does not run.";
    TIMEOUT_SHADOW: Gauge "buttress_timeout_shadow" Count
        "1 while the layer decides and counts but refuses nothing.";
    BULKHEAD_ADMITTED: Counter "buttress_bulkhead_admitted_requests_total" Count
        "Requests let in, at once or after a wait.";
    BULKHEAD_WAITED: Counter "buttress_bulkhead_waited_requests_total" Count
        "Requests that had to wait in the queue.";
    BULKHEAD_ABANDONED: Counter "buttress_bulkhead_abandoned_requests_total" Count
        "Requests dropped while they waited in the queue.";
    BULKHEAD_BYPASSED: Counter "buttress_bulkhead_bypassed_requests_total" Count
        "Requests that took no place, because they may bypass.";
    BULKHEAD_REFUSED: Counter "buttress_bulkhead_refused_requests_total" Count
        "Requests refused, by reason.";
    BULKHEAD_SHED: Counter "buttress_bulkhead_shed_requests_total" Count
        "Requests refused in favour of more critical ones, by their own criticality.";
    BULKHEAD_IN_FLIGHT: Gauge "buttress_bulkhead_in_flight_requests" Count
        "Requests that hold a place.";
    BULKHEAD_QUEUED: Gauge "buttress_bulkhead_queued_requests" Count
        "Requests that wait in the queue.";
    BULKHEAD_LIMIT: Gauge "buttress_bulkhead_limit_requests" Count
        "Requests that may hold a place at once.";
    BULKHEAD_QUEUE_LIMIT: Gauge "buttress_bulkhead_queue_limit_requests" Count
        "Requests that may wait in the queue.";
    BULKHEAD_PARTITION_IN_FLIGHT: Gauge "buttress_bulkhead_partition_in_flight_requests" Count
        "Requests that hold a place, by partition.";
    BULKHEAD_PARTITION_QUEUED: Gauge "buttress_bulkhead_partition_queued_requests" Count
        "Requests that wait in the queue, by partition.";
    BULKHEAD_SHADOW: Gauge "buttress_bulkhead_shadow" Count
        "1 while the layer decides and counts but refuses nothing.";
    RATE_LIMIT_ADMITTED: Counter "buttress_rate_limit_admitted_requests_total" Count
        "Requests admitted, at once or after a wait.";
    RATE_LIMIT_WAITED: Counter "buttress_rate_limit_waited_requests_total" Count
        "Requests admitted that had to wait.";
    RATE_LIMIT_LEFT: Counter "buttress_rate_limit_left_requests_total" Count
        "Requests that were dropped while they waited.";
    RATE_LIMIT_REFUSED: Counter "buttress_rate_limit_refused_requests_total" Count
        "Requests refused, by reason: empty, too_long or too_much.";
    RATE_LIMIT_WAITING: Gauge "buttress_rate_limit_waiting_requests" Count
        "Requests that wait.";
    RATE_LIMIT_RATE: Gauge "buttress_rate_limit_rate_per_second" CountPerSecond
        "The rates in force, by their place among the limits of the layer.";
    RATE_LIMIT_BURST: Gauge "buttress_rate_limit_burst_requests" Count
        "How many may come at once, by the place among the limits of the layer.";
    RATE_LIMIT_KEYS: Gauge "buttress_rate_limit_keys" Count
        "Keys that have a bucket of their own.";
    RATE_LIMIT_SHADOW: Gauge "buttress_rate_limit_shadow" Count
        "1 while the layer decides and counts but refuses nothing.";
    FLEET_DECISIONS: Counter "buttress_fleet_limit_decisions_total" Count
        "Requests decided by a limit that a fleet shares, by what decided: store, lease, local, open or closed; and how.";
    FLEET_FAILURES: Counter "buttress_fleet_limit_store_failures_total" Count
        "How many times the store of a fleet's limit has not answered: timed_out, unreachable or refused.";
    FLEET_TOO_MUCH: Counter "buttress_fleet_limit_too_much_requests_total" Count
        "Requests refused because they ask for more than may ever come at once.";
    FLEET_LEFT: Counter "buttress_fleet_limit_left_requests_total" Count
        "Requests that were dropped while they waited for the store.";
    FLEET_LEASED: Counter "buttress_fleet_limit_leased_tokens_total" Count
        "Tokens taken from the store in batches.";
    FLEET_LAPSED: Counter "buttress_fleet_limit_lapsed_tokens_total" Count
        "Tokens that were leased and not used in time.";
    FLEET_RETURNED: Counter "buttress_fleet_limit_returned_tokens_total" Count
        "Tokens that were leased and given back.";
    FLEET_STATE: Gauge "buttress_fleet_limit_store_state" Count
        "Where the circuit around the store stands: 1 for its state, 0 for all others.";
    FLEET_STORE: Histogram "buttress_fleet_limit_store_duration_seconds" Seconds
        "How long the store of a fleet's limit took to answer.";
    FLEET_REPLICAS: Gauge "buttress_fleet_limit_replicas" Count
        "Among how many processes the limit is shared while the store does not answer.";
    FLEET_SHADOW: Gauge "buttress_fleet_limit_shadow" Count
        "1 while the limit decides and counts but refuses nothing.";
    FLEET_RATE: Gauge "buttress_fleet_limit_rate_per_second" CountPerSecond
        "The rates in force across the fleet, by their place among the limits of the layer.";
    RETRY_REQUESTS: Counter "buttress_retry_requests_total" Count
        "Requests that came, each with its first attempt.";
    RETRY_ATTEMPTS: Counter "buttress_retry_attempts_total" Count
        "Attempts after the first, by kind: retry, transparent, or in shadow mode would_retry.";
    RETRY_STOPPED: Counter "buttress_retry_stopped_requests_total" Count
        "Requests that failed and were not tried again, by reason.";
    RETRY_BALANCE: Gauge "buttress_retry_budget_balance" Count
        "Retries that the budget has leave for; infinite without a limit.";
    RETRY_SHADOW: Gauge "buttress_retry_shadow" Count
        "1 while the layer decides and counts but retries nothing.";
    HEDGE_REQUESTS: Counter "buttress_hedge_requests_total" Count
        "Requests that came, each with its first attempt.";
    HEDGE_FIRED: Counter "buttress_hedge_attempts_total" Count
        "Attempts sent beside a first one that had no answer yet.";
    HEDGE_WOULD_FIRE: Counter "buttress_hedge_shadow_attempts_total" Count
        "Attempts that would have been sent, had the layer not been in shadow mode.";
    HEDGE_ENDED: Counter "buttress_hedge_ended_attempts_total" Count
        "Attempts sent beside a first one that ended, by outcome: won, lost, failed, refused or dropped.";
    HEDGE_UNHEDGED: Counter "buttress_hedge_unhedged_requests_total" Count
        "Requests that were not sent again, or not once more, by reason.";
    HEDGE_DELAY: Gauge "buttress_hedge_delay_seconds" Seconds
        "After what time a request is sent again; infinite while that is off, or not learned yet.";
    HEDGE_BALANCE: Gauge "buttress_hedge_budget_balance" Count
        "Attempts that the budget has leave for; infinite without a limit.";
    HEDGE_SHADOW: Gauge "buttress_hedge_shadow" Count
        "1 while the layer decides and counts but sends nothing twice.";
    THROTTLE_REQUESTS: Counter "buttress_throttle_requests_total" Count
        "Requests that passed and ended, by outcome: accepted or unaccepted.";
    THROTTLE_REFUSED: Counter "buttress_throttle_refused_requests_total" Count
        "Requests held back from a service that accepts too few.";
    THROTTLE_PROBABILITY: Gauge "buttress_throttle_probability_ratio" Count
        "The probability with which a request is held back.";
    THROTTLE_SHADOW: Gauge "buttress_throttle_shadow" Count
        "1 while the layer decides and counts but refuses nothing.";
    FALLBACK_TRIGGERED: Counter "buttress_fallback_triggered_requests_total" Count
        "Calls that failed and were answered for, by what they ended in.";
    FALLBACK_UNANSWERED: Counter "buttress_fallback_unanswered_requests_total" Count
        "Calls that failed and that no rung had an answer for.";
    FALLBACK_WOULD: Counter "buttress_fallback_shadow_triggered_requests_total" Count
        "Calls that would have been answered for, but for shadow mode.";
    FALLBACK_RUNGS: Counter "buttress_fallback_rung_requests_total" Count
        "What the rungs did, by outcome: answered, failed, timed_out or skipped.";
    FALLBACK_SKIPPED: Counter "buttress_fallback_rung_skipped_requests_total" Count
        "Calls for which a rung was of no use, by reason.";
    FALLBACK_AGES: Counter "buttress_fallback_rung_age_seconds_total" Seconds
        "How old the stored answers of a rung were, added up.";
    FALLBACK_STORED: Gauge "buttress_fallback_stored_responses" Count
        "Good responses that are stored for bad times.";
    FALLBACK_BYTES: Gauge "buttress_fallback_stored_bytes" Bytes
        "The bytes that they take.";
    FALLBACK_SHADOW: Gauge "buttress_fallback_shadow" Count
        "1 while the layer decides and counts but answers nothing.";
    SLO_EVENTS: Counter "slo_events_total" Count
        "Events of an objective since the process started, by outcome: good, bad or excluded.";
    SLO_EXCLUDED: Counter "slo_excluded_total" Count
        "Events that count on neither side of an objective, by reason.";
    SLO_INFO: Gauge "slo_info" Count
        "1 for what is promised and how it is counted; 0 for what was promised before.";
    SLO_OBJECTIVE: Gauge "slo_objective_ratio" Count
        "The share of events that is promised to be good.";
    SLO_REMAINING: Gauge "slo_error_budget_remaining_ratio" Count
        "The share of the error budget of the period that is left, by what this instance saw; may be negative. Not to be averaged.";
    SLO_CONSUMED: Gauge "slo_error_budget_consumed_ratio" Count
        "The share of the error budget of the period that is spent, by what this instance saw. Not to be averaged.";
    SLO_ERRORS: Gauge "slo_error_ratio" Count
        "The share of bad events in the period; not there before the first event, and as it last was while slo_window_events is 0.";
    SLO_BURN: Gauge "slo_burn_rate_ratio" Count
        "How many times as fast as it lasts the budget is spent, by window; not there before the first event, and as it last was while slo_window_events is 0.";
    SLO_WINDOW_EVENTS: Gauge "slo_window_events" Count
        "Good and bad events in a window, by what this instance saw; 0 is no data.";
    SLO_ALERT: Gauge "slo_alert_state" Count
        "The worst of the alerts of a severity: 0 is quiet, 1 pending, 2 firing.";
    SLO_POLICY: Gauge "slo_policy_level" Count
        "How far down its ladder a policy stands; 0 is the best.";
    SLO_EXHAUSTION: Gauge "slo_time_to_exhaustion_seconds" Seconds
        "When the budget is spent if all goes on as in the last hour, with what leaves the window; infinite for never.";
    SLO_COVERAGE: Gauge "slo_window_coverage_ratio" Count
        "The share of a window that this instance observed.";
    SLO_CLOCKS: Counter "slo_clock_discontinuities_total" Count
        "How many times the clocks did more than to go on: steps, sleep, late ticks.";
    SLO_SNAPSHOT_AGE: Gauge "slo_snapshot_age_seconds" Seconds
        "How long ago the counts were last saved.";
    PLAIN_DURATION: Histogram "buttress_sli_call_duration_seconds" Seconds
        "Duration of calls that are neither HTTP nor gRPC.";
    HTTP_SERVER: Histogram "http_server_request_duration_seconds" Seconds
        "Duration of HTTP server requests, to the end of the response.";
    HTTP_CLIENT: Histogram "http_client_request_duration_seconds" Seconds
        "Duration of HTTP client requests, to the end of the response.";
    RPC_SERVER: Histogram "rpc_server_call_duration_seconds" Seconds
        "Duration of inbound remote procedure calls, to the end of the response.";
    RPC_CLIENT: Histogram "rpc_client_call_duration_seconds" Seconds
        "Duration of outbound remote procedure calls, to the end of the response.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_told_apart_and_say_what_they_are() {
        let distinct: HashSet<_> = ALL.iter().map(|name| name.name).collect();

        assert_eq!(distinct.len(), ALL.len());
        for Described { name, kind, .. } in ALL {
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(*kind != Kind::Histogram || name.ends_with("_duration_seconds"), "{name}");
        }
    }

    #[test]
    fn bounds_are_those_of_the_cells() {
        let expected =
            [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

        assert_eq!(BUCKET_BOUNDS.map(f64::to_bits), expected.map(f64::to_bits));
    }
}
