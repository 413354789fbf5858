use std::time::{Duration, Instant};

/// How fast places come free, measured from one refusal to the next.
///
/// Who is refused is told to come back when those before it are likely to be gone. That is worth
/// a clock reading and a lock to those who are refused, and nothing to those who are not.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::bulkhead::Drain;
///
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// let now = std::time::Instant::now();
/// let mut drain = Drain::default();
/// assert_eq!(drain.wait(now, 100, 1), Drain::UNKNOWN);
///
/// // Ten calls have ended within the last two seconds, and six have to before the next comes in.
/// let later = now + Duration::from_secs(2);
/// assert_eq!(drain.wait(later, 110, 6), Duration::from_millis(1200));
/// ```
#[derive(Debug, Default)]
pub struct Drain {
    /// When the measurement began, and how many had left by then.
    since: Option<(Instant, u64)>,
    /// When somebody last asked.
    asked: Option<Instant>,
    /// So many, and at least one, in so long.
    pace: Option<(u64, Duration)>,
    /// Whether the pace is that of a whole period.
    settled: bool,
}

impl Drain {
    /// What is said before anything has been measured: the least that a `Retry-After` can say.
    pub const UNKNOWN: Duration = Duration::from_secs(1);

    /// The most that is said: past a minute a forecast from seconds is worth nothing.
    pub const MOST: Duration = Duration::from_secs(60);

    /// After what time a place is likely to be free for somebody, when so many have left so far
    /// and so many, itself included, are to come in before the next. Rounded up.
    pub fn wait(&mut self, now: Instant, left: u64, ahead: u64) -> Duration {
        self.look(now, left);
        let Some((count, time)) = self.pace else { return Self::UNKNOWN };
        let nanos = time.as_nanos().saturating_mul(ahead.into()).div_ceil(count.into());
        let wait = u64::try_from(nanos).map_or(Self::MOST, Duration::from_nanos);
        wait.min(Self::MOST)
    }

    fn look(&mut self, now: Instant, left: u64) {
        let idle = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) > IDLE);
        self.asked = self.asked.max(Some(now));
        let (since, before) = match self.since {
            Some(since) if !idle => since,
            _ => {
                *self = Self { since: Some((now, left)), asked: self.asked, ..Self::default() };
                return;
            }
        };
        let (time, count) = (now.saturating_duration_since(since), left.saturating_sub(before));
        if time >= PERIOD && count > 0 {
            (self.pace, self.settled) = (Some((count, time)), true);
            self.since = Some((now, left));
        } else if time >= PERIOD {
            // Not one for so long, so one at the most in that time.
            self.pace = Some((1, time));
        } else if !self.settled && count > 0 && !time.is_zero() {
            self.pace = Some((count, time));
        }
    }
}

/// Long enough for a mean, short enough to follow a change.
const PERIOD: Duration = Duration::from_secs(1);

/// After so long without a refusal the mean since the last says nothing of today.
const IDLE: Duration = Duration::from_secs(10);

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    fn origin() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
        Instant::now()
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_wait_is_rounded_up_and_bounded() {
        let (mut drain, t0) = (Drain::default(), origin());
        drain.wait(t0, 0, 1);

        assert_eq!(drain.wait(t0 + millis(1000), 3, 1), Duration::from_nanos(333_333_334));
        assert_eq!(drain.wait(t0 + millis(1000), 3, u64::MAX), Drain::MOST);
    }

    #[test]
    fn a_short_measurement_is_better_than_none_and_a_whole_period_better_than_that() {
        let (mut drain, t0) = (Drain::default(), origin());
        drain.wait(t0, 0, 1);

        assert_eq!(drain.wait(t0, 5, 1), Drain::UNKNOWN, "no time has passed");
        assert_eq!(drain.wait(t0 + millis(100), 5, 1), millis(20));
        assert_eq!(drain.wait(t0 + millis(1000), 10, 1), millis(100));
        assert_eq!(drain.wait(t0 + millis(1100), 90, 1), millis(100), "not from a tenth");
    }

    #[test]
    fn who_is_stuck_says_so_and_a_quiet_spell_is_forgotten() {
        let (mut drain, t0) = (Drain::default(), origin());
        drain.wait(t0, 0, 1);
        drain.wait(t0 + millis(1000), 1000, 1);

        assert_eq!(drain.wait(t0 + millis(9000), 1000, 1), millis(8000));
        assert_eq!(drain.wait(t0 + millis(3_600_000), 1010, 1), Drain::UNKNOWN);
    }
}
