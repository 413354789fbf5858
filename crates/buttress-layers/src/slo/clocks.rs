//! Where a tracker takes the time from: the machine, or a test.

use std::time::{Duration, SystemTime};

use buttress_slo::Clocks;

use crate::clock;

/// Reads the clocks of the machine: tokio's, the wall clock, and on Linux the one since boot.
#[must_use]
pub fn system() -> Clocks {
    // The one place where the wall clock is asked.
    #[expect(clippy::disallowed_methods, reason = "it is compared with tokio's at every tick")]
    let wall = SystemTime::now();
    Clocks { monotonic: clock::read(), wall, boot: since_boot() }
}

/// A wall clock that starts at `wall` and goes on as tokio's does: for tests, which pause that one
/// and move it by days.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use buttress_layers::slo::clocks;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let clocks = clocks::following(SystemTime::UNIX_EPOCH);
/// tokio::time::advance(Duration::from_secs(86_400)).await;
///
/// assert_eq!(clocks().wall, SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
/// # }
/// ```
pub fn following(wall: SystemTime) -> impl Fn() -> Clocks + Send + Sync + 'static {
    let start = clock::read();
    move || {
        let monotonic = clock::read();
        let passed = monotonic.saturating_duration_since(start);
        Clocks { monotonic, wall: wall + passed, boot: None }
    }
}

/// The time since the machine started, with the time it slept. `None` where nothing tells.
///
/// From `/proc/uptime`, which is Linux's `CLOCK_BOOTTIME` to a hundredth of a second. The system
/// call would want a crate of its own, for a reading once a second of which the tracker compares
/// whole seconds.
fn since_boot() -> Option<Duration> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    parse(&std::fs::read_to_string("/proc/uptime").ok()?)
}

fn parse(uptime: &str) -> Option<Duration> {
    let seconds = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uptime_is_read_or_left_alone() {
        assert_eq!(parse("350735.47 234388.90\n"), Some(Duration::from_millis(350_735_470)));
        for nonsense in ["", "soon", "-1 2", "NaN 0", "1e400 0"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }
}
