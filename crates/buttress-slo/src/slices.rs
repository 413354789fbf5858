use std::fmt;

use buttress_core::{Ratio, Verdict};

use crate::{Counts, burn::saturate};

/// How events become what the error budget is counted in.
///
/// - **Occurrences**: every event counts as much as any other. The budget is exact however uneven
///   the traffic is; take this one.
/// - **Time slices**: every minute, or five, is good or bad as a whole. The budget is in minutes,
///   as contracts write it, and a quiet night weighs as much as a busy noon.
/// - **Ratio time slices**: every slice counts with its own ratio. It is what "the mean of the
///   five-minute ratios" means, which sloth's default recording computes; it is here to compare
///   with those, and wrong for uneven traffic.
///
/// ```
/// use buttress_slo::{Method, SliceLength, TimeSlices};
///
/// let minutes = TimeSlices::new(SliceLength::Minute, "95%".parse().unwrap());
/// assert_eq!(Method::TimeSlices(minutes).to_string(), "1m slices of at least 0.95");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Every event counts.
    #[default]
    Occurrences,
    /// Every slice of time is good or bad.
    TimeSlices(TimeSlices),
    /// Every slice of time counts with its ratio.
    RatioTimeSlices(SliceLength),
}

impl Method {
    /// How many counts one event, or one slice, is: a ratio of a slice is kept in parts per
    /// billion.
    #[must_use]
    pub const fn unit(self) -> u64 {
        match self {
            Self::Occurrences | Self::TimeSlices(_) => 1,
            Self::RatioTimeSlices(_) => PARTS,
        }
    }
}

impl Method {
    /// How many slices a time has that each count as an event; `None` where others do.
    pub(crate) const fn slices_in(self, seconds: u64) -> Option<u64> {
        match self {
            Self::TimeSlices(rule) => Some(seconds / rule.length.seconds().unsigned_abs()),
            Self::Occurrences | Self::RatioTimeSlices(_) => None,
        }
    }
}

const PARTS: u64 = 1_000_000_000;

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occurrences => f.write_str("events"),
            Self::TimeSlices(rule) => {
                write!(f, "{} slices of at least {}", rule.length.as_str(), rule.at_least)
            }
            Self::RatioTimeSlices(length) => write!(f, "{} ratio slices", length.as_str()),
        }
    }
}

/// How long a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SliceLength {
    /// A minute.
    Minute,
    /// Five minutes.
    FiveMinutes,
}

impl SliceLength {
    const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::FiveMinutes => 300,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
        }
    }
}

/// When a slice is good.
///
/// A slice is judged at the first tick after its end: a ticker that comes late finds what came in
/// several of them in the oldest, and the others missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSlices {
    length: SliceLength,
    at_least: Ratio,
    empty: Verdict,
    missed: Verdict,
}

impl TimeSlices {
    /// A slice is good if at least this share of its events is.
    #[must_use]
    pub const fn new(length: SliceLength, at_least: Ratio) -> Self {
        Self { length, at_least, empty: Verdict::Excluded, missed: Verdict::Excluded }
    }

    /// What a slice without events counts as; by default it is excluded. Bad suits probes, which
    /// always come. A slice of which only the end was seen, after a start, is excluded anyway.
    #[must_use]
    pub const fn empty(mut self, verdict: Verdict) -> Self {
        self.empty = verdict;
        self
    }

    /// What a slice counts as in which nobody was there to count; by default it is excluded. Bad
    /// suits a service whose being down is the failure.
    #[must_use]
    pub const fn missed(mut self, verdict: Verdict) -> Self {
        self.missed = verdict;
        self
    }

    fn judge(self, events: Counts, missed: bool) -> Verdict {
        if events.is_empty() {
            return if missed { self.missed } else { self.empty };
        }
        let good = u128::from(events.good) * u128::from(PARTS);
        let wanted = u128::from(events.total()) * u128::from(self.at_least.parts_per_billion());
        if good >= wanted { Verdict::Good } else { Verdict::Bad }
    }
}

/// Turns the cumulative counts of events into cumulative counts of slices.
///
/// Slices then go the way of events: the same rings, windows, budgets and alerts.
#[derive(Clone, Debug)]
pub(crate) struct Slicer {
    method: Method,
    /// The number of the slice that is under way, and the events before it.
    open: i64,
    before: Counts,
    /// What another process counted in the slice that is under way.
    carried: Counts,
    /// Whether maintenance was on at some time of it.
    excused: bool,
    /// Whether somebody counted only from some time of it on: a start, or the end of a gap.
    partial: bool,
    slices: Counts,
}

impl Slicer {
    pub(crate) fn new(method: Method, now: i64) -> Self {
        let (open, partial) = slice_of(method, now);
        let none = Counts::default();
        Self { method, open, before: none, carried: none, excused: false, partial, slices: none }
    }

    /// Goes on as of `now` with a slice that is under way.
    pub(crate) fn resume(method: Method, now: i64, slice: UnderWay) -> Self {
        let UnderWay { events, excused, partial } = slice;
        Self { carried: events, excused, partial, ..Self::new(method, now) }
    }

    /// The slice that is under way, once `events` have been counted; `None` without slices.
    pub(crate) fn under_way(&self, events: Counts) -> Option<UnderWay> {
        let events = self.carried.plus(events.since(self.before));
        let Self { method, excused, partial, .. } = *self;
        (method != Method::Occurrences).then_some(UnderWay { events, excused, partial })
    }

    /// The cumulative counts as of `now`, in units of the method.
    pub(crate) fn advance(&mut self, now: i64, events: Counts, maintenance: bool) -> Counts {
        if self.method == Method::Occurrences {
            return events;
        }
        let current = now.div_euclid(seconds(self.method));
        if current > self.open {
            let missed = current.abs_diff(self.open) - 1;
            let excused = self.excused || maintenance;
            self.close(events, missed > 0);
            if !excused {
                self.count(Counts::default(), true, missed);
            }
            (self.open, self.partial) = (current, false);
        }
        self.excused |= maintenance;
        self.slices
    }

    /// Counts the slices from `from` until `until`, at whose ends nobody counted, and tells the
    /// counts at the end of each. `events` are those that are known of the first, and
    /// `was_excused` says whether one that begins then was.
    pub(crate) fn miss(
        &mut self,
        from: i64,
        until: i64,
        events: Counts,
        was_excused: impl Fn(i64) -> bool,
        mut told: impl FnMut(i64, Counts),
    ) {
        let (last, partial) = slice_of(self.method, until);
        if self.method == Method::Occurrences || last <= self.open {
            return;
        }
        let length = seconds(self.method);
        self.close(events, true);
        told((self.open + 1) * length, self.slices);
        for slice in (self.open + 1).max(from.div_euclid(length))..last {
            if !was_excused(slice * length) {
                self.count(Counts::default(), true, 1);
            }
            told((slice + 1) * length, self.slices);
        }
        (self.open, self.partial) = (last, partial);
    }

    /// Excuses the slice that is under way, if all of it so far came at `from` or after.
    pub(crate) fn excuse(&mut self, from: i64, events: Counts) {
        if from <= self.open * seconds(self.method) {
            (self.before, self.carried, self.excused) = (events, Counts::default(), true);
        }
    }

    /// Judges the slice that was under way until now.
    fn close(&mut self, events: Counts, missed: bool) {
        let closed = self.carried.plus(events.since(self.before));
        // What maintenance emptied is not held against anybody, nor is an end of a slice in
        // which nothing had the time to come.
        if !((self.excused || self.partial) && closed.is_empty()) {
            self.count(closed, missed, 1);
        }
        (self.before, self.carried, self.excused) = (events, Counts::default(), false);
    }

    fn count(&mut self, events: Counts, missed: bool, times: u64) {
        let one = match self.method {
            Method::TimeSlices(rule) => match rule.judge(events, missed) {
                Verdict::Good => Counts { good: 1, bad: 0 },
                Verdict::Bad => Counts { good: 0, bad: 1 },
                Verdict::Excluded => return,
            },
            _ if events.is_empty() => return,
            _ => {
                // Rounded up: a budget is never overspent.
                let parts = u128::from(events.bad) * u128::from(PARTS);
                let bad = saturate(parts.div_ceil(u128::from(events.total())));
                Counts { good: PARTS - bad, bad }
            }
        };
        let times = |count: u64| count.saturating_mul(times);
        self.slices = self.slices.plus(Counts { good: times(one.good), bad: times(one.bad) });
    }
}

/// What is known of a slice that is not over yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnderWay {
    pub(crate) events: Counts,
    /// Whether maintenance was on at some time of it.
    pub(crate) excused: bool,
    /// Whether somebody counted only from some time of it on.
    pub(crate) partial: bool,
}

/// The number of the slice that `time` falls into, and whether some of it has passed.
fn slice_of(method: Method, time: i64) -> (i64, bool) {
    let length = seconds(method);
    (time.div_euclid(length), time.rem_euclid(length) != 0)
}

fn seconds(method: Method) -> i64 {
    match method {
        Method::Occurrences => 1,
        Method::TimeSlices(rule) => rule.length.seconds(),
        Method::RatioTimeSlices(length) => length.seconds(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Budget, Coverage, Share, Target};

    const MINUTE: TimeSlices = TimeSlices::new(SliceLength::Minute, Ratio::percent(95));

    /// Feeds one slice after the other with what came in it.
    fn sliced(method: Method, step: i64, slices: impl IntoIterator<Item = Counts>) -> Counts {
        let mut slicer = Slicer::new(method, 0);
        let (mut now, mut events) = (0, Counts::default());
        for slice in slices {
            now += step;
            events = events.plus(slice);
            slicer.advance(now, events, false);
        }
        slicer.slices
    }

    fn left(target: &str, slices: Counts, days: u64) -> Share {
        let full = Coverage::full(Duration::from_secs(days * 86_400));
        Budget::new(target.parse::<Target>().unwrap(), slices, full).remaining()
    }

    #[test]
    fn a_slice_at_its_target_is_good() {
        // slo.md 10, scenario 41.
        let method = Method::TimeSlices(MINUTE);

        let at = sliced(method, 60, [Counts { good: 19, bad: 1 }]);
        let below = sliced(method, 60, [Counts { good: 18, bad: 2 }]);

        assert_eq!(at, Counts { good: 1, bad: 0 });
        assert_eq!(below, Counts { good: 0, bad: 1 });
    }

    #[test]
    fn budgets_of_slices_are_in_slices() {
        // Scenarios 41 and 42: 5.04 slices of a week, 43.2 of 30 days.
        let method = Method::TimeSlices(MINUTE);
        for (target, days, bad, expected) in [
            ("99.95", 7, 5, "0.794%"),
            ("99.95", 7, 6, "-19.048%"),
            ("99.9", 30, 43, "0.463%"),
            ("99.9", 30, 44, "-1.852%"),
        ] {
            let minutes = (0..days * 1440).map(|minute| {
                let bad = u64::from(minute < bad);
                Counts { good: 1 - bad, bad }
            });
            let slices = sliced(method, 60, minutes);
            assert_eq!(left(target, slices, days).to_string(), expected);
        }
    }

    #[test]
    fn a_gap_counts_as_was_said() {
        // Scenario 42: ten minutes in which nobody counted, as bad slices and as none.
        for (missed, bad, expected) in
            [(Verdict::Bad, 10, "76.852%"), (Verdict::Excluded, 0, "100%")]
        {
            let method = Method::TimeSlices(MINUTE.missed(missed));
            let mut slicer = Slicer::new(method, 0);
            let mut events = Counts::default();
            for minute in (1..=43_200).filter(|minute| !(101..=109).contains(minute)) {
                events.good += u64::from(minute != 110);
                slicer.advance(minute * 60, events, false);
            }

            assert_eq!(slicer.slices.bad, bad);
            assert_eq!(left("99.9", slicer.slices, 30).to_string(), expected);
        }
    }

    #[test]
    fn an_empty_slice_counts_as_was_said() {
        for (empty, slices) in [
            (Verdict::Good, Counts { good: 3, bad: 0 }),
            (Verdict::Bad, Counts { good: 0, bad: 3 }),
            (Verdict::Excluded, Counts::default()),
        ] {
            let method = Method::TimeSlices(MINUTE.empty(empty));
            assert_eq!(sliced(method, 60, [Counts::default(); 3]), slices);
        }
    }

    #[test]
    fn a_slice_of_which_only_the_end_was_seen_is_not_called_empty() {
        // Probes that come every ten seconds had no time to come in the last second of a minute.
        let method = Method::TimeSlices(MINUTE.empty(Verdict::Bad).missed(Verdict::Bad));
        let mut slicer = Slicer::new(method, 59);

        assert_eq!(slicer.advance(60, Counts::default(), false), Counts::default());
        assert_eq!(slicer.advance(120, Counts::default(), false), Counts { good: 0, bad: 1 });

        // So it is after a gap: two were missed, and of a third one the end was seen.
        let miss = |slicer: &mut Slicer, from, until| {
            slicer.miss(from, until, Counts::default(), |_| false, |_, _| {});
        };
        miss(&mut slicer, 120, 299);
        assert_eq!(slicer.advance(300, Counts::default(), false), Counts { good: 0, bad: 3 });
        let events = Counts { good: 1, bad: 0 };
        miss(&mut slicer, 300, 399);
        let judged = slicer.advance(420, events, false);
        assert_eq!(judged, Counts { good: 1, bad: 4 }, "what did come in it is judged");
    }

    #[test]
    fn what_maintenance_emptied_is_no_slice() {
        let rule = MINUTE.empty(Verdict::Bad).missed(Verdict::Bad);
        let mut slicer = Slicer::new(Method::TimeSlices(rule), 0);

        for minute in 1..=5 {
            slicer.advance(minute * 60, Counts::default(), (1..4).contains(&minute));
        }

        assert_eq!(slicer.slices, Counts { good: 0, bad: 2 }, "the first and the last");
    }

    #[test]
    fn what_maintenance_let_nobody_tick_is_no_slice() {
        let rule = MINUTE.empty(Verdict::Bad).missed(Verdict::Bad);
        let mut slicer = Slicer::new(Method::TimeSlices(rule), 0);

        // It began in the first minute, and was over when somebody ticked again in the sixth.
        slicer.advance(30, Counts::default(), true);
        slicer.advance(330, Counts::default(), false);

        assert_eq!(slicer.slices, Counts::default());
    }

    #[test]
    fn a_ratio_of_a_slice_is_rounded_against_it() {
        let method = Method::RatioTimeSlices(SliceLength::Minute);

        let third = sliced(method, 60, [Counts { good: 2, bad: 1 }]);

        assert_eq!(third, Counts { good: 666_666_666, bad: 333_333_334 });
    }

    #[test]
    fn a_mean_of_ratios_blames_the_quiet_hours() {
        // Scenario 44: twelve hours at 100 a second clean, twelve at 0.1 with 1 % bad.
        let busy = Counts { good: 30_000, bad: 0 };
        let quiet = Counts { good: 2_970, bad: 30 };
        let day = (0..288).map(|slice| if slice < 144 { busy } else { quiet });
        let method = Method::RatioTimeSlices(SliceLength::FiveMinutes);

        let slices = sliced(method, 300, day);

        assert_eq!(left("99.9", slices, 1).to_string(), "-400%");
    }
}
