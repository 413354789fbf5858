use std::{num::NonZeroU32, ops::Range, time::Duration};

use buttress_core::Ratio;

use super::Latency;

/// What a [`Dependency`](super::Dependency) does, and when.
///
/// ```
/// use std::time::Duration;
/// use buttress_testkit::sim::{Latency, Script, Spell};
///
/// let second = Duration::from_secs(1);
/// let script = Script::answering_in(Latency::fixed(Duration::from_millis(20)))
///     .during(10 * second..40 * second, Spell::Hangs);
///
/// assert_eq!(script.at(9 * second), Spell::Healthy);
/// assert_eq!(script.at(10 * second), Spell::Hangs);
/// assert_eq!(script.at(40 * second), Spell::Healthy);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Script {
    pub(super) latency: Latency,
    spells: Vec<(Range<Duration>, Spell)>,
}

/// How a [`Dependency`](super::Dependency) fares for a while. A call meets the spell that is on
/// when it comes, to its end: what hangs goes on hanging when all is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spell {
    /// It answers.
    Healthy,
    /// It fails, at once.
    Fails,
    /// It never answers.
    Hangs,
    /// It answers, and takes so many times as long.
    Slow(NonZeroU32),
    /// It fails this share of calls, after as long as an answer takes.
    FailsShare(Ratio),
    /// It works on so many calls at once, in the order in which they come; the others wait. It
    /// does not notice when a caller has gone, and does the work all the same, as most servers do.
    Capacity(NonZeroU32),
}

impl Script {
    /// It answers in so long all the time.
    pub const fn answering_in(latency: Latency) -> Self {
        Self { latency, spells: Vec::new() }
    }

    /// It has this spell from one instant, counted from the start, up to another. Where two spells
    /// are on, the one that was added last counts.
    ///
    /// # Panics
    ///
    /// If the spell ends before it begins.
    pub fn during(mut self, when: Range<Duration>, spell: Spell) -> Self {
        assert!(!when.is_empty(), "a spell from {:?} to {:?} is none", when.start, when.end);
        self.spells.push((when, spell));
        self
    }

    /// It has this spell all the time, but for those that are added later.
    pub fn always(self, spell: Spell) -> Self {
        self.during(Duration::ZERO..Duration::MAX, spell)
    }

    /// The spell that is on at an instant.
    #[must_use]
    pub fn at(&self, instant: Duration) -> Spell {
        self.find(instant).map_or(Spell::Healthy, |index| self.spells[index].1)
    }

    /// Which of the spells is on.
    pub(super) fn find(&self, instant: Duration) -> Option<usize> {
        self.spells.iter().rposition(|(when, _)| when.contains(&instant))
    }
}
