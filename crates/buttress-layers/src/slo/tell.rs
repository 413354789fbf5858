//! What happened at a tick, as the events that all layers tell.

use buttress_core::{Change, Event};
use buttress_slo::{ClockChange, Happening};

/// Hands `event` what `happening` is; nothing, for what is not known here.
pub(super) fn tell(service: &str, happening: &Happening, event: impl FnOnce(&Event<'_>)) {
    let (name, key, change) = match happening {
        Happening::Alert { objective, rule, severity, from, to } => {
            let (severity, from, to) = (severity.as_str(), from.as_str(), to.as_str());
            (objective.as_str(), Some(&**rule), Change::Alert { severity, from, to })
        }
        Happening::PostmortemDue { objective, spent } => {
            let spent = spent.parts_per_billion();
            (objective.as_str(), None, Change::PostmortemDue { spent })
        }
        Happening::Level { name, to, remaining, .. } => {
            let remaining = remaining.parts_per_billion();
            (name.as_str(), Some(&**to), Change::Level { remaining })
        }
        Happening::NewPeriod { objective, .. } => (objective.as_str(), None, Change::NewPeriod),
        Happening::Excused { objective, counts, .. } => {
            let (good, bad) = (counts.good, counts.bad);
            (objective.as_str(), None, Change::Excused { good, bad })
        }
        Happening::Maintenance(on) => (service, None, Change::Maintenance(*on)),
        Happening::Clock(change) => match clock(*change) {
            Some(change) => (service, None, change),
            None => return,
        },
        _ => return,
    };
    event(&Event { layer: LAYER, name, key, change });
}

pub(super) const LAYER: &str = "slo";

fn clock(change: ClockChange) -> Option<Change> {
    let (what, by) = match change {
        ClockChange::SteppedForward(by) => ("the wall clock was set forward, windows stay", by),
        ClockChange::SteppedBack(by) => ("the wall clock was set back, windows stay", by),
        ClockChange::Slept(time) => ("the machine slept, and nobody counted", time),
        ClockChange::Late(time) => ("the ticker was held up since its last tick", time),
        _ => return None,
    };
    Some(Change::Clock { what, by })
}
