//! How many may be inside at once, who waits for a place, and who is turned away.
//!
//! [`Gate`] decides it all and waits for nothing: who has to wait gets a [`Place`] in line, which
//! somebody polls. Time is an argument, and only where the decision needs it.
//!
//! ```
//! use std::task::Waker;
//! use buttress_core::bulkhead::{Ask, Entry, Gate, Outcome, Refusal};
//!
//! # fn clock() -> std::time::Instant { unreachable!("an undivided limit needs no time") }
//! let gate = Gate::new(1);
//! gate.set_bound(1);
//!
//! let Entry::Admitted(seat) = gate.enter(Ask::default(), clock) else { panic!("there is room") };
//! let Entry::Waiting(place) = gate.enter(Ask::default(), clock) else { panic!("one may wait") };
//! assert!(matches!(gate.enter(Ask::default(), clock), Entry::Refused(Refusal::Full)));
//!
//! gate.leave(seat);
//! let Some(Outcome::Admitted(seat)) = gate.poll(&place, Waker::noop()) else { panic!("its turn") };
//! gate.leave(seat);
//! ```

mod adaptive;
mod aimd;
mod ask;
mod drain;
mod gate;
mod gradient2;
mod partitions;
mod queue;
mod word;

#[cfg(all(test, buttress_loom))]
mod loom_tests;

#[cfg(all(test, not(buttress_loom)))]
mod tests;

pub use self::{
    adaptive::{Adaptive, Control, Measured, Sample},
    aimd::Aimd,
    ask::{Ask, Entry, Outcome, Place, Refusal, Seat, Would},
    drain::Drain,
    gate::Gate,
    gradient2::Gradient2,
    partitions::Partitions,
};
