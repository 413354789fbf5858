//! A breaker of our own around the store: a dead one costs a caller nothing.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Instant,
};

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
        // Not the number of the process, which is 1 in every container: they would probe in step.
        let seed = settings.seed().unwrap_or_else(|| RandomState::new().hash_one(()));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buttress_core::{
        Ratio, TimeLimit,
        breaker::{OpenFor, Trip},
    };

    use super::*;

    /// As in containers, where all processes have the same number.
    #[test]
    fn two_circuits_do_not_probe_in_step() {
        let open_for = OpenFor::fixed(TimeLimit::from_secs(1)).jitter(Ratio::percent(50));
        let now = crate::clock::read();
        let opened = || {
            let circuit =
                Circuit::new(Settings::new(Trip::consecutive(1)).open_for(open_for.clone()));
            let ticket = circuit.admit(now).0.unwrap();
            circuit.settle(ticket, Outcome::Failure, now);
            circuit.admit(now).0.unwrap_err().retry_after.unwrap()
        };

        let waits: Vec<Duration> = (0..8).map(|_| opened()).collect();

        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    }
}
