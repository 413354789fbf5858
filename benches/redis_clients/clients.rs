//! The two clients, set up as far as their settings go for calls that nobody sends twice.

use std::{convert::Infallible, future::ready};

use buttress::{BoxError, Plain, Rate, TimeLimit};
use buttress_redis::{FleetLimitLayer, Outage, RedisStore, Settings, script};
use fred::{
    interfaces::{ClientLike, LuaInterface},
    types::{
        Builder,
        config::{Config, ReconnectPolicy},
    },
};
use tower::{Layer, ServiceExt, service_fn};

/// A client, connected.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    fn connect(port: u16) -> impl Future<Output = Self> + Send;

    /// Takes a token of a bucket that is never empty.
    fn take(&self) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// What the script is called with: a million a second, of which a million may come at once.
const ARGUMENTS: [&str; 6] = ["1", "1", "0", "1", "1", "1000000"];
const KEY: &str = "buttress:{bench}";

fn script() -> String {
    script::take(script::Time::Server)
}

/// Our own layer around a service that answers at once, over the client that we chose; it waits so
/// many milliseconds.
#[derive(Clone)]
pub(crate) struct Ours<const WITHIN: u64>(FleetLimitLayer<RedisStore, Plain>);

impl<const WITHIN: u64> Client for Ours<WITHIN> {
    const NAME: &'static str = "layer";

    async fn connect(port: u16) -> Self {
        let million = 1_000_000.try_into().expect("more than none");
        let store = RedisStore::open(&format!("redis://127.0.0.1:{port}/")).expect("a URL");
        let settings = Settings::strict().outage(Outage::Closed);
        let settings = settings.within(TimeLimit::from_millis(WITHIN));
        let limit = FleetLimitLayer::new("bench", Rate::per_second(million), settings, store);
        limit.handle().check().await.expect("a server");
        Self(limit.exchange(Plain))
    }

    async fn take(&self) -> Result<(), BoxError> {
        self.0.layer(service_fn(|()| ready(Ok::<_, Infallible>(())))).oneshot(()).await
    }
}

#[derive(Clone)]
pub(crate) struct Redis {
    manager: redis::aio::ConnectionManager,
    script: std::sync::Arc<redis::Script>,
}

impl Client for Redis {
    const NAME: &'static str = "redis";

    async fn connect(port: u16) -> Self {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a URL");
        let manager = redis::aio::ConnectionManager::new(client).await.expect("a server");
        Self { manager, script: std::sync::Arc::new(redis::Script::new(&script())) }
    }

    async fn take(&self) -> Result<(), BoxError> {
        let mut manager = self.manager.clone();
        let mut call = self.script.key(KEY);
        for argument in ARGUMENTS {
            call.arg(argument);
        }
        let reply: Vec<i64> = call.invoke_async(&mut manager).await?;
        if reply[0] == 1 { Ok(()) } else { Err("refused".into()) }
    }
}

#[derive(Clone)]
pub(crate) struct Fred {
    client: fred::clients::Client,
    hash: String,
}

impl Client for Fred {
    const NAME: &'static str = "fred";

    async fn connect(port: u16) -> Self {
        let config = Config::from_url(&format!("redis://127.0.0.1:{port}/")).expect("a URL");
        let client = Builder::from_config(config)
            .with_connection_config(|config| {
                // A script that took a token is not to be sent again.
                config.max_command_attempts = 1;
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 100, 10_000, 2))
            .build()
            .expect("sensible settings");
        client.init().await.expect("a server");
        let hash = client.script_load(script()).await.expect("a server");
        Self { client, hash }
    }

    async fn take(&self) -> Result<(), BoxError> {
        let (keys, arguments) = (vec![KEY], ARGUMENTS.to_vec());
        let reply = self.client.evalsha::<Vec<i64>, _, _, _>(&self.hash, keys, arguments).await;
        let reply = match reply {
            // A server that was started again knows no scripts.
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                let (keys, arguments) = (vec![KEY], ARGUMENTS.to_vec());
                self.client.eval(script(), keys, arguments).await?
            }
            reply => reply?,
        };
        if reply[0] == 1 { Ok(()) } else { Err("refused".into()) }
    }
}
