use std::time::{Duration, Instant, SystemTime};

use crate::burn::saturate;

/// One reading of the clocks, for a tick.
///
/// The shell reads them and the tracker decides. `monotonic` is tokio's clock, so that a test
/// can move it; `wall` tells calendars and people the time; `boot` is the time since the machine
/// started, *with* the time it slept (`CLOCK_BOOTTIME`), where that can be had.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// A clock that never steps, and that most systems stop while they sleep.
    pub monotonic: Instant,
    /// The time of day, which may step.
    pub wall: SystemTime,
    /// A clock that goes on while the machine sleeps.
    pub boot: Option<Duration>,
}

/// The time as the tracker counts it, in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The steady timeline of the windows: it never goes back, and no step of the wall clock
    /// moves it.
    pub steady: i64,
    /// Unix time, by the wall clock.
    pub wall: i64,
}

impl Moment {
    /// This moment as a time of day.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        let seconds = Duration::from_secs(self.wall.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let time =
            if self.wall < 0 { epoch.checked_sub(seconds) } else { epoch.checked_add(seconds) };
        time.unwrap_or(epoch)
    }
}

/// What the clocks did since the last tick, beyond going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockChange {
    /// The wall clock was set forward. Windows are as they were; calendars follow.
    SteppedForward(Duration),
    /// The wall clock was set back. Windows are as they were; calendars follow.
    SteppedBack(Duration),
    /// The machine slept, by the clock since boot: nobody counted.
    Slept(Duration),
    /// The ticker was held up for so long. What was recorded meanwhile is in the newest second;
    /// if nothing was, nobody is taken to have counted.
    Late(Duration),
}

/// Keeps the steady timeline.
///
/// The windows run on monotonic time, anchored once to the wall clock; so an NTP step changes no
/// window. A machine that sleeps stops most monotonic clocks (Linux and macOS; Windows goes on):
/// only a clock since boot can tell that from a step, and without one a jump is taken for a step,
/// so that errors stay in the windows rather too long than too short.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    last: Clocks,
    steady: Duration,
    /// Wall time less monotonic progress that is not yet told to be a step, in nanoseconds.
    drift: i128,
}

impl Anchor {
    /// Starts the timeline at the wall clock's time, so that slots begin at full minutes.
    pub(crate) fn new(clocks: Clocks) -> Self {
        let since_epoch = clocks.wall.duration_since(SystemTime::UNIX_EPOCH);
        Self { last: clocks, steady: since_epoch.unwrap_or_default(), drift: 0 }
    }

    /// Puts the timeline further on: to where a snapshot ends, and what passed since.
    pub(crate) fn set_steady(&mut self, seconds: i64) {
        let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.steady = seconds + Duration::from_nanos(u64::from(self.steady.subsec_nanos()));
    }

    pub(crate) fn moment(&self) -> Moment {
        let wall = match self.last.wall.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        };
        Moment { steady: i64::try_from(self.steady.as_secs()).unwrap_or(i64::MAX), wall }
    }

    /// Moves on to a new reading. One that is older than the last, because another thread was
    /// faster, tells nothing.
    pub(crate) fn advance(&mut self, clocks: Clocks) -> Advance {
        let clocks = if clocks.monotonic < self.last.monotonic { self.last } else { clocks };
        let ran = clocks.monotonic.saturating_duration_since(self.last.monotonic);
        let slept = match (clocks.boot, self.last.boot) {
            (Some(now), Some(before)) => now.saturating_sub(before).saturating_sub(ran),
            _ => Duration::ZERO,
        };
        let slept = if slept > JITTER { slept } else { Duration::ZERO };
        let passed = ran + slept;
        self.drift += difference(clocks.wall, self.last.wall) - nanos(passed);
        self.last = clocks;
        self.steady = self.steady.saturating_add(passed);
        Advance { now: self.moment(), slept, late: ran > STALL, passed, step: self.step() }
    }

    fn step(&mut self) -> Option<ClockChange> {
        let by = Duration::from_nanos(saturate(self.drift.unsigned_abs()));
        if by <= JITTER {
            // What NTP slews is no step, however much of it comes together.
            self.drift -= self.drift / 8;
            return None;
        }
        let forward = self.drift > 0;
        self.drift = 0;
        Some(if forward { ClockChange::SteppedForward(by) } else { ClockChange::SteppedBack(by) })
    }
}

/// What a reading says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advance {
    pub(crate) now: Moment,
    /// How long the machine slept.
    pub(crate) slept: Duration,
    /// How long it is since the last reading, and whether that is too long.
    pub(crate) passed: Duration,
    pub(crate) late: bool,
    /// What the wall clock did beside that.
    pub(crate) step: Option<ClockChange>,
}

impl Advance {
    /// What the clocks did beyond going on.
    pub(crate) fn changes(&self) -> impl Iterator<Item = ClockChange> + use<> {
        let slept = (!self.slept.is_zero()).then_some(ClockChange::Slept(self.slept));
        let late = self.late.then_some(ClockChange::Late(self.passed));
        slept.into_iter().chain(late).chain(self.step)
    }
}

/// What scheduling and slewing may explain.
const JITTER: Duration = Duration::from_secs(1);

/// A ticker that was held up for longer has missed something: 60 s is ten times what the finest
/// window can be off by, and more than any busy runtime takes.
const STALL: Duration = Duration::from_secs(60);

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

fn difference(later: SystemTime, earlier: SystemTime) -> i128 {
    match later.duration_since(earlier) {
        Ok(forward) => nanos(forward),
        Err(back) => -nanos(back.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::clocks;

    const HOURS: Duration = Duration::from_secs(7200);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_step_of_the_wall_clock_moves_no_window() {
        // slo.md 10, scenario 51.
        let start = clocks();
        let mut anchor = Anchor::new(start);
        let before = anchor.moment();

        let stepped = Clocks {
            monotonic: start.monotonic + SECOND,
            wall: start.wall + HOURS + SECOND,
            ..start
        };
        let Advance { now: moment, step, .. } = anchor.advance(stepped);

        assert_eq!(moment.steady, before.steady + 1);
        assert_eq!(moment.wall, before.wall + 7201);
        assert_eq!(step, Some(ClockChange::SteppedForward(HOURS)));
        let on =
            Clocks { monotonic: stepped.monotonic + SECOND, wall: stepped.wall + SECOND, ..start };
        assert_eq!(anchor.advance(on).changes().next(), None, "told once");
    }

    #[test]
    fn a_clock_that_goes_back_does_not_take_the_windows_along() {
        let start = clocks();
        let mut anchor = Anchor::new(start);
        let before = anchor.moment();

        let back = Clocks {
            monotonic: start.monotonic + SECOND,
            wall: start.wall - HOURS + SECOND,
            ..start
        };
        let Advance { now: moment, step, .. } = anchor.advance(back);

        assert_eq!(moment.steady, before.steady + 1);
        assert_eq!(moment.wall, before.wall - 7199);
        assert_eq!(step, Some(ClockChange::SteppedBack(HOURS)));
    }

    #[test]
    fn sleep_passes_in_the_windows() {
        // Scenario 52: monotonic time stood still, the boot clock did not.
        let start = Clocks { boot: Some(SECOND), ..clocks() };
        let mut anchor = Anchor::new(start);
        let before = anchor.moment();

        let awake = Clocks {
            monotonic: start.monotonic + SECOND,
            wall: start.wall + HOURS + SECOND,
            boot: Some(HOURS + SECOND + SECOND),
        };
        let advance = anchor.advance(awake);

        assert_eq!(advance.now.steady, before.steady + 7201);
        assert!(advance.changes().eq([ClockChange::Slept(HOURS)]));
    }

    #[test]
    fn clocks_that_are_read_one_after_the_other_tell_of_no_sleep() {
        let mut now = Clocks { boot: Some(SECOND), ..clocks() };
        let mut anchor = Anchor::new(now);
        let before = anchor.moment();

        for _ in 0..100 {
            // Somebody else had the processor between the first and the last of them.
            now.monotonic += SECOND;
            now.wall += SECOND;
            now.boot = now.boot.map(|boot| boot + Duration::from_millis(1_900));
            assert_eq!(anchor.advance(now).changes().next(), None);
        }

        assert_eq!(anchor.moment().steady, before.steady + 100);
    }

    #[test]
    fn a_reading_that_another_thread_has_overtaken_is_no_progress() {
        let start = Clocks { boot: Some(SECOND), ..clocks() };
        let at = |seconds: u32| Clocks {
            monotonic: start.monotonic + SECOND * seconds,
            wall: start.wall + SECOND * seconds,
            boot: Some(SECOND + SECOND * seconds),
        };
        let mut anchor = Anchor::new(start);

        for (reading, passed) in [(9, 9), (2, 9), (5, 9), (12, 12)] {
            let Advance { now, step, slept, .. } = anchor.advance(at(reading));
            assert_eq!(
                now.steady,
                at(passed)
                    .wall
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap()
                    .as_secs()
                    .cast_signed()
            );
            assert_eq!((now.wall, step, slept), (now.steady, None, Duration::ZERO), "{reading} s");
        }
    }

    #[test]
    fn a_ticker_that_was_held_up_is_late() {
        let start = clocks();
        let mut anchor = Anchor::new(start);

        let awake =
            Clocks { monotonic: start.monotonic + HOURS, wall: start.wall + HOURS, ..start };

        assert!(anchor.advance(awake).changes().eq([ClockChange::Late(HOURS)]));
    }

    #[test]
    fn slewing_is_no_step() {
        let start = clocks();
        let mut anchor = Anchor::new(start);
        let mut now = start;

        for _ in 0..100_000 {
            // 500 parts per million is the most that NTP slews by.
            now.monotonic += SECOND;
            now.wall += SECOND + Duration::from_micros(500);
            assert_eq!(anchor.advance(now).changes().next(), None);
        }
        assert_eq!(anchor.moment().wall - anchor.moment().steady, 50, "the wall is followed");
    }
}
