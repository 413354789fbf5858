//! A real Prometheus beside quickstart: what it computes from the counters, against what the
//! tracker in the process says.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// What is compared: by a query of the counters, and as the process exports it. The difference is
/// one of budgets: an error ratio is divided by what the target allows.
const COMPARED: [(&str, &str, &str); 4] = [
    (
        "SLI of all time",
        r#"slo_events_total{slo="available",outcome="bad"} / ignoring(outcome) sum without(outcome)(slo_events_total{slo="available",outcome=~"good|bad"}) / ignoring(outcome) (1 - slo_objective_ratio{slo="available"})"#,
        r#"sum(slo_error_ratio{slo="available"}) / (1 - sum(slo_objective_ratio{slo="available"}))"#,
    ),
    (
        "budget spent, of 30 days",
        r#"sum(slo_events_total{slo="available",outcome="bad"}) / sum(slo_events_total{slo="available",outcome=~"good|bad"}) / (1 - sum(slo_objective_ratio{slo="available"})) * sum(slo_window_coverage_ratio{slo="available",window="30d"})"#,
        r#"1 - sum(slo_error_budget_remaining_ratio{slo="available"})"#,
    ),
    (
        "budget spent, of 5 minutes",
        r#"sum(increase(slo_events_total{slo="fast",outcome="bad"}[5m])) / sum(increase(slo_events_total{slo="fast",outcome=~"good|bad"}[5m])) / (1 - sum(slo_objective_ratio{slo="fast"}))"#,
        r#"1 - sum(slo_error_budget_remaining_ratio{slo="fast"})"#,
    ),
    (
        "burn over 5 minutes",
        r#"sum(increase(slo_events_total{slo="available",outcome="bad"}[5m])) / sum(increase(slo_events_total{slo="available",outcome=~"good|bad"}[5m])) / (1 - sum(slo_objective_ratio{slo="available"}))"#,
        r#"sum(slo_burn_rate_ratio{slo="available",window="5m"})"#,
    ),
];

/// What the issue admits, of a budget.
const ADMITTED: f64 = 0.005;

/// 5 minutes are 1/8640 of 30 days: what a burn over them is of the budget.
const OF_THIRTY_DAYS: f64 = 8640.0;

/// Lets Prometheus scrape quickstart under traffic, and compares.
pub(crate) fn compare(quickstart: &Path, seconds: u64) -> Result<(), String> {
    if seconds < 400 {
        println!("a window of five minutes wants more than {seconds} s: its figures mean little");
    }
    let folder = std::env::temp_dir().join(format!("buttress-prometheus-{}", std::process::id()));
    let done = Rig::start(quickstart, &folder).and_then(|rig| rig.run(seconds));
    // Best left to the system, should it not work: it is a temporary folder.
    let _ = fs::remove_dir_all(&folder);
    done
}

struct Rig {
    service: Killed,
    prometheus: Killed,
    address: SocketAddr,
    scraper: SocketAddr,
}

/// A program that ends with us.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Rig {
    fn start(quickstart: &Path, folder: &PathBuf) -> Result<Self, String> {
        let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let mut service = Command::new(quickstart)
            .args(["--serve", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("quickstart: {error}"))?;
        let output = service.stdout.take().ok_or("quickstart says nothing")?;
        let service = Killed(service);
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("Serving on")).ok_or("it does not serve")?;
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(". ").next());
        let address = address.and_then(|text| text.parse().ok()).ok_or("no address in its line")?;
        // What else it says is of no interest, but somebody has to read it.
        thread::spawn(move || lines.for_each(drop));

        fs::create_dir_all(folder).map_err(said("a folder for Prometheus"))?;
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: quickstart\n    \
             static_configs: [{{targets: [\"{address}\"]}}]\n"
        );
        fs::write(&config, text).map_err(said("its configuration"))?;
        // A port of its own choice, which it tells: one of ours could be another's by then.
        let mut prometheus = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("prometheus: {error}"))?;
        let output = prometheus.stderr.take().ok_or("prometheus says nothing")?;
        let prometheus = Killed(prometheus);
        let scraper = listening(output)?;
        Ok(Self { service, prometheus, address, scraper })
    }

    fn run(mut self, seconds: u64) -> Result<(), String> {
        // The counters are there at 0 before the first call, and shall be scraped so.
        rest(Duration::from_secs(5));
        let traffic = [0, 1].map(|place| {
            let address = self.address;
            thread::spawn(move || drive(address, place, seconds))
        });
        let started = now();
        let mut worst = [(0.0, 0.0, 0.0); COMPARED.len()];
        // The windows are full at the end only; from then on, and a while after traffic has ended.
        let full = Duration::from_secs(seconds * 2 / 3);
        while started.elapsed() < Duration::from_secs(seconds) {
            rest(Duration::from_secs(5));
            if started.elapsed() > full {
                self.look(&mut worst)?;
            }
        }
        let calls: u64 = traffic.into_iter().map(|it| it.join().unwrap_or(0)).sum();
        println!("{calls} calls in {seconds} s; of all looks, the greatest difference:");
        let mut too_much = false;
        for ((what, ..), (difference, by_query, in_process)) in COMPARED.iter().zip(worst) {
            println!(
                "  {what:<28} {:.4} % of the budget (PromQL {by_query:.6}, in process {in_process:.6})",
                difference * 100.0
            );
            too_much |= difference >= ADMITTED;
        }
        for (name, program) in
            [("quickstart", &mut self.service), ("prometheus", &mut self.prometheus)]
        {
            if !matches!(program.0.try_wait(), Ok(None)) {
                return Err(format!("{name} ended before its time"));
            }
        }
        if too_much { Err(format!("more than {} % apart", ADMITTED * 100.0)) } else { Ok(()) }
    }

    fn look(&self, worst: &mut [(f64, f64, f64); COMPARED.len()]) -> Result<(), String> {
        for ((what, query, exported), worst) in COMPARED.iter().zip(worst) {
            // One query for both, so that they are of the same scrape.
            let both = format!(
                r#"label_replace(sum({query}), "of", "query", "", "") or label_replace({exported}, "of", "process", "", "")"#
            );
            let answer = self.ask(&both)?;
            let (query, process) = (value(&answer, "query"), value(&answer, "process"));
            let (Some(query), Some(process)) = (query, process) else {
                return Err(format!("{what}: no answer in {answer}"));
            };
            let mut difference = (query - process).abs();
            if what.starts_with("burn") {
                difference /= OF_THIRTY_DAYS;
            }
            if difference >= worst.0 {
                *worst = (difference, query, process);
            }
        }
        Ok(())
    }

    fn ask(&self, query: &str) -> Result<String, String> {
        let encoded: Vec<_> = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let encoded = encoded.concat();
        get(self.scraper, &format!("/api/v1/query?query={encoded}"))
            .map_err(|error| format!("prometheus does not answer: {error}"))
    }
}

/// Where Prometheus says that it listens. What it says afterwards is shown if it is no mere notice.
fn listening(output: ChildStderr) -> Result<SocketAddr, String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut said = Vec::new();
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let address = lines.by_ref().find_map(|line| {
            let address = line.split_once("Listening on").and_then(|(_, rest)| {
                let (_, address) = rest.split_once("address=")?;
                address.split_whitespace().next()?.trim_matches('"').parse().ok()
            });
            said.push(line);
            address
        });
        // Whoever asked may have given up.
        let _ = send.send(address.ok_or_else(|| said.join("\n")));
        for line in
            lines.filter(|line| !line.contains("level=info") && !line.contains("level=INFO"))
        {
            eprintln!("{line}");
        }
    });
    match receive.recv_timeout(Duration::from_secs(60)) {
        Ok(address) => address.map_err(|said| format!("prometheus does not serve: {said}")),
        Err(_) => Err("prometheus has not said within a minute where it listens".to_owned()),
    }
}

/// The value of the series with this label in a JSON answer, without a parser of JSON.
fn value(answer: &str, label: &str) -> Option<f64> {
    let rest = answer.split(&format!(r#""of":"{label}""#)).nth(1)?;
    let rest = rest.split(r#""value":["#).nth(1)?.split(r#",""#).nth(1)?;
    rest.split('"').next()?.parse().ok()
}

/// About fifty calls a second, some of them slow and a few that fail.
fn drive(address: SocketAddr, place: u64, seconds: u64) -> u64 {
    let started = now();
    let mut calls = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        let number = calls * 2 + place;
        let path = match number % 250 {
            17 => "/fail",
            40 | 90 | 140 | 190 | 240 => "/slow?ms=120",
            _ => "/slow?ms=1",
        };
        // What the network does to a call, the service does not count.
        calls += u64::from(get(address, path).is_ok());
        rest(Duration::from_millis(20));
    }
    calls
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[expect(clippy::disallowed_methods, reason = "another program's clock is the machine's")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "another program's clock is the machine's")]
fn rest(time: Duration) {
    thread::sleep(time);
}
