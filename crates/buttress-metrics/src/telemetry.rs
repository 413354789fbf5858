use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buttress_core::Observe;
use tokio::time::{MissedTickBehavior, interval};

use crate::{Journal, Report, report::RpcStatusLabel};

/// Something that counts, and can be read: a layer's handle.
///
/// Implemented for the handles of all layers; implement it for a layer of your own.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use buttress_core::Observe;
/// use buttress_metrics::{Report, Source, Telemetry};
///
/// /// What a cache of ours counts.
/// #[derive(Clone)]
/// struct CacheHandle(Arc<AtomicU64>);
///
/// impl Source for CacheHandle {
///     fn report(&self, report: &mut Report) {
///         report.counter("cache_hits_total", &[("cache", "pages")], self.0.load(Ordering::Relaxed));
///     }
///     fn observe(&self, _: Arc<dyn Observe>) {}
///     fn is_last(&self) -> bool {
///         Arc::strong_count(&self.0) == 1
///     }
///     fn id(&self) -> usize {
///         Arc::as_ptr(&self.0) as usize
///     }
/// }
///
/// let exporter = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
/// let hits = CacheHandle(Arc::default());
/// hits.0.fetch_add(3, Ordering::Relaxed);
///
/// metrics::with_local_recorder(&exporter, || Telemetry::new().watch(hits.clone()));
/// assert!(exporter.handle().render().contains(r#"cache_hits_total{cache="pages"} 3"#));
/// ```
pub trait Source: Send + Sync + 'static {
    /// Brings about what time alone has done, before it is reported: a breaker's ramp may be over.
    /// Observers may hear of it, and so nothing of ours is locked meanwhile.
    fn catch_up(&self) {}

    /// Says what has been counted so far, and moves nothing.
    fn report(&self, report: &mut Report);

    /// Tells `observer` of what happens from now on.
    fn observe(&self, observer: Arc<dyn Observe>);

    /// Whether this is all that is left of the layer, so that nothing can be counted any more.
    fn is_last(&self) -> bool;

    /// What tells this layer from any other that lives at the same time.
    fn id(&self) -> usize;
}

/// Reads what it watches once a tick, and publishes it.
///
/// See the [crate docs](crate) for an example.
#[derive(Clone)]
pub struct Telemetry {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    journal: Arc<Journal>,
}

#[derive(Default)]
struct State {
    sources: Vec<Arc<dyn Source>>,
    observers: Vec<Arc<dyn Observe>>,
    report: Report,
}

impl Telemetry {
    /// Watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared { state: Mutex::default(), journal: Arc::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Names the label of a gRPC status, `rpc_response_status_code` by default.
    ///
    /// OpenTelemetry's conventions for it are not stable: drafts also say `rpc_status_code`, and
    /// older ones `rpc_grpc_status_code`. Say so before the first layer is watched.
    #[must_use]
    pub fn rpc_status_label(self, label: &'static str) -> Self {
        self.lock().report.rpc_status = RpcStatusLabel(label);
        self
    }

    /// Watches a layer, through its handle, and publishes its series at once. Watching a layer
    /// twice is watching it once.
    pub fn watch(&self, source: impl Source) {
        {
            let mut state = self.lock();
            if state.sources.iter().any(|watched| watched.id() == source.id()) {
                return;
            }
            source.observe(Arc::clone(&self.shared.journal) as Arc<dyn Observe>);
            for observer in &state.observers {
                source.observe(Arc::clone(observer));
            }
            state.sources.push(Arc::new(source));
        }
        self.tick();
    }

    /// Tells `observer` of what happens to any watched layer, those watched later included.
    pub fn subscribe(&self, observer: impl Observe) {
        let observer: Arc<dyn Observe> = Arc::new(observer);
        let mut state = self.lock();
        for source in &state.sources {
            source.observe(Arc::clone(&observer));
        }
        state.observers.push(observer);
    }

    /// What has happened to the watched layers.
    #[must_use]
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.shared.journal)
    }

    /// Reads every watched layer and publishes what it has counted.
    ///
    /// [`run`](Self::run) does so by itself. Call it before a last scrape, or where a page is
    /// rendered and shall be of this very moment.
    pub fn tick(&self) {
        let sources = self.lock().sources.clone();
        for source in &sources {
            source.catch_up();
        }
        drop(sources);
        let State { sources, report, .. } = &mut *self.lock();
        report.begin();
        sources.retain(|source| {
            // Asked before it is read: what is last can count no more.
            let last = source.is_last();
            report.for_good(last);
            source.report(report);
            !last
        });
        report.publish();
    }

    /// Ticks once a second, for ever: spawn it.
    pub async fn run(self) {
        let mut ticks = interval(TICK);
        // After a stall one tick tells all that several would.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tick();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fine enough for any scrape interval, and for the windows of the objectives.
const TICK: Duration = Duration::from_secs(1);

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.lock().sources.len();
        f.debug_struct("Telemetry").field("sources", &sources).finish_non_exhaustive()
    }
}
