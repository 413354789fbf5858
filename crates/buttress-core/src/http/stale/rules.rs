use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::directives::{Directives, seconds};
use crate::{
    Code, Facts, Protocol,
    fallback::{Bounds, Degraded, Lifetime},
    http::{ResponseHead, head::is_bodyless},
};

/// What is kept of good responses, how much, and for how long it may answer.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::http::StaleSettings;
///
/// let settings = StaleSettings::new()
///     .fresh_for(Duration::from_secs(10))
///     .if_error_for(Duration::from_secs(60))
///     .bytes(4 * 1024 * 1024);
/// assert_eq!(settings.bounds().bytes, 4 * 1024 * 1024);
/// ```
#[derive(Clone)]
#[must_use]
pub struct StaleSettings {
    bounds: Bounds,
    fresh: Duration,
    if_error: Duration,
    varying: Arc<[HeaderName]>,
    key: Option<Key>,
    grpc: bool,
    probe_alone: bool,
    cookies: bool,
    wall_clock: Option<WallClock>,
}

type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;
type Key = Arc<dyn Fn(&Target<'_>) -> Option<String> + Send + Sync>;

/// What a request asks for, as a key is made of it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The method.
    pub method: &'a Method,
    /// The scheme of the address; empty where it has none, as on most servers.
    pub scheme: &'a str,
    /// The authority of the address, or else the `Host`; empty where there is neither.
    pub authority: &'a str,
    /// The path.
    pub path: &'a str,
    /// What follows upon a `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The extensions; `None` where the client keeps them to itself, as reqwest does.
    pub extensions: Option<&'a Extensions>,
}

impl Target<'_> {
    /// Between lines, which none of them can hold: a `Host` may be anything, and nobody is to
    /// write a part of the path into it.
    fn default_key(&self) -> String {
        let Self { method, scheme, authority, path, query, .. } = self;
        let query = query.map(|query| ("?", query)).unwrap_or_default();
        let method = method.as_str();
        [method, "\n", scheme, "\n", authority, "\n", path, query.0, query.1].concat()
    }
}

impl StaleSettings {
    /// The default: 16 MiB in 1,024 entries of 256 KiB at the most; not fresh but by its own
    /// word, ten minutes for an error, which outlasts a deployment gone wrong, and no more than
    /// a day whatever a response says.
    pub fn new() -> Self {
        Self {
            bounds: Bounds {
                bytes: 16 * 1024 * 1024,
                entry: 256 * 1024,
                entries: 1024,
                age: Duration::from_secs(24 * 60 * 60),
            },
            fresh: Duration::ZERO,
            if_error: Duration::from_secs(600),
            varying: Arc::new(VARYING),
            key: None,
            grpc: false,
            probe_alone: false,
            cookies: false,
            wall_clock: None,
        }
    }

    /// How many bytes are kept in all.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bounds.bytes = bytes;
        self
    }

    /// How many bytes one response may have with its head. A longer one is not kept.
    pub fn entry_bytes(mut self, bytes: usize) -> Self {
        self.bounds.entry = bytes;
        self
    }

    /// How many responses are kept.
    pub fn entries(mut self, entries: usize) -> Self {
        self.bounds.entries = entries;
        self
    }

    /// The age past which nothing answers, whatever the response said.
    pub fn longest(mut self, age: Duration) -> Self {
        self.bounds.age = age;
        self
    }

    /// For how long a response is fresh that does not say so itself, in `s-maxage`, `max-age` or
    /// `Expires`.
    pub fn fresh_for(mut self, fresh: Duration) -> Self {
        self.fresh = fresh;
        self
    }

    /// For how long after that it may answer for an error, if it has no `stale-if-error`.
    pub fn if_error_for(mut self, time: Duration) -> Self {
        self.if_error = time;
        self
    }

    /// The headers of a request by which responses may vary, 16 at the most. One that varies by
    /// another is not kept. Unless told otherwise: `Accept`, `Accept-Encoding`, `Accept-Language`,
    /// `Origin`, and both headers of a preflight.
    ///
    /// # Panics
    ///
    /// If there are more than 16.
    pub fn varying_by(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.varying = headers.into_iter().collect();
        assert!(self.varying.len() <= 16, "responses can vary by 16 headers at the most");
        self
    }

    /// Makes the key: requests of one key are answered with the same. `None` keeps nothing.
    ///
    /// It decides which methods take part, too; without it those are `GET` and `HEAD`, and the key is
    /// the method, the scheme, the authority, the path and the query. Responses to `HEAD`, which
    /// have no body, always answer `HEAD` alone.
    pub fn key(
        mut self,
        key: impl Fn(&Target<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key = Some(Arc::new(key));
        self
    }

    /// Keeps gRPC responses too, once their trailers have said `OK`. Needs a [`key`](Self::key):
    /// what a gRPC call asks for is in its message, which no key is made of.
    pub fn grpc(mut self) -> Self {
        self.grpc = true;
        self
    }

    /// Once a call has failed and was answered from here, one caller at a time goes on to the
    /// service, and the others of its key are answered at once.
    ///
    /// Of use where failing takes its time, as a timeout does. Without it every caller goes on to
    /// the service, for a fallback is no cache.
    pub fn probe_alone(mut self) -> Self {
        self.probe_alone = true;
        self
    }

    /// Keeps responses to requests with a `Cookie` as if they had none. Without it they have to
    /// say `public`, as those to requests with an `Authorization`.
    pub fn ignoring_cookies(mut self) -> Self {
        self.cookies = true;
        self
    }

    /// Takes a response for as old as its `Date` says, by this clock, where its `Age` says less:
    /// the *apparent age* of
    /// [RFC 9111](https://www.rfc-editor.org/rfc/rfc9111#section-4.2.3), section 4.2.3. Pass
    /// `SystemTime::now`.
    ///
    /// Without it `Age` alone counts, which every cache in between adds to. A `Date` is of use where
    /// one does not, and it is of harm where the clocks of two hosts differ: a server that is ten minutes
    /// behind would send nothing but what is too old to be kept.
    pub fn wall_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.wall_clock = Some(Arc::new(now));
        self
    }

    /// The bounds.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether one caller looks for all.
    #[must_use]
    pub fn probes_alone(&self) -> bool {
        self.probe_alone
    }

    /// What has to be known of a request; `None` of one that takes no part.
    pub(super) fn asked(&self, target: &Target<'_>, facts: Facts) -> Option<Asked> {
        let key = match (&self.key, facts.protocol) {
            (Some(_), Protocol::Grpc) if !self.grpc => return None,
            (Some(key), _) if *target.method == Method::HEAD => ["HEAD\n", &key(target)?].concat(),
            (Some(key), _) => key(target)?,
            (None, Protocol::Grpc) => return None,
            (None, _) if matches!(*target.method, Method::GET | Method::HEAD) => {
                target.default_key()
            }
            (None, _) => return None,
        };
        let headers = target.headers;
        // A part of a response answers nobody who asks for another part, nor for all of it.
        if headers.contains_key(header::RANGE) {
            return None;
        }
        let said = Directives::of(headers);
        let has_cookie = !self.cookies && headers.contains_key(header::COOKIE);
        let own = headers.contains_key(header::AUTHORIZATION) || has_cookie;
        let named = self.varying.iter().enumerate();
        let fields = named.flat_map(|(index, name)| {
            headers.get_all(name).iter().map(move |value| (index, value.clone()))
        });
        Some(Asked {
            key: key.into(),
            fields: fields.collect(),
            facts,
            own,
            store: !said.no_store,
            answer: !said.no_cache,
            if_error: said.stale_if_error,
        })
    }

    /// For how long a response to what was asked may answer, and the headers by which it varies;
    /// `None` if it is not to be kept.
    pub(super) fn keeps(
        &self,
        asked: &Asked,
        head: ResponseHead<'_>,
        longest: Duration,
        now: Instant,
    ) -> Option<(Lifetime, u16)> {
        let (headers, said) = (head.headers, Directives::of(head.headers));
        if !asked.store || said.no_store || said.no_cache || said.private {
            return None;
        }
        // What was for one caller must not reach another: RFC 9111, sections 3.5 and 7.3. That one
        // allows `must-revalidate` as well, which many say who mean no store of all callers.
        let for_all = said.public || said.s_maxage.is_some();
        if (asked.own && !for_all) || headers.contains_key(header::SET_COOKIE) {
            return None;
        }
        if !keeps_status(head.status) || headers.contains_key(header::CONTENT_RANGE) {
            return None;
        }
        if asked.is_grpc() && head.grpc_code().is_some_and(|code| code != Code::Ok) {
            return None;
        }
        // Another fallback's answer is not the service's last good one.
        if head.extensions.get::<Degraded>().is_some() {
            return None;
        }
        let mask = self.varies_by(headers)?;
        let age = self.age(headers);
        let own = said.s_maxage.or(said.max_age).or_else(|| expires(headers));
        let fresh = own.unwrap_or(self.fresh);
        let if_error = match said.stale_if_error {
            _ if said.revalidate => Duration::ZERO,
            Some(time) => time,
            // RFC 9111, section 4.2.4.
            None if said.s_maxage.is_some() => Duration::ZERO,
            None => self.if_error,
        };
        let life = Lifetime::new(now, fresh, if_error).aged(age).at_most(longest);
        life.until().is_some().then_some((life, mask))
    }

    /// How old a response is that comes just now. How long it was on its way is not added: that is
    /// no more than the caller's patience.
    fn age(&self, headers: &HeaderMap) -> Duration {
        let said = headers.get(header::AGE).map_or(Duration::ZERO, |age| seconds(age.as_bytes()));
        let apparent = self.wall_clock.as_ref().and_then(|now| {
            let date = date(headers.get(header::DATE)?)?;
            // One that is in the future says nothing.
            now().duration_since(date).ok()
        });
        said.max(apparent.unwrap_or_default())
    }

    /// The headers by which a response varies, a bit for each; `None` if by another one.
    fn varies_by(&self, headers: &HeaderMap) -> Option<u16> {
        let mut mask = 0;
        for value in headers.get_all(header::VARY) {
            for name in value.to_str().ok()?.split(',').map(str::trim) {
                if name.is_empty() {
                    continue;
                }
                let index = self
                    .varying
                    .iter()
                    .position(|known| known.as_str().eq_ignore_ascii_case(name))?;
                mask |= 1 << index;
            }
        }
        Some(mask)
    }
}

impl Default for StaleSettings {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StaleSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaleSettings")
            .field("bounds", &self.bounds)
            .field("fresh", &self.fresh)
            .field("if_error", &self.if_error)
            .finish_non_exhaustive()
    }
}

const VARYING: [HeaderName; 6] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::ORIGIN,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::ACCESS_CONTROL_REQUEST_HEADERS,
];

/// Good answers that stand for themselves. 206 is a part, 304 refers to what its caller has, and
/// 302, 303 and 307 are for the moment.
fn keeps_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308)
}

/// What `Expires` says, counted from the response's own `Date`.
fn expires(headers: &HeaderMap) -> Option<Duration> {
    let Some(expires) = date(headers.get(header::EXPIRES)?) else {
        // One that is no date is in the past: RFC 9111, section 5.3.
        return Some(Duration::ZERO);
    };
    let date = date(headers.get(header::DATE)?)?;
    Some(expires.duration_since(date).unwrap_or_default())
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// What is kept of a request for as long as it is under way.
#[derive(Clone, Debug)]
pub struct Asked {
    pub(super) key: Arc<str>,
    /// The headers by which responses may vary, by their number.
    fields: Vec<(usize, HeaderValue)>,
    facts: Facts,
    /// Whether it is one caller's own: by a cookie, or by what authorises it.
    own: bool,
    store: bool,
    /// Whether its caller takes what is stored.
    pub(super) answer: bool,
    /// How stale its caller takes it.
    pub(super) if_error: Option<Duration>,
}

impl Asked {
    pub(super) fn is_grpc(&self) -> bool {
        self.facts.protocol == Protocol::Grpc
    }

    /// Whether no body follows upon this status.
    pub(super) fn is_bodyless(&self, status: StatusCode) -> bool {
        is_bodyless(self.facts.method, status)
    }

    /// The headers by which a response varies, of this request.
    pub(super) fn fields(&self, mask: u16) -> Vec<(usize, HeaderValue)> {
        let own = |(index, value): &(usize, HeaderValue)| {
            // A copy, for the value is a part of what the connection has read.
            (*index, HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone()))
        };
        self.of(mask).map(own).collect()
    }

    pub(super) fn is_like(&self, mask: u16, fields: &[(usize, HeaderValue)]) -> bool {
        self.of(mask).eq(fields)
    }

    fn of(&self, mask: u16) -> impl Iterator<Item = &(usize, HeaderValue)> {
        self.fields.iter().filter(move |(index, _)| mask & (1 << index) != 0)
    }
}
