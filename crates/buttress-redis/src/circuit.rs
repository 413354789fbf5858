//! A breaker of our own around the store: a dead one costs a caller nothing.

use std::{sync::Arc, time::Instant};

use buttress_core::breaker::{
    Machine, Move, Moves, Outcome, Refused, Report, Rules, Settings, State, Ticket, Transition,
};

#[derive(Debug)]
pub(crate) struct Circuit {
    machine: Machine,
    rules: Arc<Rules>,
}

/// What moved, to be told to observers.
pub(crate) type Moved = Vec<Transition>;

impl Circuit {
    pub(crate) fn new(settings: Settings) -> Self {
        let seed = settings.seed().unwrap_or_else(|| u64::from(std::process::id()));
        let (machine, rules) = Machine::new(settings, seed);
        Self { machine, rules }
    }

    pub(crate) fn admit(&self, now: Instant) -> (Result<Ticket, Refused>, Moved) {
        let mut moves = Moves::new();
        let admitted = self.machine.admit(|| Arc::clone(&self.rules), || now, &mut moves);
        (admitted, transitions(&moves))
    }

    pub(crate) fn settle(&self, ticket: Ticket, outcome: Outcome, now: Instant) -> Moved {
        let mut moves = Moves::new();
        self.machine.settle(&self.rules, ticket, Report::from(outcome), now, &mut moves);
        transitions(&moves)
    }

    /// Where it stands, what time has moved included.
    pub(crate) fn state(&self, now: Instant) -> (State, Moved) {
        let mut moves = Moves::new();
        let state = self.machine.state(&self.rules, now, &mut moves);
        (state, transitions(&moves))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }
}

/// Allocates nothing where nothing moved.
fn transitions(moves: &[Move]) -> Moved {
    let transition = |moved: &Move| match moved {
        Move::Transition(transition) => Some(*transition),
        Move::WouldOpen(_) => None,
    };
    moves.iter().filter_map(transition).collect()
}
