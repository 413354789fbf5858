use std::fmt::Write;

use buttress_core::rate_limit::Standing;
use http::{HeaderName, HeaderValue, Response};

/// What responses say of a limit.
pub trait Announce<Res>: Clone {
    /// What a response will say.
    type Note;

    /// Writes down what the response to a request will say, when it is decided.
    fn note(&self, name: &str, standings: impl FnOnce() -> Vec<Standing>) -> Self::Note;

    /// Says it, in the response or in the refusal.
    fn stamp(note: Self::Note, response: &mut Res);
}

/// Responses say nothing, but for the refusals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl<Res> Announce<Res> for Silent {
    type Note = ();

    #[inline]
    fn note(&self, _: &str, _: impl FnOnce() -> Vec<Standing>) {}

    #[inline]
    fn stamp((): (), _: &mut Res) {}
}

/// Every response says what the limits are and what is left of them, in `RateLimit-Policy` and
/// `RateLimit`, by revision 10 of
/// [draft-ietf-httpapi-ratelimit-headers](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/10/).
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers;

impl<B> Announce<Response<B>> for Headers {
    type Note = [Option<HeaderValue>; 2];

    fn note(&self, name: &str, standings: impl FnOnce() -> Vec<Standing>) -> Self::Note {
        let (mut policy, mut state) = (String::new(), String::new());
        for (index, Standing { rate, available, next_in }) in standings().into_iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            // A structured string (RFC 9651): printable ASCII, and two signs that are escaped.
            let mut item = String::from(comma) + "\"";
            for sign in
                name.chars().map(|sign| if (' '..='~').contains(&sign) { sign } else { '_' })
            {
                if matches!(sign, '"' | '\\') {
                    item.push('\\');
                }
                item.push(sign);
            }
            if index > 0 {
                let _ = write!(item, "-{}", index + 1);
            }
            item.push('"');
            let burst = rate.most_at_once();
            let window = u128::from(burst.get()) * rate.period().as_nanos();
            let window = window.div_ceil(u128::from(rate.events().get()) * NANOS);
            let _ = write!(policy, "{item};q={burst};w={window}");
            let _ = write!(state, "{item};r={available}");
            if let Some(next_in) = next_in {
                // Rounded up: who comes then is not early.
                let _ = write!(state, ";t={}", next_in.as_nanos().div_ceil(NANOS));
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

const NANOS: u128 = 1_000_000_000;

const NAMES: [HeaderName; 2] =
    [HeaderName::from_static("ratelimit-policy"), HeaderName::from_static("ratelimit")];
