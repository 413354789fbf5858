//! What each task does, step by step.

use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{prometheus, setup};

type Done = Result<(), String>;

/// Installs what is missing and runs every test.
pub(crate) fn test() -> Done {
    setup::tools(&[setup::PROMTOOL, setup::REDIS, setup::OPENSSL])?;
    cargo(
        "every test, none ignored",
        &["test", "--workspace", "--all-features", "--", "--include-ignored"],
    )
}

/// All that must hold before a change lands.
pub(crate) fn ci() -> Done {
    cargo("format", &["fmt", "--all", "--check"])?;
    let deny = ["--", "-D", "warnings"];
    let lint = ["clippy", "--workspace", "--all-targets", "--all-features"];
    cargo("lints", &[&lint[..], &deny].concat())?;
    for features in ["", "http", "axum", "tonic", "tonic-transport", "hyper-util", "reqwest"] {
        let alone =
            ["clippy", "-p", "buttress-core", "--no-default-features", "--features", features];
        cargo(&format!("the core with `{features}` alone"), &[&alone[..], &deny].concat())?;
    }
    test()?;
    loom()?;
    let docs = ["doc", "--workspace", "--all-features", "--no-deps"];
    run("docs", Command::new(cargo_path()).args(docs).env("RUSTDOCFLAGS", "-D warnings"))?;
    setup::cargo_tool("cargo-deny")?;
    cargo(
        "licences, bans and sources",
        &["deny", "--all-features", "check", "licenses", "bans", "sources"],
    )?;
    cargo("examples", &["build", "--workspace", "--examples"])?;
    cargo("benches", &["bench", "--workspace", "--no-run"])
}

/// The lock-free pieces against every order in which their threads can run.
fn loom() -> Done {
    let loom = ["test", "-p", "buttress-core", "-p", "buttress-slo", "--release", "--lib", "loom"];
    let flags = env::var("RUSTFLAGS").unwrap_or_default() + " --cfg buttress_loom";
    // A folder of its own, or these flags would have all else built anew.
    let target = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned()) + "/loom";
    let mut command = Command::new(cargo_path());
    command.args(loom).env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", target);
    run("lock-free code under loom", &mut command)
}

/// What takes minutes.
pub(crate) fn soak() -> Done {
    let properties = ["test", "-p", "buttress-core", "-p", "buttress-slo", "--release", "--lib"];
    let mut longer = Command::new(cargo_path());
    run("properties, 200,000 cases each", longer.args(properties).env("PROPTEST_CASES", "200000"))?;
    cargo("the incumbent and us", &["bench", "--bench", "incumbent"])?;
    setup::tools(&[setup::VALGRIND])?;
    cargo("the comparison with our peers", &["bench", "--bench", "added", "--", "--instructions"])?;
    // A tower `RateLimit` behind a `Buffer` takes a thousand times as long as the others.
    let bucket = ["bench", "--bench", "limits", "--", "--group", "bucket", "--calls", "10000"];
    cargo("a rate limit beside its peers", &bucket)?;
    let keys = ["bench", "--bench", "limits", "--", "--group", "keys"];
    cargo("rate limits by key beside theirs", &keys)?;
    cargo("a million keys in memory", &["bench", "--bench", "key_memory"])?;
    soak_fleet()?;
    soak_slo(600, 100, 600)
}

/// Limits of a fleet: ten seconds of each run of four processes, and the two clients side by side.
fn soak_fleet() -> Done {
    setup::tools(&[setup::REDIS])?;
    let processes = ["test", "-p", "buttress-tests", "--test", "fleet_processes", "--release"];
    let aloud = ["--", "--include-ignored", "--nocapture", "--test-threads=1"];
    let mut ten = Command::new(cargo_path());
    ten.args([&processes[..], &aloud].concat()).env("BUTTRESS_FLEET_SECONDS", "10");
    run("four processes on one limit, ten seconds each", &mut ten)?;
    cargo("two clients of Redis", &["bench", "--bench", "redis_clients"])
}

/// Objectives against kills, damaged files and a real Prometheus; what is 0 is left out.
pub(crate) fn soak_slo(seconds: u64, kills: u32, fuzz_seconds: u64) -> Done {
    if kills > 0 {
        let killed = ["test", "-p", "buttress-tests", "--test", "slo_kill", "--", "--nocapture"];
        let mut kill = Command::new(cargo_path());
        kill.args(killed).env("BUTTRESS_KILLS", kills.to_string());
        run(&format!("{kills} kills while snapshots are saved"), &mut kill)?;
    }
    if fuzz_seconds > 0 {
        fuzz(Duration::from_secs(fuzz_seconds))?;
    }
    if seconds > 0 {
        setup::tools(&[setup::PROMETHEUS])?;
        cargo("quickstart", &["build", "-p", "buttress-examples", "--example", "quickstart"])?;
        let target = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
        println!("\n=== {seconds} s of scrapes by Prometheus");
        prometheus::compare(&Path::new(&target).join("debug/examples/quickstart"), seconds)?;
    }
    Ok(())
}

/// Reads damaged snapshots for so long. Each round draws from another seed.
fn fuzz(time: Duration) -> Done {
    /// A few seconds' worth, so that the time is kept to.
    const ROUND: u64 = 50_000;
    #[expect(clippy::disallowed_methods, reason = "how long it takes is what was asked for")]
    let started = Instant::now();
    let mut read = 0;
    loop {
        let fuzz = ["test", "-q", "-p", "buttress-slo", "--release", "--lib", "do_not_panic"];
        let mut fuzzed = Command::new(cargo_path());
        fuzzed.args(fuzz).env("PROPTEST_CASES", ROUND.to_string());
        run(&format!("{ROUND} damaged snapshots of each kind"), &mut fuzzed)?;
        read += ROUND;
        let elapsed = started.elapsed();
        if elapsed >= time {
            println!("\n{read} damaged snapshots of each kind in {} s", elapsed.as_secs());
            return Ok(());
        }
    }
}

fn cargo(what: &str, arguments: &[&str]) -> Done {
    run(what, Command::new(cargo_path()).args(arguments))
}

fn cargo_path() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Runs a step, and says which it is before and how it failed after.
pub(crate) fn run(what: &str, command: &mut Command) -> Done {
    println!("\n=== {what}");
    let status = command.status().map_err(|error| {
        format!("{what}: cannot start {}: {error}", command.get_program().display())
    })?;
    if status.success() { Ok(()) } else { Err(format!("{what}: failed ({status})")) }
}
