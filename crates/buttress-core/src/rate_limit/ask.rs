use std::num::NonZeroU32;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ask {
    pub(super) cost: NonZeroU32,
    /// How many must be left for others.
    pub(super) kept: u32,
}

impl Ask {
    /// As much as one event.
    pub const fn one() -> Self {
        Self::cost(NonZeroU32::MIN)
    }

    /// As much as so many events.
    pub const fn cost(cost: NonZeroU32) -> Self {
        Self { cost, kept: 0 }
    }

    /// And only if so many more are left, for those who may have the last. Said twice, the greater
    /// number holds.
    pub const fn leaving(mut self, kept: u32) -> Self {
        if kept > self.kept {
            self.kept = kept;
        }
        self
    }

    /// As much as how many events.
    #[must_use]
    pub const fn weight(self) -> NonZeroU32 {
        self.cost
    }

    /// How many must be left for others.
    #[must_use]
    pub const fn kept(self) -> u32 {
        self.kept
    }
}
