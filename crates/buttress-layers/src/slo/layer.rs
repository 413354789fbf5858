use std::sync::Arc;

use buttress_core::{Auto, TimeLimit, http::Classified};
use buttress_slo::{Call, Recorder};
use tower_layer::Layer;

use super::SloTracker;
use crate::sli::{Record, Sink, Sli, SliHandle, SliLayer};

/// Builds [`Sli`] services that count for the objectives of a tracker.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct SloLayer<X = Auto> {
    sli: SliLayer<X>,
}

impl SloLayer {
    /// Records what we answer, for all objectives of `tracker`. The name stands in logs and
    /// metrics.
    #[must_use]
    pub fn server(name: impl Into<Arc<str>>, tracker: &SloTracker) -> Self {
        Self::over(SliLayer::server(name), tracker.recorders())
    }

    /// Records what others answer us, for all objectives of `tracker`. The name stands in logs
    /// and metrics.
    #[must_use]
    pub fn client(name: impl Into<Arc<str>>, tracker: &SloTracker) -> Self {
        Self::over(SliLayer::client(name), tracker.recorders())
    }
}

impl<X> SloLayer<X> {
    /// Binds an SLI layer to some objectives: where several layers share a tracker, and each has
    /// its own; or where the layer is set up in a way of its own.
    ///
    /// ```
    /// use buttress_layers::{sli::SliLayer, slo::{SloLayer, SloTracker}};
    /// use buttress_slo::{Objective, Sli};
    ///
    /// let named = |name: &str| Objective::new(name.parse().unwrap(), Sli::Availability, "99%".parse().unwrap());
    /// let tracker = SloTracker::new("shop".parse()?, [named("shop"), named("stock")])?;
    ///
    /// let shop = SloLayer::over(SliLayer::server("shop"), tracker.recorder("shop"));
    /// let stock = SloLayer::over(SliLayer::client("stock"), tracker.recorder("stock"));
    /// # let _ = (shop, stock);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn over(sli: SliLayer<X>, recorders: impl IntoIterator<Item = Arc<Recorder>>) -> Self {
        Self { sli: sli.sink(Recorders(recorders.into_iter().collect())) }
    }

    /// Names routes beforehand; see [`SliLayer::routes`].
    #[must_use]
    pub fn routes<R: Into<Box<str>>>(self, templates: impl IntoIterator<Item = R>) -> Self {
        Self { sli: self.sli.routes(templates) }
    }

    /// A caller that leaves after this long counts as bad: it left because we were late.
    #[must_use]
    pub fn late_after(self, limit: TimeLimit) -> Self {
        Self { sli: self.sli.late_after(limit) }
    }

    /// Counts as bad what somebody else answered; see [`SliLayer::degraded_is_bad`].
    #[must_use]
    pub fn degraded_is_bad(self) -> Self {
        Self { sli: self.sli.degraded_is_bad() }
    }

    /// Hands every call to `sink` too; see [`SliLayer::sink`].
    #[must_use]
    pub fn sink(self, sink: impl Sink) -> Self {
        Self { sli: self.sli.sink(sink) }
    }

    /// Replaces how calls are read and judged.
    #[must_use]
    pub fn exchange<Y>(self, exchange: Y) -> SloLayer<Y> {
        SloLayer { sli: self.sli.exchange(exchange) }
    }

    /// Replaces what counts as good, bad and excluded; see [`SliLayer::judge`].
    #[must_use]
    pub fn judge<C>(self, classifier: C) -> SloLayer<Classified<C>> {
        SloLayer { sli: self.sli.judge(classifier) }
    }

    /// Reads what was recorded, objectives or not, by route.
    #[must_use]
    pub fn handle(&self) -> SliHandle {
        self.sli.handle()
    }
}

impl<S, X: Clone> Layer<S> for SloLayer<X> {
    type Service = Sli<S, X>;

    fn layer(&self, inner: S) -> Sli<S, X> {
        self.sli.layer(inner)
    }
}

/// Counts a call for each objective that it is an event of. The tracker and its lock are not on
/// this path.
#[derive(Debug)]
struct Recorders(Box<[Arc<Recorder>]>);

impl Sink for Recorders {
    #[inline]
    fn record(&self, record: &Record<'_>) {
        let Record { judgement, route, timing, .. } = *record;
        let call = Call { judgement, route, timing };
        for recorder in &self.0 {
            recorder.record(&call);
        }
    }
}
