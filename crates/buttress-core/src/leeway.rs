use std::{fmt, sync::Arc};

use crate::Ratio;

/// How much a layer does just now of what it may do at the most: somebody else says so, and is
/// asked each time.
///
/// The seam between layers and whoever knows how the service stands. An error budget that burns
/// takes leeway from what can be done without, retries and sheddable work; a switch that an
/// operator turns can be another. A layer that has none does all it may.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
/// use buttress_core::{Leeway, Ratio, retry::{Budget, InFlight}};
///
/// let hard_times = Arc::new(AtomicBool::new(false));
/// let asked = Arc::clone(&hard_times);
/// let leeway = Leeway::by(move || match asked.load(Ordering::Relaxed) {
///     true => Ratio::percent(25),
///     false => Ratio::ONE,
/// });
/// let budget = Budget::from(InFlight::new(Ratio::ZERO).floor(8)).leeway(leeway);
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// let now = std::time::Instant::now();
///
/// assert_eq!(budget.balance(now), Some(8));
/// hard_times.store(true, Ordering::Relaxed);
/// assert_eq!(budget.balance(now), Some(2));
/// ```
#[derive(Clone)]
pub struct Leeway(Arc<dyn Fn() -> Ratio + Send + Sync>);

impl Leeway {
    /// As much as `share` says whenever it is asked: from any thread, for some layers with every
    /// request, and while nothing is locked. So it reads something, and waits for nothing.
    #[must_use]
    pub fn by(share: impl Fn() -> Ratio + Send + Sync + 'static) -> Self {
        Self(Arc::new(share))
    }

    /// How much it is just now.
    #[must_use]
    pub fn share(&self) -> Ratio {
        (self.0)()
    }
}

impl fmt::Debug for Leeway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leeway(..)")
    }
}
