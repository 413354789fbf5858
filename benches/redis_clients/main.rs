//! The two Redis clients that limits of a fleet could stand on, side by side, against a server of
//! their own: throughput and latency of the very script, and what they do when it is stopped,
//! killed and started again.
//!
//! `cargo bench --bench redis_clients`; needs `redis-server`.

mod clients;
#[expect(dead_code, unreachable_pub, reason = "the tests have it as a module of their library")]
#[path = "../../tests/redis_server.rs"]
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use hdrhistogram::Histogram;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    clients::{Client, Fred, Ours, Redis},
    server::Server,
};

/// Redis clients, measured.
#[derive(Debug, Parser)]
struct Options {
    /// How long each figure is measured, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a caller waits for at the most.
const BOUND: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let time = Duration::from_secs(options.seconds);
    println!("the script of one bucket, one connection; {time:?} each, in turns");
    println!(
        "{:<8}{:>9}{:>13}{:>11}{:>11}{:>11}",
        "", "callers", "calls/s", "p50 us", "p99 us", "max us"
    );
    for callers in [1, 32, 256] {
        run::<Redis>(callers, time).await;
        run::<Fred>(callers, time).await;
        run::<Ours<1000>>(callers, time).await;
    }
    println!(
        "\nfaults of 2 s under 16 callers: each call bounded by {BOUND:?} from outside, and by"
    );
    println!("nothing but the client's own defaults");
    println!(
        "{:<8}{:<12}{:<10}{:>8}{:>10}{:>12}{:>14}{:>16}",
        "", "fault", "bound", "good", "failed", "timed out", "longest ms", "back after ms"
    );
    for fault in [Fault::Stop, Fault::Kill] {
        for bound in [Some(BOUND), None] {
            break_it::<Redis>(fault, bound).await;
            break_it::<Fred>(fault, bound).await;
        }
        // Bounded by itself; what its circuit refuses at once counts as failed.
        break_it::<Ours<20>>(fault, None).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the wall clock")]
fn now() -> Instant {
    Instant::now()
}

async fn run<C: Client>(callers: usize, time: Duration) {
    let server = Server::start();
    let client = C::connect(server.port()).await;
    client.take().await.expect("a server that was just started");
    let start = now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let client = client.clone();
        tasks.spawn(async move {
            let mut histogram = histogram();
            while start.elapsed() < time {
                let called = now();
                client.take().await.expect("a server that is well");
                histogram.saturating_record(micros(called.elapsed()));
            }
            histogram
        });
    }
    let mut all = histogram();
    while let Some(one) = tasks.join_next().await {
        all.add(one.expect("no panic")).expect("the same bounds");
    }
    #[expect(clippy::cast_precision_loss, reason = "there are not 2^53 calls")]
    let rate = all.len() as f64 / start.elapsed().as_secs_f64();
    println!(
        "{:<8}{callers:>9}{rate:>13.0}{:>11}{:>11}{:>11}",
        C::NAME,
        all.value_at_quantile(0.5),
        all.value_at_quantile(0.99),
        all.max()
    );
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// `kill -STOP`, and `-CONT`.
    Stop,
    /// `kill -9`, and another server on the same port.
    Kill,
}

#[derive(Debug, Default)]
struct Seen {
    good: u64,
    failed: u64,
    timed_out: u64,
    longest: Duration,
    /// The first call that went well and began after the server was back.
    back: Option<Instant>,
}

async fn break_it<C: Client>(fault: Fault, bound: Option<Duration>) {
    let mut server = Server::start();
    let client = C::connect(server.port()).await;
    client.take().await.expect("a server that was just started");
    let (over, is_back) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (client, over, is_back) = (client.clone(), Arc::clone(&over), Arc::clone(&is_back));
        tasks.spawn(async move {
            let mut seen = Seen::default();
            while !over.load(Ordering::SeqCst) {
                let (after, called) = (is_back.load(Ordering::SeqCst), now());
                let answer = match bound {
                    Some(bound) => timeout(bound, client.take()).await.ok(),
                    None => Some(client.take().await),
                };
                seen.longest = seen.longest.max(called.elapsed());
                match answer {
                    Some(Ok(())) => {
                        seen.good += 1;
                        if after {
                            seen.back.get_or_insert_with(now);
                        }
                    }
                    Some(Err(_)) => seen.failed += 1,
                    None => seen.timed_out += 1,
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            seen
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    match fault {
        Fault::Stop => server.stop(),
        Fault::Kill => server.kill(),
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    match fault {
        Fault::Stop => server.go_on(),
        Fault::Kill => server.start_again(),
    }
    let back = now();
    is_back.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(12)).await;
    over.store(true, Ordering::SeqCst);
    let mut all = Seen::default();
    let mut hanging = 16;
    let ended = async {
        while let Some(one) = tasks.join_next().await {
            let one = one.expect("no panic");
            hanging -= 1;
            all.good += one.good;
            all.failed += one.failed;
            all.timed_out += one.timed_out;
            all.longest = all.longest.max(one.longest);
            all.back = all.back.into_iter().chain(one.back).min();
        }
    };
    let ended = timeout(Duration::from_secs(5), ended).await.is_ok();
    let after = all.back.map(|at| at.duration_since(back).as_millis().to_string());
    println!(
        "{:<8}{:<12}{:<10}{:>8}{:>10}{:>12}{:>14}{:>16}{}",
        C::NAME,
        format!("{fault:?}"),
        bound.map_or("its own".to_owned(), |bound| format!("{bound:?}")),
        all.good,
        all.failed,
        all.timed_out,
        all.longest.as_millis(),
        after.unwrap_or_else(|| "never".to_owned()),
        if ended { String::new() } else { format!("  {hanging} calls hang for good") }
    );
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("sensible bounds")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
