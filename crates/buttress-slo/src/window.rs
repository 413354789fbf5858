use std::{fmt, time::Duration};

use buttress_core::TimeLimit;
use jiff::{Timestamp, ToSpan, Zoned, civil::Date};

use crate::Zone;

/// The period over which an objective holds.
///
/// A rolling window always looks as far back; a calendar window starts over with a full budget
/// on its first day. People feel rolling windows; contracts are written in months.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use buttress_slo::Window;
///
/// let march = SystemTime::UNIX_EPOCH + Duration::from_secs(1_773_600_000);
/// let new_york = Window::month("America/New_York".parse().unwrap());
///
/// // 31 days, less the hour that the clocks are put forward.
/// assert_eq!(new_york.period(march).length(), Duration::from_secs(743 * 3600));
/// assert_eq!(Window::THIRTY_DAYS.period(march).length(), Duration::from_secs(720 * 3600));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Rolling(Duration),
    Calendar(CalendarUnit, Zone),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CalendarUnit {
    Month,
    Quarter,
    Year,
}

impl Window {
    /// The last 7 days.
    pub const SEVEN_DAYS: Self = Self::days(7);
    /// The last 28 days: always four of each weekday.
    pub const TWENTY_EIGHT_DAYS: Self = Self::days(28);
    /// The last 30 days.
    pub const THIRTY_DAYS: Self = Self::days(30);
    /// The last 90 days.
    pub const NINETY_DAYS: Self = Self::days(90);

    /// The last so many days of 24 hours.
    ///
    /// # Panics
    ///
    /// If `days` is 0 or over 366. In a constant that is an error of the compiler.
    #[must_use]
    pub const fn days(days: u16) -> Self {
        assert!(days > 0 && days <= 366, "a rolling window has 1 to 366 days");
        Self(Kind::Rolling(Duration::from_secs(days as u64 * DAY)))
    }

    /// The last so many minutes or hours, in full seconds: a promise such as "p99 below 500 ms,
    /// over any 5 minutes". A minute at the least, for the finest slot is of 5 s.
    #[must_use]
    pub fn sliding(length: TimeLimit) -> Self {
        Self(Kind::Rolling(Duration::from_secs(length.get().as_secs().max(60))))
    }

    /// The calendar month.
    #[must_use]
    pub const fn month(zone: Zone) -> Self {
        Self(Kind::Calendar(CalendarUnit::Month, zone))
    }

    /// The calendar quarter.
    #[must_use]
    pub const fn quarter(zone: Zone) -> Self {
        Self(Kind::Calendar(CalendarUnit::Quarter, zone))
    }

    /// The calendar year.
    #[must_use]
    pub const fn year(zone: Zone) -> Self {
        Self(Kind::Calendar(CalendarUnit::Year, zone))
    }

    /// Whether it starts over by the calendar.
    #[must_use]
    pub const fn is_calendar(&self) -> bool {
        matches!(self.0, Kind::Calendar(..))
    }

    /// The period that `at` falls into; for a rolling window the one that ends at it.
    #[must_use]
    pub fn period(&self, at: std::time::SystemTime) -> Period {
        let wall = match at.duration_since(std::time::SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(_) => 0,
        };
        self.period_at(wall)
    }

    pub(crate) fn period_at(&self, wall: i64) -> Period {
        match &self.0 {
            Kind::Rolling(length) => {
                let length = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
                Period { start: wall.saturating_sub(length), end: wall }
            }
            Kind::Calendar(unit, zone) => calendar_period(*unit, zone, wall),
        }
    }

    /// The length that alert windows are chosen for: 30 days for a month, 90 for a quarter.
    #[must_use]
    pub const fn nominal(&self) -> Duration {
        match self.0 {
            Kind::Rolling(length) => length,
            Kind::Calendar(CalendarUnit::Month, _) => Duration::from_secs(30 * DAY),
            Kind::Calendar(CalendarUnit::Quarter, _) => Duration::from_secs(90 * DAY),
            Kind::Calendar(CalendarUnit::Year, _) => Duration::from_secs(365 * DAY),
        }
    }

    /// How many seconds its longest period has, with the hours that clocks are put back.
    pub(crate) const fn longest(&self) -> u64 {
        let days = match self.0 {
            Kind::Rolling(length) => return length.as_secs(),
            Kind::Calendar(CalendarUnit::Month, _) => 31,
            Kind::Calendar(CalendarUnit::Quarter, _) => 92,
            Kind::Calendar(CalendarUnit::Year, _) => 366,
        };
        days * DAY + 2 * 3600
    }
}

const DAY: u64 = 86_400;

fn calendar_period(unit: CalendarUnit, zone: &Zone, wall: i64) -> Period {
    let months = match unit {
        CalendarUnit::Month => 1,
        CalendarUnit::Quarter => 3,
        CalendarUnit::Year => 12,
    };
    let period = zoned(wall, zone).and_then(|now| {
        let first = (now.month() - 1) / months * months + 1;
        let start = Date::new(now.year(), first, 1).ok()?;
        let end = start.checked_add(i64::from(months).months()).ok()?;
        let midnight = |date: Date| Some(date.to_zoned(zone.get()).ok()?.timestamp().as_second());
        Some(Period { start: midnight(start)?, end: midnight(end)? })
    });
    // Years past 9999 have no calendar.
    period.unwrap_or(Period { start: wall, end: wall.saturating_add(1) })
}

pub(crate) fn zoned(wall: i64, zone: &Zone) -> Option<Zoned> {
    Some(Timestamp::from_second(wall).ok()?.to_zoned(zone.get()))
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Rolling(length) => f.write_str(&short(*length)),
            Kind::Calendar(CalendarUnit::Month, zone) => write!(f, "month ({zone})"),
            Kind::Calendar(CalendarUnit::Quarter, zone) => write!(f, "quarter ({zone})"),
            Kind::Calendar(CalendarUnit::Year, zone) => write!(f, "year ({zone})"),
        }
    }
}

/// A duration as alerts are written: `30d`, `1h30m`, `5m`.
pub(crate) fn short(duration: Duration) -> String {
    let mut left = duration.as_secs();
    let mut text = String::new();
    for (unit, name) in [(DAY, 'd'), (3600, 'h'), (60, 'm'), (1, 's')] {
        if left >= unit {
            text.push_str(&(left / unit).to_string());
            text.push(name);
            left %= unit;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// A stretch of wall time, in Unix seconds; its end is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first second.
    pub start: i64,
    /// The second after its last.
    pub end: i64,
}

impl Period {
    /// How long it is.
    #[must_use]
    pub const fn length(self) -> Duration {
        Duration::from_secs(self.end.saturating_sub(self.start).unsigned_abs())
    }

    /// Whether it has `wall` in it.
    #[must_use]
    pub const fn contains(self, wall: i64) -> bool {
        self.start <= wall && wall < self.end
    }
}

impl fmt::Display for Period {
    /// Its first and its last second, in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let last = self.end.saturating_sub(1).max(self.start);
        write!(f, "{} to {}", at(self.start), at(last))
    }
}

/// The local date that `wall` falls on.
pub(crate) fn local_date(wall: i64, zone: &Zone) -> Option<Date> {
    Some(zoned(wall, zone)?.date())
}

/// So many days before `date`.
pub(crate) fn days_before(date: Date, days: i64) -> Option<Date> {
    date.checked_sub(jiff::Span::new().try_days(days).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn budget(window: &Window, day: &str) -> Duration {
        let target: Target = "99.9".parse().unwrap();
        target.error_time(window.period_at(at(day)).length())
    }

    fn in_new_york() -> Zone {
        "America/New_York".parse().unwrap()
    }

    #[test]
    fn calendar_budgets_know_leap_years_and_summer_time() {
        // slo.md 10, scenario 5.
        let millis = |hours: u64, minutes: u64, millis| (hours * 60 + minutes) * 60_000 + millis;
        for (window, day, expected) in [
            (Window::month(Zone::UTC), "2026-02-10T12:00:00Z", millis(0, 40, 19_200)),
            (Window::month(Zone::UTC), "2028-02-29T23:59:59Z", millis(0, 41, 45_600)),
            (Window::month(Zone::UTC), "2026-07-01T00:00:00Z", millis(0, 44, 38_400)),
            (Window::month(in_new_york()), "2026-03-08T12:00:00Z", millis(0, 44, 34_800)),
            (Window::month(in_new_york()), "2026-11-15T12:00:00Z", millis(0, 43, 15_600)),
            (Window::quarter(Zone::UTC), "2026-03-31T12:00:00Z", millis(2, 9, 36_000)),
            (Window::quarter(Zone::UTC), "2028-01-01T00:00:00Z", millis(2, 11, 2_400)),
            (Window::year(Zone::UTC), "2026-12-31T12:00:00Z", millis(8, 45, 36_000)),
        ] {
            assert_eq!(budget(&window, day), Duration::from_millis(expected), "{window} {day}");
        }
    }

    #[test]
    fn a_period_starts_at_local_midnight_and_has_no_end_in_it() {
        let berlin = Window::month("Europe/Berlin".parse().unwrap());

        let april = berlin.period_at(at("2026-04-15T00:00:00Z"));

        assert_eq!(april.start, at("2026-03-31T22:00:00Z"));
        assert_eq!(april.end, at("2026-04-30T22:00:00Z"));
        assert!(april.contains(april.start) && !april.contains(april.end));
        assert_eq!(berlin.period_at(april.end).start, april.end);
        assert_eq!(berlin.period_at(april.start - 1).end, april.start);
        assert_eq!(april.to_string(), "2026-03-31T22:00:00Z to 2026-04-30T21:59:59Z");
    }

    #[test]
    fn a_midnight_that_does_not_exist_begins_when_the_day_does() {
        // In 2018 Brazil put its clocks forward at midnight of Sunday, 4 November; Cuba does so
        // in March. A month may begin at one o'clock: Paraguay, 1 October 2023.
        let asuncion = Window::month("America/Asuncion".parse().unwrap());

        let october = asuncion.period_at(at("2023-10-05T12:00:00Z"));

        assert_eq!(october.start, at("2023-10-01T04:00:00Z"), "01:00 at UTC-3");
    }

    #[test]
    fn times_past_the_calendar_do_not_panic() {
        for wall in [i64::MIN, -1, i64::MAX] {
            let _ = Window::month(Zone::UTC).period_at(wall);
            let _ = Window::THIRTY_DAYS.period_at(wall).to_string();
        }
    }

    #[test]
    fn lengths_print_as_alerts_write_them() {
        for (seconds, text) in [(300, "5m"), (5400, "1h30m"), (2_592_000, "30d"), (0, "0s")] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
