use std::collections::HashMap;

use buttress_core::cells::{BOUNDS, BUCKETS, Buckets};
use metrics::{Key, Label, Level, Metadata, Recorder, with_recorder};

use crate::names::{ALL, Described, Kind};

/// What a [`Source`](crate::Source) hands over once a tick.
///
/// Counters and durations are totals since the source was made; whoever reports only ever has to
/// say what it has.
#[derive(Debug, Default)]
pub struct Report {
    counters: HashMap<Key, Total<u64>>,
    gauges: HashMap<Key, Gauge>,
    durations: HashMap<Key, Durations>,
    /// The source that reports is gone for good: what it says is kept.
    for_good: bool,
    /// The label of a gRPC status, whose name OpenTelemetry has not settled.
    pub(crate) rpc_status: RpcStatusLabel,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RpcStatusLabel(pub(crate) &'static str);

impl Default for RpcStatusLabel {
    fn default() -> Self {
        Self("rpc_response_status_code")
    }
}

/// Labels of a series, from closed sets.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

#[derive(Debug)]
struct Gauge {
    value: f64,
    combine: Combine,
    /// What it was when somebody knew it last.
    last: f64,
    known: Known,
}

/// What the sources of a gauge know of it this tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// None of them spoke of it.
    Unsaid,
    /// They spoke of it, and none has anything to go by.
    Unknown,
    /// At least one knows.
    Said,
}

/// What the gauges of several layers of one name make together.
#[derive(Clone, Copy, Debug)]
enum Combine {
    Sum,
    Lowest,
    Highest,
}

impl Combine {
    /// What no layer at all makes.
    const fn nothing(self) -> f64 {
        match self {
            Self::Sum | Self::Highest => 0.0,
            Self::Lowest => f64::INFINITY,
        }
    }

    fn with(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => a + b,
            Self::Lowest => a.min(b),
            Self::Highest => a.max(b),
        }
    }
}

/// What all sources of one series have counted.
#[derive(Debug, Default)]
struct Total<T> {
    /// By sources that are gone.
    kept: T,
    /// By sources that are there, added up anew each tick.
    live: T,
}

#[derive(Debug, Default)]
struct Durations {
    total: Total<Buckets>,
    /// What the recorder has been told of.
    handed: Buckets,
}

impl Report {
    /// A count that only grows.
    pub fn counter(&mut self, name: &'static str, labels: Labels<'_>, total: u64) {
        let counter = self.counters.entry(key(name, labels)).or_default();
        let into = if self.for_good { &mut counter.kept } else { &mut counter.live };
        *into += total;
    }

    /// An amount as it is. What several sources of one series say adds up.
    pub fn amount(&mut self, name: &'static str, labels: Labels<'_>, value: f64) {
        self.gauge(name, labels, value, Combine::Sum);
    }

    /// A setting of which the lowest holds; infinity where there is none.
    pub fn lowest(&mut self, name: &'static str, labels: Labels<'_>, value: f64) {
        self.gauge(name, labels, value, Combine::Lowest);
    }

    /// A setting of which the highest is to be seen.
    pub fn highest(&mut self, name: &'static str, labels: Labels<'_>, value: f64) {
        self.gauge(name, labels, value, Combine::Highest);
    }

    /// As [`highest`](Self::highest), of a value that there may be nothing to tell by. It is not
    /// there before somebody knows it. Once nobody does, it stays as it was: a gauge cannot be
    /// taken back, 0 would be a value, and `NaN` poisons every sum. Report beside it what tells
    /// whether it is of now.
    pub fn highest_known(&mut self, name: &'static str, labels: Labels<'_>, value: Option<f64>) {
        if let Some(value) = value {
            self.gauge(name, labels, value, Combine::Highest);
        } else if !self.for_good
            && let Some(gauge) = self.gauges.get_mut(&key(name, labels))
            && gauge.known == Known::Unsaid
        {
            gauge.known = Known::Unknown;
        }
    }

    fn gauge(&mut self, name: &'static str, labels: Labels<'_>, value: f64, combine: Combine) {
        let nothing = combine.nothing();
        let gauge = self.gauges.entry(key(name, labels));
        let new = Gauge { value: nothing, combine, last: nothing, known: Known::Unsaid };
        let gauge = gauge.or_insert(new);
        if !self.for_good {
            gauge.known = Known::Said;
            gauge.value = combine.with(gauge.value, value);
        }
    }

    /// Durations by bucket.
    pub fn durations(&mut self, name: &'static str, labels: Labels<'_>, buckets: &Buckets) {
        let total = &mut self.durations.entry(key(name, labels)).or_default().total;
        let into = if self.for_good { &mut total.kept } else { &mut total.live };
        into.merge(buckets);
    }

    /// Starts a tick.
    pub(crate) fn begin(&mut self) {
        self.counters.values_mut().for_each(|total| total.live = 0);
        self.durations.values_mut().for_each(|series| series.total.live = Buckets::default());
        // Gauges of sources that are gone do not stay at what they last were.
        for gauge in self.gauges.values_mut() {
            gauge.value = gauge.combine.nothing();
            gauge.known = Known::Unsaid;
        }
        self.for_good = false;
    }

    /// What is reported from here to the end of the tick comes from a source that is gone.
    pub(crate) fn for_good(&mut self, for_good: bool) {
        self.for_good = for_good;
    }

    /// Ends a tick: hands everything to the recorder.
    pub(crate) fn publish(&mut self) {
        with_recorder(|recorder| {
            describe(recorder);
            for (key, total) in &self.counters {
                // Registered anew each time: an exporter may have dropped an idle series, and a
                // kept handle would then count into nothing.
                recorder.register_counter(key, &METADATA).absolute(total.kept + total.live);
            }
            for (key, gauge) in &mut self.gauges {
                if gauge.known != Known::Unknown {
                    gauge.last = gauge.value;
                }
                recorder.register_gauge(key, &METADATA).set(gauge.last);
            }
            // While no exporter is installed a recorder without any state stands in. Durations
            // handed to it would be lost, where totals would not; they wait for a real one.
            if size_of_val(recorder) == 0 {
                return;
            }
            for (key, durations) in &mut self.durations {
                let histogram = recorder.register_histogram(key, &METADATA);
                durations.hand_over(|seconds, count| histogram.record_many(seconds, count));
            }
        });
    }
}

impl Durations {
    /// Hands on what is new, bucket by bucket: so many times the mean of what fell into it.
    ///
    /// The mean lies inside the bucket, so nothing changes buckets. What rounding leaves over is
    /// handed on with the next, so the sum is exact but for the last nanoseconds.
    fn hand_over(&mut self, mut record: impl FnMut(f64, usize)) {
        let mut total = self.total.kept;
        total.merge(&self.total.live);
        for bucket in 0..BUCKETS {
            let (now, handed) = (total.0[bucket], &mut self.handed.0[bucket]);
            let count = now.count.saturating_sub(handed.count);
            if count == 0 {
                continue;
            }
            let mean = now.nanos.saturating_sub(handed.nanos) / count;
            // A count that is read a moment after its sum leaves some of the sum for the next.
            let mean = BOUNDS.get(bucket).map_or(mean, |bound| mean.min(nanos(*bound)));
            handed.count += count;
            handed.nanos += mean * count;
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            record(seconds(mean), count);
        }
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One division, so that a duration at a bound becomes the very float of that bound.
#[expect(clippy::cast_precision_loss, reason = "exact below 104 days")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn key(name: &'static str, labels: Labels<'_>) -> Key {
    let label = |(key, value): &(&'static str, &str)| Label::new(*key, (*value).to_owned());
    Key::from_parts(name, labels.iter().map(label).collect::<Vec<_>>())
}

fn describe(recorder: &dyn Recorder) {
    for Described { name, kind, unit, help } in ALL {
        let (name, unit) = ((*name).into(), Some(*unit));
        match kind {
            Kind::Counter => recorder.describe_counter(name, unit, (*help).into()),
            Kind::Gauge => recorder.describe_gauge(name, unit, (*help).into()),
            Kind::Histogram => recorder.describe_histogram(name, unit, (*help).into()),
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("buttress", Level::INFO, Some("buttress"));

#[cfg(test)]
mod tests {
    use buttress_core::cells::{BucketCount, Histogram};

    use super::*;

    fn handed(durations: &mut Durations) -> Vec<(f64, usize)> {
        let mut handed = Vec::new();
        durations.hand_over(|seconds, count| handed.push((seconds, count)));
        handed
    }

    #[test]
    fn a_bucket_is_handed_on_once_as_its_mean() {
        let histogram = Histogram::new();
        histogram.record(std::time::Duration::from_millis(6));
        histogram.record(std::time::Duration::from_millis(8));
        histogram.record(std::time::Duration::from_secs(20));
        let mut durations = Durations::default();
        durations.total.live = histogram.read();

        assert_eq!(handed(&mut durations), [(0.007, 2), (20.0, 1)]);
        assert_eq!(handed(&mut durations), []);
    }

    #[test]
    fn a_mean_never_leaves_its_bucket_and_the_sum_is_made_up_for() {
        let mut durations = Durations::default();
        let five_millis = 5_000_000;

        // A sum that is ahead of its count by one call, and then the count.
        durations.total.live.0[0] = BucketCount { count: 1, nanos: 2 * five_millis };
        assert_eq!(handed(&mut durations), [(0.005, 1)]);
        durations.total.live.0[0] = BucketCount { count: 2, nanos: 2 * five_millis };
        assert_eq!(handed(&mut durations), [(0.005, 1)]);

        assert_eq!(durations.handed, durations.total.live);
    }
}
