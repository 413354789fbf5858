//! A rate in the whole numbers that a script can count in, and what a bucket of it holds.

use std::{num::NonZeroU32, time::Duration};

use buttress_core::{
    Rate,
    rate_limit::{Ask, Standing},
};

/// A [`Rate`] as a fraction of microseconds for each token.
///
/// Lua counts in doubles, which hold whole numbers up to 2^53. A bucket is the instant at which it
/// is full again, in whole microseconds since 1970, which fit until 2255, and in parts of one, so
/// that nothing is rounded but the time, which the server tells in microseconds. A period is
/// rounded up to a microsecond, the parts to so many that a whole burst of them fits, and a bucket
/// that would take longer than 71 years to fill is made smaller: each to the side on which less is
/// admitted.
///
/// ```
/// use buttress_core::Rate;
/// use buttress_redis::Scale;
///
/// let scale = Scale::new(Rate::per_second(3.try_into().unwrap()));
/// assert_eq!((scale.micros(), scale.parts(), scale.burst()), (1_000_000, 3, 3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    rate: Rate,
    micros: u64,
    parts: u64,
    burst: u32,
}

/// The most that a double counts to, one by one.
const EXACT: u64 = 1 << 53;

/// How long a bucket may take to fill, in microseconds: as long as 2^53 of them leave after 2026.
const LONGEST: u64 = 1 << 51;

/// How far a bucket is from full: in whole microseconds, and in parts of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debt {
    /// Whole microseconds.
    pub micros: u64,
    /// Of as many as [`Scale::parts`] says.
    pub parts: u64,
}

impl Scale {
    /// The numbers of a rate.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let micros = u64::try_from(rate.period().as_nanos().div_ceil(1000)).unwrap_or(LONGEST);
        let events = u64::from(rate.events().get());
        let common = gcd(micros, events);
        let (mut micros, mut parts) = (micros / common, events / common);
        let mut burst = u64::from(rate.most_at_once().get());
        if parts > EXACT / burst {
            // Fewer parts of a microsecond, each of them a little larger.
            let fewer = EXACT / burst;
            micros = low((u128::from(micros) * u128::from(fewer)).div_ceil(u128::from(parts)));
            parts = fewer;
        }
        let fits = u128::from(LONGEST) * u128::from(parts) / u128::from(micros);
        burst = burst.min(low(fits)).max(1);
        let burst = u32::try_from(burst).expect("no more than the rate's own");
        Self { rate, micros, parts, burst }
    }

    /// The rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// So many microseconds yield [`parts`](Self::parts) tokens.
    #[must_use]
    pub const fn micros(&self) -> u64 {
        self.micros
    }

    /// How many tokens [`micros`](Self::micros) yield, and into how many parts a microsecond is
    /// cut.
    #[must_use]
    pub const fn parts(&self) -> u64 {
        self.parts
    }

    /// How many tokens fit.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// What so many tokens weigh, in parts of a microsecond.
    pub(crate) fn weight(&self, tokens: u32) -> u128 {
        u128::from(tokens) * u128::from(self.micros)
    }

    pub(crate) fn in_parts(&self, debt: Debt) -> u128 {
        u128::from(debt.micros) * u128::from(self.parts) + u128::from(debt.parts)
    }

    pub(crate) fn debt(&self, parts: u128) -> Debt {
        let all = u128::from(self.parts);
        Debt { micros: low(parts / all), parts: low(parts % all) }
    }

    /// How long an empty bucket takes to fill.
    pub(crate) fn fills_in(&self) -> Duration {
        Duration::from_micros(low(self.weight(self.burst) / u128::from(self.parts)))
    }

    /// Whether it may ever be admitted.
    fn allows(&self, ask: Ask) -> bool {
        ask.weight().get() <= self.burst.saturating_sub(ask.kept())
    }

    /// How many tokens a bucket holds beyond those that are to be left.
    pub(crate) fn available(&self, owed: u128, left: u32) -> u32 {
        let room = self.weight(self.burst.saturating_sub(left)).saturating_sub(owed);
        u32::try_from(room / u128::from(self.micros)).unwrap_or(u32::MAX)
    }

    /// How many microseconds pass until a bucket that owes so much has room for that, rounded up.
    fn wait(&self, owed: u128, ask: Ask) -> u64 {
        let room = self.weight(self.burst.saturating_sub(ask.kept()));
        let needed = (owed + self.weight(ask.weight().get())).saturating_sub(room);
        low(needed.div_ceil(u128::from(self.parts)))
    }
}

/// The time until a request would be admitted by all limits if nobody came before it, rounded up
/// to a microsecond: zero for now. `None` if it never will be.
///
/// What is owed is what a [`Store`](crate::Store) answered, `ago`.
#[must_use]
pub fn wait(scales: &[Scale], debts: &[Debt], ago: Duration, ask: Ask) -> Option<Duration> {
    if !scales.iter().all(|scale| scale.allows(ask)) {
        return None;
    }
    let waits = each(scales, debts, ago).map(|(scale, owed)| scale.wait(owed, ask));
    Some(Duration::from_micros(waits.max().unwrap_or_default()))
}

/// What the limits hold, for those who are to be told.
pub(crate) fn standings(scales: &[Scale], debts: &[Debt], ago: Duration) -> Vec<Standing> {
    let standing = |(scale, owed): (&Scale, u128)| {
        let available = scale.available(owed, 0);
        let more = NonZeroU32::MIN.saturating_add(available);
        let next_in = (available < scale.burst)
            .then(|| Duration::from_micros(scale.wait(owed, Ask::cost(more))));
        Standing { rate: scale.rate, available, next_in }
    };
    each(scales, debts, ago).map(standing).collect()
}

/// What each limit still owes: time that has passed is rounded down. A limit of which nothing is
/// known owes nothing.
fn each<'a>(
    scales: &'a [Scale],
    debts: &'a [Debt],
    ago: Duration,
) -> impl Iterator<Item = (&'a Scale, u128)> {
    let debts = debts.iter().copied().chain(std::iter::repeat(Debt::default()));
    scales.iter().zip(debts).map(move |(scale, debt)| {
        let yielded = ago.as_micros() * u128::from(scale.parts);
        (scale, scale.in_parts(debt).saturating_sub(yielded))
    })
}

fn low(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use buttress_core::TimeLimit;

    use super::*;

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn every_rate_fits_into_doubles_and_is_rounded_to_the_safe_side() {
        let counts = [1, 2, 3, 7, 999, 1000, 1_000_003, u32::MAX];
        let periods =
            [1, 999, 1000, 1001, 1_000_000_000, 86_400_000_000_000, 31_536_000_000_000_000];
        for events in counts {
            for burst in counts {
                for nanos in periods {
                    let period = TimeLimit::try_from(Duration::from_nanos(nanos)).unwrap();
                    let rate = Rate::new(n(events), period).burst(n(burst));

                    let Scale { micros, parts, burst: fits, .. } = Scale::new(rate);

                    let told = format!("{rate:?} as {micros}/{parts}, {fits}");
                    assert!(parts * u64::from(fits) <= EXACT, "{told}");
                    let fill = u128::from(micros) * u128::from(fits) / u128::from(parts);
                    assert!(fits == 1 || fill <= u128::from(LONGEST), "{told}");
                    assert!(fits <= burst, "{told}");
                    // No token takes less time than it should.
                    let (is, should) =
                        (u128::from(micros) * 1000 * u128::from(events), u128::from(nanos));
                    assert!(is >= should * u128::from(parts), "{told}");
                }
            }
        }
    }

    #[test]
    fn the_limit_that_is_last_names_the_wait_and_it_is_rounded_up() {
        let scales = [Scale::new(Rate::per_second(n(3))), Scale::new(Rate::per_minute(n(3)))];
        let full = scales.map(|scale| scale.debt(scale.weight(3)));

        let now = wait(&scales, &full, Duration::ZERO, Ask::one());
        let later = wait(&scales, &full, Duration::from_nanos(19_999_999_999), Ask::one());
        let then = wait(&scales, &full, Duration::from_secs(20), Ask::one());

        assert_eq!(now, Some(Duration::from_secs(20)));
        assert_eq!(later, Some(Duration::from_micros(1)));
        assert_eq!(then, Some(Duration::ZERO));
        assert_eq!(wait(&scales, &full, Duration::ZERO, Ask::cost(n(4))), None);
        assert_eq!(wait(&scales, &full, Duration::ZERO, Ask::cost(n(2)).leaving(2)), None);
        let third = wait(&scales[..1], &full, Duration::ZERO, Ask::one());
        assert_eq!(third, Some(Duration::from_micros(333_334)));
    }
}
