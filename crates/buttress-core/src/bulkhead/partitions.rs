use std::time::{Duration, Instant};

use crate::Ratio;

/// Parts of a limit, each with a share that is kept for it.
///
/// A part whose share is idle lends it: any other may take it up, and gives it back call by call.
/// A part below its guaranteed share gets what is given back before any that borrows.
///
/// ```
/// use buttress_core::{Ratio, bulkhead::Partitions};
///
/// let partitions = Partitions::new()
///     .share("live", Ratio::percent(70))
///     .share("batch", Ratio::percent(30));
/// # let _ = partitions;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Partitions {
    shares: Vec<(&'static str, Ratio)>,
    overcommit: bool,
}

impl Partitions {
    /// No parts yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { shares: Vec::new(), overcommit: false }
    }

    /// Keeps a share of the limit for the part called `name`, rounded down to whole requests.
    ///
    /// # Panics
    ///
    /// If the shares are more than the whole, or there is a part of that name already.
    #[must_use]
    pub fn share(mut self, name: &'static str, share: Ratio) -> Self {
        assert!(self.index(name).is_none(), "there are two partitions called {name:?}");
        self.shares.push((name, share));
        let whole: u64 =
            self.shares.iter().map(|(_, share)| u64::from(share.parts_per_billion())).sum();
        assert!(
            whole <= u64::from(Ratio::ONE.parts_per_billion()),
            "the shares of all partitions are more than the whole with {name:?}"
        );
        self
    }

    /// Lets a part have its guaranteed share at once, even while others have borrowed it: the
    /// limit is exceeded then, by no more than the guaranteed shares.
    #[must_use]
    pub fn overcommit(mut self) -> Self {
        self.overcommit = true;
        self
    }

    /// The place of a part in the order in which they were named.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.shares.iter().position(|(known, _)| *known == name)
    }

    /// The names, in that order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.shares.iter().map(|(name, _)| *name)
    }
}

/// Who has how much of the limit.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The last is for all that belongs to no part: it has no share, and only borrows.
    list: Vec<Part>,
    overcommit: bool,
    /// The latest time that we were told of.
    now: Option<Instant>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    share: Ratio,
    inside: u32,
    /// How many places it was refused within its share, and has not had yet.
    claims: u32,
    claimed: Option<Instant>,
}

/// How long the claim of a part that was refused keeps borrowers off a place that is given back.
///
/// The least that a refused HTTP caller can be told to wait, `Retry-After: 1`.
const CLAIM: Duration = Duration::from_secs(1);

impl Parts {
    pub(super) fn new(partitions: &Partitions) -> Self {
        let part = |(name, share)| Part { name, share, inside: 0, claims: 0, claimed: None };
        let rest = ("", Ratio::ZERO);
        let list = partitions.shares.iter().copied().chain([rest]).map(part).collect();
        Self { list, overcommit: partitions.overcommit, now: None }
    }

    /// Whether the limit is one undivided whole.
    pub(super) fn is_whole(&self) -> bool {
        self.list.is_empty()
    }

    /// How many parts there are; an undivided limit is one.
    pub(super) fn count(&self) -> usize {
        self.list.len().max(1)
    }

    /// The number of a part, or of the rest.
    pub(super) fn of(&self, partition: Option<usize>) -> usize {
        let rest = self.count() - 1;
        partition.map_or(rest, |index| index.min(rest))
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.now = self.now.max(Some(now));
    }

    fn guaranteed(part: &Part, limit: u32) -> u32 {
        u32::try_from(part.share.of(limit.into())).unwrap_or(u32::MAX)
    }

    /// Whether a part has less than its share, with so many of it that wait.
    pub(super) fn is_within(&self, part: usize, limit: u32, waiting: u32) -> bool {
        let Some(part) = self.list.get(part) else { return false };
        part.inside.saturating_add(waiting) < Self::guaranteed(part, limit)
    }

    /// Whether one more of a part may come in, where so many are inside. `queues`: whether who
    /// finds no room waits. Claims are for those who cannot; and they run out as time goes by,
    /// of which nobody would tell one who waits.
    pub(super) fn fits(&self, part: usize, inside: u32, limit: u32, queues: bool) -> bool {
        let Some(free) = limit.checked_sub(inside).filter(|free| *free > 0) else {
            return self.overcommit && self.is_within(part, limit, 0);
        };
        queues || self.is_within(part, limit, 0) || self.claims_of_others(part, limit) < free
    }

    fn claims_of_others(&self, part: usize, limit: u32) -> u32 {
        let claims = |other: &Part| {
            let fresh = other.claimed.zip(self.now).is_some_and(|(at, now)| now < at + CLAIM);
            let lacks = Self::guaranteed(other, limit).saturating_sub(other.inside);
            if fresh { other.claims.min(lacks) } else { 0 }
        };
        let others = self.list.iter().enumerate().filter(|(index, _)| *index != part);
        others.map(|(_, other)| claims(other)).fold(0, u32::saturating_add)
    }

    /// Notes that a part was refused, within its share or not.
    pub(super) fn refused(&mut self, part: usize, limit: u32) {
        let now = self.now;
        let Some(part) = self.list.get_mut(part) else { return };
        let lacks = Self::guaranteed(part, limit).saturating_sub(part.inside);
        if lacks > 0 {
            let stale = part.claimed.zip(now).is_none_or(|(at, now)| now >= at + CLAIM);
            part.claims = if stale { 1 } else { (part.claims + 1).min(lacks) };
            part.claimed = now;
        }
    }

    pub(super) fn came(&mut self, part: usize) {
        if let Some(part) = self.list.get_mut(part) {
            part.inside += 1;
            part.claims = part.claims.saturating_sub(1);
        }
    }

    pub(super) fn left(&mut self, part: usize) {
        if let Some(part) = self.list.get_mut(part) {
            part.inside -= 1;
        }
    }

    /// Name, guaranteed share and use of each named part.
    pub(super) fn named(&self, limit: u32) -> impl Iterator<Item = (&'static str, u32, u32)> + '_ {
        let named = self.list.len().saturating_sub(1);
        let tell = move |part: &Part| (part.name, Self::guaranteed(part, limit), part.inside);
        self.list.iter().take(named).map(tell)
    }
}
