//! The two clients, set up as far as their settings go for calls that nobody sends twice.

use buttress::BoxError;
use fred::{
    interfaces::{ClientLike, LuaInterface},
    types::{
        Builder,
        config::{Config, ReconnectPolicy},
    },
};

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
    let bucket = include_str!("../../crates/buttress-redis/src/script/bucket.lua");
    let take = include_str!("../../crates/buttress-redis/src/script/take.lua");
    let time = "(function() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end)()";
    format!("{}{take}", bucket.replace("NOW", time).replace("FIRST", "4"))
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
