//! A Redis of our own: a port that nobody else has, a folder of its own, stopped by its process
//! number.

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A server that ends with us.
#[derive(Debug)]
pub struct Server {
    child: Child,
    claim: Claim,
    folder: PathBuf,
    options: Vec<String>,
}

impl Server {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server`, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more options, in which `{port}` and `{folder}` stand for its own.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server`, or it does not start.
    #[must_use]
    pub fn start_with(options: &[&str]) -> Self {
        for _ in 0..TRIES {
            let claim = Claim::some();
            let folder = format!("buttress-redis-{}-{}", std::process::id(), claim.port);
            let folder = std::env::temp_dir().join(folder);
            // A process of our number may have been killed, and have left what a node of a cluster
            // would read.
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("a temporary folder");
            let filled = |option: &&str| {
                let folder = folder.to_str().expect("a path of letters");
                option.replace("{port}", &claim.port.to_string()).replace("{folder}", folder)
            };
            let options: Vec<_> = options.iter().map(filled).collect();
            if let Some(child) = spawn(claim.port, &folder, &options) {
                return Self { child, claim, folder, options };
            }
            let _ = fs::remove_dir_all(&folder);
        }
        panic!("{TRIES} ports were tried, and none was free");
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.claim.port
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port())
    }

    /// The same for who comes as `user:password`.
    #[must_use]
    pub fn url_as(&self, who: &str) -> String {
        format!("redis://{who}@127.0.0.1:{}/", self.port())
    }

    /// Where it keeps what it keeps.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes it stand still.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Kills it, with all that it knows.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    /// Starts it again, on the same port.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start_again(&mut self) {
        let child = spawn(self.port(), &self.folder, &self.options);
        self.child =
            child.expect("its port is claimed, and below those that the system gives away");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("a tool of every shell").success(), "kill {signal}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and the folder is a temporary one.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port that no other test has, of this process or of another, for as long as this is held: also
/// while nobody listens on it, because a server was killed and is not started again yet.
///
/// A port that the system gave away would be given to another as soon as it is let go.
#[derive(Debug)]
struct Claim {
    port: u16,
    /// Holds the port behind it, by which claims tell each other off. Let go by the system, however
    /// we end.
    _next: TcpListener,
}

impl Claim {
    fn some() -> Self {
        let first = RandomState::new().hash_one(()) % PAIRS;
        let claim = |pair| {
            let port = PORTS + u16::try_from(2 * (pair % PAIRS)).expect("a port");
            let next = TcpListener::bind(("127.0.0.1", port + 1)).ok()?;
            Some(Self { port, _next: next })
        };
        (first..first + PAIRS).find_map(claim).expect("a port that nobody has claimed")
    }
}

/// Below those that systems give away, which begin at 32768 or later, and so that the ports of a
/// cluster's bus, 10,000 above, are so as well and none of these.
const PORTS: u16 = 12_000;
const PAIRS: u64 = 5_000;

/// A stranger may have a port nevertheless.
const TRIES: u32 = 20;

/// Long enough for the busiest machine; a test that passes never takes it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts it, and waits until it says that it serves; nothing if somebody else has the port.
///
/// That somebody answers there would not say that it is this one.
#[expect(clippy::disallowed_methods, reason = "another program's clock is the machine's")]
fn spawn(port: u16, folder: &Path, options: &[String]) -> Option<Child> {
    let log = folder.join("log");
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "no", "--dir"])
        .arg(folder)
        .args(options)
        .stdout(File::create(&log).expect("a file of ours"))
        .stdin(Stdio::null())
        .spawn()
        .expect("redis-server; `cargo xtask test` installs it");
    let start = Instant::now();
    loop {
        // First this and then its log, lest it says something more and ends in between.
        let ended = child.try_wait().expect("a child of ours").is_some();
        let said = fs::read_to_string(&log).expect("a file of ours");
        let well = !ended && said.contains("Ready to accept connections");
        if well || ended && said.contains("Address already in use") {
            return well.then_some(child);
        }
        if ended || start.elapsed() > PATIENCE {
            // It is no server that anybody would end.
            let _ = child.kill();
            let _ = child.wait();
            panic!("redis-server does not start: {said}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}
