use crate::{Criticality, Ratio};

/// What is known of somebody who asks for a place.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The part of the limit to which it belongs; `None` for the rest, which only borrows.
    pub partition: Option<usize>,
    /// How much is lost when it is refused.
    pub criticality: Criticality,
    /// How much of all the room, inside and in the queue, may be taken when it is still let in.
    pub share: Ratio,
}

impl Default for Ask {
    #[inline]
    fn default() -> Self {
        Self { partition: None, criticality: Criticality::default(), share: Ratio::ONE }
    }
}

impl Ask {
    /// From how many on, inside and waiting, it is refused; no fewer than one, so that an idle
    /// service serves everybody.
    #[inline]
    pub(super) fn ceiling(self, limit: u32, bound: u32) -> u32 {
        if self.share == Ratio::ONE {
            return u32::MAX;
        }
        let room = u64::from(limit) + u64::from(bound);
        u32::try_from(self.share.of(room)).unwrap_or(u32::MAX).max(1)
    }
}

/// What became of somebody who asked for a place.
#[derive(Debug)]
#[must_use = "a place that is lost is never given back"]
pub enum Entry {
    /// It is inside.
    Admitted(Seat),
    /// It has to wait.
    Waiting(Place),
    /// There is no room for it.
    Refused(Refusal),
}

/// What became of a waiter.
#[derive(Debug)]
#[must_use = "a place that is lost is never given back"]
pub enum Outcome {
    /// It is inside.
    Admitted(Seat),
    /// It had to make room for another.
    Refused(Refusal),
}

/// What would have become of somebody who was let in all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    /// It would have been let in.
    Enter,
    /// It would have had to wait.
    Wait,
    /// It would have been turned away.
    Refuse(Refusal),
}

/// A place inside, to be given back with [`Gate::leave`](super::Gate::leave).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is lost is never given back"]
pub struct Seat {
    pub(super) part: Option<usize>,
}

/// A place in the queue, to be polled with [`Gate::poll`](super::Gate::poll) or left with
/// [`Gate::give_up`](super::Gate::give_up).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is lost is never given back"]
pub struct Place {
    pub(super) slot: u32,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// There is no room, neither inside nor in the queue.
    Full,
    /// What room there is is kept for those who are more critical, or was given to one.
    Shed,
    /// It has waited for as long as it may.
    WaitedTooLong,
}

impl Refusal {
    /// All refusals, each at the place of its number.
    pub const ALL: [Self; 3] = [Self::Full, Self::Shed, Self::WaitedTooLong];

    /// The value of a `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Shed => "shed",
            Self::WaitedTooLong => "queue_timed_out",
        }
    }
}
