//! The table, and whether what it says of ours is what it ought to.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    process::ExitCode,
    time::Duration,
};

use tokio::{runtime::Builder, time::timeout};

/// One behaviour, and how it is measured on either side.
pub(crate) struct Row {
    /// Its number among the behaviours.
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) ought: &'static str,
    pub(crate) theirs: Scenario,
    pub(crate) ours: Scenario,
}

pub(crate) type Scenario = Box<dyn FnOnce() -> Figure>;

/// What came out, and whether it is what it ought to be.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    text: String,
    right: bool,
}

impl Figure {
    pub(crate) fn new(text: &impl ToString, right: bool) -> Self {
        Self { text: text.to_string(), right }
    }
}

/// A scenario in real time, which ends by itself.
pub(crate) fn live(run: impl Future<Output = Figure> + 'static) -> Scenario {
    within(false, run)
}

/// A scenario in virtual time.
pub(crate) fn paused(run: impl Future<Output = Figure> + 'static) -> Scenario {
    within(true, run)
}

fn within(paused: bool, run: impl Future<Output = Figure> + 'static) -> Scenario {
    Box::new(move || {
        let runtime = Builder::new_current_thread().enable_all().start_paused(paused).build();
        let runtime = runtime.expect("a runtime");
        let limit = if paused { 2 * HOUR } else { PATIENCE };
        let ended = runtime.block_on(async { timeout(limit, Pin::from(Box::new(run))).await });
        ended.unwrap_or_else(|_| Figure::new(&"did not end", false))
    })
}

const HOUR: Duration = Duration::from_secs(3_600);
/// None takes more than three seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures and prints. Fails if ours is not what it ought to be, whatever theirs is.
pub(crate) fn print(rows: Vec<Row>) -> ExitCode {
    let (what, ought, theirs) = ("what", "ought", "tower-resilience 0.13.0");
    println!("row  {what:<68} {ought:<16} {theirs:<28} buttress");
    let mut wrong = 0;
    for Row { id, what, ought, theirs, ours } in rows {
        let (theirs, ours) = (measured(theirs), measured(ours));
        wrong += usize::from(!ours.right);
        println!("{id:<4} {what:<68} {ought:<16} {:<28} {}", marked(&theirs), marked(&ours));
    }
    if wrong == 0 {
        println!("\nOf ours all are what they ought to be.");
        return ExitCode::SUCCESS;
    }
    println!("\nOf ours {wrong} are not what they ought to be.");
    ExitCode::FAILURE
}

/// A scenario that goes wrong half-way is wrong, and stops nothing else: theirs least of all.
fn measured(scenario: Scenario) -> Figure {
    catch_unwind(AssertUnwindSafe(scenario)).unwrap_or_else(|_| Figure::new(&"went wrong", false))
}

fn marked(figure: &Figure) -> String {
    format!("{} {}", if figure.right { '+' } else { '-' }, figure.text)
}
