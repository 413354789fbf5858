//! Installs what tests need and a machine may lack: Debian's packages where there is `apt-get`,
//! elsewhere a word on what to install.

use std::{path::Path, process::Command};

use crate::steps::run;

/// A program that tests start, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    program: &'static str,
    debian: &'static str,
    elsewhere: &'static str,
}

/// Prometheus's own tool, which checks the metrics page.
pub(crate) const PROMTOOL: Tool = Tool {
    program: "promtool",
    debian: "prometheus",
    elsewhere: "Prometheus (promtool is in its release archive)",
};

/// Prometheus itself, which scrapes and asks.
pub(crate) const PROMETHEUS: Tool =
    Tool { program: "prometheus", debian: "prometheus", elsewhere: "Prometheus" };

/// The server that limits of a fleet stand on.
pub(crate) const REDIS: Tool =
    Tool { program: "redis-server", debian: "redis-server", elsewhere: "Redis 7 or later" };

/// Makes the certificates of a server that speaks TLS.
pub(crate) const OPENSSL: Tool =
    Tool { program: "openssl", debian: "openssl", elsewhere: "OpenSSL 3" };

/// Counts instructions.
pub(crate) const VALGRIND: Tool =
    Tool { program: "valgrind", debian: "valgrind", elsewhere: "valgrind" };

/// Installs the tools that are missing.
pub(crate) fn tools(wanted: &[Tool]) -> Result<(), String> {
    let missing: Vec<_> = wanted.iter().filter(|tool| !is_installed(tool.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_installed("apt-get") {
        let names: Vec<_> = missing.iter().map(|tool| tool.elsewhere).collect();
        return Err(format!("please install {}, and run this again", names.join(" and ")));
    }
    run("package lists", apt().arg("update").arg("-qq"))?;
    for tool in &missing {
        run(
            &format!("install {}", tool.debian),
            apt().args(["install", "-y", "-qq", tool.debian]),
        )?;
    }
    match missing.iter().find(|tool| !is_installed(tool.program)) {
        None => Ok(()),
        Some(tool) => {
            Err(format!("{} is installed, but there is no {}", tool.debian, tool.program))
        }
    }
}

/// Installs a subcommand of cargo, from source.
pub(crate) fn cargo_tool(name: &str) -> Result<(), String> {
    if is_installed(name) {
        return Ok(());
    }
    run(&format!("install {name}"), Command::new("cargo").args(["install", name, "--locked"]))
}

/// `apt-get`, as root or through `sudo`; it is not to ask anybody anything.
fn apt() -> Command {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let mut apt = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
    if !is_root {
        apt.arg("apt-get");
    }
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}
