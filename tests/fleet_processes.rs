//! Four processes on one limit of a real server: what they admit together while all is well, while
//! the server stands still, and when it is killed and started again.
//!
//! Each process is this very test program, told by its environment to be one. A run takes three
//! seconds, or as many as `BUTTRESS_FLEET_SECONDS` says: `cargo xtask soak` has it take ten.

use std::{
    convert::Infallible,
    env, fmt,
    future::ready,
    io::{BufRead, BufReader},
    num::NonZeroU32,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use buttress::{Plain, Rate, Rejection, TimeLimit};
use buttress_redis::{
    Failure, FleetLimitLayer, Lease, Outage, RedisStore, Replicas, Settings, Source, Totals,
};
use buttress_tests::redis_server::Server;
use tower::{Layer, ServiceExt, service_fn};

const PROCESSES: u32 = 4;
const WORKERS: u32 = 6;
const BURST: u32 = 100;
const EVENTS: u32 = 1000;
const MOST: u32 = 50;

const URL: &str = "BUTTRESS_FLEET_URL";
const START: &str = "BUTTRESS_FLEET_START";
const SECONDS: &str = "BUTTRESS_FLEET_SECONDS";
const FAULTY: &str = "BUTTRESS_FLEET_FAULTY";
const LEASED: &str = "BUTTRESS_FLEET_LEASED";

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn rate() -> Rate {
    Rate::per_second(n(EVENTS)).burst(n(BURST))
}

fn lease() -> Lease {
    Lease::new(n(MOST))
}

fn seconds() -> u64 {
    env::var(SECONDS).map_or(3, |seconds| seconds.parse().expect("a number of seconds"))
}

/// The machine's clock, which all processes share, in microseconds.
#[expect(clippy::disallowed_methods, reason = "processes share no other clock")]
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "what is waited for is the machine's clock")]
fn rest_until(micros: u64) {
    thread::sleep(Duration::from_micros(micros.saturating_sub(wall())));
}

/// What one process has seen, or all of them.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    by_store: u64,
    by_lease: u64,
    by_local: u64,
    refused: u64,
    timed_out: u64,
    failed: u64,
    /// When the first and the last were admitted.
    first: u64,
    last: u64,
    /// How long after a fault the store first decided again, and how many were admitted by shares
    /// after that.
    recovered: u64,
    late: u64,
    /// How many callers waited in vain while it was known that the server was away.
    in_vain: u64,
    /// How many the store decided after it first did so again, and how many shares did.
    store_again: u64,
    share_still: u64,
    p50: u64,
    p99: u64,
    longest: u64,
}

impl Seen {
    fn admitted(&self) -> u64 {
        self.by_store + self.by_lease + self.by_local
    }

    fn fields(&mut self) -> [&mut u64; 16] {
        [
            &mut self.by_store,
            &mut self.by_lease,
            &mut self.by_local,
            &mut self.refused,
            &mut self.timed_out,
            &mut self.failed,
            &mut self.first,
            &mut self.last,
            &mut self.recovered,
            &mut self.late,
            &mut self.in_vain,
            &mut self.store_again,
            &mut self.share_still,
            &mut self.p50,
            &mut self.p99,
            &mut self.longest,
        ]
    }

    fn together(all: &[Self]) -> Self {
        let sum = |of: fn(&Self) -> u64| all.iter().map(of).sum();
        let most = |of: fn(&Self) -> u64| all.iter().map(of).max().unwrap();
        Self {
            by_store: sum(|it| it.by_store),
            by_lease: sum(|it| it.by_lease),
            by_local: sum(|it| it.by_local),
            refused: sum(|it| it.refused),
            timed_out: sum(|it| it.timed_out),
            failed: sum(|it| it.failed),
            first: all.iter().map(|it| it.first).min().unwrap(),
            last: most(|it| it.last),
            // Nobody's, if it is not everybody's.
            recovered: if all.iter().all(|it| it.recovered > 0) {
                most(|it| it.recovered)
            } else {
                0
            },
            late: sum(|it| it.late),
            in_vain: sum(|it| it.in_vain),
            store_again: sum(|it| it.store_again),
            share_still: sum(|it| it.share_still),
            p50: most(|it| it.p50),
            p99: most(|it| it.p99),
            longest: most(|it| it.longest),
        }
    }

    /// What burst and rate allow from the first to the last that was admitted.
    fn allowed(&self) -> u64 {
        u64::from(BURST) + (self.last - self.first) * u64::from(EVENTS) / 1_000_000 + 1
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} admitted in {:.2} s ({} by the store, {} by leases, {} by shares), {} refused, {} \
             timed out, {} failed; waits of the worst process: p50 {} us, p99 {} us, longest {} us",
            self.admitted(),
            Duration::from_micros(self.last - self.first).as_secs_f64(),
            self.by_store,
            self.by_lease,
            self.by_local,
            self.refused,
            self.timed_out,
            self.failed,
            self.p50,
            self.p99,
            self.longest,
        )
    }
}

/// When a server that was away is back.
const fn over(start: u64) -> u64 {
    start + 1_000_000 + AWAY
}

/// What is seen of a server that was away: whether the store has decided again, and whom it cost a
/// wait meanwhile.
#[derive(Debug, Default)]
struct Back {
    planned: u64,
    /// How many had waited in vain when it was to be known that it is away, plus one, and when it
    /// was to be back.
    known: AtomicU64,
    in_vain: AtomicU64,
    /// What the store had decided when it was to be back, plus one.
    by_store: AtomicU64,
    recovered: AtomicU64,
    /// What shares had admitted when the store decided again; what they had decided, and the store.
    by_local: AtomicU64,
    decided: [AtomicU64; 2],
}

impl Back {
    fn is_awaited(&self, now: u64) -> bool {
        match self.recovered.load(Ordering::SeqCst) {
            0 => now < self.planned + PATIENCE,
            // Long enough to see that it goes on.
            recovered => now < self.planned + recovered + SETTLED,
        }
    }

    fn look(&self, totals: &Totals, now: u64) {
        let timed_out = 1 + totals.failed(Failure::TimedOut);
        let known = self.known.load(Ordering::SeqCst);
        if now >= self.planned - AWAY / 2 && known == 0 {
            self.known.store(timed_out, Ordering::SeqCst);
        } else if known > 0 && now < self.planned {
            self.in_vain.store(timed_out - known, Ordering::SeqCst);
        }
        if now < self.planned || self.recovered.load(Ordering::SeqCst) > 0 {
            return;
        }
        let by_store = 1 + totals.admitted(Source::Store) + totals.refused(Source::Store);
        let before = self.by_store.load(Ordering::SeqCst);
        if before == 0 {
            self.by_store.store(by_store, Ordering::SeqCst);
        } else if by_store > before {
            self.recovered.store((now - self.planned).max(1), Ordering::SeqCst);
            self.by_local.store(totals.admitted(Source::Local), Ordering::SeqCst);
            for (then, decided) in self.decided.iter().zip(decided(totals)) {
                then.store(decided, Ordering::SeqCst);
            }
        }
    }
}

/// How many the fleet's bucket, or what is leased of it, has decided, and how many shares have.
fn decided(totals: &Totals) -> [u64; 2] {
    let all = |source| totals.admitted(source) + totals.refused(source);
    [all(Source::Store) + all(Source::Lease), all(Source::Local)]
}

/// How long a run goes on after the store has decided again.
const SETTLED: u64 = 1_000_000;

/// Time in slots, two of which yield a burst: between refusals in one and in the next no bucket
/// overflows.
const SLOT: u64 = 50_000;

/// So long is it awaited that the store decides again. Probes come each 2.4 s at the latest, and a
/// machine that is busy may be taken for a server that is slow when they do.
const PATIENCE: u64 = 20_000_000;

/// One of the processes; not one unless it is told to be.
#[test]
fn member() {
    let Ok(url) = env::var(URL) else { return };
    let start: u64 = env::var(START).unwrap().parse().unwrap();
    let end = start + seconds() * 1_000_000;
    let faulty = env::var(FAULTY).is_ok();
    let outage = Outage::Share(Replicas::Given(n(PROCESSES)));
    let settings =
        if env::var(LEASED).is_ok() { Settings::leased(lease()) } else { Settings::strict() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut seen = runtime.block_on(async move {
        // Where nothing is the matter, a machine that is busy with something else is not to be
        // taken for a server that is slow.
        let within = if faulty { WITHIN } else { 60_000_000 };
        let settings = settings.within(TimeLimit::try_from(Duration::from_micros(within)).unwrap());
        let store = RedisStore::open(&url).unwrap();
        let limit = FleetLimitLayer::new("fleet", rate(), settings.outage(outage), store);
        let limit = limit.exchange(Plain);
        let handle = limit.handle();
        // Connected before it begins, of a bucket that nobody counts.
        handle.check().await.unwrap();
        tokio::spawn(limit.handle().run());
        rest_until(start);
        let back = Arc::new(Back { planned: over(start), ..Back::default() });
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (limit, handle, back) = (limit.clone(), limit.handle(), Arc::clone(&back));
                tokio::spawn(async move {
                    let service = limit.layer(service_fn(|()| ready(Ok::<_, Infallible>(()))));
                    let (mut seen, mut waits) = (Seen::default(), Vec::new());
                    let mut dry = vec![false; usize::try_from((end - start) / SLOT).unwrap()];
                    // After a fault until the store decides again, however long that takes.
                    while wall() < end || faulty && back.is_awaited(wall()) {
                        let before = wall();
                        let answer = service.clone().oneshot(()).await;
                        let now = wall();
                        waits.push(now - before);
                        back.look(&handle.totals(), now);
                        match answer {
                            Ok(()) => {
                                // It was granted after it was asked for, and before it was heard.
                                seen.first = if seen.first == 0 { before } else { seen.first };
                                seen.last = now;
                                tokio::task::yield_now().await;
                            }
                            Err(error) => {
                                // It was decided in between.
                                let [from, to] =
                                    [before, now].map(|at| (at.max(start) - start) / SLOT);
                                if let Some(slot) = dry.get_mut(usize::try_from(to).unwrap()) {
                                    *slot |= from == to;
                                }
                                let refused = Rejection::find(&*error).unwrap();
                                let rest = refused.retry_after().unwrap_or_default();
                                tokio::time::sleep(rest.min(Duration::from_millis(3))).await;
                            }
                        }
                    }
                    (seen, waits, dry)
                })
            })
            .collect();
        let (mut all, mut waits, mut dry) = (Vec::new(), Vec::new(), Vec::new());
        for worker in workers {
            let (seen, more, slots) = worker.await.unwrap();
            dry.resize(slots.len(), false);
            dry.iter_mut().zip(slots).for_each(|(dry, slot)| *dry |= slot);
            all.push(Seen { first: seen.first.max(1), ..seen });
            waits.extend(more);
        }
        waits.sort_unstable();
        let totals = handle.totals();
        let dry: String = dry.into_iter().map(|dry| if dry { '1' } else { '0' }).collect();
        println!("\ndry {dry}");
        let then = |index: usize| back.decided[index].load(Ordering::SeqCst);
        let [store_again, share_still] = decided(&totals);
        Seen {
            by_store: totals.admitted(Source::Store),
            by_lease: totals.admitted(Source::Lease),
            by_local: totals.admitted(Source::Local),
            refused: totals.all_refused(),
            timed_out: totals.failed(Failure::TimedOut),
            failed: totals.failed(Failure::Unreachable) + totals.failed(Failure::Refused),
            first: all.iter().map(|it| it.first).filter(|it| *it > 1).min().unwrap_or(end),
            p50: waits[waits.len() / 2],
            p99: waits[waits.len() * 99 / 100],
            longest: *waits.last().unwrap(),
            recovered: back.recovered.load(Ordering::SeqCst),
            late: totals.admitted(Source::Local) - back.by_local.load(Ordering::SeqCst),
            in_vain: back.in_vain.load(Ordering::SeqCst),
            store_again: store_again - then(0),
            share_still: share_still - then(1),
            ..Seen::together(&all)
        }
    });
    let fields = seen.fields().map(|field| field.to_string());
    println!("\nseen {}", fields.join(" "));
}

/// Starts the processes, does something halfway, and hears what they have seen; and how much the
/// machine may have left in the bucket until it was full, because it kept them from asking: a slot
/// in which nobody was refused, for half a burst at the most.
fn run(
    server: &mut Server,
    told: &[&str],
    meanwhile: impl FnOnce(&mut Server, u64),
) -> (Seen, u64) {
    // Twenty processes at once would measure one another.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // So that all of them are there.
    let start = wall() + 1_500_000;
    let members: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let mut member = Command::new(env::current_exe().unwrap());
            member.args(["--exact", "member", "--nocapture", "--include-ignored"]);
            member.env(URL, server.url()).env(START, start.to_string());
            member.env(SECONDS, seconds().to_string());
            member.envs(told.iter().map(|told| (told, "1")));
            member.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    rest_until(over(start) - AWAY);
    meanwhile(server, over(start));
    let mut asked = Vec::new();
    let seen = |mut member: std::process::Child| {
        let output = BufReader::new(member.stdout.take().unwrap());
        let lines: Vec<_> = output.lines().map_while(Result::ok).collect();
        assert!(member.wait().unwrap().success(), "{lines:#?}");
        let line = |name| lines.iter().find_map(|line| line.strip_prefix(name)).expect("its line");
        let dry = line("dry ").bytes().map(|slot| slot == b'1');
        asked.resize(dry.len(), false);
        asked.iter_mut().zip(dry).for_each(|(asked, dry)| *asked |= dry);
        let line = line("seen ");
        let mut seen = Seen::default();
        for (field, value) in seen.fields().into_iter().zip(line.split(' ')) {
            *field = value.parse().unwrap();
        }
        seen
    };
    let all: Vec<_> = members.into_iter().map(seen).collect();
    let idle = asked.iter().filter(|asked| !**asked).count() as u64;
    // Alone on its machine, as a soak is, it asks all the time.
    assert!(env::var(SECONDS).is_err() || idle * 20 <= asked.len() as u64, "{idle} slots idle");
    (Seen::together(&all), idle * SLOT * u64::from(EVENTS) / 1_000_000)
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn in_strict_mode_four_processes_admit_what_one_limit_allows_and_no_more() {
    let (seen, left) = run(&mut Server::start(), &[], |_, _| ());

    println!("strict: {seen}; allowed {}, left by the machine {left}", seen.allowed());
    assert_eq!((seen.by_local, seen.by_lease), (0, 0));
    assert!(seen.admitted() <= seen.allowed(), "{seen:?}");
    assert!(seen.admitted() + u64::from(BURST) + left >= seen.allowed(), "{left}, {seen:?}");
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn in_lease_mode_they_admit_no_more_than_that_and_the_leases_out() {
    let (seen, left) = run(&mut Server::start(), &[LEASED], |_, _| ());

    let over = lease().over_admission(rate(), n(PROCESSES));
    println!("leased: {seen}; allowed {} and {over}, left by the machine {left}", seen.allowed());
    assert_eq!((seen.by_local, over), (0, 200));
    assert!(seen.admitted() <= seen.allowed() + over, "{seen:?}");
    // What was leased may lapse where a process did not ask for it in time, once a lease each second.
    let lapsed = over * seconds();
    let least = seen.allowed().saturating_sub(u64::from(BURST) + lapsed + left);
    assert!(seen.admitted() >= least, "{left}, {seen:?}");
    assert!(seen.by_store < seen.by_lease, "{seen:?}");
}

/// How long callers wait where there are faults: a busy machine needs longer than the 20 ms that
/// are usual to read an answer that is there.
const WITHIN: u64 = 50_000;

/// How long a server is away.
const AWAY: u64 = 1_000_000;

fn through_a_fault(leased: bool, name: &str, begin: fn(&mut Server), end: fn(&mut Server)) {
    let told: &[_] = if leased { &[FAULTY, LEASED] } else { &[FAULTY] };
    let (seen, left) = run(&mut Server::start(), told, |server, back| {
        begin(server);
        rest_until(back);
        end(server);
    });

    let leases = if leased { lease().over_admission(rate(), n(PROCESSES)) } else { 0 };
    // Shares are full when they begin; so is the bucket when the server is back; and while some
    // processes know of that and others do not yet, both admit. So they do where a machine that is
    // busy is taken for a server that is slow.
    let both = seen.recovered * u64::from(EVENTS) / 1_000_000 + seen.late;
    let allowed = seen.allowed() + leases + 2 * u64::from(BURST) + both;
    println!(
        "{name}, leased {leased}: {seen}; allowed {allowed}; the store decided again {} ms after \
         it was back",
        seen.recovered / 1000
    );
    assert!(seen.admitted() <= allowed, "{seen:?}");
    // Shares yield the rate while it is away, but for the time until that is known; and then they
    // stop: a machine that is busy may be taken for a server that is slow, but not mostly.
    let away = AWAY * u64::from(EVENTS) / 1_000_000;
    assert!(seen.by_local + left >= away / 2, "{left}, {seen:?}");
    assert!(seen.share_still <= seen.store_again, "{seen:?}");
    // Nobody waits for it to be back. These are times of a machine that lets four processes run;
    // where the run was not made to look at times they are printed.
    if env::var(SECONDS).is_ok() {
        assert!(seen.p99 < AWAY / 4 && seen.longest < AWAY, "{seen:?}");
    }
    // Probes alone, where each worker would wait in vain 25 times; but those who were asking when it
    // began may have been stopped late.
    let few = u64::from(PROCESSES * (WORKERS + 4));
    assert!(seen.in_vain <= few || env::var(SECONDS).is_err(), "{seen:?}");
    assert!((1..PATIENCE).contains(&seen.recovered), "{seen:?}");
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_server_that_stands_still_costs_few_callers_their_wait() {
    for leased in [false, true] {
        through_a_fault(leased, "kill -STOP", |server| server.stop(), |server| server.go_on());
    }
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_server_that_is_killed_and_started_again_is_found_again() {
    for leased in [false, true] {
        through_a_fault(leased, "kill -9", Server::kill, Server::start_again);
    }
}
