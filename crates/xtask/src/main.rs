//! Set-up, the whole test run, CI and soak, each one command: `cargo xtask --help`.

mod setup;
mod steps;

use std::process::ExitCode;

use clap::Parser;

/// Tasks of the buttress workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Install what the tests need, then run every test, none ignored.
    Test,
    /// All that must hold before a change lands: format, lints, tests, docs, licences, benches.
    Ci,
    /// What takes minutes: loom, longer property runs, the comparison with our peers.
    Soak,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test => steps::test(),
        Task::Ci => steps::ci(),
        Task::Soak => steps::soak(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error}");
            ExitCode::FAILURE
        }
    }
}
