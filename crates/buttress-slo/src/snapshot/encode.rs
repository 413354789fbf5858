use super::{
    Kept, Snapshot,
    wire::{MAGIC, VERSION, Writer, checksum},
};
use crate::{AlertState, Counts, ring::Tier, slices::UnderWay};

impl Snapshot {
    /// The bytes to keep.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.0.extend_from_slice(MAGIC);
        writer.0.extend_from_slice(&VERSION.to_le_bytes());
        writer.0.extend_from_slice(&self.instance.0.to_le_bytes());
        writer.text(&self.service);
        writer.signed(self.steady);
        writer.signed(self.wall);
        writer.number(self.gaps.len() as u64);
        for (from, until) in &self.gaps {
            writer.signed(*from);
            writer.signed(*until);
        }
        writer.number(self.objectives.len() as u64);
        for kept in &self.objectives {
            objective(&mut writer, kept);
        }
        writer.number(self.composites.len() as u64);
        for kept in &self.composites {
            writer.text(&kept.name);
            writer.text(&kept.level);
            writer.signed(kept.since);
        }
        writer.moment(self.by_hand);
        let sum = checksum(&writer.0);
        writer.0.extend_from_slice(&sum.to_le_bytes());
        writer.0
    }
}

fn objective(writer: &mut Writer, kept: &Kept) {
    writer.text(&kept.name);
    writer.number(kept.meaning);
    writer.number(u64::from(kept.target));
    writer.signed(kept.since);
    writer.moment(kept.last_event);
    writer.counts(kept.total);
    writer.number(u64::from(kept.under_way.is_some()));
    if let Some(UnderWay { events, excused, partial }) = kept.under_way {
        writer.counts(events);
        writer.number(u64::from(excused) | u64::from(partial) << 1);
    }
    writer.number(u64::from(kept.period.is_some()));
    if let Some((period, counts)) = kept.period {
        writer.signed(period.start);
        writer.signed(period.end);
        writer.counts(counts);
    }
    writer.text(&kept.level.0);
    writer.signed(kept.level.1);
    writer.number(kept.alerts.len() as u64);
    for (rule, kept) in &kept.alerts {
        writer.text(rule);
        alert(writer, kept.state);
        writer.moment(kept.clear_since);
    }
    writer.moment(kept.incident);
    writer.number(kept.tiers.len() as u64);
    for one in &kept.tiers {
        tier(writer, one);
    }
}

fn alert(writer: &mut Writer, state: AlertState) {
    let number = match state {
        AlertState::Quiet => 0,
        AlertState::Pending { .. } => 1,
        AlertState::Firing { .. } => 2,
        AlertState::Lost { .. } => 3,
    };
    writer.number(number);
    if let Some(since) = state.since() {
        writer.signed(since);
    }
}

/// The oldest count, and what came from each to the next: small numbers, most often.
fn tier(writer: &mut Writer, tier: &Tier) {
    writer.signed(tier.step());
    writer.signed(tier.head());
    writer.number(tier.iter().len() as u64);
    let mut before = Counts::default();
    for counts in tier.iter() {
        writer.counts(counts.since(before));
        before = counts;
    }
}
