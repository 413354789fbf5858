//! The scripts, put together.
//!
//! They use `TIME`, `GET`, `SET .. PX` and `DEL`, and for the members of a fleet `ZADD`,
//! `ZREMRANGEBYSCORE`, `ZCARD` and `PEXPIRE`: nothing that Valkey does not know.

/// Where a script gets the time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// From the server, so that all processes of a fleet live by one clock.
    Server,
    /// From its last argument, in microseconds since 1970: for tests of the script itself.
    Argument,
}

/// Takes tokens.
#[must_use]
pub fn take(time: Time) -> String {
    with_bucket(time, 4) + include_str!("take.lua")
}

/// Gives tokens back.
#[must_use]
pub fn give(time: Time) -> String {
    with_bucket(time, 2) + include_str!("give.lua")
}

/// Says that a member is there.
#[must_use]
pub fn beat(time: Time) -> String {
    include_str!("beat.lua").replace("NOW", now(time))
}

/// `first` is the place of the first limit among the arguments.
fn with_bucket(time: Time, first: u8) -> String {
    include_str!("bucket.lua").replace("NOW", now(time)).replace("FIRST", &first.to_string())
}

const fn now(time: Time) -> &'static str {
    match time {
        // Since Redis 7 effects are replicated, and not scripts: a replica need not know the time.
        Time::Server => {
            "(function() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end)()"
        }
        Time::Argument => "tonumber(table.remove(ARGV))",
    }
}
