use std::{
    error::Error,
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use buttress_core::TimeLimit;
use jiff::civil::{Date, Time};

use crate::{
    Moment, Period, Zone,
    window::{days_before, local_date},
};

/// A time for which nobody answers: what ends within it is excluded.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use buttress_core::TimeLimit;
/// use buttress_slo::{Maintenance, Weekday};
///
/// let backups = Maintenance::recurring(
///     [Weekday::Sunday],
///     "02:30".parse().unwrap(),
///     TimeLimit::from_secs(1800),
///     "Europe/Berlin".parse().unwrap(),
/// );
///
/// // Sunday, 4 January 2026, 01:45 UTC, is 02:45 in Berlin.
/// let sunday = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_491_100);
/// assert!(backups.is_on(sunday));
/// assert!(!backups.is_on(sunday + Duration::from_secs(900)), "its end is not in it");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Planned(Period),
    Recurring { days: u8, at: TimeOfDay, lasts: u64, zone: Zone },
}

impl Maintenance {
    /// Once, from `start` on and until before `end`. Never, if that is not after it.
    #[must_use]
    pub fn planned(start: SystemTime, end: SystemTime) -> Self {
        Self(Kind::Planned(Period { start: unix(start), end: unix(end) }))
    }

    /// On each of these days from `at` on, by the clocks of `zone`, for as long as `lasts`; a week
    /// at the most.
    ///
    /// On a day on which that time does not exist it begins so much later; on one on which it
    /// comes twice, it begins at the first. It lasts as long on those days as on any other.
    #[must_use]
    pub fn recurring(
        days: impl IntoIterator<Item = Weekday>,
        at: TimeOfDay,
        lasts: TimeLimit,
        zone: Zone,
    ) -> Self {
        let days = days.into_iter().fold(0, |days, day| days | 1 << day as u8);
        Self(Kind::Recurring { days, at, lasts: lasts.get().as_secs().min(WEEK), zone })
    }

    /// Whether it is on at `time`.
    #[must_use]
    pub fn is_on(&self, time: SystemTime) -> bool {
        self.occurrence(unix(time)).is_some()
    }

    /// The stretch of it that `wall` falls into.
    pub(crate) fn occurrence(&self, wall: i64) -> Option<Period> {
        match &self.0 {
            Kind::Planned(period) => period.contains(wall).then_some(*period),
            Kind::Recurring { days, at, lasts, zone } => {
                let today = local_date(wall, zone)?;
                // One that began on an earlier day may still be on.
                let back = i64::try_from(lasts / DAY).unwrap_or(7) + 1;
                (0..=back).find_map(|ago| {
                    let date = days_before(today, ago)?;
                    let weekday = date.weekday().to_monday_zero_offset();
                    let period = at.on(date, zone, *lasts)?;
                    (days & 1 << weekday != 0 && period.contains(wall)).then_some(period)
                })
            }
        }
    }
}

/// A thousand years.
const AGES: u64 = 1_000 * 366 * DAY;
const DAY: u64 = 86_400;
const WEEK: u64 = 7 * DAY;

pub(crate) fn unix(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl Weekday {
    /// All days of the week.
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];
}

/// A time of day to the minute, such as `02:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay(Time);

impl TimeOfDay {
    fn on(self, date: Date, zone: &Zone, lasts: u64) -> Option<Period> {
        let start = date.to_datetime(self.0).to_zoned(zone.get()).ok()?.timestamp().as_second();
        Some(Period { start, end: start.checked_add_unsigned(lasts)? })
    }
}

impl FromStr for TimeOfDay {
    type Err = TimeOfDayError;

    fn from_str(text: &str) -> Result<Self, TimeOfDayError> {
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let time = text.split_once(':').filter(|(hour, minute)| digits(hour) && digits(minute));
        let time = time.and_then(|(hour, minute)| {
            Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
        });
        time.map(Self).ok_or_else(|| TimeOfDayError { text: text.into() })
    }
}

/// Why a text is no [`TimeOfDay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeOfDayError {
    text: String,
}

impl fmt::Display for TimeOfDayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no time of day; write it as 02:30", self.text)
    }
}

impl Error for TimeOfDayError {}

/// What a service is excused from: planned and recurring times, and those that somebody opens by
/// hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calendar {
    planned: Vec<Maintenance>,
    /// Until when somebody has excused it, on the steady timeline: a clock that is set neither
    /// lengthens nor shortens it.
    pub(crate) by_hand: Option<i64>,
    /// Until when nothing has to be asked again.
    known: Option<Period>,
}

impl Calendar {
    /// Whether maintenance is on.
    pub(crate) fn is_on(&mut self, now: Moment) -> bool {
        self.by_hand = self.by_hand.filter(|until| now.steady < *until);
        if self.known.is_none_or(|known| !known.contains(now.wall)) {
            self.known = self.planned.iter().find_map(|window| window.occurrence(now.wall));
        }
        self.by_hand.is_some() || self.known.is_some()
    }

    /// Whether it was on at a moment since the last look.
    pub(crate) fn was_on(&self, then: Moment) -> bool {
        let planned = || self.planned.iter().any(|window| window.occurrence(then.wall).is_some());
        self.by_hand.is_some_and(|until| then.steady < until) || planned()
    }

    /// Plans other times.
    pub(crate) fn plan(&mut self, planned: Vec<Maintenance>) {
        (self.planned, self.known) = (planned, None);
    }

    /// Opens maintenance by hand, for so long.
    pub(crate) fn begin(&mut self, now: Moment, lasts: Duration) {
        // Far enough, and not so far that a snapshot could not tell it.
        self.by_hand = Some(now.steady.saturating_add_unsigned(lasts.as_secs().min(AGES)));
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().unwrap().into()
    }

    fn sundays_in_new_york(time: &str, minutes: u64) -> Maintenance {
        Maintenance::recurring(
            [Weekday::Sunday],
            time.parse().unwrap(),
            TimeLimit::from_secs(minutes * 60),
            "America/New_York".parse().unwrap(),
        )
    }

    #[test]
    fn a_planned_time_has_its_start_in_it_and_not_its_end() {
        let planned = Maintenance::planned(at("2026-05-01T10:00:00Z"), at("2026-05-01T11:00:00Z"));

        assert!(planned.is_on(at("2026-05-01T10:00:00Z")));
        assert!(planned.is_on(at("2026-05-01T10:59:59Z")));
        assert!(!planned.is_on(at("2026-05-01T11:00:00Z")));
        assert!(!planned.is_on(at("2026-05-01T09:59:59Z")));
    }

    #[test]
    fn it_recurs_by_the_local_clock_in_winter_and_in_summer() {
        let window = sundays_in_new_york("01:00", 30);

        assert!(window.is_on(at("2026-01-04T06:10:00Z")), "UTC-5");
        assert!(window.is_on(at("2026-07-05T05:10:00Z")), "UTC-4");
        assert!(!window.is_on(at("2026-07-05T06:10:00Z")));
        assert!(!window.is_on(at("2026-07-06T05:10:00Z")), "a Monday");
    }

    #[test]
    fn an_hour_that_does_not_exist_comes_later_and_one_that_comes_twice_comes_first() {
        let window = sundays_in_new_york("02:30", 30);
        // 8 March 2026: 02:30 does not exist, it begins at 03:30 EDT.
        assert!(window.is_on(at("2026-03-08T07:30:00Z")));
        assert!(!window.is_on(at("2026-03-08T06:59:59Z")));

        let window = sundays_in_new_york("01:30", 30);
        // 1 November 2026: 01:30 comes twice, it begins at the first (EDT).
        assert!(window.is_on(at("2026-11-01T05:30:00Z")));
        assert!(!window.is_on(at("2026-11-01T06:30:00Z")));
    }

    #[test]
    fn it_may_last_past_midnight() {
        let window = sundays_in_new_york("23:30", 26 * 60);

        assert!(window.is_on(at("2026-01-06T06:29:59Z")), "Tuesday, 01:29 local");
        assert!(!window.is_on(at("2026-01-06T06:30:00Z")));
    }

    #[test]
    fn what_was_opened_by_hand_ends_by_itself() {
        let mut calendar = Calendar::default();

        let begun = Moment { steady: 1_000, wall: 1_000 };
        calendar.begin(begun, Duration::from_secs(60));

        // Whatever the wall clock says.
        assert!(calendar.is_on(Moment { steady: 1_059, wall: 5_000 }));
        assert!(!calendar.is_on(Moment { steady: 1_060, wall: -5_000 }));
        assert!(!calendar.is_on(begun), "and does not come back");
    }

    #[test]
    fn plans_that_overlap_are_one_and_plans_that_are_dropped_are_over() {
        let planned = |from, until| Maintenance(Kind::Planned(Period { start: from, end: until }));
        let mut calendar = Calendar::default();
        calendar.plan(vec![planned(100, 200), planned(150, 300), planned(300, 310)]);

        let at = |wall| Moment { steady: 0, wall };
        let on: Vec<_> = (0..400).filter(|wall| calendar.is_on(at(*wall))).collect();
        assert_eq!(on, (100..310).collect::<Vec<_>>(), "without a break");
        assert!(calendar.is_on(at(120)), "also when the clock is set back");

        calendar.plan(vec![planned(500, 600)]);
        assert!(!calendar.is_on(at(121)));
    }

    #[test]
    fn nonsense_is_told_what_to_write() {
        for text in ["", "2:30", "24:00", "02:60", "02-30", "+2:30", "noon"] {
            let error = text.parse::<TimeOfDay>().unwrap_err().to_string();
            assert!(error.contains("write it as 02:30"), "{error}");
        }
    }
}
