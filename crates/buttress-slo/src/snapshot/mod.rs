//! What a tracker knows, kept through a restart.
//!
//! A [`Snapshot`] is taken with [`Tracker::snapshot`], turned into bytes with
//! [`Snapshot::encode`], and the other way round with [`Snapshot::decode`] and
//! [`Tracker::restore`]. Where the bytes go is somebody else's: a file, a volume, a bucket. Who
//! writes them every minute loses a minute of counts when killed, and never the rest.
//!
//! ```
//! use buttress_slo::{Clocks, Counts, InstanceId, Objective, Sli, Snapshot, Tracker};
//! # use std::time::{Duration, Instant, SystemTime};
//! # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
//! # let mut clocks = Clocks { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH, boot: None };
//! # let mut after = |seconds| { let by = Duration::from_secs(seconds); clocks.monotonic += by; clocks.wall += by; clocks };
//! let objectives = || [Objective::new("up".parse().unwrap(), Sli::Availability, "99.9".parse().unwrap())];
//! let mut tracker = Tracker::new("shop".parse()?, objectives(), after(0))?;
//! tracker.recorder("up").unwrap().add(Counts { good: 999, bad: 1 });
//! tracker.tick(after(1));
//!
//! let bytes = tracker.snapshot(InstanceId::new(0x5eed)).encode();
//!
//! // Ten minutes later, another process.
//! let mut tracker = Tracker::new("shop".parse()?, objectives(), after(600))?;
//! let restored = tracker.restore(&Snapshot::decode(&bytes)?)?;
//! assert_eq!(restored.gap, Duration::from_secs(600));
//! assert_eq!(tracker.numbers("up").unwrap().budget.counts(), Counts { good: 999, bad: 1 });
//! assert_eq!(tracker.recorder("up").unwrap().counts(), Counts::default(), "what is exported starts at 0");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is kept
//!
//! The rings; the state of every alert, with the timers of [`Rule::hold`](crate::Rule::hold) and
//! [`Rule::keep`](crate::Rule::keep); the level of every policy, those of composites among them,
//! and since when; until when somebody has excused the service by hand; and when nobody counted.
//! What is planned is configuration, and comes from there. Counts do not depend on the target, so
//! a changed target keeps them. An objective whose counts mean something else
//! now (another threshold, other routes, another way of counting) begins anew, and says so. The
//! time between is a gap: no events, and not observed; an objective of time slices counts it as
//! it was told to, and goes on with the slice that was under way.
//!
//! # The format
//!
//! Eight bytes of name, two of version, the body in LEB128 numbers, and a CRC-32 (IEEE 802.3) of
//! all before it. About 5 KB for an objective of 30 days. What version 1 wrote
//! stays readable for good: it knew of no timers, no composites and no maintenance; and what
//! version 2 wrote: it knew nothing of the slice under way.
//! Bytes that are cut off, damaged, newer or somebody else's are told apart by [`DecodeError`];
//! none of them panics.
//!
//! # Two processes, one place
//!
//! Each process has an [`InstanceId`] of its own and writes it into what it writes. [`Tenancy`]
//! tells whether what is found there is one's own, or that of a neighbour.

mod decode;
mod encode;
mod restore;
mod tenancy;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;

pub use self::{
    decode::DecodeError,
    restore::{Note, RestoreError, Restored},
    tenancy::{SharedPlace, Tenancy},
};
use crate::{
    Counts, Period, Tracker, alert::Alert, composed::Composed, ring::Tier, slices::UnderWay,
};

/// What a tracker knew at one moment. See the [module docs](self) for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    instance: InstanceId,
    service: String,
    steady: i64,
    wall: i64,
    gaps: Vec<(i64, i64)>,
    objectives: Vec<Kept>,
    composites: Vec<KeptLevel>,
    /// Until when somebody has excused the service, on its steady timeline.
    by_hand: Option<i64>,
}

/// What is kept of one objective.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    name: String,
    meaning: u64,
    /// The target in parts per billion, to tell that it changed.
    target: u32,
    since: i64,
    last_event: Option<i64>,
    total: Counts,
    /// What no slice has of it yet.
    under_way: Option<UnderWay>,
    period: Option<(Period, Counts)>,
    level: (String, i64),
    alerts: Vec<(String, Alert)>,
    incident: Option<i64>,
    tiers: Vec<Tier>,
}

/// On which level the policy of a composite stands, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptLevel {
    pub(crate) name: String,
    pub(crate) level: String,
    pub(crate) since: i64,
}

/// Which process wrote a snapshot: 128 random bits, drawn once when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InstanceId(u128);

impl InstanceId {
    /// The instance of these bits.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Snapshot {
    /// Which process wrote it.
    #[must_use]
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The service that it is of.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// When it was taken, in Unix seconds.
    #[must_use]
    pub const fn taken_at(&self) -> i64 {
        self.wall
    }
}

impl Tracker {
    /// What it knows as of its last tick.
    #[must_use]
    pub fn snapshot(&self, instance: InstanceId) -> Snapshot {
        let now = self.now();
        let objectives = self.tracks.iter().map(|track| {
            let objective = &track.objective;
            let rules = objective.alerts().rules().iter().zip(&track.alerts);
            let level = objective.policy().levels()[track.position.place].name();
            Kept {
                name: objective.name().to_string(),
                meaning: objective.meaning(),
                target: objective.target().ratio().parts_per_billion(),
                since: track.since,
                last_event: track.last_event,
                total: track.ring.total(),
                under_way: track.under_way(),
                period: track.period,
                level: (level.into(), track.position.since),
                alerts: rules.map(|(rule, alert)| (rule.name().into(), *alert)).collect(),
                incident: track.incident,
                tiers: track.ring.tiers().to_vec(),
            }
        });
        Snapshot {
            instance,
            service: self.service.to_string(),
            steady: now.steady,
            wall: now.wall,
            gaps: self.gaps.iter().collect(),
            objectives: objectives.collect(),
            composites: self.composites.iter().filter_map(Composed::kept).collect(),
            by_hand: self.calendar.by_hand,
        }
    }
}
