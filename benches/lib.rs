//! How a call is made, timed and counted, the same way for every layer and every peer.

use std::{
    hint::{black_box, spin_loop},
    pin::pin,
    process::Command,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

/// So many calls of one case, made in a loop without anything else in it.
pub type Calls = Box<dyn FnMut(u64) + Send>;

/// One layer or peer: makes the calls of one thread on state that all threads share.
pub struct Case {
    /// What it is, and whose.
    pub name: &'static str,
    /// On a service that lives as long as the thread.
    pub ready: Box<dyn Fn() -> Calls>,
    /// On a clone of it for each call, as axum does.
    pub oneshot: Box<dyn Fn() -> Calls>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Case {
    /// A case that calls clones of `service` with what `request` makes.
    pub fn new<S, B, R>(name: &'static str, service: S, request: fn() -> Request<R>) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + 'static,
        B: Body,
        R: 'static,
    {
        let ready = service.clone();
        Self {
            name,
            ready: Box::new(move || {
                let mut service = ready.clone();
                Box::new(move |calls| (0..calls).for_each(|_| call(&mut service, request())))
            }),
            oneshot: Box::new(move || {
                let service = service.clone();
                Box::new(move |calls| {
                    (0..calls).for_each(|_| call(&mut service.clone(), request()));
                })
            }),
        }
    }
}

impl Case {
    /// A case of a service that cannot be cloned, so that each thread makes its own and both
    /// columns are those of a service that lives as long as the thread.
    pub fn unclonable<S, B, R>(
        name: &'static str,
        make: impl Fn() -> S + Clone + 'static,
        request: fn() -> Request<R>,
    ) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Send + 'static,
        B: Body,
        R: 'static,
    {
        let ready = move || -> Calls {
            let mut service = make();
            Box::new(move |calls| (0..calls).for_each(|_| call(&mut service, request())))
        };
        Self { name, ready: Box::new(ready.clone()), oneshot: Box::new(ready) }
    }
}

/// One call, from readiness to the end of the body, of a service that never makes anybody wait.
fn call<S, B, R>(service: &mut S, request: Request<R>)
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Body,
{
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready(), "the inner service is always ready");
    let mut response = pin!(service.call(request));
    let response = loop {
        match response.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => break response,
            Poll::Ready(Err(_)) => panic!("the inner service does not fail"),
            // A peer waits for a lock that the other thread holds.
            Poll::Pending => spin_loop(),
        }
    };
    black_box(response.status());
    let mut body = pin!(response.into_body());
    while !body.is_end_stream() {
        match body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => drop(black_box(frame)),
            Poll::Ready(None) => break,
            _ => panic!("the body is there at once"),
        }
    }
}

/// Nanoseconds per call of each case: the median of so many rounds, taken in turns, so that a
/// machine that gets slower gets slower for all.
pub fn nanoseconds(cases: &mut [Calls], rounds: usize, calls: u64) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(rounds); cases.len()];
    for case in cases.iter_mut() {
        case(calls / 10);
    }
    for _ in 0..rounds {
        for (case, times) in cases.iter_mut().zip(&mut times) {
            times.push(time(|| case(calls)).as_secs_f64() * 1e9 / to_float(calls));
        }
    }
    times.into_iter().map(median).collect()
}

/// Throughput of two threads on one state, as a multiple of one thread's: the median of rounds.
///
/// Both live for all rounds, as those of a server do: what state keeps for each thread, and the
/// keys that a case has for each, are there when the clock starts.
pub fn two_threads(make: &dyn Fn() -> Calls, rounds: usize, calls: u64) -> f64 {
    let mut alone = make();
    alone(calls / 10);
    let pair = [make(), make()];
    let (start, end) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        let running = pair.map(|mut case| {
            let (start, end) = (&start, &end);
            scope.spawn(move || {
                case(calls / 10);
                let round = |_| {
                    start.wait();
                    let span = span(|| case(calls));
                    end.wait();
                    span
                };
                (0..rounds).map(round).collect::<Vec<_>>()
            })
        });
        let round = |_| {
            let one = time(|| alone(calls)).as_secs_f64();
            start.wait();
            end.wait();
            one
        };
        let ones: Vec<_> = (0..rounds).map(round).collect();
        let [first, second] = running.map(|thread| thread.join().expect("no panic"));
        // By their own clocks: a third thread may not be woken before they are done.
        let both = first.into_iter().zip(second).map(|([a, first], [b, second])| {
            let two = first.max(second) - a.min(b);
            two.as_secs_f64()
        });
        median(ones.into_iter().zip(both).map(|(one, two)| 2.0 * one / two).collect())
    })
}

/// Makes the calls of one case, for a profiler and for [`instructions`].
#[inline(never)]
pub fn only(calls: &mut Calls, count: u64) {
    calls(count);
}

/// Instructions per call, counted by callgrind: this program runs itself and counts what [`only`]
/// does, so that clocks which peers calibrate for as long as it takes count for nothing. `None`
/// without valgrind.
#[must_use]
pub fn instructions(case: &str, mode: &str) -> Option<u64> {
    const CALLS: u64 = 2_000;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=buttress_benches::only")
        .arg(std::env::current_exe().ok()?)
        .args(["--only", case, "--mode", mode, "--calls", &CALLS.to_string()])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let (_, count) = said.split_once("Collected : ")?;
    Some(count.split_whitespace().next()?.parse::<u64>().ok()? / CALLS)
}

fn time(work: impl FnOnce()) -> Duration {
    let [began, ended] = span(work);
    ended - began
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the wall clock")]
fn span(work: impl FnOnce()) -> [Instant; 2] {
    let began = Instant::now();
    work();
    [began, Instant::now()]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "there are not 2^53 calls")]
fn to_float(calls: u64) -> f64 {
    calls as f64
}

/// What is measured, and how long.
#[derive(Debug, Parser)]
pub struct Options {
    /// Count instructions as well (needs valgrind).
    #[arg(long)]
    pub instructions: bool,
    /// Rounds of which the median is taken.
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Calls in a round.
    #[arg(long, default_value_t = 100_000)]
    pub calls: u64,
    /// Only the groups whose name has this in it.
    #[arg(long)]
    pub group: Option<String>,
    /// Make the calls of one case and nothing else: for a profiler.
    #[arg(long)]
    pub only: Option<String>,
    /// With `--only`: `ready` or `oneshot`.
    #[arg(long, default_value = "oneshot")]
    pub mode: String,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// Prints a group: its first case is what the others add to, its second what they are a ratio of.
/// `on_thread` makes the calls of a case for a thread of its own.
pub fn print(what: &str, group: &[Case], options: &Options, on_thread: impl Fn(&Case) -> Calls) {
    let timed = |make: &dyn Fn(&Case) -> Calls| {
        let mut calls: Vec<_> = group.iter().map(make).collect();
        nanoseconds(&mut calls, options.rounds, options.calls)
    };
    let (ready, oneshot) = (timed(&|case| (case.ready)()), timed(&|case| (case.oneshot)()));
    println!(
        "\n{what:<38}{:>9}{:>8}{:>12}{:>8}{:>13}{:>16}",
        "ready ns", "ratio", "oneshot ns", "ratio", "2 threads x", "instructions"
    );
    for (index, case) in group.iter().enumerate() {
        let added = |times: &[f64]| if index == 0 { times[0] } else { times[index] - times[0] };
        let ratio = |times: &[f64]| match index {
            0 => "(bare)".to_owned(),
            _ => format!("{:.2}", (times[index] - times[0]) / (times[1] - times[0])),
        };
        let threads = two_threads(&|| on_thread(case), options.rounds, options.calls);
        let counted = ["ready", "oneshot"]
            .map(|mode| options.instructions.then(|| instructions(case.name, mode)).flatten())
            .map(|count| count.map_or_else(|| "-".to_owned(), |count| count.to_string()))
            .join(" / ");
        println!(
            "{:<38}{:>9.1}{:>8}{:>12.1}{:>8}{:>13.2}{:>16}",
            case.name,
            added(&ready),
            ratio(&ready),
            added(&oneshot),
            ratio(&oneshot),
            threads,
            counted,
        );
    }
}
