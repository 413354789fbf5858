//! What follows from what is left of an error budget.
//!
//! A policy is a ladder of levels, agreed on beforehand by those who build and those who run
//! (SRE workbook, "Example Error Budget Policy"). Two ship:
//!
//! | [`Policy::quarters`] | left of the budget | [`Policy::escalating`] | left of the budget |
//! |---|---|---|---|
//! | ship aggressively | over 75 % | normal | over 50 % |
//! | normal | 25 % to 75 % | slow | 25 % to 50 % |
//! | slow | over 0 % to under 25 % | feature freeze | 10 % to under 25 % |
//! | freeze | 0 % or less | incident | over 0 % to under 10 % |
//! | | | exhausted | 0 % or less |
//!
//! Going down is immediate. Going up needs 2 % more than the edge and an hour on the level, so
//! that a budget on an edge does not make a deploy gate flap. While a page fires, the level is
//! *slow* at the best.
//!
//! ```
//! use buttress_slo::{Change, Policy, Share};
//!
//! let policy = Policy::quarters();
//! assert_eq!(policy.level_at(Share::percent(75)).name(), "normal");
//! assert_eq!(policy.level_at(Share::ZERO).name(), "freeze");
//! assert!(!policy.admits(policy.level_at(Share::ZERO), Change::Feature));
//! assert!(policy.admits(policy.level_at(Share::ZERO), Change::Security));
//! ```

use std::{fmt, time::Duration};

use crate::{Share, ring::seconds};

/// A ladder of levels. See the [module docs](self) for an example.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The best first; the last has no floor.
    levels: Vec<Level>,
    hysteresis: Share,
    dwell: Duration,
    exceptions: Vec<Change>,
    postmortem: Share,
}

/// One level of a [`Policy`].
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    name: Box<str>,
    floor: Floor,
    release: Release,
    actions: Vec<Action>,
}

/// From what on upwards a level holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// More than this is left.
    Above(Share),
    /// This or more is left.
    AtLeast(Share),
    /// Whatever is left.
    Always,
}

impl Floor {
    fn admits(self, remaining: Share) -> bool {
        match self {
            Self::Above(share) => remaining > share,
            Self::AtLeast(share) => remaining >= share,
            Self::Always => true,
        }
    }
}

/// What may be released on a level. Ordered: what comes later allows less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Release {
    /// Anything, and risks are welcome: the budget is there to be spent.
    Freely,
    /// Anything.
    Normally,
    /// Anything, in small steps and watched.
    Carefully,
    /// What makes the service more reliable, and the exceptions.
    FixesOnly,
    /// The exceptions only.
    Nothing,
}

impl Release {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 5] =
        [Self::Freely, Self::Normally, Self::Carefully, Self::FixesOnly, Self::Nothing];

    /// Whether a change passes that is no exception.
    #[must_use]
    pub fn admits(self, change: Change) -> bool {
        match self {
            Self::Freely | Self::Normally | Self::Carefully => true,
            Self::FixesOnly => change == Change::Fix,
            Self::Nothing => false,
        }
    }
}

/// What a change is, when somebody asks whether it may be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Anything that is none of the others.
    Feature,
    /// It makes the service more reliable.
    Fix,
    /// It closes a hole.
    Security,
    /// It ends an incident of the highest priority.
    Urgent,
    /// It takes back what was released.
    Rollback,
}

/// What people do on a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Take risks: experiments, chaos, migrations.
    TakeRisks,
    /// Release in smaller steps, with a canary.
    SmallSteps,
    /// Put reliability first in the next plan.
    PlanReliability,
    /// Release no features.
    FreezeFeatures,
    /// Open an incident.
    OpenIncident,
    /// Release nothing but the exceptions.
    FreezeAll,
    /// Roll back what was released last.
    RollBack,
    /// Find the root cause, and write it down.
    FindRootCause,
    /// Tell those who answer for the service.
    TellExecutives,
}

impl Action {
    /// The action as a sentence.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TakeRisks => "Take risks while there is budget to spend.",
            Self::SmallSteps => "Release in smaller steps, behind a canary.",
            Self::PlanReliability => "Plan reliability work before features.",
            Self::FreezeFeatures => "Release no features.",
            Self::OpenIncident => "Open an incident.",
            Self::FreezeAll => "Release nothing but security, urgent fixes and rollbacks.",
            Self::RollBack => "Roll back what was released last.",
            Self::FindRootCause => "Find the root cause and write a postmortem.",
            Self::TellExecutives => "Tell those who answer for the service.",
        }
    }
}

impl Level {
    /// A level that holds from `floor` on.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>, floor: Floor, release: Release) -> Self {
        Self { name: name.into(), floor, release, actions: Vec::new() }
    }

    /// What people do on it.
    #[must_use]
    pub fn with(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        self.actions.extend(actions);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From what on it holds.
    #[must_use]
    pub const fn floor(&self) -> Floor {
        self.floor
    }

    /// What may be released on it.
    #[must_use]
    pub const fn release(&self) -> Release {
        self.release
    }

    /// What people do on it.
    #[must_use]
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }
}

impl Policy {
    /// Ship aggressively, normal, slow, freeze: at 75, 25 and 0 %.
    #[must_use]
    pub fn quarters() -> Self {
        let (upper, lower) = (Share::percent(75), Share::percent(25));
        let freely = Level::new("ship aggressively", Floor::Above(upper), Release::Freely);
        let slow = Level::new("slow", Floor::Above(Share::ZERO), Release::Carefully);
        let freeze = Level::new("freeze", Floor::Always, Release::Nothing);
        Self::new(freeze.with([Action::FreezeAll, Action::PlanReliability]))
            .under(slow.with([Action::SmallSteps, Action::PlanReliability]))
            .under(Level::new("normal", Floor::AtLeast(lower), Release::Normally))
            .under(freely.with([Action::TakeRisks]))
    }

    /// Normal, slow, feature freeze, incident, exhausted: at 50, 25, 10 and 0 %.
    #[must_use]
    pub fn escalating() -> Self {
        let at_least = |percent| Floor::AtLeast(Share::percent(percent));
        let exhausted = Level::new("exhausted", Floor::Always, Release::Nothing);
        let incident = Level::new("incident", Floor::Above(Share::ZERO), Release::FixesOnly);
        let freeze = Level::new("feature freeze", at_least(10), Release::FixesOnly);
        let slow = Level::new("slow", at_least(25), Release::Carefully);
        let normal = Level::new("normal", Floor::Above(Share::percent(50)), Release::Normally);
        let last = [Action::FreezeAll, Action::RollBack, Action::FindRootCause];
        Self::new(exhausted.with(last).with([Action::TellExecutives]))
            .under(incident.with([Action::FreezeFeatures, Action::OpenIncident]))
            .under(freeze.with([Action::FreezeFeatures, Action::PlanReliability]))
            .under(slow.with([Action::SmallSteps]))
            .under(normal)
    }

    /// A policy of one level, which holds whatever is left.
    #[must_use]
    pub fn new(last: Level) -> Self {
        let last = Level { floor: Floor::Always, ..last };
        let exceptions = vec![Change::Security, Change::Urgent, Change::Rollback];
        Self {
            levels: vec![last],
            hysteresis: Share::percent(2),
            dwell: DWELL,
            exceptions,
            postmortem: Share::percent(20),
        }
    }

    /// Puts a better level above those there are.
    #[must_use]
    pub fn under(mut self, better: Level) -> Self {
        self.levels.insert(0, better);
        self
    }

    /// How much more than an edge has to be left to go up, all of the budget at the most, and how
    /// long a level holds at the least before it does: 2 % and an hour by default. Less than
    /// nothing is nothing.
    #[must_use]
    pub const fn rising_slowly(mut self, more: Share, dwell: Duration) -> Self {
        self.hysteresis = if more.parts_per_billion() > 0 { more } else { Share::ZERO };
        self.dwell = dwell;
        self
    }

    /// What is released on any level: security, urgent and rollback by default.
    #[must_use]
    pub fn excepting(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.exceptions = changes.into_iter().collect();
        self
    }

    /// Wants an incident written up that has spent more than this: 20 % of the budget by default,
    /// as the workbook's example has it.
    #[must_use]
    pub const fn postmortem_above(mut self, spent: Share) -> Self {
        self.postmortem = spent;
        self
    }

    pub(crate) const fn postmortem(&self) -> Share {
        self.postmortem
    }

    /// What is released on any level.
    #[must_use]
    pub fn exceptions(&self) -> &[Change] {
        &self.exceptions
    }

    /// The levels, the best first.
    #[must_use]
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The level of what is left, by its edges alone.
    #[must_use]
    pub fn level_at(&self, remaining: Share) -> &Level {
        &self.levels[self.place_at(remaining)]
    }

    /// Whether a change may be released on a level.
    #[must_use]
    pub fn admits(&self, level: &Level, change: Change) -> bool {
        self.exceptions.contains(&change) || level.release.admits(change)
    }

    fn place_at(&self, remaining: Share) -> usize {
        let place = self.levels.iter().position(|level| level.floor.admits(remaining));
        place.unwrap_or(self.levels.len() - 1)
    }

    /// The levels that hold for nothing that can be left: those above them take it all, or they
    /// want more than all of the budget.
    pub(crate) fn unreachable(&self) -> impl Iterator<Item = &Level> {
        let mut least = Share::ONE.parts_per_billion() + 1;
        let paged = self.place_paged();
        let levels = self.levels.iter().enumerate().filter(move |(place, level)| {
            let from = match level.floor {
                Floor::Above(share) => share.parts_per_billion().saturating_add(1),
                Floor::AtLeast(share) => share.parts_per_billion(),
                Floor::Always => i64::MIN,
            };
            let reached = from < least;
            least = least.min(from);
            // That one holds while a page fires, whatever is left.
            !reached && *place != paged
        });
        levels.map(|(_, level)| level)
    }

    /// The best level while a page fires.
    fn place_paged(&self) -> usize {
        let careful = self.levels.iter().position(|level| level.release >= Release::Carefully);
        careful.unwrap_or(self.levels.len() - 1)
    }
}

/// As long as the window of the fastest page: what made a level fall is then out of it.
const DWELL: Duration = Duration::from_secs(3600);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Feature => "feature",
            Self::Fix => "fix",
            Self::Security => "security",
            Self::Urgent => "urgent",
            Self::Rollback => "rollback",
        })
    }
}

/// On which level a policy stands, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) place: usize,
    pub(crate) since: i64,
}

impl Position {
    /// At first a policy stands where its edges say.
    pub(crate) fn new(policy: &Policy, remaining: Share, now: i64) -> Self {
        Self { place: policy.place_at(remaining), since: now }
    }

    /// A level that a snapshot names.
    pub(crate) fn restored(policy: &Policy, name: &str, since: i64) -> Option<Self> {
        let place = policy.levels.iter().position(|level| &*level.name == name)?;
        Some(Self { place, since })
    }

    /// Looks again. Returns the place before, if it is another now.
    pub(crate) fn step(
        &mut self,
        policy: &Policy,
        remaining: Share,
        paged: bool,
        now: i64,
    ) -> Option<usize> {
        let before = self.place;
        let best = if paged { policy.place_paged() } else { 0 };
        let fallen = policy.place_at(remaining).max(best);
        // Where nothing is spent there is no edge to flap on, and no more that could be left.
        let more = if remaining < Share::ONE { policy.hysteresis } else { Share::ZERO };
        let risen = policy.place_at(remaining.minus(more)).max(best);
        let waited = seconds(self.since, now) >= policy.dwell.as_secs();
        if fallen > before {
            self.place = fallen;
        } else if risen < before && waited {
            self.place = risen;
        }
        if self.place == before {
            return None;
        }
        self.since = now;
        Some(before)
    }
}

#[cfg(test)]
mod tests;
