use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use buttress_core::{Facts, Judgement, Side, Timing};

/// Takes what an [`SliLayer`](super::SliLayer) records, call by call.
///
/// Implement it for what the counts cannot tell: an objective of your own, a sample of slow
/// calls. It runs on the caller's path: it must not block, and had better not allocate.
pub trait Sink: Send + Sync + 'static {
    /// Takes one call, at its end.
    fn record(&self, record: &Record<'_>);
}

impl<F: Fn(&Record<'_>) + Send + Sync + 'static> Sink for F {
    fn record(&self, record: &Record<'_>) {
        self(record);
    }
}

/// One call that has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Record<'a> {
    /// What it counts as, and why.
    pub judgement: Judgement,
    /// Protocol, method, status and code.
    pub facts: Facts,
    /// On whose side it was recorded.
    pub side: Side,
    /// The template of its route; `None` where nothing tells.
    pub route: Option<&'a str>,
    /// How long it took.
    pub timing: Timing,
    /// Whether somebody else answered in the service's stead, as a
    /// [`fallback`](crate::fallback) does.
    pub degraded: bool,
    /// When it ended, by tokio's clock.
    pub ended: Instant,
}

/// Any number of sinks: read on every call without a lock, added to now and then.
#[derive(Default)]
pub(super) struct Sinks {
    first: OnceLock<Box<Node>>,
}

struct Node {
    sink: Arc<dyn Sink>,
    next: OnceLock<Box<Node>>,
}

impl Sinks {
    pub(super) fn add(&self, sink: Arc<dyn Sink>) {
        let mut node = Box::new(Node { sink, next: OnceLock::new() });
        let mut place = &self.first;
        while let Err(back) = place.set(node) {
            node = back;
            place = &place.get().expect("somebody was faster").next;
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Sink>> {
        let mut place = &self.first;
        std::iter::from_fn(move || {
            let node = place.get()?;
            place = &node.next;
            Some(&node.sink)
        })
    }
}

impl fmt::Debug for Sinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sinks").field("count", &self.iter().count()).finish()
    }
}
