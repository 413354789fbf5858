use std::sync::Arc;

use buttress_core::{Code, Observe, Protocol, Reason, Side, Verdict, cells::Buckets};
use buttress_layers::sli::{OTHER, RouteCounts, Series, SliHandle};

use crate::{
    Report, Source,
    names::{
        HTTP_CLIENT, HTTP_SERVER, PLAIN_DURATION, RPC_CLIENT, RPC_SERVER, SLI_DEGRADED,
        SLI_IN_FLIGHT, SLI_REASONS, SLI_REQUESTS, SLI_ROUTES,
    },
};

impl Source for SliHandle {
    fn report(&self, report: &mut Report) {
        let (sli, side) = (self.name(), self.side());
        let snapshot = self.snapshot();
        // All outcomes, so that each series is there before its first call.
        for verdict in Verdict::ALL {
            let outcome = ("outcome", verdict.as_str());
            let labels = [("sli", sli), ("side", side.as_str()), outcome];
            let counts = snapshot.routes.iter().map(|route| route.counts().of_verdict(verdict));
            report.counter(SLI_REQUESTS.name, &labels, counts.sum());
        }
        #[expect(clippy::cast_precision_loss, reason = "there are not 2^53 calls under way")]
        let in_flight = snapshot.in_flight as f64;
        let labels = [("sli", sli), ("side", side.as_str())];
        report.amount(SLI_IN_FLIGHT.name, &labels, in_flight);
        report.counter(SLI_DEGRADED.name, &labels, self.degraded());

        for outcome in [Verdict::Bad, Verdict::Excluded] {
            for reason in Reason::all() {
                report_reason(report, sli, side, outcome, reason, 0);
            }
        }
        for route in &snapshot.routes {
            report_route(report, sli, side, route);
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

fn report_route(report: &mut Report, sli: &str, side: Side, route: &RouteCounts) {
    let counts = route.counts();
    for verdict in Verdict::ALL {
        let labels = [
            ("sli", sli),
            ("side", side.as_str()),
            ("route", &*route.route),
            ("outcome", verdict.as_str()),
        ];
        report.counter(SLI_ROUTES.name, &labels, counts.of_verdict(verdict));
    }
    for kind in &route.series {
        if kind.series.verdict != Verdict::Good {
            let (verdict, reason) = (kind.series.verdict, kind.series.reason);
            report_reason(report, sli, side, verdict, reason, kind.durations.count());
        }
        report_durations(report, sli, side, &route.route, &kind.series, &kind.durations);
    }
}

fn report_reason(
    report: &mut Report,
    sli: &str,
    side: Side,
    verdict: Verdict,
    reason: Reason,
    count: u64,
) {
    let labels = [
        ("sli", sli),
        ("side", side.as_str()),
        ("outcome", verdict.as_str()),
        ("reason", reason.as_str()),
    ];
    report.counter(SLI_REASONS.name, &labels, count);
}

/// Durations by OpenTelemetry's semantic conventions, v1.44, with the layer's name beside them:
/// two layers around one another would else count each call twice.
fn report_durations(
    report: &mut Report,
    sli: &str,
    side: Side,
    route: &str,
    series: &Series,
    durations: &Buckets,
) {
    let status = series.status.map(|status| status.to_string()).unwrap_or_default();
    let error = error_type(series, &status);
    match series.protocol {
        Protocol::Http => {
            let name = if side == Side::Server { HTTP_SERVER } else { HTTP_CLIENT };
            // What a client calls a route is a template of its own making.
            let template = if side == Side::Server { "http_route" } else { "url_template" };
            let labels = [
                ("sli", sli),
                (template, route),
                ("http_request_method", series.method.as_str()),
                ("http_response_status_code", &status),
                ("error_type", error),
            ];
            report.durations(name.name, &labels, durations);
        }
        Protocol::Grpc => {
            let name = if side == Side::Server { RPC_SERVER } else { RPC_CLIENT };
            let method = if route == OTHER { "_OTHER" } else { route.trim_start_matches('/') };
            let labels = [
                ("sli", sli),
                ("rpc_system_name", "grpc"),
                ("rpc_method", method),
                (report.rpc_status.0, series.code.map_or("", Code::as_str)),
                ("error_type", error),
            ];
            report.durations(name.name, &labels, durations);
        }
        Protocol::Plain => {
            let labels = [
                ("sli", sli),
                ("side", side.as_str()),
                ("outcome", series.verdict.as_str()),
                ("error_type", error),
            ];
            report.durations(PLAIN_DURATION.name, &labels, durations);
        }
    }
}

/// OpenTelemetry's `error.type`: empty for a success, the status where that is the error, else
/// what went wrong.
fn error_type<'a>(series: &Series, status: &'a str) -> &'a str {
    let of_status = match (series.protocol, series.status, series.code) {
        (Protocol::Http, Some(500..), _) => Some(status),
        (Protocol::Grpc, _, Some(code)) if series.verdict == Verdict::Bad => Some(code.as_str()),
        _ => None,
    };
    match series.reason {
        Reason::Status | Reason::Application | Reason::Refused(_) => of_status.unwrap_or_default(),
        Reason::Left if series.verdict == Verdict::Good => "",
        reason => reason.as_str(),
    }
}
