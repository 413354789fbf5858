use super::State;

/// What a breaker is, in one word: a phase, whether it only tries out, and an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Closed,
    Recovering,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Closed,
        Self::Recovering,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::ForcedClosed,
    ];

    pub(super) const fn state(self) -> State {
        match self {
            Self::Closed => State::Closed,
            Self::Recovering => State::Recovering,
            Self::Open => State::Open,
            Self::HalfOpen => State::HalfOpen,
            Self::ForcedOpen => State::ForcedOpen,
            Self::ForcedClosed => State::ForcedClosed,
        }
    }
}

/// Three bits of phase, one of shadow mode; the epoch above them lasts for a transition each
/// nanosecond of 36 years.
const PHASE: u64 = 0b111;
const SHADOW: u64 = 0b1000;
const EPOCH: u64 = 0b1_0000;

impl Word {
    pub(super) const CLOSED: Self = Self(0);

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) fn phase(self) -> Phase {
        Phase::ALL[(self.0 & PHASE) as usize]
    }

    pub(super) const fn is_shadow(self) -> bool {
        self.0 & SHADOW != 0
    }

    pub(super) const fn epoch(self) -> u64 {
        self.0 / EPOCH
    }

    /// Another phase of the same epoch.
    pub(super) const fn with(self, phase: Phase) -> Self {
        Self(self.0 & !PHASE | phase as u64)
    }

    /// A phase in the next epoch.
    pub(super) const fn next(self, phase: Phase) -> Self {
        Self(self.with(phase).0.wrapping_add(EPOCH))
    }

    pub(super) const fn with_shadow(self, shadow: bool) -> Self {
        if shadow { Self(self.0 | SHADOW) } else { Self(self.0 & !SHADOW) }
    }
}
