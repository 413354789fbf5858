use std::{fmt, time::Duration};

use buttress_core::breaker::State;

use super::{Report, report::index};

/// A run to look at. Its `Display` is a few lines of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    column: Duration,
    reached: Vec<usize>,
    /// Of a run in which a breaker moved.
    states: Option<Vec<State>>,
}

impl Picture {
    pub(super) fn new(report: &Report, column: Duration) -> Self {
        let reached = report.reached_per(column);
        let states = states(report, column, reached.len());
        Self { column, reached, states }
    }
}

/// Where the breaker stood in each column: the state furthest from closed that it had there.
fn states(report: &Report, column: Duration, columns: usize) -> Option<Vec<State>> {
    let mut moves = report.transitions().peekable();
    let mut state = moves.peek()?.1.from;
    let mut states = Vec::with_capacity(columns);
    for number in 0..columns {
        let mut shown = state;
        while let Some((_, transition)) = moves.next_if(|(at, _)| index(*at, column) <= number) {
            state = transition.to;
            if rank(state) > rank(shown) {
                shown = state;
            }
        }
        states.push(shown);
    }
    Some(states)
}

/// A probe is what to look for; it is over sooner than any column.
fn rank(state: State) -> u8 {
    match state {
        State::Closed | State::ForcedClosed => 0,
        State::Recovering => 1,
        State::Open | State::ForcedOpen | State::Isolated => 2,
        State::HalfOpen => 3,
    }
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.reached.iter().copied().max().unwrap_or_default();
        let bars: String = self.reached.iter().map(|count| bar(*count, most)).collect();
        writeln!(f, "reached  {bars}  {most} in {:?} at the most", self.column)?;
        if let Some(states) = &self.states {
            let letters: String = states.iter().map(|state| letter(*state)).collect();
            writeln!(f, "breaker  {letters}  - closed, # open, ? half-open, / recovering")?;
        }
        let marks = (0..self.reached.len()).step_by(MARK).map(|number| {
            let at = self.column * u32::try_from(number).unwrap_or(u32::MAX);
            format!("{:MARK$}", format!("|{}s", at.as_secs()))
        });
        write!(f, "         {}", marks.collect::<String>().trim_end())
    }
}

/// Columns between two marks of the scale.
const MARK: usize = 10;

/// A bar of eight heights; whatever is more than nothing can be seen.
fn bar(count: usize, most: usize) -> char {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    match (count * HEIGHTS.len()).div_ceil(most.max(1)) {
        0 => '.',
        height => HEIGHTS[height - 1],
    }
}

fn letter(state: State) -> char {
    match state {
        State::Closed | State::ForcedClosed => '-',
        State::Recovering => '/',
        State::Open | State::ForcedOpen | State::Isolated => '#',
        State::HalfOpen => '?',
    }
}
