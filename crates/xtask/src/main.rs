//! Set-up, the whole test run, CI and soak, each one command: `cargo xtask --help`.

mod prometheus;
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
    /// The part of soak that is of objectives: a real Prometheus, kills, damaged snapshots.
    SoakSlo {
        /// How long Prometheus scrapes, in seconds.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        /// How often a process is killed while it saves.
        #[arg(long, default_value_t = 100)]
        kills: u32,
        /// For how long damaged snapshots are read, in seconds.
        #[arg(long, default_value_t = 600)]
        fuzz_seconds: u64,
    },
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test => steps::test(),
        Task::Ci => steps::ci(),
        Task::Soak => steps::soak(),
        Task::SoakSlo { seconds, kills, fuzz_seconds } => {
            steps::soak_slo(seconds, kills, fuzz_seconds)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error}");
            ExitCode::FAILURE
        }
    }
}
