use std::{error::Error, fmt, time::Duration};

use buttress_core::Ratio;

use super::{Kept, Snapshot};
use crate::{
    Counts, Moment, Name, Period, Target, Tracker,
    coverage::Gaps,
    maintenance::Calendar,
    policy::Position,
    ring::{Tier, seconds},
    track::Track,
    window::short,
};

impl Tracker {
    /// Takes over what a snapshot knows, with the time between as a gap.
    ///
    /// For a tracker that has just been made: what it counted itself so far is added to what is
    /// restored, and counts as of its next tick.
    ///
    /// # Errors
    ///
    /// If the snapshot is of another service. Then nothing has changed.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<Restored, RestoreError> {
        if snapshot.service != self.service.as_str() {
            let (found, expected) = (snapshot.service.clone(), self.service.clone());
            return Err(RestoreError::OtherService { found, expected });
        }
        let mut notes = Vec::new();
        let wall = self.now().wall;
        if wall < snapshot.wall {
            notes.push(Note::ClockWentBack { by: between(wall, snapshot.wall) });
        }
        // The timeline goes on where the snapshot ends, by what the wall clock says has passed.
        let (gap, own) = (between(snapshot.wall, wall), self.now().steady);
        self.anchor.set_steady(snapshot.steady.saturating_add_unsigned(gap.as_secs()));
        let now = self.now();
        let begun_since = self.calendar.by_hand.map(|until| until - own + now.steady);
        // What this process has begun excuses nothing of the time before it was there.
        self.calendar.by_hand = snapshot.by_hand;
        self.gaps = Gaps::default();
        for (from, until) in &snapshot.gaps {
            self.gaps.add(*from, *until);
        }
        self.gaps.add(snapshot.steady, now.steady);

        for track in &mut self.tracks {
            let name = track.objective.name().clone();
            let kept = snapshot.objectives.iter().find(|kept| kept.name == name.as_str());
            match kept {
                Some(kept) if kept.meaning == track.objective.meaning() => {
                    let target = track.objective.target();
                    if kept.target != target.ratio().parts_per_billion() {
                        let was = Ratio::per_billion(kept.target);
                        notes.push(Note::Retargeted { name, was, is: target });
                    }
                    track.restore(kept, snapshot.steady, now, &self.gaps, &self.calendar);
                }
                Some(_) => {
                    track.begin_anew(now, &self.gaps);
                    notes.push(Note::MeansOtherwise { name });
                }
                None => {
                    track.begin_anew(now, &self.gaps);
                    notes.push(Note::New { name });
                }
            }
        }
        self.calendar.by_hand = begun_since.max(snapshot.by_hand);
        for composed in &mut self.composites {
            composed.restore(&snapshot.composites);
        }
        let gone = snapshot.objectives.iter().filter(|kept| {
            !self.objectives().any(|objective| objective.name().as_str() == kept.name)
        });
        notes.extend(gone.map(|kept| Note::Gone { name: kept.name.clone() }));
        Ok(Restored { gap, notes })
    }
}

impl Track {
    /// Takes over what is kept, as of `until`, and lets the gap pass.
    fn restore(&mut self, kept: &Kept, until: i64, now: Moment, gaps: &Gaps, calendar: &Calendar) {
        self.restart(until);
        if let Some(slice) = kept.under_way {
            self.resume(until, slice);
        }
        self.ring.adopt(&kept.tiers, until, kept.total);
        self.before = kept.total;
        // A window that became longer has not seen what a shorter one did not keep.
        let oldest = kept.tiers.iter().filter_map(Tier::oldest).map(|(time, _)| time).min();
        self.since = oldest.map_or(kept.since, |oldest| oldest.max(kept.since));
        self.last_event = kept.last_event;
        for (rule, alert) in self.objective.alerts().rules().iter().zip(&mut self.alerts) {
            let state = kept.alerts.iter().find(|(name, _)| name == rule.name());
            *alert = state.map(|(_, alert)| *alert).unwrap_or_default();
        }
        // Only a page that still fires goes on with the incident that it was part of.
        self.incident = self.paging_since().map(|since| kept.incident.unwrap_or(since).min(since));
        self.pass_unobserved(now, calendar);
        // Its start is known exactly, unless the window was another one.
        let window = self.objective.window();
        let same = |(period, _): &(Period, Counts)| window.period_at(period.start) == *period;
        let period = kept.period.filter(|kept| window.is_calendar() && same(kept));
        self.period = period.or_else(|| self.calendar_period(now));
        let (policy, (level, since)) = (self.objective.policy(), &kept.level);
        let by_edges = || Position::new(policy, self.budget(gaps, now).remaining(), now.steady);
        self.position = Position::restored(policy, level, *since).unwrap_or_else(by_edges);
        self.publish(gaps, now);
    }

    fn begin_anew(&mut self, now: Moment, gaps: &Gaps) {
        self.restart(now.steady);
        self.since = now.steady;
        self.position.since = now.steady;
        self.publish(gaps, now);
    }
}

fn between(from: i64, until: i64) -> Duration {
    Duration::from_secs(seconds(from, until))
}

/// What became of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// For how long nobody counted.
    pub gap: Duration,
    /// What is not as it was.
    pub notes: Vec<Note>,
}

/// Something that is not as it was when the snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The target changed; the counts are kept.
    Retargeted {
        /// Of which objective.
        name: Name,
        /// What it was.
        was: Option<Ratio>,
        /// What it is.
        is: Target,
    },
    /// The objective measures something else now; it begins anew.
    MeansOtherwise {
        /// Which.
        name: Name,
    },
    /// The objective is new.
    New {
        /// Which.
        name: Name,
    },
    /// The objective is no more; what it counted is left behind.
    Gone {
        /// Which.
        name: String,
    },
    /// The wall clock is behind the snapshot; the gap is taken for none.
    ClockWentBack {
        /// By how much.
        by: Duration,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retargeted { name, was, is } => {
                let was = was.and_then(|was| Target::try_from(was).ok());
                let was = was.map_or_else(|| "unknown".into(), |was| was.to_string());
                write!(f, "{name}: the target is {is}, was {was}; its counts are kept")
            }
            Self::MeansOtherwise { name } => {
                write!(f, "{name}: it measures something else now, and begins anew")
            }
            Self::New { name } => write!(f, "{name}: it is new, and begins now"),
            Self::Gone { name } => write!(f, "{name}: it is no more; its counts are left behind"),
            Self::ClockWentBack { by } => write!(
                f,
                "the snapshot is {} ahead of the wall clock; the time between is taken for none",
                short(*by)
            ),
        }
    }
}

/// Why a snapshot was not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// It is of another service.
    OtherService {
        /// Of which.
        found: String,
        /// Which this is.
        expected: Name,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::OtherService { found, expected } = self;
        write!(
            f,
            "this snapshot is of the service {found:?}, and this is {expected}; give each service \
             a place of its own"
        )
    }
}

impl Error for RestoreError {}
