use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::{
    AlertState, AlertStatus, Clocks, Composite, Counts, Happening, Maintenance, Moment, Name,
    Numbers, Objective, Recorder, Severity, Share, Signal, Signals, Target, WindowCounts,
    anchor::Anchor,
    composed::Composed,
    coverage::{Coverage, Gaps},
    gate::Standing,
    maintenance::Calendar,
    track::Track,
};

/// Follows the objectives of one service.
///
/// Recorders count, from any thread; once a second somebody calls [`Tracker::tick`] with the
/// clocks, and everything else is read from it. It holds no lock and asks no clock.
///
/// See the [crate docs](crate) for an example.
#[derive(Debug)]
pub struct Tracker {
    pub(crate) service: Name,
    pub(crate) tracks: Vec<Track>,
    pub(crate) composites: Vec<Composed>,
    pub(crate) anchor: Anchor,
    pub(crate) gaps: Gaps,
    pub(crate) calendar: Calendar,
    maintenance: bool,
    clock_changes: u64,
}

impl Tracker {
    /// Follows these objectives, from now on.
    ///
    /// # Errors
    ///
    /// If two of them have the same name.
    pub fn new(
        service: Name,
        objectives: impl IntoIterator<Item = Objective>,
        clocks: Clocks,
    ) -> Result<Self, TrackerError> {
        let anchor = Anchor::new(clocks);
        let mut tracker = Self {
            service,
            tracks: Vec::new(),
            composites: Vec::new(),
            anchor,
            gaps: Gaps::default(),
            calendar: Calendar::default(),
            maintenance: false,
            clock_changes: 0,
        };
        for objective in objectives {
            tracker.add(objective)?;
        }
        Ok(tracker)
    }

    /// Follows one more objective, from now on.
    ///
    /// # Errors
    ///
    /// If there is one of the same name.
    pub fn add(&mut self, objective: Objective) -> Result<(), TrackerError> {
        self.check(objective.name())?;
        let track = Track::new(objective, self.now());
        track.recorder.set_maintenance(self.maintenance);
        self.tracks.push(track);
        Ok(())
    }

    /// Takes several of its objectives as one: before it is restored, or its level is not.
    ///
    /// # Errors
    ///
    /// If there is an objective of the same name, or none of the name of a part, or no part that
    /// weighs anything.
    pub fn compose(&mut self, composite: Composite) -> Result<(), TrackerError> {
        self.check(composite.name())?;
        if let Some(part) = composite.parts().find(|part| self.track(part.as_str()).is_none()) {
            return Err(TrackerError::Unknown(part.clone()));
        }
        if composite.remaining(|_| Some(Share::ONE)).is_none() {
            return Err(TrackerError::Weightless(composite.name().clone()));
        }
        self.composites.push(Composed::new(composite));
        Ok(())
    }

    fn check(&self, name: &Name) -> Result<(), TrackerError> {
        let composite = self.composites.iter().any(|composed| composed.composite.name() == name);
        if composite || self.track(name.as_str()).is_some() {
            return Err(TrackerError::Duplicate(name.clone()));
        }
        Ok(())
    }

    /// Excuses the service at these times, whatever was planned before.
    #[must_use]
    pub fn with_maintenance(mut self, planned: impl IntoIterator<Item = Maintenance>) -> Self {
        self.plan_maintenance(planned);
        self
    }

    /// As [`Tracker::with_maintenance`], from the next tick on.
    pub fn plan_maintenance(&mut self, planned: impl IntoIterator<Item = Maintenance>) {
        self.calendar.plan(planned.into_iter().collect());
    }

    /// Excuses the service from the next tick on, for so long.
    pub fn begin_maintenance(&mut self, lasts: Duration) {
        self.calendar.begin(self.now(), lasts);
    }

    /// Ends what [`Tracker::begin_maintenance`] began, at the next tick. What is planned goes on.
    pub fn end_maintenance(&mut self) {
        self.calendar.by_hand = None;
    }

    /// Whether maintenance was on at the last tick.
    #[must_use]
    pub fn in_maintenance(&self) -> bool {
        self.maintenance
    }

    /// Reads what was recorded since the last tick, and looks at everything again. Returns what
    /// happened, most often nothing.
    ///
    /// Once a second is what the windows are made for. More often does no harm, and before a
    /// page is read it makes the page exact. Costs well under a microsecond for each objective,
    /// and allocates only for what happened.
    pub fn tick(&mut self, clocks: Clocks) -> Vec<Happening> {
        let mut happened = Vec::new();
        let before = self.now();
        let advance = self.anchor.advance(clocks);
        let now = advance.now;
        for change in advance.changes() {
            self.clock_changes += 1;
            happened.push(Happening::Clock(change));
        }
        if !advance.slept.is_zero() {
            self.gaps.add(now.steady.saturating_sub_unsigned(advance.slept.as_secs()), now.steady);
        } else if advance.late && !self.tracks.iter().any(Track::has_news) {
            // Whose events were recorded was observed, however late it is read.
            self.gaps.add(before.steady, now.steady);
        }
        let unobserved = self.gaps.ends_at(now.steady).then(|| self.calendar.clone());
        let maintenance = self.calendar.is_on(now);
        if maintenance != self.maintenance {
            self.maintenance = maintenance;
            happened.push(Happening::Maintenance(maintenance));
        }
        for track in &mut self.tracks {
            if let Some(calendar) = &unobserved {
                track.miss_slices(now, track.recorder.counts(), calendar);
            }
            track.tick(now, &self.gaps, maintenance, &mut happened);
        }
        let longest = self.tracks.iter().map(|track| track.objective.longest()).max();
        self.gaps.forget_before(now.steady.saturating_sub_unsigned(longest.unwrap_or(0)));
        for composed in &mut self.composites {
            happened.extend(composed.tick(&self.tracks, &self.gaps, now));
        }
        happened
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &Name {
        &self.service
    }

    /// When it ticked last.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.anchor.moment()
    }

    /// How many times the clocks did more than to go on: steps, sleep, and late ticks.
    #[must_use]
    pub fn clock_changes(&self) -> u64 {
        self.clock_changes
    }

    /// The objectives, in the order in which they were added.
    pub fn objectives(&self) -> impl Iterator<Item = &Objective> {
        self.tracks.iter().map(|track| &track.objective)
    }

    /// The composites, in the order in which they were added.
    pub fn composites(&self) -> impl Iterator<Item = &Composite> {
        self.composites.iter().map(|composed| &composed.composite)
    }

    /// Where the events of an objective are recorded; `None` for an unknown name, as below.
    #[must_use]
    pub fn recorder(&self, objective: &str) -> Option<Arc<Recorder>> {
        self.track(objective).map(|track| Arc::clone(&track.recorder))
    }

    /// Where the events of all objectives are recorded: what a layer hands every call to.
    pub fn recorders(&self) -> impl Iterator<Item = Arc<Recorder>> {
        self.tracks.iter().map(|track| Arc::clone(&track.recorder))
    }

    /// How an objective, or a composite, stands, for layers to read without a lock.
    #[must_use]
    pub fn signal(&self, name: &str) -> Option<Arc<Signal>> {
        let track = self.track(name).map(|track| &track.signal);
        let composed = || self.composites.iter().find(|it| it.composite.name().as_str() == name);
        track.or_else(|| composed().map(|it| &it.signal)).map(Arc::clone)
    }

    /// How all objectives stand together, for layers to read without a lock.
    #[must_use]
    pub fn signals(&self) -> Signals {
        Signals::of(self.tracks.iter().map(|track| Arc::clone(&track.signal)))
    }

    /// The numbers of an objective.
    #[must_use]
    pub fn numbers(&self, objective: &str) -> Option<Numbers> {
        self.track(objective).map(|track| track.numbers(&self.gaps, self.now()))
    }

    /// How the rules of alerting of an objective stand.
    #[must_use]
    pub fn alerts(&self, objective: &str) -> Option<Vec<AlertStatus>> {
        self.track(objective).map(|track| track.alerts(&self.gaps, self.now()))
    }

    /// The worst state of the rules of one severity, for a gauge: it allocates nothing.
    #[must_use]
    pub fn severity(&self, objective: &str, severity: Severity) -> Option<AlertState> {
        self.track(objective).map(|track| track.worst(severity))
    }

    /// What any window of an objective holds, and how much of it was observed; `None` too for one
    /// that is longer than what is kept.
    #[must_use]
    pub fn window(&self, objective: &str, length: Duration) -> Option<(WindowCounts, Coverage)> {
        let track = self.track(objective)?;
        let counts = track.ring.window(length.as_secs())?;
        let (_, coverage) = track.view(&self.gaps, self.now()).window(length);
        Some((counts, coverage))
    }

    /// What an objective counted hour by hour, the oldest first, each with its start in Unix
    /// time by today's wall clock: for a chart of how its budget went.
    #[must_use]
    pub fn history(&self, objective: &str) -> Option<Vec<(i64, Counts)>> {
        let ring = &self.track(objective)?.ring;
        let (tier, now) = (ring.tiers().last()?, self.now());
        let samples: Vec<_> = tier.iter().chain([ring.total()]).collect();
        let offset = now.wall - now.steady;
        let oldest = tier.head() - i64::try_from(tier.iter().len()).ok()? + 1;
        let starts = (oldest..).map(|number| number * tier.step() + offset);
        let counts = samples.windows(2).map(|pair| pair[1].since(pair[0]));
        Some(starts.zip(counts).collect())
    }

    /// How every objective and composite stands, for [`decide`](crate::gate::decide).
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let tracks = self.tracks.iter().map(|track| track.standing(&self.gaps, self.now()));
        let composed = |one: &Composed| one.standing(&self.tracks, &self.gaps, self.now());
        tracks.chain(self.composites.iter().filter_map(composed)).collect()
    }

    /// Promises another share from now on. The counts stay: they do not depend on it.
    ///
    /// # Errors
    ///
    /// If there is no such objective.
    pub fn retarget(&mut self, objective: &Name, target: Target) -> Result<(), TrackerError> {
        let track = self.tracks.iter_mut().find(|track| track.objective.name() == objective);
        let track = track.ok_or_else(|| TrackerError::Unknown(objective.clone()))?;
        track.objective.set_target(target);
        Ok(())
    }

    /// The bytes of the rings and counts of an objective, which do not grow.
    #[must_use]
    pub fn bytes(&self, objective: &str) -> Option<usize> {
        let track = self.track(objective)?;
        Some(track.ring.bytes() + track.recorder.bytes())
    }

    fn track(&self, name: &str) -> Option<&Track> {
        self.tracks.iter().find(|track| track.objective.name().as_str() == name)
    }
}

/// What a [`Tracker`] cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerError {
    /// There is an objective of that name.
    Duplicate(Name),
    /// There is no objective of that name.
    Unknown(Name),
    /// The composite of that name has no part that weighs anything.
    Weightless(Name),
}

impl fmt::Display for TrackerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(name) => {
                write!(f, "there are two objectives named {name}; name one of them otherwise")
            }
            Self::Unknown(name) => write!(f, "there is no objective named {name}"),
            Self::Weightless(name) => {
                write!(
                    f,
                    "nothing could ever be left of {name}: give it a part that weighs something"
                )
            }
        }
    }
}

impl Error for TrackerError {}

#[cfg(all(test, not(buttress_loom)))]
mod tests;
