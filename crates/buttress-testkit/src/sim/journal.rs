use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buttress_core::{Change, Event, Observe, breaker::Transition};
use tokio::time::Instant;

/// Something that happened to a layer of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// When, counted from the start.
    pub at: Duration,
    /// The kind of layer.
    pub layer: &'static str,
    /// Its name.
    pub name: String,
    /// Which one it is of those that a keyed layer holds.
    pub key: Option<String>,
    /// What happened.
    pub change: Change,
}

impl Seen {
    /// The transition, if a breaker made one.
    #[must_use]
    pub fn transition(&self) -> Option<Transition> {
        match self.change {
            Change::Breaker(transition) => Some(transition),
            _ => None,
        }
    }
}

/// Writes down what it observes, with the instant.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    origin: Instant,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Journal {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, seen: Arc::default() }
    }

    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observe for Journal {
    fn observe(&self, event: &Event<'_>) {
        let seen = Seen {
            at: self.origin.elapsed(),
            layer: event.layer,
            name: event.name.to_owned(),
            key: event.key.map(str::to_owned),
            change: event.change,
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
}
