use std::time::{Duration, Instant};

/// The instant past which the caller will not wait any more, kept in a request's extensions.
///
/// A `Timeout` that propagates puts it there; a layer or a handler further in may read it, to do
/// no work that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

/// What a request says about how long its caller will wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// Until an instant of this process's clock: the [`Deadline`] of a layer further out.
    Until(Instant),
    /// For so long from when the request came in: a header.
    For(Duration),
}

impl Remaining {
    /// The instant at which it ends, for a request that came in at `arrived`.
    ///
    /// `None` if it lies further ahead than the clock can count, which is no deadline at all.
    #[must_use]
    #[inline]
    pub fn ends(self, arrived: Instant) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(at),
            Self::For(remaining) => arrived.checked_add(remaining),
        }
    }
}

/// Reads a `grpc-timeout` value: up to eight digits and a unit, one of `HMSmun`
/// ([gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)).
///
/// Anything else is `None`, and is to be taken as no deadline.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::parse_grpc_timeout;
///
/// assert_eq!(parse_grpc_timeout(b"250m"), Some(Duration::from_millis(250)));
/// assert_eq!(parse_grpc_timeout(b"1H"), Some(Duration::from_secs(3600)));
/// assert_eq!(parse_grpc_timeout(b"123456789m"), None);
/// assert_eq!(parse_grpc_timeout(b"-1S"), None);
/// ```
#[must_use]
pub fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let count = parse_digits(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Up to eight digits, which gRPC allows and which in milliseconds are a little over a day.
pub(crate) fn parse_digits(digits: &[u8]) -> Option<u64> {
    const MOST_DIGITS: usize = 8;
    if digits.is_empty() || digits.len() > MOST_DIGITS {
        return None;
    }
    digits.iter().try_fold(0, |count: u64, digit| {
        digit.is_ascii_digit().then(|| count * 10 + u64::from(digit - b'0'))
    })
}

/// Writes a `grpc-timeout` value, in the finest unit that eight digits can hold.
///
/// Rounded down: the next hop is never told more time than there is.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::format_grpc_timeout;
///
/// assert_eq!(format_grpc_timeout(Duration::from_millis(250)), "250000u");
/// assert_eq!(format_grpc_timeout(Duration::from_nanos(1)), "1n");
/// assert_eq!(format_grpc_timeout(Duration::from_secs(3600)), "3600000m");
/// ```
#[must_use]
pub fn format_grpc_timeout(remaining: Duration) -> String {
    let (count, unit) = grpc_timeout(remaining);
    format!("{count}{unit}")
}

pub(crate) fn grpc_timeout(remaining: Duration) -> (u128, char) {
    const MOST: u128 = 99_999_999;
    let nanos = remaining.as_nanos();
    let units = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let counts = units.into_iter().map(|(size, unit)| (nanos / size, unit));
    counts.into_iter().find(|(count, _)| *count <= MOST).unwrap_or((MOST, 'H'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nonsense_is_no_deadline() {
        for value in ["", "m", "10", "10x", "1.5S", "+1S", " 1S", "1 S", "999999999n", "١S"] {
            assert_eq!(parse_grpc_timeout(value.as_bytes()), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_never_longer_and_almost_as_long(nanos in 0..=u64::MAX / 2) {
            let remaining = Duration::from_nanos(nanos);

            let read = parse_grpc_timeout(format_grpc_timeout(remaining).as_bytes()).unwrap();

            prop_assert!(read <= remaining);
            // The unit is 1,000 times the next finer one at the most, of which there were over
            // 99,999,999; so at least five digits are kept.
            prop_assert!(remaining.saturating_sub(read) <= remaining / 99_999);
        }

        #[test]
        fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = parse_grpc_timeout(&value);
        }
    }
}
