use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, ServerErrorKind, Value,
};

use super::{Said, connection::Connection};
use crate::{Failure, StoreError};

/// The nodes of a cluster, each behind a connection of its own, and which slots lie where.
///
/// The client library has this as well. It stands on its own connections, which go on waiting when
/// they are silent, and asks for the whole table of slots again and again while something is amiss.
/// All our calls have one key, so it is enough to go where a node says that the key is.
pub(super) struct Cluster {
    /// How to connect to a node that is heard of.
    like: ConnectionInfo,
    known: Mutex<Known>,
}

struct Known {
    /// Those that were given, and then those that were heard of.
    nodes: Vec<Arc<Connection>>,
    given: usize,
    /// Who has a slot.
    slots: HashMap<u16, Arc<Connection>>,
    /// Whom to ask of a slot that nothing is known of.
    next: usize,
}

/// So many nodes a call goes to at the most: slots move now and then, and some nodes may be away.
const HOPS: usize = 8;

impl Cluster {
    pub(super) fn new(clients: Vec<Client>) -> Result<Self, StoreError> {
        let refused = |what: &str| Err(StoreError::new(Failure::Refused, what));
        let Some(first) = clients.first() else {
            return refused("no URL of a node: name one at the least, redis://host:6379/");
        };
        let like = first.get_connection_info().clone();
        if clients.iter().any(|it| it.get_connection_info().redis_settings().db() != 0) {
            return refused("a cluster has no database but 0: leave the number out of the URL");
        }
        if clients
            .iter()
            .any(|it| matches!(it.get_connection_info().addr(), ConnectionAddr::Unix(_)))
        {
            return refused(
                "a node of a cluster leads to others, which a path does not: write redis://host:6379/",
            );
        }
        let nodes: Vec<_> = clients.into_iter().map(Connection::new).collect();
        let known = Known { given: nodes.len(), nodes, slots: HashMap::new(), next: 0 };
        Ok(Self { like, known: Mutex::new(known) })
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.known().nodes.iter().map(|it| it.address.clone()).collect()
    }

    /// Asks the node where the slot lies, or goes on to it.
    pub(super) async fn call(&self, slot: u16, command: &Cmd) -> Result<Value, Said> {
        let (mut node, mut asking) = (self.known().node_of(slot), false);
        let mut away: Vec<(Arc<Connection>, RedisError)> = Vec::new();
        for _ in 0..HOPS {
            // One that is dropped here has waited for this node in vain.
            let waiting = node.waiting();
            let answer = match node.connection().await {
                Ok(up) if asking => Ok(node.call_asking(up, command).await),
                Ok(up) => Ok(node.call_over(up, command).await),
                Err(error) => Err(error),
            };
            waiting.answered();
            match answer {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => {
                    let Some((name, for_once)) = redirect(&error) else {
                        // It may have been granted: to ask another might take twice. The next call
                        // asks the others where the slot lies.
                        if error.is_io_error() || is_lost(&error) {
                            self.known().forget(&node);
                        }
                        return Err(said(&node, error));
                    };
                    let to = self.led_to(&node, name, slot, for_once);
                    // There is no way round a node that is away.
                    if let Some((_, why)) = away.iter().find(|(it, _)| Arc::ptr_eq(it, &to)) {
                        return Err(said(&to, why.clone()));
                    }
                    (node, asking) = (to, for_once);
                }
                Err(error) => {
                    away.push((Arc::clone(&node), error.clone()));
                    let Some(other) = self.known().instead_of(&away) else {
                        return Err(said(&node, error));
                    };
                    (node, asking) = (other, false);
                }
            }
        }
        let lost =
            (ErrorKind::ClusterConnectionNotFound, "each node says that another has the key");
        Err(said(&node, lost.into()))
    }

    /// The node that another named, which is learnt unless it holds for this once.
    fn led_to(&self, by: &Connection, name: &str, slot: u16, for_once: bool) -> Arc<Connection> {
        let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
        // Whoever does not know its own name means itself.
        let host = if host.is_empty() { by.host() } else { host };
        let name = format!("{host}:{port}");
        let mut known = self.known();
        let heard_of = known.nodes.iter().find(|it| it.address == name).map(Arc::clone);
        let node = heard_of.unwrap_or_else(|| {
            let like = self.like.clone();
            let addr = at(like.addr(), host, port.parse().unwrap_or_default());
            let client = Client::open(like.set_addr(addr)).expect("as that which was opened");
            known.add(Connection::new(client))
        });
        if !for_once {
            known.slots.insert(slot, Arc::clone(&node));
        }
        node
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn node_of(&self, slot: u16) -> Arc<Connection> {
        Arc::clone(self.slots.get(&slot).unwrap_or(&self.nodes[self.next]))
    }

    /// Where addresses come and go, those that have gone make room for those that come.
    fn add(&mut self, node: Arc<Connection>) -> Arc<Connection> {
        let (slots, mut place) = (&self.slots, 0);
        self.nodes.retain(|it| {
            place += 1;
            place <= self.given || slots.values().any(|of| Arc::ptr_eq(of, it))
        });
        self.next %= self.nodes.len();
        self.nodes.push(Arc::clone(&node));
        node
    }

    /// It is away: others know who has what it had.
    fn forget(&mut self, node: &Arc<Connection>) {
        self.slots.retain(|_, of| !Arc::ptr_eq(of, node));
        if Arc::ptr_eq(&self.nodes[self.next], node) {
            self.next = (self.next + 1) % self.nodes.len();
        }
    }

    /// Any other than those that are away.
    fn instead_of(&mut self, away: &[(Arc<Connection>, RedisError)]) -> Option<Arc<Connection>> {
        self.forget(&away.last()?.0);
        let is_away = |node| away.iter().any(|(it, _)| Arc::ptr_eq(it, node));
        let count = self.nodes.len();
        let mut others = (self.next..self.next + count).map(|at| at % count);
        let at = others.find(|at| !is_away(&self.nodes[*at]))?;
        self.next = at;
        Some(Arc::clone(&self.nodes[at]))
    }
}

/// Whether a node says that it cannot answer for its slots: another may have taken them over.
fn is_lost(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly};
    matches!(error.kind(), ErrorKind::Server(ClusterDown | BusyLoading | MasterDown | ReadOnly))
}

fn said(node: &Connection, error: RedisError) -> Said {
    Said { address: node.address.clone(), error }
}

/// Where an error leads, and whether for this once.
fn redirect(error: &RedisError) -> Option<(&str, bool)> {
    let (name, _) = error.redirect_node()?;
    Some((name, error.kind() == ErrorKind::Server(ServerErrorKind::Ask)))
}

/// Another node, reached in the same way.
fn at(like: &ConnectionAddr, host: &str, port: u16) -> ConnectionAddr {
    let host = host.to_owned();
    match like {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            let (insecure, tls_params) = (*insecure, tls_params.clone());
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

/// The slot of a key: CRC16 (XMODEM) of what is in its first braces, or of all of it, as the
/// specification of the cluster has it.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let tag = &rest[..rest.iter().position(|byte| *byte == b'}')?];
        (!tag.is_empty()).then_some(tag)
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

const SLOTS: u16 = 16_384;

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        // Of CLUSTER KEYSLOT.
        assert_eq!((slot(b"foo"), slot(b"somekey")), (12_182, 11_058));
    }

    #[test]
    fn a_node_that_cannot_answer_for_its_slots_has_lost_them_and_one_out_of_memory_has_not() {
        use ServerErrorKind::{
            BusyLoading, ClusterDown, MasterDown, NoPerm, ReadOnly, ResponseError,
        };
        let lost = |kind| is_lost(&RedisError::from((ErrorKind::Server(kind), "said")));

        assert!([ClusterDown, BusyLoading, MasterDown, ReadOnly].into_iter().all(lost));
        assert!(![ResponseError, NoPerm].into_iter().any(lost));
    }

    #[test]
    fn addresses_that_have_gone_are_forgotten() {
        let client = Client::open("redis://10.0.0.1:6379/").unwrap();
        let cluster = Cluster::new(vec![client]).unwrap();
        let given = cluster.known().node_of(1);
        let led =
            |host: u32, slot| cluster.led_to(&given, &format!("10.0.1.{host}:1"), slot, false);

        let stays = led(250, 2);
        for host in 0..200 {
            let node = led(host, 1);
            assert!(Arc::ptr_eq(&cluster.known().node_of(1), &node));
            cluster.known().forget(&node);
        }

        assert_eq!(cluster.addresses(), ["10.0.0.1:6379", "10.0.1.250:1", "10.0.1.199:1"]);
        assert!(Arc::ptr_eq(&cluster.known().node_of(2), &stays));
        // Nobody named itself: the one that was asked.
        assert_eq!(cluster.led_to(&given, ":6380", 3, true).address, "10.0.0.1:6380");
        assert!(Arc::ptr_eq(&cluster.known().node_of(3), &given));
    }

    #[test]
    fn what_leads_to_no_cluster_is_refused_with_what_to_write() {
        let said = |urls: &[&str]| {
            let opened = crate::RedisStore::cluster(urls.iter().copied());
            opened.map(|_| ()).unwrap_err().to_string()
        };

        assert!(said(&[]).contains("name one at the least"));
        assert!(said(&["redis://a/0", "redis://b/1"]).contains("no database but 0"));
        assert!(said(&["unix:///run/redis.sock"]).contains("write redis://host:6379/"));
    }
}
