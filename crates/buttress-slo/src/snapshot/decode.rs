use std::{error::Error, fmt};

use super::{
    InstanceId, Kept, KeptLevel, Snapshot,
    wire::{MAGIC, Reader, VERSION, checksum},
};
use crate::{AlertState, Counts, Period, alert::Alert, ring::Tier, slices::UnderWay};

impl Snapshot {
    /// Reads what [`Snapshot::encode`] wrote.
    ///
    /// # Errors
    ///
    /// If it is something else, newer, or damaged. Whoever keeps it had better set such bytes
    /// aside, begin anew, and tell: they may be worth a look.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        if reader.bytes(MAGIC.len()) != Some(MAGIC) {
            return Err(DecodeError::Foreign);
        }
        let version = reader.bytes(2).and_then(|bytes| bytes.try_into().ok());
        let version = u16::from_le_bytes(version.ok_or(DecodeError::Damaged)?);
        if version > VERSION {
            return Err(DecodeError::Newer { version });
        }
        let (body, sum) = bytes.split_last_chunk().ok_or(DecodeError::Damaged)?;
        if version == 0 || u32::from_le_bytes(*sum) != checksum(body) {
            return Err(DecodeError::Damaged);
        }
        let body = body.get(MAGIC.len() + 2..).ok_or(DecodeError::Damaged)?;
        read(Reader(body), version).ok_or(DecodeError::Damaged)
    }
}

/// The first version that knows of timers, composites and maintenance.
const TIMERS: u16 = 2;

/// The first that knows of slices under way, and of maintenance on the steady timeline.
const SLICES: u16 = 3;

fn read(mut reader: Reader<'_>, version: u16) -> Option<Snapshot> {
    let mut snapshot = Snapshot {
        instance: InstanceId::new(u128::from_le_bytes(reader.bytes(16)?.try_into().ok()?)),
        service: reader.text()?,
        steady: reader.time()?,
        wall: reader.time()?,
        gaps: reader.list(|reader| Some((reader.time()?, reader.time()?)))?,
        objectives: reader.list(|reader| objective(reader, version))?,
        composites: Vec::new(),
        by_hand: None,
    };
    if version >= TIMERS {
        snapshot.composites = reader.list(level)?;
        snapshot.by_hand = reader.list(Reader::time)?.pop();
        if version < SLICES {
            // It was in Unix time.
            let offset = snapshot.steady - snapshot.wall;
            snapshot.by_hand = snapshot.by_hand.map(|until| until + offset);
        }
    }
    reader.0.is_empty().then_some(snapshot)
}

fn level(reader: &mut Reader<'_>) -> Option<KeptLevel> {
    Some(KeptLevel { name: reader.text()?, level: reader.text()?, since: reader.time()? })
}

fn objective(reader: &mut Reader<'_>, version: u16) -> Option<Kept> {
    let kept = Kept {
        name: reader.text()?,
        meaning: reader.number()?,
        target: u32::try_from(reader.number()?).ok()?,
        since: reader.time()?,
        last_event: reader.list(Reader::time)?.pop(),
        total: reader.counts()?,
        under_way: if version >= SLICES { reader.list(under_way)?.pop() } else { None },
        period: reader.list(period)?.pop(),
        level: (reader.text()?, reader.time()?),
        alerts: reader.list(|reader| Some((reader.text()?, alert(reader, version)?)))?,
        incident: if version >= TIMERS { reader.list(Reader::time)?.pop() } else { None },
        tiers: reader.list(tier)?,
    };
    // Cumulative counts never go back; the newest of all is the total.
    let newest = kept.tiers.iter().filter_map(|tier| tier.iter().last());
    let grown = newest
        .into_iter()
        .all(|newest| newest.good <= kept.total.good && newest.bad <= kept.total.bad);
    grown.then_some(kept)
}

fn under_way(reader: &mut Reader<'_>) -> Option<UnderWay> {
    let (events, marks) = (reader.counts()?, reader.number()?);
    let slice = UnderWay { events, excused: marks & 1 != 0, partial: marks & 2 != 0 };
    (marks < 4).then_some(slice)
}

fn period(reader: &mut Reader<'_>) -> Option<(Period, Counts)> {
    let period = Period { start: reader.time()?, end: reader.time()? };
    Some((period, reader.counts()?))
}

fn alert(reader: &mut Reader<'_>, version: u16) -> Option<Alert> {
    let state = match reader.number()? {
        0 => AlertState::Quiet,
        1 => AlertState::Pending { since: reader.time()? },
        2 => AlertState::Firing { since: reader.time()? },
        3 => AlertState::Lost { since: reader.time()? },
        _ => return None,
    };
    let clear_since = if version >= TIMERS { reader.list(Reader::time)?.pop() } else { None };
    Some(Alert { state, clear_since })
}

fn tier(reader: &mut Reader<'_>) -> Option<Tier> {
    let (step, head) = (reader.time()?, reader.time()?);
    let rises = reader.list(Reader::counts)?;
    let mut counts = Counts::default();
    let slots = rises.into_iter().map(|rise| {
        counts = Counts {
            good: counts.good.checked_add(rise.good)?,
            bad: counts.bad.checked_add(rise.bad)?,
        };
        Some(counts)
    });
    Tier::restored(step, head, slots.collect::<Option<_>>()?)
}

/// Why bytes are no [`Snapshot`] that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They are something else.
    Foreign,
    /// A newer version of this crate wrote them.
    Newer {
        /// In which version of the format.
        version: u16,
    },
    /// They were cut off, or changed.
    Damaged,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str(
                "this is no snapshot of objectives: something else is kept in its place; point \
                 the tracker elsewhere, or move it away",
            ),
            Self::Newer { version } => write!(
                f,
                "this snapshot is of format {version}, and this build reads up to {VERSION}: a \
                 newer build wrote it; run that one, or set the snapshot aside"
            ),
            Self::Damaged => f.write_str(
                "this snapshot is cut off or damaged: its checksum or its contents do not fit; \
                 set it aside, and the tracker begins anew",
            ),
        }
    }
}

impl Error for DecodeError {}
