//! Limits of a fleet on a real cluster of three nodes.

use std::{num::NonZeroU32, time::Duration};

use buttress::{Plain, Rate, TimeLimit};
use buttress_redis::{
    Failure, FleetLimitLayer, Lease, Outage, RedisStore, Scale, Settings, Source, Store, Take,
};
use buttress_tests::{redis_server::Server, soon};
use tower::{Layer, ServiceExt, service_fn};

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn take(least: u32, most: u32) -> Take {
    Take { least, most, left: 0 }
}

struct Cluster {
    nodes: [Server; 3],
}

impl Cluster {
    /// Three nodes, with a third of the slots each.
    async fn start() -> Self {
        let options = "--cluster-enabled yes --cluster-require-full-coverage no";
        // Longer than anything here takes: no node shall give another up.
        let options = format!("{options} --cluster-node-timeout 60000");
        let options: Vec<_> = options.split(' ').collect();
        let cluster = Self { nodes: [(); 3].map(|()| Server::start_with(&options)) };
        for (at, slots) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")].iter().enumerate()
        {
            cluster.said(at, &["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1]);
        }
        // Numbers of their own, or they would quarrel over who knows better.
        for (at, epoch) in ["1", "2", "3"].iter().enumerate() {
            cluster.said(at, &["CLUSTER", "SET-CONFIG-EPOCH", epoch]);
        }
        for other in &cluster.nodes[1..] {
            let (port, bus) = (other.port().to_string(), (other.port() + 10_000).to_string());
            cluster.said(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let well = ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"];
        cluster.until(|info| well.iter().all(|line| info.contains(line))).await;
        cluster
    }

    /// Waits until each node says so of itself.
    async fn until(&self, well: impl Fn(&str) -> bool) {
        tokio::time::timeout(Duration::from_secs(60), async {
            for at in 0..3 {
                while !well(&self.said(at, &["CLUSTER", "INFO"])) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        })
        .await
        .expect("three nodes that find one another");
    }

    fn said(&self, node: usize, words: &[&str]) -> String {
        let client = redis::Client::open(self.nodes[node].url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        let answer = command.query::<redis::Value>(&mut connection).unwrap();
        redis::from_redis_value(answer).unwrap()
    }

    fn store(&self) -> RedisStore {
        let urls = self.nodes.each_ref().map(Server::url);
        RedisStore::cluster(urls.iter().map(String::as_str)).unwrap()
    }
}

/// Several limits, many keys, leases, what is given back and who is there: all scripts, each with a
/// key that lies anywhere.
#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn on_a_cluster_no_script_crosses_slots_and_each_bucket_is_one() {
    const KEYS: u32 = 200;
    let cluster = Cluster::start().await;
    let (url, store) = (cluster.nodes[1].url(), cluster.store());
    let by_one_node = RedisStore::cluster([url.as_str()]).unwrap();
    let limit = |store| {
        let settings = Settings::strict().within(TimeLimit::from_secs(60)).outage(Outage::Closed);
        let rates = [Rate::per_hour(n(2)), Rate::per_day(n(2))];
        FleetLimitLayer::several("api", rates, settings, store)
            .exchange(Plain)
            .keyed(|key: &u32| *key)
    };
    let (here, there) = (limit(store.clone()), limit(by_one_node));

    for key in 0..KEYS {
        for (limit, admitted) in [(&here, true), (&there, true), (&here, false)] {
            let service = limit.layer(service_fn(|_| async { Ok::<_, buttress::BoxError>(()) }));
            assert_eq!(soon(service.oneshot(key)).await.is_ok(), admitted, "{key}");
        }
    }
    let leased = Settings::leased(Lease::new(n(10))).within(TimeLimit::from_secs(60));
    let leased = FleetLimitLayer::new("lease", Rate::per_hour(n(1000)), leased, store.clone());
    let leased = leased.exchange(Plain);
    let service = leased.layer(service_fn(|()| async { Ok::<_, buttress::BoxError>(()) }));
    for _ in 0..20 {
        soon(service.clone().oneshot(())).await.unwrap();
    }
    let held = leased.handle().leased();
    let given = soon(leased.handle().give_back()).await;
    let there_are = soon(store.beat(b"{g}", b"a", Duration::from_secs(60))).await.unwrap();

    for (limit, admitted, refused) in [(&here, KEYS, KEYS), (&there, KEYS, 0)] {
        let totals = limit.handle().totals();
        let by_store = (totals.admitted(Source::Store), totals.refused(Source::Store));
        assert_eq!(by_store, (admitted.into(), refused.into()));
        assert!(Failure::ALL.iter().all(|why| totals.failed(*why) == 0), "{totals:?}");
    }
    assert_eq!((given, there_are), (held.into(), 1));
    for node in 0..3 {
        let keys: u32 = cluster.said(node, &["DBSIZE"]).parse().unwrap();
        assert!(keys > KEYS / 6, "node {node} has {keys}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_slot_is_followed_while_it_moves_and_afterwards() {
    let cluster = Cluster::start().await;
    let store = cluster.store();
    let scales = [Scale::new(Rate::per_hour(n(10)))];
    let key = "p:{foo}";
    let slot = cluster.said(0, &["CLUSTER", "KEYSLOT", key]);
    // 12182 lies with the last, and moves to the first.
    let [to, from] = [0, 2].map(|node| cluster.said(node, &["CLUSTER", "MYID"]));
    let mut granted = Vec::new();
    let mut ask = async |tokens, most| {
        let taken = soon(store.take(key.as_bytes(), &scales, take(tokens, most))).await.unwrap();
        granted.push(taken.granted);
    };

    ask(4, 4).await;
    let port = cluster.nodes[0].port().to_string();
    cluster.said(0, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]);
    cluster.said(2, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]);
    // What is there is answered there, and what has gone is answered where it went.
    ask(1, 1).await;
    cluster.said(2, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    ask(1, 1).await;
    ask(1, 1).await;
    for node in [0, 2, 1] {
        cluster.said(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &to]);
    }
    ask(1, 100).await;

    assert_eq!((slot.as_str(), granted), ("12182", vec![4, 1, 1, 1, 3]));
    assert_eq!(cluster.said(0, &["CLUSTER", "COUNTKEYSINSLOT", &slot]), "1");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn who_is_away_is_passed_by_and_takes_only_its_own_buckets_along() {
    let mut cluster = Cluster::start().await;
    let known = cluster.store();
    let scales = [Scale::new(Rate::per_hour(n(10)))];
    // Slots 12182 and 5061: of the third, and of the first.
    let ask = async |store: &RedisStore, key: &[u8]| {
        let taken = soon(store.take(key, &scales, take(1, 1))).await;
        taken.map(|taken| taken.granted).map_err(|error| (error.failure(), error.to_string()))
    };
    for key in [&b"{foo}"[..], b"{bar}"] {
        assert_eq!(ask(&known, key).await, Ok(1));
    }

    cluster.nodes[0].kill();
    let fresh = cluster.store();
    let elsewhere = [ask(&known, b"{foo}").await, ask(&fresh, b"{foo}").await];
    let lost = [ask(&known, b"{bar}").await, ask(&fresh, b"{bar}").await];
    cluster.nodes[0].start_again();
    tokio::time::timeout(Duration::from_secs(60), async {
        while ask(&known, b"{bar}").await.is_err() || ask(&fresh, b"{bar}").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is found again");

    assert_eq!(elsewhere, [Ok(1), Ok(1)]);
    for lost in lost {
        let (failure, said) = lost.unwrap_err();
        assert_eq!(failure, Failure::Unreachable, "{said}");
        assert!(said.contains(&cluster.nodes[0].port().to_string()), "{said}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn who_opens_one_node_is_told_how_to_open_a_cluster() {
    let cluster = Cluster::start().await;
    let scales = [Scale::new(Rate::per_hour(n(10)))];
    let store = RedisStore::open(&cluster.nodes[0].url()).unwrap();

    let said = soon(store.take(b"{foo}", &scales, take(1, 1))).await.unwrap_err().to_string();

    assert!(said.contains("open the store with RedisStore::cluster"), "{said}");
}
