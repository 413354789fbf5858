//! Limits of a fleet against a real server: the scripts beside a model, what errors say, and
//! requests over real connections.

use std::{
    num::NonZeroU32,
    time::{Duration, SystemTime},
};

use axum::{Router, routing::get};
use buttress::{
    Plain, Random, Rate, Rejection, TimeLimit,
    rate_limit::{Ask, Limits},
};
use buttress_redis::{
    Debt, Failure, FleetLimitLayer, Lease, Outage, RedisStore, Scale, Settings, Source, Store,
    Take, Taken, script, wait,
};
use buttress_tests::{http_client, redis_server::Server, serve, soon};
use tower::{Layer, ServiceExt, service_fn};

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// A connection that the tests drive by hand.
fn connect(server: &Server) -> redis::Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

fn run(
    connection: &mut redis::Connection,
    script: &str,
    key: &str,
    numbers: &[u64],
    scales: &[Scale],
    now: u64,
) -> Taken {
    let script = redis::Script::new(script);
    let mut call = script.key(key);
    for number in numbers {
        call.arg(*number);
    }
    for scale in scales {
        call.arg(scale.micros()).arg(scale.parts()).arg(scale.burst());
    }
    let reply: Vec<u64> = call.arg(now).invoke(connection).unwrap();
    let mut debts = [Debt::default(); 4];
    for (debt, pair) in debts.iter_mut().zip(reply[1..].chunks_exact(2)) {
        *debt = Debt { micros: pair[0], parts: pair[1] };
    }
    Taken { granted: u32::try_from(reply[0]).unwrap(), debts }
}

/// The slow and obvious one: when each bucket is full again, in exact parts of a microsecond.
struct Model {
    scales: Vec<Scale>,
    full_at: Vec<i128>,
}

impl Model {
    fn owed(&self, limit: usize, now: u64) -> i128 {
        (self.full_at[limit] - i128::from(now) * i128::from(self.scales[limit].parts())).max(0)
    }

    fn fits(&self, tokens: u32, left: u32, now: u64) -> bool {
        self.scales.iter().enumerate().all(|(limit, scale)| {
            let weight = i128::from(tokens) * i128::from(scale.micros());
            let room = (i128::from(scale.burst()) - i128::from(left)) * i128::from(scale.micros());
            self.owed(limit, now) + weight <= room
        })
    }

    fn take(&mut self, take: Take, now: u64) -> u32 {
        let granted =
            (take.least..=take.most).rev().find(|tokens| self.fits(*tokens, take.left, now));
        for limit in 0..self.scales.len() {
            let weight = i128::from(granted.unwrap_or(0)) * i128::from(self.scales[limit].micros());
            if granted.is_some() {
                let now = i128::from(now) * i128::from(self.scales[limit].parts());
                self.full_at[limit] = self.full_at[limit].max(now) + weight;
            }
        }
        granted.unwrap_or(0)
    }

    fn give(&mut self, tokens: u32, now: u64) {
        for limit in 0..self.scales.len() {
            let weight = i128::from(tokens) * i128::from(self.scales[limit].micros());
            let now = i128::from(now) * i128::from(self.scales[limit].parts());
            self.full_at[limit] = (self.full_at[limit] - weight).max(now);
        }
        // Nothing is kept of buckets that are full.
        if (0..self.scales.len()).all(|limit| self.owed(limit, now) == 0) {
            self.full_at.fill(0);
        }
    }
}

/// Some time in 2026, in microseconds.
const NOW: u64 = 1_795_000_000_000_000;

/// Random traces with the time as an argument, clocks that go backwards among them: what the
/// script grants, owes and lets wait is what the model does, and what the local limiter does
/// wherever that has whole numbers too.
#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn the_script_decides_as_the_model_and_as_the_local_limiter() {
    let server = Server::start();
    let mut connection = connect(&server);
    let (take, give) = (script::take(script::Time::Argument), script::give(script::Time::Argument));
    let mut compared = (0, 0);
    for seed in 0..60 {
        let random = Random::seeded(seed);
        let draw = |below: u64| random.draw() % below;
        let small = |below: u64| u32::try_from(draw(below)).unwrap();
        // Slow ones, so that no key expires by the server's clock while a trace runs by another.
        let rates: Vec<_> = (0..=draw(3))
            .map(|_| {
                let events = if seed % 2 == 0 { n(1 + small(4)) } else { n(1 + small(999)) };
                let period = 20_000_000 * u64::from(events.get()) + draw(100_000_000);
                let period = TimeLimit::try_from(Duration::from_micros(period)).unwrap();
                Rate::new(events, period).burst(n(1 + small(40)))
            })
            .collect();
        let scales: Vec<_> = rates.iter().copied().map(Scale::new).collect();
        let mut model = Model { full_at: vec![0; scales.len()], scales: scales.clone() };
        let local = Limits::new(rates.iter().copied());
        let mut words = vec![0; scales.len()];
        let (mut now, key) = (NOW, format!("trace:{{{seed}}}"));

        for step in 0..200 {
            now = if draw(20) == 0 { now - draw(30_000_000) } else { now + draw(30_000_000) };
            let told = format!("seed {seed}, step {step}: {rates:?}");
            let (least, left) = (1 + small(3), small(4));
            // What is given back makes a full bucket full later, which a clock that goes backwards
            // would see: the local limiter does not do that.
            if seed % 2 == 1 && draw(10) == 0 {
                let tokens = 1 + small(3).min(scales.iter().map(Scale::burst).min().unwrap() - 1);
                run(&mut connection, &give, &key, &[tokens.into()], &scales, now);
                model.give(tokens, now);
                continue;
            }
            let ask = Take { least, most: least + small(2) * small(10), left };
            let asked = Ask::cost(n(least)).leaving(left);
            // What can never be is not asked for.
            if wait(&scales, &[], Duration::ZERO, asked).is_none() {
                continue;
            }
            let numbers = [ask.least, ask.most, ask.left].map(u64::from);
            let was = run(&mut connection, &take, &key, &numbers, &scales, now);

            assert_eq!(was.granted, model.take(ask, now), "{told}");
            for (limit, debt) in was.debts[..scales.len()].iter().enumerate() {
                let owed = i128::from(debt.micros) * i128::from(scales[limit].parts());
                assert_eq!(owed + i128::from(debt.parts), model.owed(limit, now), "{told}");
            }
            compared.0 += 1;
            if seed % 2 == 0 {
                let taken = (ask.least..=ask.most).rev().find(|tokens| {
                    let ask = Ask::cost(n(*tokens)).leaving(left);
                    local.take(&mut words, now * 1000, ask).is_ok()
                });
                assert_eq!(was.granted, taken.unwrap_or(0), "{told}");
                if taken.is_none() {
                    let due = local.take(&mut words, now * 1000, asked).unwrap_err();
                    let due = due.retry_after().unwrap().as_nanos().div_ceil(1000);
                    let rest = wait(&scales, &was.debts, Duration::ZERO, asked).unwrap();
                    assert_eq!(rest.as_micros(), due, "{told}");
                }
                compared.1 += 1;
            }
        }
    }
    assert!(compared.0 > 5000 && compared.1 > 2500, "{compared:?}");
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_key_is_gone_when_its_bucket_is_full_and_not_before() {
    let server = Server::start();
    let mut connection = connect(&server);
    let scales = [Scale::new(Rate::per_hour(n(60))), Scale::new(Rate::per_minute(n(6)))];

    run(&mut connection, &script::take(script::Time::Argument), "k", &[3, 3, 0], &scales, NOW);
    let left: i64 = redis::cmd("PTTL").arg("k").query(&mut connection).unwrap();

    // Three tokens of the hour take three minutes, and a millisecond that is rounded up to.
    assert!((170_000..=180_001).contains(&left), "{left}");
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn other_settings_keep_what_a_bucket_holds_and_other_limits_stay() {
    let server = Server::start();
    let mut connection = connect(&server);
    let take = script::take(script::Time::Argument);
    let hour = Scale::new(Rate::per_hour(n(100)));
    let faster = Scale::new(Rate::per_minute(n(100)));
    let day = Scale::new(Rate::per_day(n(10)));
    let mut all = |scales: &[Scale], now| {
        run(&mut connection, &take, "k", &[1, 1000, 0], scales, now).granted
    };

    let at_first = all(&[hour], NOW);
    let faster_at_once = all(&[faster], NOW);
    let faster_later = all(&[faster], NOW + 6_000_000);
    let of_two = all(&[faster, day], NOW + 12_000_000);
    // A process that knows of no day: it must not make others forget it.
    let of_one = all(&[faster], NOW + 18_000_000);
    let of_two_again = all(&[faster, day], NOW + 24_000_000);

    assert_eq!((at_first, faster_at_once), (100, 0));
    // From when it was first asked with the new rate: ten in six seconds, less a microsecond.
    assert!((9..=10).contains(&faster_later), "{faster_later}");
    assert_eq!(of_two, 10);
    assert!((9..=10).contains(&of_one), "{of_one}");
    assert_eq!(of_two_again, 0);
}

/// Of two limits one is full and the other is not, so that both are kept.
#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn what_is_given_back_is_no_more_when_the_clock_goes_back() {
    let server = Server::start();
    let mut connection = connect(&server);
    let [take, give] = [script::take, script::give].map(|text| text(script::Time::Argument));
    let scales = [Scale::new(Rate::per_hour(n(60))), Scale::new(Rate::per_day(n(10)))];

    run(&mut connection, &take, "k", &[3, 3, 0], &scales, NOW);
    run(&mut connection, &give, "k", &[1], &scales, NOW + 170_000_000);
    let then = run(&mut connection, &take, "k", &[9, 9, 0], &scales, NOW + 160_000_000);

    // It was full at 170, and is not so ten seconds before.
    assert_eq!((then.granted, then.debts[0].micros), (0, 10_000_000));
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_bucket_of_another_rate_is_rounded_to_the_safe_side() {
    let server = Server::start();
    let mut connection = connect(&server);
    let take = script::take(script::Time::Argument);
    let [third, seventh] = [3, 7].map(|events| Scale::new(Rate::per_hour(n(events)).burst(n(3))));
    let mut ask = |tokens, scale, after| {
        run(&mut connection, &take, "k", &[tokens, tokens, 0], &[scale], NOW + after).granted
    };

    // A token is missing, which takes 514,285,714.28 microseconds.
    assert_eq!((ask(1, third, 0), ask(3, seventh, 0)), (1, 0));
    assert_eq!((ask(3, seventh, 514_285_714), ask(3, seventh, 514_285_717)), (0, 3));
}

/// The greatest numbers that doubles hold one by one.
#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn the_most_extreme_rates_are_counted_exactly() {
    let server = Server::start();
    let mut connection = connect(&server);
    let take = script::take(script::Time::Argument);
    let most = NonZeroU32::MAX;
    let rates = [
        Rate::per_second(most),
        Rate::new(most, TimeLimit::MAX),
        Rate::new(n(1), TimeLimit::MAX).burst(most),
        Rate::new(n(4_294_967_291), TimeLimit::from_secs(86_399)).burst(n(1_000_003)),
    ];
    for (place, rate) in rates.into_iter().enumerate() {
        let scale = Scale::new(rate);
        let mut model = Model { full_at: vec![0], scales: vec![scale] };
        let key = format!("extreme{place}");
        for (step, tokens) in [1, 2, scale.burst() / 2, 7, scale.burst(), 1].into_iter().enumerate()
        {
            // Longer than the server needs, so that no key expires meanwhile.
            let now = NOW + u64::try_from(step).unwrap();
            let tokens = tokens.max(1);
            let numbers = [tokens, tokens, 0].map(u64::from);
            let was = run(&mut connection, &take, &key, &numbers, &[scale], now);
            let is = if model.fits(tokens, 0, now) { tokens } else { 0 };
            model.take(Take { least: is, most: is, left: 0 }, now);
            assert_eq!(was.granted, is, "{rate:?}, step {step}");
        }
    }
}

fn take(least: u32, most: u32) -> Take {
    Take { least, most, left: 0 }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn two_clients_share_a_bucket_and_a_server_that_forgot_the_scripts_is_told_again() {
    let server = Server::start();
    let [one, two] = [(); 2].map(|()| RedisStore::open(&server.url()).unwrap());
    let scales = [Scale::new(Rate::per_hour(n(10)))];

    let first = soon(one.take(b"k", &scales, take(1, 4))).await.unwrap().granted;
    redis::cmd("SCRIPT").arg("FLUSH").query::<()>(&mut connect(&server)).unwrap();
    let rest = soon(two.take(b"k", &scales, take(1, 100))).await.unwrap().granted;
    let none = soon(one.take(b"k", &scales, take(1, 1))).await.unwrap();
    soon(two.give(b"k", &scales, 3)).await.unwrap();
    let given = soon(one.take(b"k", &scales, take(1, 100))).await.unwrap().granted;

    assert_eq!((first, rest, none.granted, given), (4, 6, 0, 3));
    let rest = wait(&scales, &none.debts, Duration::ZERO, Ask::one()).unwrap();
    assert!(rest > Duration::from_secs(350) && rest <= Duration::from_secs(360), "{rest:?}");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn members_are_counted_while_they_say_that_they_are_there() {
    let server = Server::start();
    let store = RedisStore::open(&server.url()).unwrap();
    let lasting = Duration::from_millis(300);

    let mut counts = Vec::new();
    for member in [&b"a"[..], b"b", b"a", b"c"] {
        counts.push(soon(store.beat(b"g", member, Duration::from_secs(60))).await.unwrap());
    }
    soon(async {
        while soon(store.beat(b"g", b"a", lasting)).await.unwrap() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    assert_eq!(counts, [1, 2, 2, 3]);
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn errors_say_what_to_do() {
    let locked = Server::start_with(&["--requirepass", "open sesame"]);
    let node = Server::start_with(&["--cluster-enabled", "yes"]);
    let mut gone = Server::start();
    gone.kill();
    let scales = [Scale::new(Rate::per_hour(n(10)))];
    let said = async |url: String| {
        let store = RedisStore::open(&url).unwrap();
        let error = soon(store.take(b"k", &scales, take(1, 1))).await.unwrap_err();
        (error.failure(), error.to_string())
    };

    let without = said(locked.url()).await;
    let wrong = said(locked.url_as(":wrong")).await;
    let right = RedisStore::open(&locked.url_as(":open%20sesame")).unwrap();
    let right = soon(right.take(b"k", &scales, take(1, 1))).await;
    let cluster = said(node.url()).await;
    let unreachable = said(gone.url()).await;
    let no_url = RedisStore::open("http://user:secret@host/").unwrap_err().to_string();

    for (failure, said) in [without, wrong] {
        assert_eq!(failure, Failure::Refused);
        assert!(said.contains("wants another password: put user and password"), "{said}");
    }
    assert!(right.is_ok(), "{right:?}");
    assert_eq!(cluster.0, Failure::Refused);
    assert!(cluster.1.contains("is a node of a cluster"), "{}", cluster.1);
    assert_eq!(unreachable.0, Failure::Unreachable);
    assert!(unreachable.1.contains("is a server running there"), "{}", unreachable.1);
    assert!(no_url.contains("write redis://host:6379/") && !no_url.contains("secret"), "{no_url}");
}

/// A client that waits for as long as it is told, and no longer, is admitted, through whichever
/// process it comes.
#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn behind_axum_who_waits_as_long_as_retry_after_says_is_admitted_by_another_process() {
    let server = Server::start();
    let limit = || {
        let store = RedisStore::open(&server.url()).unwrap();
        let settings = Settings::strict().within(TimeLimit::from_secs(5)).outage(Outage::Closed);
        FleetLimitLayer::new("shop", Rate::per_second(n(1)), settings, store).headers()
    };
    let hello = || Router::new().route("/hello", get(|| async { "hello" }));
    let (one, two) = (serve(hello().layer(limit())).await, serve(hello().layer(limit())).await);
    let client = http_client();
    let ask =
        async |address| soon(client.get(format!("http://{address}/hello")).send()).await.unwrap();

    let first = ask(one).await;
    // A machine that takes more than a second for that has a token again.
    let refused = loop {
        let answer = ask(two).await;
        if answer.status() != 200 {
            break answer;
        }
    };
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let admitted = ask(two).await;

    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["ratelimit"], r#""shop";r=0;t=1"#);
    assert_eq!((refused.status().as_u16(), seconds), (429, 1));
    assert_eq!(admitted.status(), 200);
}

/// A connection that says nothing any more, and does not break either.
#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_connection_that_went_silent_is_made_anew() {
    let server = Server::start();
    let relay = Relay::to(server.port()).await;
    let store = RedisStore::open(&format!("redis://127.0.0.1:{}/", relay.port)).unwrap();
    let settings = Settings::leased(Lease::new(n(1))).outage(Outage::Open);
    let limit = FleetLimitLayer::new("api", Rate::per_second(n(100_000)), settings, store);
    let limit = limit.exchange(Plain);
    let service = limit.layer(service_fn(|()| async { Ok::<_, buttress::BoxError>(()) }));
    let by_store = || limit.handle().totals().admitted(Source::Store);
    let until = async |more: u64| {
        let target = by_store() + more;
        soon(async {
            while by_store() < target {
                service.clone().oneshot(()).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    until(1).await;

    relay.swallow_what_there_is();

    until(5).await;
    assert!(limit.handle().totals().failed(Failure::TimedOut) >= 3);
}

/// Passes bytes on, until it is told to swallow those of the connections that there are.
struct Relay {
    port: u16,
    swallow: tokio::sync::watch::Sender<u32>,
}

impl Relay {
    async fn to(port: u16) -> Self {
        let (listener, address) = buttress_tests::listen().await;
        let swallow = tokio::sync::watch::Sender::new(0);
        let told = swallow.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut told = told.subscribe();
                tokio::spawn(async move {
                    let mut to = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                    tokio::select! {
                        done = tokio::io::copy_bidirectional(&mut from, &mut to) => done.map(|_| ()),
                        _ = told.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { port: address.port(), swallow }
    }

    fn swallow_what_there_is(&self) {
        self.swallow.send_modify(|times| *times += 1);
    }
}

/// A rejection is found where a store is away as well.
#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_wrong_password_is_found_out_at_start_up_and_refusals_say_unavailable() {
    let server = Server::start_with(&["--requirepass", "x"]);
    let store = RedisStore::open(&server.url()).unwrap();
    let settings = Settings::strict().outage(Outage::Closed).within(TimeLimit::from_secs(5));
    let limit = FleetLimitLayer::new("api", Rate::per_second(n(10)), settings, store);
    let limit = limit.exchange(Plain);

    let checked = soon(limit.handle().check()).await.unwrap_err();
    let service = limit.layer(service_fn(|()| async { Ok::<_, buttress::BoxError>(()) }));
    let refused = soon(service.oneshot(())).await.unwrap_err();

    assert!(checked.to_string().contains("wants another password"), "{checked}");
    assert_eq!(Rejection::find(&*refused).unwrap().http_status(), 503);
    assert!(limit.handle().last_error().unwrap().contains("wants another password"));
}

/// The server's clock is what counts, and it is the machine's.
#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_bucket_fills_by_the_clock_of_the_server() {
    let server = Server::start();
    let store = RedisStore::open(&server.url()).unwrap();
    let scales = [Scale::new(Rate::per_second(n(20)))];
    soon(store.take(b"k", &scales, take(20, 20))).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "another program's clock is the machine's")]
    let start = SystemTime::now();

    let mut more = 0;
    soon(async {
        while more < 5 {
            more += soon(store.take(b"k", &scales, take(1, 1))).await.unwrap().granted;
        }
    })
    .await;

    let took = start.elapsed().unwrap();
    assert!(took >= Duration::from_millis(190), "five tokens of 50 ms each in {took:?}");
}
