use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use crate::cells::{Padded, stripe, stripes};

/// State that one layer shares with everything it builds.
///
/// An `Arc` would do, but each call must hold on to the state until its response has ended, and
/// a reference count that all threads fight over costs more than all else a layer does. So there
/// are several counts, each on a cache line of its own, and a call takes the one of its thread.
///
/// ```
/// use buttress_core::Shared;
///
/// let shared = Shared::new(7);
/// let lease = shared.lease();
/// drop(shared);
/// assert_eq!(*lease, 7);
/// ```
pub struct Shared<T> {
    counts: Arc<[Lease<T>]>,
}

impl<T> Shared<T> {
    /// Shares `value`.
    pub fn new(value: T) -> Self {
        let value = Arc::new(value);
        let count = || Lease(Arc::new(Padded(Arc::clone(&value))));
        Self { counts: (0..stripes()).map(|_| count()).collect() }
    }

    /// Holds on to the state for one call.
    #[must_use]
    #[inline]
    pub fn lease(&self) -> Lease<T> {
        self.counts[stripe() & (self.counts.len() - 1)].clone()
    }

    /// Whether nothing else holds on to the state: no layer, no service, no call.
    #[must_use]
    pub fn is_last(&self) -> bool {
        // A count is read relaxed: who sees the 1 that a holder left must see what that one did
        // before. First the leases that it had taken, and then what the leases counted.
        if Arc::strong_count(&self.counts) != 1 {
            return false;
        }
        fence(Ordering::Acquire);
        let last = self.counts.iter().all(|count| Arc::strong_count(&count.0) == 1);
        fence(Ordering::Acquire);
        last
    }

    /// What tells this state from any other that lives at the same time.
    #[must_use]
    #[inline]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.counts).addr()
    }
}

impl<T> Clone for Shared<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self { counts: Arc::clone(&self.counts) }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.counts[0]
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// One call's hold on [`Shared`] state.
pub struct Lease<T>(Arc<Padded<Arc<T>>>);

impl<T> Clone for Lease<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_outlives_what_it_was_taken_from_and_is_seen() {
        let shared = Shared::new(String::from("state"));
        let watching = shared.clone();
        let lease = shared.lease();

        drop(shared);
        let while_leased = watching.is_last();
        drop(lease);

        assert!(!while_leased);
        assert!(watching.is_last());
    }
}
