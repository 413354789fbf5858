use std::{fmt::Write, sync::Arc, time::Duration};

use buttress_core::{Rate, rate_limit::Standing};
use http::{HeaderName, HeaderValue, Response};

/// What responses say of a limit.
pub trait Announce<Res>: Clone {
    /// What a response will say.
    type Note;

    /// Writes down what the response to a request will say, when it is decided; of a refusal,
    /// when to come again.
    fn note(
        &self,
        name: &str,
        standings: impl FnOnce() -> Vec<Standing>,
        retry_after: Option<Duration>,
    ) -> Self::Note;

    /// Says it, in the response or in the refusal.
    fn stamp(note: Self::Note, response: &mut Res);
}

/// Responses say nothing, but for the refusals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl<Res> Announce<Res> for Silent {
    type Note = ();

    #[inline]
    fn note(&self, _: &str, _: impl FnOnce() -> Vec<Standing>, _: Option<Duration>) {}

    #[inline]
    fn stamp((): (), _: &mut Res) {}
}

/// Every response says what the limits are and what is left of them, in `RateLimit-Policy` and
/// `RateLimit`, by revision 11 of
/// [draft-ietf-httpapi-ratelimit-headers](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/).
///
/// - `q` events in `w` seconds are what the limit yields: `w` is as long as the burst takes, in
///   whole seconds, and a second at the least. A hundred a second of which five may come at once are
///   `q=100;w=1`.
/// - `r` may come at once, and no more within `t` seconds. Other limits, or a
///   [reserve](super::RateLimitLayer::reserve), may refuse them all the same. `t` is not said where
///   it is longer than the `Retry-After` of a refusal.
///
/// All numbers are rounded so that who obeys them is not early, and have fifteen digits at the most
/// (RFC 9651). What all keys have [together](super::RateLimitLayer::within) is not told: it is
/// nobody's own, and says how busy the others are.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    names: Option<Arc<[Box<str>]>>,
}

impl Headers {
    pub(super) fn named<T: Into<Box<str>>>(names: impl IntoIterator<Item = T>) -> Self {
        Self { names: Some(names.into_iter().map(Into::into).collect()) }
    }

    /// What a limit is called: as it was named, or like the layer, with a number from the second on.
    fn item(&self, layer: &str, index: usize) -> String {
        let named = self.names.as_ref().and_then(|names| names.get(index));
        let mut item = String::from(if index > 0 { ", \"" } else { "\"" });
        // A structured string (RFC 9651): printable ASCII, and two signs that are escaped.
        for sign in named.map_or(layer, |name| name).chars() {
            match sign {
                '"' | '\\' => item.extend(['\\', sign]),
                ' '..='~' => item.push(sign),
                _ => item.push('_'),
            }
        }
        if index > 0 && named.is_none() {
            let _ = write!(item, "-{}", index + 1);
        }
        item.push('"');
        item
    }
}

impl<B> Announce<Response<B>> for Headers {
    type Note = [Option<HeaderValue>; 2];

    fn note(
        &self,
        name: &str,
        standings: impl FnOnce() -> Vec<Standing>,
        retry_after: Option<Duration>,
    ) -> Self::Note {
        let (mut policy, mut state) = (String::new(), String::new());
        for (index, Standing { rate, available, next_in }) in standings().into_iter().enumerate() {
            let (item, (quota, window)) = (self.item(name, index), policy_of(rate));
            let _ = write!(policy, "{item};q={quota};w={window}");
            let _ = write!(state, "{item};r={available}");
            // Whoever obeys `Retry-After` is not to come before this says so.
            let told = next_in.filter(|next| retry_after.is_none_or(|wait| *next <= wait));
            if let Some(next_in) = told {
                // Rounded up: who comes then is not early.
                let _ = write!(state, ";t={}", next_in.as_nanos().div_ceil(NANOS).min(MOST));
            }
        }
        // A limit of which nothing is known says nothing.
        let told = |text: String| HeaderValue::try_from(text).ok().filter(|it| !it.is_empty());
        [policy, state].map(told)
    }

    fn stamp(note: Self::Note, response: &mut Response<B>) {
        for (name, value) in NAMES.into_iter().zip(note) {
            if let Some(value) = value {
                // Added to those of other limits: both are lists.
                response.headers_mut().append(name, value);
            }
        }
    }
}

/// So many events in so many seconds: as long as the burst takes, and a second at the least. The
/// seconds are rounded up; the events are what these yield, rounded down.
fn policy_of(rate: Rate) -> (u128, u128) {
    let (events, period) = (u128::from(rate.events().get()), rate.period().as_nanos());
    let burst = u128::from(rate.most_at_once().get());
    let window = (burst * period).div_ceil(events * NANOS).min(MOST);
    ((events * window * NANOS / period).min(MOST), window)
}

const NANOS: u128 = 1_000_000_000;

/// The greatest integer of a structured field.
const MOST: u128 = 999_999_999_999_999;

const NAMES: [HeaderName; 2] =
    [HeaderName::from_static("ratelimit-policy"), HeaderName::from_static("ratelimit")];
