//! Ways to a real server: TLS, passwords, numbers of databases, sockets; and what a layer does with
//! a server that answers and does not serve.

use std::{
    env, fs,
    num::NonZeroU32,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use buttress::{Plain, Rate, Rejection, TimeLimit, breaker::State};
use buttress_redis::{
    Failure, FleetLimitLayer, Outage, RedisStore, Scale, Settings, Source, Store, StoreError, Take,
    Taken,
};
use buttress_tests::{redis_server::Server, soon};
use tower::{Layer, ServiceExt, service_fn};

const URL: &str = "BUTTRESS_TLS_URL";

const ONE: Take = Take { least: 1, most: 1, left: 0 };

fn hourly() -> Rate {
    Rate::per_hour(NonZeroU32::new(1000).unwrap())
}

async fn ask(store: &RedisStore) -> Result<Taken, StoreError> {
    soon(store.take(b"k", &[Scale::new(hourly())], ONE)).await
}

async fn said(url: &str) -> (Failure, String) {
    let error = ask(&RedisStore::open(url).unwrap()).await.unwrap_err();
    (error.failure(), error.to_string())
}

fn send<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(word);
    });
    command.query(&mut connection).unwrap()
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn users_databases_and_sockets_are_reached_by_their_urls() {
    let server = Server::start_with(&["--unixsocket", "{folder}/redis.sock"]);
    let url = server.url();
    send::<()>(&url, &["ACL", "SETUSER", "ada", "on", ">open sesame", "~*", "+@all"]);
    let socket = server.folder().join("redis.sock");
    let socket = socket.to_str().unwrap();
    let as_ada = server.url_as("ada:open%20sesame");

    for (way, database) in [
        (url.clone(), "0"),
        (as_ada.clone(), "0"),
        (format!("{as_ada}3"), "3"),
        (format!("unix://{socket}"), "0"),
        (format!("unix://{socket}?db=5&user=ada&pass=open%20sesame"), "5"),
    ] {
        send::<()>(&url, &["FLUSHALL"]);

        let granted = ask(&RedisStore::open(&way).unwrap()).await.unwrap().granted;

        let kept: u32 = send(&format!("{url}{database}"), &["EXISTS", "k"]);
        assert_eq!((granted, kept), (1, 1), "{way}");
    }

    let (failure, what) = said(&format!("{url}99")).await;
    assert_eq!(failure, Failure::Refused);
    assert!(what.contains("has no database of that number"), "{what}");
    let (failure, what) = said(&format!("unix://{socket}.none")).await;
    assert_eq!(failure, Failure::Unreachable);
    assert!(what.contains("is a server running there"), "{what}");
    let (failure, what) = said(&server.url_as("ada:wrong")).await;
    assert_eq!(failure, Failure::Refused);
    assert!(what.contains("put user and password into the URL"), "{what}");
}

/// Asks over TLS, in a process of its own, whose environment names the authority; nothing, when it
/// is run as a test.
#[tokio::test]
async fn member_over_tls() {
    let Ok(url) = env::var(URL) else { return };
    let store = RedisStore::open(&url).unwrap();
    println!("\ngranted {}", ask(&store).await.unwrap().granted);
}

#[tokio::test]
#[ignore = "needs redis-server and openssl: cargo xtask test"]
async fn tls_is_spoken_with_who_shows_a_certificate_that_is_trusted() {
    let folder = env::temp_dir().join(format!("buttress-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    certificates(&folder);
    let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
    let (cert, key, authority) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
    let server = Server::start_with(&[
        "--port",
        "0",
        "--tls-port",
        "{port}",
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authority,
        "--tls-auth-clients",
        "no",
    ]);
    let url = server.url().replace("redis://", "rediss://");

    let member = Command::new(env::current_exe().unwrap())
        .args(["--exact", "member_over_tls", "--nocapture"])
        .env(URL, &url)
        .env("SSL_CERT_FILE", &authority)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (failure, untrusted) = said(&url).await;
    let (_, plain) = said(&server.url()).await;
    let insecure = RedisStore::open(&format!("{url}#insecure")).unwrap_err().to_string();
    fs::remove_dir_all(&folder).unwrap();

    let output = String::from_utf8_lossy(&member.stdout);
    assert!(output.contains("granted 1"), "{output}");
    assert_eq!(failure, Failure::Refused, "{untrusted}");
    assert!(untrusted.contains("in the file that SSL_CERT_FILE names"), "{untrusted}");
    assert!(plain.contains("if it speaks TLS, write rediss://"), "{plain}");
    assert!(insecure.contains("leave it out"), "{insecure}");
}

/// An authority, and what it says of 127.0.0.1.
fn certificates(folder: &Path) {
    fs::write(folder.join("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for words in [
        format!("{new} -x509 -days 30 -subj /CN=authority -keyout ca.key -out ca.pem"),
        format!("{new} -subj /CN=localhost -keyout key.pem -out csr.pem"),
        "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out cert.pem"
            .to_owned(),
    ] {
        let done = Command::new("openssl").args(words.split(' ')).current_dir(folder).output();
        let done = done.expect("openssl: cargo xtask test installs it");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_that_still_loads_is_one_that_cannot_be_reached_yet() {
    let server = Server::start_with(&[
        "--enable-debug-command",
        "yes",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let url = server.url();
    let long = "x".repeat(4096);
    for key in 0..100 {
        send::<()>(&url, &["SET", &format!("key{key}"), &long]);
    }
    send::<()>(&url, &["CONFIG", "SET", "key-load-delay", "20000"]);
    let store = RedisStore::open(&url).unwrap();
    ask(&store).await.unwrap();
    let told = url.clone();
    let reloads = thread::spawn(move || send::<()>(&told, &["DEBUG", "RELOAD"]));

    let error = soon(async {
        loop {
            match ask(&store).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => break error,
            }
        }
    })
    .await;
    tokio::task::spawn_blocking(|| reloads.join().unwrap()).await.unwrap();

    assert_eq!(error.failure(), Failure::Unreachable, "{error}");
    assert!(error.to_string().contains("is still loading its data"), "{error}");
    assert_eq!(ask(&store).await.unwrap().granted, 1);
}

/// It answers, and yet it is away: what was configured for that decides, the circuit opens, and it
/// is said why.
#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_that_refuses_is_away_as_configured_and_it_is_said_why() {
    let full = Server::start_with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    let locked = Server::start_with(&["--requirepass", "x"]);
    let replica = Server::start();
    send::<()>(&replica.url(), &["REPLICAOF", "127.0.0.1", "1"]);
    for (server, words) in [
        (&full, "is out of memory: raise its maxmemory"),
        (&locked, "put user and password into the URL"),
        (&replica, "give the URL of the primary"),
    ] {
        for outage in [Outage::Open, Outage::Closed] {
            let store = RedisStore::open(&server.url()).unwrap();
            let settings = Settings::strict().outage(outage).within(TimeLimit::from_secs(60));
            let limit = FleetLimitLayer::new("api", hourly(), settings, store).exchange(Plain);
            let handle = limit.handle();
            let service = limit.layer(service_fn(|()| async { Ok::<_, buttress::BoxError>(()) }));
            let mut all = Vec::new();

            soon(async {
                while handle.totals().failed(Failure::Refused) < 3 {
                    all.push(service.clone().oneshot(()).await);
                }
            })
            .await;

            assert!(handle.last_error().unwrap().contains(words), "{:?}", handle.last_error());
            assert_ne!(handle.store_state(), State::Closed);
            let count = u64::try_from(all.len()).unwrap();
            if outage == Outage::Open {
                assert!(all.iter().all(Result::is_ok));
                assert_eq!(handle.totals().admitted(Source::Open), count);
            } else {
                let refused = all.iter().map(|it| Rejection::find(&**it.as_ref().unwrap_err()));
                assert!(refused.map(Option::unwrap).all(|it| it.http_status() == 503));
                assert_eq!(handle.totals().refused(Source::Closed), count);
            }
        }
    }
}
