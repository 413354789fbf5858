use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, RedisError, RedisResult,
    ServerErrorKind, Value, aio::MultiplexedConnection,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::tls;

/// The connection to a server, and what becomes of it.
///
/// The client library has a manager of connections as well. It goes on waiting for a connection
/// that says nothing any more, and either tries again after a wrong password without ever telling,
/// or never tries again.
pub(super) struct Connection {
    client: Client,
    /// Where it goes, without the password.
    pub(super) address: String,
    link: watch::Sender<Link>,
    /// Calls in a row that were given up.
    given_up: AtomicU32,
}

/// A connection that there is, and since when.
pub(super) type Up = (MultiplexedConnection, Instant);

#[derive(Clone)]
enum Link {
    /// Nobody has asked yet.
    Unused,
    /// It is being made; why it was not when it was last tried.
    Connecting(Option<RedisError>),
    Up {
        connection: MultiplexedConnection,
        since: Instant,
    },
}

/// So many calls given up in a row, and a connection is taken for dead that does not say so: the
/// server is gone without a word, or something on the way. As many as open the circuit.
const SILENT: u32 = 3;

/// But no younger one; and so long may it take to make one.
const YOUNG: Duration = Duration::from_secs(1);

/// How long to wait before it is tried again: doubled each time, up to the other.
const AGAIN: Duration = Duration::from_millis(25);
const LATEST: Duration = Duration::from_millis(400);

impl Connection {
    pub(super) fn new(client: Client) -> Arc<Self> {
        let address = client.get_connection_info().addr().to_string();
        let link = watch::Sender::new(Link::Unused);
        Arc::new(Self { client, address, link, given_up: AtomicU32::new(0) })
    }

    /// The host of a server that is reached by one.
    pub(super) fn host(&self) -> &str {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "",
        }
    }

    pub(super) async fn call(self: &Arc<Self>, command: &Cmd) -> RedisResult<Value> {
        let waiting = self.waiting();
        let answer = match self.connection().await {
            Ok(up) => self.call_over(up, command).await,
            Err(error) => Err(error),
        };
        waiting.answered();
        answer
    }

    /// Over a connection that there is.
    pub(super) async fn call_over(
        self: &Arc<Self>,
        (mut connection, since): Up,
        command: &Cmd,
    ) -> RedisResult<Value> {
        let answer = command.query_async::<Value>(&mut connection).await;
        self.heard(since, answer)
    }

    /// The same of a node of a cluster to which a slot is just being moved.
    pub(super) async fn call_asking(
        self: &Arc<Self>,
        (mut connection, since): Up,
        command: &Cmd,
    ) -> RedisResult<Value> {
        let mut both = ::redis::pipe();
        // It holds for the next command of the connection: nobody's may come in between.
        both.cmd("ASKING").add_command(command.clone());
        let answer = connection.send_packed_commands(&both, 1, 1).await;
        let last = |values: Vec<Value>| values.into_iter().next_back().unwrap_or(Value::Nil);
        self.heard(since, answer.and_then(|values| last(values).extract_error()))
    }

    fn heard(self: &Arc<Self>, since: Instant, answer: RedisResult<Value>) -> RedisResult<Value> {
        if answer.as_ref().is_err_and(|error| error.is_unrecoverable_error() || is_replica(error)) {
            self.make_instead_of(since);
        }
        answer
    }

    /// A call that begins: one that is dropped before its answer is given up.
    pub(super) fn waiting(&self) -> Waiting<'_> {
        Waiting { connection: self, done: false }
    }

    /// The connection, or why there is none. Waits for it if it is the first.
    pub(super) async fn connection(self: &Arc<Self>) -> RedisResult<Up> {
        let mut links = None;
        loop {
            let link = self.link.borrow().clone();
            match link {
                Link::Up { connection, since } => {
                    let silent = self.given_up.load(Ordering::Relaxed) >= SILENT;
                    if !silent || since.elapsed() < YOUNG {
                        return Ok((connection, since));
                    }
                    self.make_instead_of(since);
                }
                Link::Unused => self.make(|link| matches!(link, Link::Unused)),
                Link::Connecting(Some(error)) => return Err(error),
                Link::Connecting(None) => {}
            }
            let links = links.get_or_insert_with(|| self.link.subscribe());
            // What it is now may have been seen or not.
            let made = |link: &Link| !matches!(link, Link::Connecting(None));
            // The sender is ours, and so it is there.
            let _ = links.wait_for(made).await;
        }
    }

    fn make_instead_of(self: &Arc<Self>, old: Instant) {
        self.make(|link| matches!(link, Link::Up { since, .. } if *since == old));
    }

    /// Makes a connection, in a task of its own, if what there is may be replaced.
    fn make(self: &Arc<Self>, may: impl FnOnce(&Link) -> bool) {
        let begun = self.link.send_if_modified(|link| {
            let may = may(link);
            if may {
                *link = Link::Connecting(None);
            }
            may
        });
        if begun {
            self.given_up.store(0, Ordering::Relaxed);
            tokio::spawn(connect(Arc::downgrade(self)));
        }
    }
}

/// What was the primary is none any more: the name that led to it may lead to another by now.
fn is_replica(error: &RedisError) -> bool {
    let kind = error.kind();
    kind == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || kind == ErrorKind::Server(ServerErrorKind::MasterDown)
}

/// Tries until it succeeds, or nobody wants it any more.
async fn connect(connection: Weak<Connection>) {
    let _unfinished = Unfinished(Weak::clone(&connection));
    let mut again = AGAIN;
    while let Some(connection) = connection.upgrade() {
        // Who waits for an answer says for how long.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(YOUNG))
            .set_response_timeout(None);
        if matches!(connection.client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. }) {
            // Not before: until then the program may choose for itself.
            tls::prepare();
        }
        let made = connection.client.get_multiplexed_async_connection_with_config(&config);
        let error = match timeout(YOUNG, made).await {
            Ok(Ok(made)) => {
                let up = Link::Up { connection: made, since: Instant::now() };
                connection.link.send_replace(up);
                return;
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::from(io::ErrorKind::TimedOut).into(),
        };
        connection.link.send_replace(Link::Connecting(Some(error)));
        drop(connection);
        sleep(again).await;
        again = (again * 2).min(LATEST);
    }
}

/// Lets another begin, should the runtime end on which it is being made.
struct Unfinished(Weak<Connection>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(connection) = self.0.upgrade() {
            connection.link.send_if_modified(|link| {
                let unfinished = matches!(link, Link::Connecting(_));
                if unfinished {
                    *link = Link::Unused;
                }
                unfinished
            });
        }
    }
}

pub(super) struct Waiting<'a> {
    connection: &'a Connection,
    done: bool,
}

impl Waiting<'_> {
    pub(super) fn answered(mut self) {
        self.done = true;
        self.connection.given_up.store(0, Ordering::Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}
