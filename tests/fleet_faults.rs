//! Faults of a real server and of what lies before it: what it costs, what is said of it, and that
//! it passes.

use std::{num::NonZeroU32, time::Duration};

use buttress::Rate;
use buttress_redis::{Failure, RedisStore, Scale, Store, Take};
use buttress_tests::{redis_server::Server, soon};

fn hourly() -> [Scale; 1] {
    [Scale::new(Rate::per_hour(NonZeroU32::new(1000).unwrap()))]
}

const ONE: Take = Take { least: 1, most: 1, left: 0 };

fn send(server: &Server, words: &[&str]) {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(word);
    });
    command.query::<redis::Value>(&mut connection).unwrap();
}

async fn said(store: &RedisStore) -> (Failure, String) {
    let error = soon(store.take(b"k", &hourly(), ONE)).await.unwrap_err();
    (error.failure(), error.to_string())
}

/// After a failover a name may lead to another server: who stays connected would never know.
#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_connection_to_what_has_become_a_replica_is_made_anew() {
    let server = Server::start();
    let store = RedisStore::open(&server.url()).unwrap();
    soon(store.take(b"k", &hourly(), ONE)).await.unwrap();
    let connected = || {
        let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut connection).unwrap();
        let ids =
            list.lines().filter(|line| line.contains("cmd=evalsha") || line.contains("cmd=eval"));
        ids.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = connected();

    send(&server, &["REPLICAOF", "127.0.0.1", "1"]);
    let (failure, what) = said(&store).await;
    send(&server, &["REPLICAOF", "NO", "ONE"]);
    soon(store.take(b"k", &hourly(), ONE)).await.unwrap();

    assert_eq!(failure, Failure::Refused);
    assert!(
        what.contains("is a replica, which takes no writes: give the URL of the primary"),
        "{what}"
    );
    assert_eq!(before.len(), 1);
    assert_ne!(connected(), before);
}

/// The task that connects goes with the runtime on which it was begun.
#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_runtime_that_ends_while_it_connects_wedges_nothing() {
    let server = Server::start();
    let store = RedisStore::open(&server.url()).unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    server.stop();
    let first = runtime();
    first.block_on(async {
        let asked = store.take(b"k", &hourly(), ONE);
        assert!(tokio::time::timeout(Duration::from_millis(50), asked).await.is_err());
    });
    drop(first);
    server.go_on();

    let taken = runtime().block_on(async {
        tokio::time::timeout(Duration::from_secs(20), store.take(b"k", &hourly(), ONE)).await
    });

    assert_eq!(taken.expect("it connects").unwrap().granted, 1);
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn what_a_server_lacks_is_said_with_what_to_do() {
    let full = Server::start_with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    let strict = Server::start();
    send(&strict, &["ACL", "SETUSER", "narrow", "on", ">x", "~*", "+@all", "-set"]);
    send(&strict, &["ACL", "SETUSER", "elsewhere", "on", ">x", "~other:*", "+@all"]);
    let busy = Server::start();
    send(&busy, &["SADD", "k", "1"]);
    let as_user = |user: &str| RedisStore::open(&strict.url_as(&format!("{user}:x"))).unwrap();

    let full = said(&RedisStore::open(&full.url()).unwrap()).await;
    let narrow = said(&as_user("narrow")).await;
    let elsewhere = said(&as_user("elsewhere")).await;
    let taken = said(&RedisStore::open(&busy.url()).unwrap()).await;

    for ((failure, what), words) in [
        (full, "is out of memory: raise its maxmemory"),
        (narrow, "allow EVAL, EVALSHA, TIME, GET, SET"),
        (elsewhere, "allow EVAL, EVALSHA, TIME, GET, SET"),
        (taken, "choose another prefix"),
    ] {
        assert_eq!(failure, Failure::Refused, "{what}");
        assert!(what.contains(words), "{what}");
    }
}

#[test]
fn no_url_that_is_refused_shows_its_password() {
    for url in [
        "user:secret@host:6379",
        ":secret@host",
        "http://user:secret@host/",
        "http://user:?secret@host/",
        "redis://user:secret@host:port/",
        "unix:///path?pass=secret&db=one",
        "unix:///path?db=one&pass=secret@x",
    ] {
        let said = RedisStore::open(url).unwrap_err().to_string();
        assert!(said.contains("write redis://host:6379/") && !said.contains("secret"), "{said}");
    }
}

/// A server that accepts and says nothing, and one that says a byte now and then.
#[tokio::test]
async fn no_answer_is_waited_for_longer_than_a_caller_may() {
    use buttress::{Plain, TimeLimit};
    use buttress_redis::{FleetLimitLayer, Outage, Settings};
    use tokio::{io::AsyncWriteExt, time::Instant};
    use tower::{Layer, ServiceExt, service_fn};

    for drips in [false, true] {
        let (listener, address) = buttress_tests::listen().await;
        tokio::spawn(async move {
            let mut all = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                all.push(tokio::spawn(async move {
                    while drips && stream.write_all(b"+").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    std::future::pending::<()>().await;
                }));
            }
        });
        let store = RedisStore::open(&format!("redis://{address}/")).unwrap();
        let settings = Settings::strict().outage(Outage::Open).within(TimeLimit::from_millis(20));
        let limit =
            FleetLimitLayer::new("api", hourly()[0].rate(), settings, store).exchange(Plain);
        let service = limit.layer(service_fn(|()| async { Ok::<_, buttress::BoxError>(()) }));

        let (begun, mut waits) = (Instant::now(), Vec::new());
        for _ in 0..30 {
            let start = Instant::now();
            soon(service.clone().oneshot(())).await.unwrap();
            waits.push(start.elapsed());
        }

        // Three until the circuit opens, and then a probe each half second, less its jitter.
        let probes = u64::try_from(begun.elapsed().as_millis() / 400).unwrap();
        let totals = limit.handle().totals();
        // Once it has taken a second to connect, that is known, and nobody waits for it.
        let failed = totals.failed(Failure::TimedOut) + totals.failed(Failure::Unreachable);
        assert!((3..=3 + probes).contains(&failed), "drips {drips}: {waits:?}");
        // A machine may be busy with something else for as long as it likes, but not each time.
        assert!(waits[..3].iter().min() < Some(&Duration::from_millis(500)), "{waits:?}");
    }
}
