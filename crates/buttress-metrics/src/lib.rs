//! What the layers count, published.
//!
//! Layers count in cells of their own, and nothing is called per request. A [`Telemetry`] reads
//! the handles that it watches once a second and publishes what it finds to the recorder of the
//! [`metrics`] crate, whichever exporter that is. What happens rarely, such as a limit that was
//! changed, is pushed instead: to [`tracing`], to subscribers and to a journal.
//!
//! # Example
//!
//! ```
//! use buttress_core::TimeLimit;
//! use buttress_layers::{sli::SliLayer, timeout::TimeoutLayer};
//! use buttress_metrics::{BUCKET_BOUNDS, Telemetry};
//! use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let prometheus = PrometheusBuilder::new()
//!     .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &BUCKET_BOUNDS)?
//!     .install_recorder()?;
//!
//! let sli = SliLayer::server("shop");
//! let timeout = TimeoutLayer::new("shop", TimeLimit::from_secs(2));
//! let telemetry = Telemetry::new();
//! telemetry.watch(sli.handle());
//! telemetry.watch(timeout.handle());
//! // In a service: tokio::spawn(telemetry.run()).
//!
//! let page = prometheus.render();
//! assert!(page.contains(r#"buttress_sli_requests_total{sli="shop",side="server",outcome="bad"} 0"#));
//! # Ok(())
//! # }
//! ```
//!
//! # What an exporter has to know
//!
//! Durations are histograms, and arrive bucket by bucket: set the exporter to [`BUCKET_BOUNDS`]
//! for names that end in `_duration_seconds`, and its buckets and sums are exact. An exporter that
//! was installed without a task of its own must be rendered or upkept now and then, or its
//! histograms grow.
//!
//! # What is promised
//!
//! Counters whose labels are known beforehand are there at 0 as soon as a layer is watched: outcomes,
//! reasons, clocks, and the routes that were named with `SliLayer::routes`. They never step back, and
//! keep what a layer counted that is gone or was built anew under the same name. They are
//! published as totals, so a series that an exporter dropped when it was idle comes back whole.
//! Route labels are templates, bounded in number by the layer.
//!
//! # Sharing
//!
//! A [`Telemetry`] is cheap to clone, and clones are the same. Watch each layer with one of them:
//! two would both publish it.

mod journal;
mod names;
mod report;
mod sources;
mod telemetry;

#[cfg(test)]
mod tests;

pub use self::{
    journal::{Entry, Journal},
    names::BUCKET_BOUNDS,
    report::{Labels, Report},
    telemetry::{Source, Telemetry},
};
