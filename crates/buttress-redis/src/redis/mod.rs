//! Buckets on Redis, or on Valkey.

mod cluster;
mod connection;
mod errors;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::redis::{Cmd, ConnectionAddr, FromRedisValue, cmd};

use self::{
    cluster::Cluster,
    connection::Connection,
    errors::{explain, explain_url, is_noscript, nonsense},
};
use crate::{
    Debt, Failure, Scale, Store, StoreError, Take, Taken,
    script::{self, Time},
    store::MOST,
};

/// A [`Store`] on Redis 7 or later, or on Valkey.
///
/// One script, one round trip, the server's clock. Clones share one connection (of a cluster one for each
/// node), over which all requests of a process are pipelined: one is enough for as many as a server can do. It is made
/// when it is first needed, on the tokio runtime that is there then, and made again when it breaks
/// or has been silent; a task of its own keeps it, as the client library has it.
///
/// ```no_run
/// use buttress_redis::RedisStore;
///
/// # fn main() -> Result<(), buttress_redis::StoreError> {
/// let store = RedisStore::open("redis://:password@127.0.0.1:6379/")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    servers: Servers,
    take: Script,
    give: Script,
    beat: Script,
}

enum Servers {
    One(Arc<Connection>),
    Cluster(Box<Cluster>),
}

impl Servers {
    /// Where a key lies; one server has no slots.
    fn slot(&self, key: &[u8]) -> u16 {
        match self {
            Self::One(_) => 0,
            Self::Cluster(_) => cluster::slot(key),
        }
    }

    async fn call(&self, slot: u16, command: &Cmd) -> Result<::redis::Value, Said> {
        match self {
            Self::One(connection) => {
                let answer = connection.call(command).await;
                answer.map_err(|error| Said { address: connection.address.clone(), error })
            }
            Self::Cluster(cluster) => cluster.call(slot, command).await,
        }
    }
}

/// An error, and of whom.
struct Said {
    address: String,
    error: ::redis::RedisError,
}

struct Script {
    text: String,
    hash: String,
}

impl Script {
    fn new(text: String) -> Self {
        let hash = ::redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }
}

impl RedisStore {
    /// A server by its URL: `redis://user:password@host:port/database`, `rediss://` for TLS with
    /// the feature `tls`, or `unix:///path`. Connects to nothing yet.
    ///
    /// TLS trusts whom the system trusts, or the file that the environment names as `SSL_CERT_FILE`.
    /// It uses the cryptography that the program has installed for rustls; if there is none by the
    /// time that it connects, it installs ring's.
    ///
    /// # Errors
    ///
    /// If that is no such URL; with what one looks like, and without the password in it.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self::over(Servers::One(Connection::new(client(url)?))))
    }

    /// A cluster, by the URLs of some of its nodes: enough of them that one is there when a process
    /// starts, as the others are heard of from it. User, password and TLS are those of the first URL
    /// for nodes that are heard of. Connects to nothing yet.
    ///
    /// A bucket has one key, which lies with one node: it is learnt which by asking another, and
    /// costs a second round trip the first time. So are moved slots and failovers. A node that is
    /// away takes its buckets along until the cluster has put another in its place, and it is the
    /// whole store that fails then and not a part of it: three of its calls in a row open the
    /// circuit for all.
    ///
    /// ```no_run
    /// use buttress_redis::RedisStore;
    ///
    /// # fn main() -> Result<(), buttress_redis::StoreError> {
    /// let store = RedisStore::cluster(["redis://redis-0:6379/", "redis://redis-1:6379/"])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no URL, one is no URL of a server, or names a database other than 0, of which
    /// alone a cluster knows.
    pub fn cluster<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, StoreError> {
        let clients = urls.into_iter().map(client).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::over(Servers::Cluster(Box::new(Cluster::new(clients)?))))
    }

    fn over(servers: Servers) -> Self {
        let [take, give, beat] =
            [script::take, script::give, script::beat].map(|text| Script::new(text(Time::Server)));
        Self { shared: Arc::new(Shared { servers, take, give, beat }) }
    }

    fn ask<T: Send + 'static>(
        &self,
        script: fn(&Shared) -> &Script,
        key: &[u8],
        arguments: impl FnOnce(&mut Cmd),
        read: impl FnOnce(::redis::Value) -> Result<T, StoreError> + Send + 'static,
    ) -> RedisAnswer<T> {
        let shared = Arc::clone(&self.shared);
        let mut rest = Cmd::new();
        rest.arg(1).arg(key);
        arguments(&mut rest);
        let slot = shared.servers.slot(key);
        let asking = async move {
            let script = script(&shared);
            let by_hash = with(cmd("EVALSHA").arg(&script.hash), &rest);
            let value = match shared.servers.call(slot, &by_hash).await {
                // A server that was started again has forgotten it.
                Err(said) if is_noscript(&said.error) => {
                    let whole = with(cmd("EVAL").arg(&script.text), &rest);
                    shared.servers.call(slot, &whole).await
                }
                answer => answer,
            };
            read(value.map_err(|said| explain(&said.address, said.error))?)
        };
        RedisAnswer { asking: Box::pin(asking) }
    }
}

fn client(url: &str) -> Result<::redis::Client, StoreError> {
    let client = ::redis::Client::open(url).map_err(|error| explain_url(url, &error))?;
    if matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { insecure: true, .. })
    {
        let what = "#insecure would take any server for the right one: leave it out, and name the file of the server's authority in the environment as SSL_CERT_FILE if the system does not know it";
        return Err(StoreError::new(Failure::Refused, what));
    }
    Ok(client)
}

fn with(command: &mut Cmd, rest: &Cmd) -> Cmd {
    let mut command = std::mem::take(command);
    for argument in rest.args_iter() {
        if let ::redis::Arg::Simple(argument) = argument {
            command.arg(argument);
        }
    }
    command
}

impl Store for RedisStore {
    type Answer<T: Send + 'static> = RedisAnswer<T>;

    fn take(&self, key: &[u8], limits: &[Scale], take: Take) -> RedisAnswer<Taken> {
        let arguments = |cmd: &mut Cmd| {
            cmd.arg(take.least).arg(take.most).arg(take.left);
            scales(cmd, limits);
        };
        self.ask(
            |it| &it.take,
            key,
            arguments,
            |value| {
                let reply: Vec<u64> = read(value)?;
                let [granted, rest @ ..] = &reply[..] else { return Err(nonsense()) };
                let mut debts = [Debt::default(); MOST];
                for (debt, pair) in debts.iter_mut().zip(rest.chunks_exact(2)) {
                    *debt = Debt { micros: pair[0], parts: pair[1] };
                }
                let granted = u32::try_from(*granted).map_err(|_| nonsense())?;
                Ok(Taken { granted, debts })
            },
        )
    }

    fn give(&self, key: &[u8], limits: &[Scale], tokens: u32) -> RedisAnswer<()> {
        let arguments = |cmd: &mut Cmd| {
            cmd.arg(tokens);
            scales(cmd, limits);
        };
        self.ask(|it| &it.give, key, arguments, |_| Ok(()))
    }

    fn beat(&self, group: &[u8], member: &[u8], lasting: Duration) -> RedisAnswer<u32> {
        let micros = u64::try_from(lasting.as_micros()).unwrap_or(u64::MAX);
        let arguments = |cmd: &mut Cmd| {
            cmd.arg(member).arg(micros);
        };
        self.ask(|it| &it.beat, group, arguments, read)
    }
}

fn scales(cmd: &mut Cmd, limits: &[Scale]) {
    for scale in limits {
        cmd.arg(scale.micros()).arg(scale.parts()).arg(scale.burst());
    }
}

fn read<T: FromRedisValue>(value: ::redis::Value) -> Result<T, StoreError> {
    ::redis::from_redis_value(value).map_err(|_| nonsense())
}

/// An answer of a [`RedisStore`].
#[must_use = "futures do nothing unless polled"]
pub struct RedisAnswer<T> {
    asking: Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>,
}

impl<T> Future for RedisAnswer<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.asking.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for RedisAnswer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisAnswer(..)")
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URL, in which a password may stand.
        let mut store = f.debug_struct("RedisStore");
        match &self.shared.servers {
            Servers::One(connection) => store.field("address", &connection.address),
            Servers::Cluster(cluster) => store.field("nodes", &cluster.addresses()),
        };
        store.finish()
    }
}
