use super::Ask;
use crate::Rate;

/// A [`Rate`] in whole numbers: what one event weighs, and how much weight a nanosecond takes off.
///
/// A bucket is the one instant at which it would be full again. In nanoseconds that instant would
/// be rounded with each event that is admitted, and a thousand of them a microsecond off at three
/// events a second. So it is counted in *ticks*, of which an event has a whole number: nothing is
/// rounded but the time, once. Where the rate allows, a nanosecond has a whole number too, and
/// nothing is rounded at all; else a tick is less than half a nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    rate: Rate,
    /// The rate in lowest terms: so many events in so many nanoseconds.
    events: u64,
    nanos: u64,
    pub(super) parts: Parts,
}

/// The numbers of a [`Scale`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Ticks of an event.
    pub(super) event: u64,
    /// How many events may come at once.
    pub(super) burst: u64,
    /// Whole ticks of a nanosecond.
    pub(super) whole: u64,
    /// The rest of them, in parts of 2^128, rounded up.
    pub(super) rest: u128,
    /// The tick that the scale begins at, and the nanosecond.
    pub(super) first: (u64, u64),
}

/// The ticks at which time stands still, decades after the first call. So an instant at which a
/// bucket is full, which is [`WINDOW`] later at the most, leaves one bit of a word free.
const END: u64 = (1 << 63) - (1 << 61);

/// The ticks from which on they had better begin anew.
pub(super) const LATE: u64 = END - (1 << 61);

/// How far ahead a bucket may be full. What fills up for longer than nine years has coarser ticks.
const WINDOW: u64 = 1 << 60;

/// The last instant at which a bucket can be full: one bit of a word is left free.
const MOST: u64 = (1 << 63) - 1;

/// The ticks of a nanosecond: as many as leave time for decades.
const FINEST: u64 = 4;

/// Where one tick is an event, because there are so many: more than that in a nanosecond cannot be.
const MOST_EVENTS: u64 = 8;

/// What a bucket says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Admitted: the tick at which it is full again.
    Taken(u64),
    /// Not before that tick.
    NotBefore(u64),
    /// Never: it asks for more than may come at once.
    Never,
}

impl Scale {
    pub(super) fn new(rate: Rate) -> Self {
        Self::from(rate, (0, 0))
    }

    /// The same rate, counted from another tick and nanosecond.
    pub(super) fn from(rate: Rate, first: (u64, u64)) -> Self {
        let (events, nanos, event) = Self::fraction(rate);
        let ticks = u128::from(event) * u128::from(events);
        let (whole, left) = (ticks / u128::from(nanos), ticks % u128::from(nanos));
        // Two digits of 64 bits. Rounded up, which 128 bits hide: the product with any number of
        // nanoseconds is off by less than what sets it apart from the next whole tick.
        let (high, left) = divide(left << 64, nanos);
        let (low, left) = divide(u128::from(left) << 64, nanos);
        let rest = (u128::from(high) << 64 | u128::from(low)) + u128::from(left > 0);
        let burst = u64::from(rate.most_at_once().get());
        let whole = u64::try_from(whole).expect("a nanosecond has a few ticks");
        Self { rate, events, nanos, parts: Parts { event, burst, whole, rest, first } }
    }

    /// Events in so many nanoseconds, in lowest terms, and the ticks of an event.
    fn fraction(rate: Rate) -> (u64, u64, u64) {
        let (events, nanos) = (u64::from(rate.events().get()), rate.period_nanos());
        let common = gcd(events, nanos);
        let (mut events, nanos) = (events / common, nanos / common);
        events = events.min(nanos.saturating_mul(MOST_EVENTS));
        let widest = WINDOW / u64::from(rate.most_at_once().get());
        let event = if events <= FINEST && nanos <= widest {
            nanos
        } else {
            // A period is a year at the most, so this fits.
            (nanos * FINEST / events).min(widest).max(1)
        };
        (events, nanos, event)
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// How many nanoseconds pass from the origin to a tick, rounded up to a whole one: one earlier
    /// the tick has not come.
    pub(super) fn nanos_at(&self, tick: u64) -> u64 {
        let Some(ticks) = tick.checked_sub(self.parts.first.0).filter(|ticks| *ticks > 0) else {
            return 0;
        };
        let since = u128::from(ticks) * u128::from(self.nanos);
        let since = since.div_ceil(u128::from(self.parts.event) * u128::from(self.events));
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(self.parts.first.1)
    }

    /// The instant at which a bucket of this scale is full, that of another being known. It holds
    /// as many tokens as before, less what does not fit: nothing is minted.
    pub(super) fn convert(&self, full_at: u64, now: u64, from: &Self) -> u64 {
        let used = u128::from(full_at.saturating_sub(from.parts.ticks(now).0));
        let (old, new) = (&from.parts, &self.parts);
        let used = (used * u128::from(new.event)).div_ceil(u128::from(old.event));
        let grown = u128::from(new.burst) * u128::from(new.event);
        let was = u128::from(old.burst) * u128::from(new.event);
        let used = (used + grown).saturating_sub(was).min(grown);
        let used = u64::try_from(used).unwrap_or(WINDOW);
        new.ticks(now).1.saturating_add(used)
    }
}

impl Parts {
    /// The last tick that has come, and the next; the same if it comes just then.
    #[inline]
    pub(super) fn ticks(&self, now: u64) -> (u64, u64) {
        let (tick, nanos) = self.first;
        let since = now.saturating_sub(nanos);
        let (rest, inexact) = if self.rest == 0 { (0, false) } else { high(self.rest, since) };
        let ticks = self.whole.saturating_mul(since).saturating_add(rest).saturating_add(tick);
        if ticks >= END { (END, END) } else { (ticks, ticks + u64::from(inexact)) }
    }

    /// Asks for `cost` events while `kept` stay in the bucket, behind others who have asked for
    /// `ahead`.
    #[inline]
    pub(super) fn ask(&self, full_at: u64, now: u64, ask: Ask, ahead: u64) -> Answer {
        let cost = u64::from(ask.cost.get());
        let most = self.burst.saturating_sub(u64::from(ask.kept));
        if cost > most {
            return Answer::Never;
        }
        let (floor, ceiling) = self.ticks(now);
        // A burst is within `WINDOW`, and who is ahead may be anything. Parts that are being changed
        // while they are read may be anything as well, and decide nothing.
        let weight = self.event.saturating_mul(cost);
        let room = self.event.saturating_mul(most);
        let before = full_at.max(floor).saturating_add(self.event.saturating_mul(ahead));
        let after = before.saturating_add(weight);
        if after <= floor.saturating_add(room) {
            return Answer::Taken(full_at.max(ceiling).saturating_add(weight));
        }
        Answer::NotBefore(after - room)
    }

    /// The instant at which the bucket is full once `cost` events have been taken, whether they
    /// were there or not.
    pub(super) fn taken(&self, full_at: u64, now: u64, cost: u64) -> u64 {
        full_at.max(self.ticks(now).1).saturating_add(self.event.saturating_mul(cost)).min(MOST)
    }

    /// The instant at which the bucket is full once `cost` events have been given back.
    pub(super) fn give_back(&self, full_at: u64, cost: u64, now: u64) -> u64 {
        full_at.saturating_sub(self.event.saturating_mul(cost)).max(self.ticks(now).1.min(full_at))
    }

    /// How many events may come at once, right now.
    pub(super) fn available(&self, full_at: u64, now: u64) -> u64 {
        let floor = self.ticks(now).0;
        (self.event * self.burst + floor).saturating_sub(full_at.max(floor)) / self.event
    }

    /// The instant at which an empty bucket is full.
    pub(super) fn drained(&self, full_at: u64, now: u64) -> u64 {
        self.ticks(now).1.saturating_add(self.event * self.burst).max(full_at)
    }
}

/// The part of `rest * nanos` above 2^128, and whether there is a part below that counts.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "halves of 64 bits")]
fn high(rest: u128, nanos: u64) -> (u64, bool) {
    let nanos = u128::from(nanos);
    let (high, low) = (rest >> 64, rest & u128::from(u64::MAX));
    let sum = high * nanos + ((low * nanos) >> 64);
    // `rest` is too great by less than 2^-128, the product by less than 2^-64: a true part below
    // is 1 in `period` at the least, which is more.
    ((sum >> 64) as u64, sum as u64 != 0)
}

/// Quotient and remainder, of a number that is less than 2^64 times the other.
#[expect(clippy::cast_possible_truncation, reason = "the quotient is less than 2^64")]
fn divide(number: u128, by: u64) -> (u64, u64) {
    ((number / u128::from(by)) as u64, (number % u128::from(by)) as u64)
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
