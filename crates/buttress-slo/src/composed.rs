use std::sync::Arc;

use crate::{
    Burn, Composite, Happening, Moment, Share, Signal, coverage::Gaps, gate::Standing,
    policy::Position, signal::Reading, snapshot::KeptLevel, track::Track,
};

/// One composite, followed through time.
#[derive(Debug)]
pub(crate) struct Composed {
    pub(crate) composite: Composite,
    /// Where its policy stands; before its first tick nowhere yet.
    position: Option<Position>,
    pub(crate) signal: Arc<Signal>,
}

impl Composed {
    pub(crate) fn new(composite: Composite) -> Self {
        Self { composite, position: None, signal: Arc::new(Signal::new()) }
    }

    /// Looks again, after its parts did.
    pub(crate) fn tick(&mut self, tracks: &[Track], gaps: &Gaps, now: Moment) -> Option<Happening> {
        let remaining = self.remaining(tracks, gaps, now)?;
        let policy = self.composite.policy();
        let new = || Position::new(policy, remaining, now.steady);
        let position = self.position.get_or_insert_with(new);
        let paging = parts(&self.composite, tracks).any(Track::is_paging);
        let from = position.step(policy, remaining, paging, now.steady);
        let place = position.place;
        self.signal.set(Reading {
            release: policy.levels()[place].release(),
            remaining,
            burn: self.burn(tracks),
            paging,
        });
        let level = |place: usize| policy.levels()[place].name().into();
        Some(Happening::Level {
            name: self.composite.name().clone(),
            from: level(from?),
            to: level(place),
            remaining,
        })
    }

    fn remaining(&self, tracks: &[Track], gaps: &Gaps, now: Moment) -> Option<Share> {
        self.composite.remaining(|part| {
            let track = tracks.iter().find(|track| track.objective.name() == part)?;
            Some(track.budget(gaps, now).remaining())
        })
    }

    /// That of the part which burns fastest, whatever the parts weigh: what a layer does about it
    /// has to be done for that part.
    fn burn(&self, tracks: &[Track]) -> Option<Burn> {
        parts(&self.composite, tracks).filter_map(|part| part.signal.burn()).max()
    }

    pub(crate) fn standing(&self, tracks: &[Track], gaps: &Gaps, now: Moment) -> Option<Standing> {
        let composite = &self.composite;
        let remaining = self.remaining(tracks, gaps, now)?;
        let policy = composite.policy();
        // Before its first tick a composite stands where its edges say.
        let position = self.position.unwrap_or_else(|| Position::new(policy, remaining, 0));
        let level = &policy.levels()[position.place];
        let parts: Vec<_> = parts(composite, tracks).map(|part| part.standing(gaps, now)).collect();
        Some(Standing {
            name: composite.name().clone(),
            level: level.name().into(),
            place: position.place,
            release: level.release(),
            exempt: policy.exceptions().to_vec(),
            remaining,
            paging: parts.iter().any(|part| part.paging),
            has_data: parts.iter().all(|part| part.has_data),
            coverage: parts.iter().map(|part| part.coverage).min()?,
        })
    }

    pub(crate) fn kept(&self) -> Option<KeptLevel> {
        let position = self.position?;
        let level = self.composite.policy().levels()[position.place].name().into();
        Some(KeptLevel { name: self.composite.name().to_string(), level, since: position.since })
    }

    /// Of which nothing is kept stands by its edges: of an earlier tick it knew nothing.
    pub(crate) fn restore(&mut self, kept: &[KeptLevel]) {
        let name = self.composite.name().as_str();
        let kept = kept.iter().find(|kept| kept.name == name);
        let policy = self.composite.policy();
        let position = |kept: &KeptLevel| Position::restored(policy, &kept.level, kept.since);
        self.position = kept.and_then(position);
    }
}

fn parts<'a>(composite: &'a Composite, tracks: &'a [Track]) -> impl Iterator<Item = &'a Track> {
    composite.parts().filter_map(|part| tracks.iter().find(|track| track.objective.name() == part))
}
