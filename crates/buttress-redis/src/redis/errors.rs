//! What a server or its client says, in words that say what to do.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::{Failure, StoreError};

/// An error of a call.
pub(super) fn explain(address: &str, error: RedisError) -> StoreError {
    let code = error.code().unwrap_or_default().to_owned();
    let (failure, what) = match (error.kind(), &*code) {
        (ErrorKind::AuthenticationFailed, _) | (_, "WRONGPASS" | "NOAUTH") => (
            Failure::Refused,
            format!(
                "{address} wants another password: put user and password into the URL, redis://user:password@host:port/"
            ),
        ),
        _ if says(&error, "certificate") => (
            Failure::Refused,
            format!(
                "{address} shows no certificate that is trusted here ({error}): is that its name, and is its authority among the system's, or in the file that SSL_CERT_FILE names?"
            ),
        ),
        _ if says(&error, "DB index is out of range") => (
            Failure::Refused,
            format!(
                "{address} has no database of that number: leave it out of the URL, or raise its databases"
            ),
        ),
        _ if error.is_timeout() => (
            Failure::TimedOut,
            format!("{address} does not answer: it is overloaded, stopped, or out of reach"),
        ),
        _ if error.is_io_error() || error.is_connection_dropped() => (
            Failure::Unreachable,
            format!(
                "{address} cannot be reached ({error}): is a server running there, and may it be reached from here? And if it speaks TLS, write rediss://"
            ),
        ),
        (_, "CLUSTERDOWN") => (
            Failure::Refused,
            format!(
                "{address} is a node of a cluster that is down ({error}): bring back the nodes that its slots lie on, or have CLUSTER ADDSLOTS give them to others"
            ),
        ),
        (_, "MOVED" | "ASK") => (
            Failure::Refused,
            format!(
                "{address} is a node of a cluster, and the key lives on another: open the store with RedisStore::cluster and the URLs of some nodes"
            ),
        ),
        (ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown), _) => (
            Failure::Refused,
            format!("{address} is a replica, which takes no writes: give the URL of the primary"),
        ),
        _ if lacks_leave(&error) => (
            Failure::Refused,
            format!(
                "{address} does not let this user do it ({error}): allow EVAL, EVALSHA, TIME, GET, SET, DEL, ZADD, ZREMRANGEBYSCORE, ZCARD and PEXPIRE on the keys of the prefix"
            ),
        ),
        (_, "WRONGTYPE") => (
            Failure::Refused,
            format!(
                "{address} has something else under the name of a limit: choose another prefix"
            ),
        ),
        (_, "OOM") => (
            Failure::Refused,
            format!(
                "{address} is out of memory: raise its maxmemory, or give the limits a server of their own"
            ),
        ),
        (_, "MISCONF") => (
            Failure::Refused,
            format!(
                "{address} takes no writes since it cannot save its data ({error}): make room for that, or set stop-writes-on-bgsave-error no"
            ),
        ),
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => {
            (Failure::Unreachable, format!("{address} is still loading its data"))
        }
        _ => (Failure::Refused, format!("{address}: {error}")),
    };
    StoreError::new(failure, what).with_source(error)
}

fn says(error: &RedisError, words: &str) -> bool {
    error.to_string().contains(words)
}

/// Of the call itself, or of what a script does: the server says that in words only.
fn lacks_leave(error: &RedisError) -> bool {
    let in_a_script = |said: &str| said.contains("executing the script can't");
    error.code() == Some("NOPERM") || error.detail().is_some_and(in_a_script)
}

/// A URL that is none.
pub(super) fn explain_url(url: &str, error: &RedisError) -> StoreError {
    // What stands before the host may be a password, and what stands after the path of a socket.
    let (before, after) = url
        .split_once("://")
        .map_or(("", url), |(before, _)| url.split_at(before.len() + "://".len()));
    let until_query = |text: &str| text.split('?').next().unwrap_or_default().to_owned();
    let shown = match after.rsplit_once('@') {
        _ if before.contains("unix") => format!("{before}{}", until_query(after)),
        Some((_, host)) => format!("{before}..@{}", until_query(host)),
        None => format!("{before}{}", until_query(after)),
    };
    let tls = if url.starts_with("rediss://") && cfg!(not(feature = "tls")) {
        "; for rediss:// enable the feature `tls` of buttress-redis"
    } else {
        ""
    };
    let why = error.category();
    StoreError::new(
        Failure::Refused,
        format!(
            "{shown:?} is no URL of a server ({why}): write redis://host:6379/, with a password redis://:password@host:6379/, or unix:///path{tls}"
        ),
    )
}

/// Whether a script has to be sent again.
pub(super) fn is_noscript(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// An answer that none of our scripts gives.
pub(super) fn nonsense() -> StoreError {
    StoreError::new(
        Failure::Refused,
        "what answers there does not run our scripts: is it Redis 7, or Valkey?",
    )
}
