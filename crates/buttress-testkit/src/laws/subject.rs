use std::{any::Any, fmt};

/// A layer whose laws are checked, and what can be read off it.
///
/// What is not said is not checked, but for [`has_one_state`](super::has_one_state), which needs
/// one of [`settled`](Self::settled), [`refused`](Self::refused) and
/// [`released`](Self::released).
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use buttress_testkit::{BoxError, laws::{self, Settled, Subject}};
/// use tower::util::MapFutureLayer;
///
/// /// Counts the calls whose response was there or dropped.
/// struct Count(Arc<AtomicU64>);
///
/// impl Drop for Count {
///     fn drop(&mut self) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let counting = || {
///     let ended = Arc::new(AtomicU64::new(0));
///     let count = Arc::clone(&ended);
///     let layer = MapFutureLayer::new(move |response| {
///         let count = Count(Arc::clone(&count));
///         async move {
///             let response: Result<_, BoxError> = response.await;
///             drop(count);
///             response
///         }
///     });
///     Subject::new(layer)
///         .settled(move || Settled { ended: ended.load(Ordering::Relaxed), in_flight: 0 })
/// };
///
/// assert_eq!(laws::has_one_state(counting), Ok(()));
/// ```
pub struct Subject<L> {
    pub(super) layer: L,
    pub(super) settled: Option<Box<dyn Fn() -> Settled>>,
    pub(super) refused: Option<Box<dyn Fn() -> u64>>,
    pub(super) released: Option<Box<dyn Fn() -> bool>>,
    exhaust: Option<Box<dyn Fn() -> Box<dyn Any>>>,
    pub(super) attempts: u32,
}

impl<L> Subject<L> {
    /// A layer off which nothing is read.
    pub fn new(layer: L) -> Self {
        Self { layer, settled: None, refused: None, released: None, exhaust: None, attempts: 1 }
    }

    /// Reads how many calls the layer has settled, of a layer that settles every call.
    #[must_use]
    pub fn settled(mut self, read: impl Fn() -> Settled + 'static) -> Self {
        self.settled = Some(Box::new(read));
        self
    }

    /// Reads how many calls the layer has refused, of a layer that refuses every call which hangs
    /// for an hour, or every call once it is [exhausted](Self::exhaust).
    #[must_use]
    pub fn refused(mut self, read: impl Fn() -> u64 + 'static) -> Self {
        self.refused = Some(Box::new(read));
        self
    }

    /// Reads whether nothing holds on to the layer's state any more: no layer, no service, no
    /// call and no body.
    #[must_use]
    pub fn released(mut self, read: impl Fn() -> bool + 'static) -> Self {
        self.released = Some(Box::new(read));
        self
    }

    /// Drives the layer to where it refuses. What is returned is kept for as long as the layer
    /// shall stay there.
    #[must_use]
    pub fn exhaust<H: 'static>(mut self, drive: impl Fn() -> H + 'static) -> Self {
        self.exhaust = Some(Box::new(move || Box::new(drive())));
        self
    }

    /// Says how often the layer calls a service that fails, of one that tries again: an error is
    /// passed on when all of them have failed.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Drops the layer and keeps what is read off it.
    pub(super) fn without_layer(self) -> Subject<()> {
        let Self { layer: _, settled, refused, released, exhaust, attempts } = self;
        Subject { layer: (), settled, refused, released, exhaust, attempts }
    }

    pub(super) fn is_released(&self) -> bool {
        self.released.as_ref().is_none_or(|read| read())
    }

    pub(super) fn exhausted(&self) -> Option<Box<dyn Any>> {
        self.exhaust.as_ref().map(|drive| drive())
    }
}

impl<L: fmt::Debug> fmt::Debug for Subject<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("layer", &self.layer).finish_non_exhaustive()
    }
}

/// What became of the calls of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Calls that have come to an end, whatever end: each counts once.
    pub ended: u64,
    /// Calls that have not.
    pub in_flight: u64,
}
