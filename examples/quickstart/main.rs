//! A service that stays up: real HTTP at a real server, with a bad spell in the middle.
//!
//! `cargo run --example quickstart` starts an axum service on loopback, drives requests at it for
//! about fifteen seconds, and prints what its callers got before, during and after a spell in
//! which its dependency is slow and fails. `-- --serve` keeps the service up for you to try.

mod app;
mod drive;
mod report;
mod stock;

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use buttress::{
    BoxError,
    sli::SliHandle,
    slo::{SloTracker, SnapshotFile},
};
use clap::Parser;
use tokio::{
    net::TcpListener,
    time::{Instant, interval},
};

use crate::{app::App, drive::Drive, report::Report, stock::Stock};

/// A service with buttress around it, under real traffic.
#[derive(Debug, Parser)]
#[command(name = "quickstart")]
struct Options {
    /// Keep the service up, and print what to try.
    #[arg(long)]
    serve: bool,

    /// Keep what is known of the objectives in this file, through restarts.
    #[arg(long, requires = "serve")]
    keep: Option<PathBuf>,

    /// The port of 127.0.0.1 to serve on; 0 takes any that is free.
    #[arg(long, default_value_t = 3000, requires = "serve")]
    port: u16,

    /// How long to drive traffic: a third before, during and after the bad spell.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=600), conflicts_with = "serve")]
    seconds: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).init();
    let done = if options.serve {
        serve(options.port, options.keep).await
    } else {
        demo(options.seconds).await
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Drives traffic at the service and tells how it went.
async fn demo(seconds: u64) -> Result<(), BoxError> {
    let listener = bind(0).await?;
    let address = listener.local_addr()?;
    let app = App::new(Stock::serve().await?)?;
    let server = tokio::spawn(axum::serve(listener, app.router()).into_future());
    let telemetry = tokio::spawn(app.telemetry().run());
    let objectives = tokio::spawn(app.tracker().clone().run());

    println!(
        "An axum service on http://{address}, with layers of buttress around it: sli (what callers got),"
    );
    println!(
        "timeout ({} ms) and bulkhead; and around the stock that it depends on: timeout and breaker.\n",
        app::LIMIT.get().as_millis()
    );
    let report = Report::new(seconds);
    app.sli().add_sink(report.sink());
    let drive = Drive::new(address, seconds);
    let started = Instant::now();
    drive.run(&app, &report).await?;

    println!("\n{}", report.table());
    println!("{}", app.story(started));
    println!("{}", agreement(&app.sli(), &drive));
    println!(
        "{} calls reached the stock; {} were refused while its breaker was not closed.",
        app.stock().calls(),
        app.breaker().totals().refused.iter().sum::<u64>(),
    );
    println!("\nAnd this is what it has promised, as seen by this one process since its start:");
    for line in report::objectives(app.tracker()) {
        println!("  {line}");
    }
    server.abort();
    telemetry.abort();
    objectives.abort();
    Ok(())
}

/// Says whether the server's counts and the client's are the same.
fn agreement(server: &SliHandle, drive: &Drive) -> String {
    let (server, client) = (server.counts(), drive.counts());
    format!(
        "The server counted {} calls ({} good, {} bad, {} excluded); its client {} ({} good, {} bad, {} excluded).",
        server.total(),
        server.good,
        server.bad,
        server.excluded,
        client.total(),
        client.good,
        client.bad,
        client.excluded,
    )
}

/// Keeps the service up until Ctrl-C.
async fn serve(port: u16, keep: Option<PathBuf>) -> Result<(), BoxError> {
    let listener = bind(port).await?;
    let address = listener.local_addr()?;
    let app = App::new(Stock::serve().await?)?;
    let kept = keep.is_some();
    if let Some(path) = keep {
        let start = app.tracker().keep(SnapshotFile::at(&path))?;
        println!("{}: {start}", path.display());
    }
    let ticking = [
        tokio::spawn(app.telemetry().run()),
        tokio::spawn(app.tracker().clone().run()),
        tokio::spawn(log(app.tracker().clone())),
    ];

    println!("Serving on http://{address}. Try, in another terminal:\n");
    for (how, path, what) in app::TO_TRY {
        let command = format!("curl -si {how}'http://{address}{path}'");
        println!("  {command:<52}# {what}");
    }
    println!("\nCtrl-C ends it.");
    axum::serve(listener, app.router()).with_graceful_shutdown(interrupted()).await?;
    ticking.iter().for_each(tokio::task::JoinHandle::abort);
    if kept {
        app.tracker().save()?;
    }
    println!("\n{}", report::counts(&app.sli()));
    for line in report::objectives(app.tracker()) {
        println!("  {line}");
    }
    Ok(())
}

/// Says every ten seconds how the objectives stand.
async fn log(tracker: SloTracker) {
    let mut every = interval(Duration::from_secs(10));
    // The first is at once, when there is nothing to tell.
    every.tick().await;
    loop {
        every.tick().await;
        for line in report::objectives(&tracker) {
            tracing::info!("{line}");
        }
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a signal handler there is nothing to wait for but the end of the process.
        std::future::pending::<()>().await;
    }
}

async fn bind(port: u16) -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} is in use: choose another with --port, or let --port 0 take a free one"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("port {port} needs privileges: choose one above 1023 with --port")
        }
        _ => format!("cannot listen on 127.0.0.1:{port}: {error}"),
    })
}
