use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use buttress_core::{Change, Event, Observe};

/// What happened to the watched layers, the newest last. Bounded: the oldest make room.
///
/// ```
/// use buttress_core::TimeLimit;
/// use buttress_layers::timeout::TimeoutLayer;
/// use buttress_metrics::Telemetry;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let telemetry = Telemetry::new();
/// let timeout = TimeoutLayer::new("shop", TimeLimit::from_secs(2)).handle();
/// telemetry.watch(timeout.clone());
///
/// timeout.set_limits(TimeLimit::from_secs(1).into());
///
/// let entries = telemetry.journal().entries();
/// assert_eq!(entries[0].to_string(), "timeout shop: time limits set: total 1s");
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Journal {
    entries: Mutex<VecDeque<Entry>>,
}

/// Something that happened to a layer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, by tokio's clock.
    pub at: Instant,
    /// The kind of layer.
    pub layer: &'static str,
    /// The layer's name.
    pub name: Arc<str>,
    /// Which one it is of those that a keyed layer holds.
    pub key: Option<Arc<str>>,
    /// What happened.
    pub change: Change,
}

impl Journal {
    /// How many entries are kept: a busy day of transitions, in well under a megabyte.
    pub const CAPACITY: usize = 1024;

    /// The entries, the oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == Self::CAPACITY {
            entries.pop_front();
        }
        entries.push_back(entry);
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.layer, self.name)?;
        if let Some(key) = &self.key {
            write!(f, "[{key}]")?;
        }
        write!(f, ": {}", self.change)
    }
}

impl Observe for Journal {
    fn observe(&self, event: &Event<'_>) {
        let Event { layer, name, key, change } = *event;
        tracing::info!(target: "buttress", layer, name, key, "{change}");
        let at = tokio::time::Instant::now().into_std();
        self.push(Entry { at, layer, name: name.into(), key: key.map(Into::into), change });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let journal = Journal::default();

        for capacity in 0..=Journal::CAPACITY {
            let change = Change::LabelsFull { capacity };
            journal.observe(&Event { layer: "sli", name: "s", key: None, change });
        }

        let entries = journal.entries();
        assert_eq!(entries.len(), Journal::CAPACITY);
        assert_eq!(entries[0].change, Change::LabelsFull { capacity: 1 });
    }
}
