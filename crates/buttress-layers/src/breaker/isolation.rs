use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use buttress_core::Change;

use super::circuit::Common;

/// One switch for many breakers: while it is on, all that obey it refuse every call.
///
/// For the moment at which a dependency must get no more traffic, from whichever route.
///
/// ```
/// use buttress_core::breaker::{Settings, State};
/// use buttress_layers::breaker::{BreakerLayer, Isolation};
///
/// let payments = Isolation::new();
/// let charge = BreakerLayer::new("charge", Settings::rate()).isolated_by(&payments).handle();
/// let refund = BreakerLayer::new("refund", Settings::rate()).isolated_by(&payments).handle();
///
/// payments.isolate();
/// assert_eq!((charge.state(), refund.state()), (State::Isolated, State::Isolated));
/// payments.release();
/// assert_eq!((charge.state(), refund.state()), (State::Closed, State::Closed));
/// ```
#[derive(Clone, Default)]
pub struct Isolation(Arc<Switch>);

#[derive(Default)]
struct Switch {
    on: AtomicBool,
    /// Who tells its observers.
    members: Mutex<Vec<Weak<Common>>>,
}

impl Isolation {
    /// A switch that is off.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has all calls refused from now on. Those under way go on, and count.
    pub fn isolate(&self) {
        self.set(true);
    }

    /// Lets every breaker go on from where it stands.
    pub fn release(&self) {
        self.set(false);
    }

    /// Whether it is on.
    #[must_use]
    #[inline]
    pub fn is_isolated(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    fn set(&self, on: bool) {
        if self.0.on.swap(on, Ordering::Relaxed) == on {
            return;
        }
        let members: Vec<_> = {
            let mut members = self.0.members.lock().unwrap_or_else(PoisonError::into_inner);
            members.retain(|member| member.strong_count() > 0);
            members.iter().filter_map(Weak::upgrade).collect()
        };
        for member in members {
            member.emit(None, Change::Isolated(on));
        }
    }

    pub(super) fn join(&self, member: &Arc<Common>) {
        let mut members = self.0.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.push(Arc::downgrade(member));
    }
}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolation")
            .field("is_isolated", &self.is_isolated())
            .finish_non_exhaustive()
    }
}
