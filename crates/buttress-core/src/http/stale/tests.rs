//! What is stored, for whom, and what that takes.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, request, response};
use http_body_util::{BodyExt, Full};

use super::*;
use crate::{
    fallback::Skip,
    http::{Classified, Conventional, Degrade, Replayable, RequestHead, ResponseHead},
};

type Good = Response<Full<Bytes>>;

const EXCHANGE: Classified = Classified(Conventional);

#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
fn origin() -> Instant {
    Instant::now()
}

fn asked(cache: &StaleCache, request: request::Builder) -> Option<Asked> {
    let request = request.body(()).unwrap();
    let facts = RequestHead::of(&request).facts();
    Replayable::<_, Good>::asked(&EXCHANGE, cache, &request, facts)
}

/// A response on its way to its caller, who has not read it yet.
fn deliver(
    cache: &StaleCache,
    request: request::Builder,
    response: Good,
) -> Response<FallbackBody<Full<Bytes>>> {
    let asked = asked(cache, request);
    let store =
        |asked| Replayable::<Request<()>, _>::store(&EXCHANGE, cache, asked, &response, origin());
    let tape = asked.as_ref().and_then(store);
    Degrade::<Request<()>, _>::deliver(&EXCHANGE, response, tape)
}

/// Reads what is there.
fn read<B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>>(response: Response<B>) -> Bytes {
    let read = pin!(response.into_body().collect());
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read.unwrap().to_bytes(),
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

fn good(response: response::Builder) -> Good {
    response.body(Full::from("good")).unwrap()
}

/// Whether what was a good answer to the one is an answer to the other.
fn answers(cache: &StaleCache, first: request::Builder, other: request::Builder) -> bool {
    read(deliver(cache, first, good(Response::builder())));
    asked(cache, other).is_some_and(|other| cache.find(&other, origin()).is_ok())
}

#[test]
fn no_request_is_answered_with_what_was_for_another_address() {
    let get = |uri: &str| Request::get(uri);
    let to = |host: &str, uri: &str| Request::get(uri).header("host", host);
    let fresh = || StaleCache::new(StaleSettings::new());

    assert!(answers(&fresh(), to("shop", "/a/b"), to("shop", "/a/b")));
    assert!(answers(&fresh(), get("http://shop/a"), get("http://shop/a")));
    for (first, other) in [
        (to("shop/a", "/b"), to("shop", "/a/b")),
        (to("shop", "/a?b"), to("shop", "/a")),
        (to("shop", "/a?b"), to("shop", "/a?c")),
        (to("shop", "/"), to("other", "/")),
        (get("http://shop/a"), get("https://shop/a")),
        (get("http://shop/a").method("HEAD"), get("http://shop/a")),
    ] {
        let said = format!("{first:?} {other:?}");
        assert!(!answers(&fresh(), first, other), "{said}");
    }
}

#[test]
fn with_a_key_of_ones_own_a_head_still_answers_no_get() {
    let by_path = |target: &Target<'_>| Some(target.path.to_owned());
    let cache = StaleCache::new(StaleSettings::new().key(by_path));

    assert!(!answers(&cache, Request::head("/a"), Request::get("/a")));
    assert!(answers(&cache, Request::head("/a"), Request::head("/a")));
    assert!(answers(&cache, Request::post("/a"), Request::get("/a")));
}

#[test]
fn what_was_for_one_caller_is_kept_only_if_it_is_said_to_be_for_all() {
    for own in ["authorization", "cookie"] {
        for (said, kept) in [
            ("max-age=60", 0),
            ("max-age=60, proxy-revalidate", 0),
            ("max-age=60, must-revalidate", 0),
            ("max-age=60, public", 1),
            ("s-maxage=60", 1),
        ] {
            let cache = StaleCache::new(StaleSettings::new());
            let request = Request::get("/").header(own, "ada");
            read(deliver(&cache, request, good(Response::builder().header("cache-control", said))));
            assert_eq!(cache.len(), kept, "{own}: {said}");
        }
    }
}

/// Bytes of a buffer that counts when it goes.
fn buffer(text: &'static str, gone: &Arc<AtomicU32>) -> Bytes {
    struct Owner(&'static str, Arc<AtomicU32>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    Bytes::from_owner(Owner(text, Arc::clone(gone)))
}

// Connections read into buffers of their own, of which a short response is a small part.
#[test]
fn what_is_stored_holds_on_to_no_buffer_of_a_connection() {
    let (cache, gone) = (StaleCache::new(StaleSettings::new()), Arc::default());
    let value = |text| HeaderValue::from_maybe_shared(buffer(text, &gone)).unwrap();
    let german = || Request::get("/").header("accept-language", "de");
    let request = Request::get("/").header("accept-language", value("de"));
    let response = Response::builder()
        .header("vary", value("accept-language"))
        .header("x-note", value("one"))
        .header("x-note", value("two"));

    let response = response.body(Full::new(buffer("good", &gone))).unwrap();
    read(deliver(&cache, request, response));

    assert_eq!(gone.load(Ordering::Relaxed), 5);
    let asked = asked(&cache, german()).unwrap();
    let stored = cache.find(&asked, origin()).unwrap().stored;
    let notes: Vec<_> = stored.head().headers().get_all("x-note").iter().cloned().collect();
    assert_eq!(notes, ["one", "two"]);
    assert_eq!(read(stored.head().map(|()| FallbackBody::<Full<_>>::playing(&stored))), "good");
}

#[test]
fn what_is_between_two_hops_is_not_stored_and_a_secret_stays_one() {
    let cache = StaleCache::new(StaleSettings::new());
    let mut secret = HeaderValue::from_static("a");
    secret.set_sensitive(true);
    let response = Response::builder()
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("age", "3")
        .header("x-secret", secret)
        .header("etag", "\"7\"");

    read(deliver(&cache, Request::get("/"), good(response)));

    let asked = asked(&cache, Request::get("/")).unwrap();
    let head = cache.find(&asked, origin()).unwrap().stored.head();
    let mut names: Vec<_> = head.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["etag", "x-secret"]);
    assert!(head.headers()["x-secret"].is_sensitive() && !head.headers()["etag"].is_sensitive());
}

#[test]
fn what_a_header_takes_besides_its_text_is_counted() {
    let cache = StaleCache::new(StaleSettings::new().entry_bytes(4_000));
    let mut response = good(Response::builder());
    for number in 0..30 {
        response.headers_mut().append(header::LINK, HeaderValue::from(number));
    }

    read(deliver(&cache, Request::get("/"), response));
    assert_eq!(cache.len(), 0, "its text is of 250 bytes, what keeps it is of 4 KiB");
}

#[test]
fn what_is_forgotten_while_it_streams_is_not_stored_after_all() {
    let cache = StaleCache::new(StaleSettings::new());
    let on_its_way = deliver(&cache, Request::get("/"), good(Response::builder()));
    cache.clear();
    let later = deliver(&cache, Request::get("/"), good(Response::builder()));

    read(on_its_way);
    assert_eq!(cache.len(), 0);
    read(later);
    assert_eq!(cache.len(), 1);
}

#[test]
fn times_that_a_response_gives_are_read_as_rfc_9111_has_it() {
    let at = |seconds| Duration::from_secs(seconds);
    for (said, age, expected) in [
        ("max-age=10, stale-if-error=20", None, Some(30)),
        ("max-age=\"10\", stale-if-error=\"20\"", None, Some(30)),
        ("max-age=10, max-age=5, stale-if-error=20", None, Some(25)),
        ("max-age=10, stale-if-error=-1", None, Some(10)),
        ("max-age=10, stale-if-error=1.5", None, Some(10)),
        ("max-age=10, stale-if-error", None, Some(10)),
        ("max-age=10, stale-if-error=99999999999999999999999", None, Some(24 * 60 * 60)),
        ("max-age=10, stale-if-error=20", Some("12"), Some(18)),
        ("max-age=10, stale-if-error=20", Some("31"), None),
        ("max-age=99999999", Some("60"), Some(24 * 60 * 60 - 60)),
        ("max-age=10, stale-if-error=20", Some("soon"), Some(30)),
    ] {
        let (cache, now) = (StaleCache::new(StaleSettings::new()), origin());
        let mut response = Response::builder().header("cache-control", said);
        if let Some(age) = age {
            response = response.header("age", age);
        }
        let asked = asked(&cache, Request::get("/")).unwrap();
        let response = good(response);
        let tape = Replayable::<Request<()>, _>::store(&EXCHANGE, &cache, &asked, &response, now);
        read(Degrade::<Request<()>, _>::deliver(&EXCHANGE, response, tape));

        let found = |seconds| cache.find(&asked, now + at(seconds)).is_ok();
        match expected {
            Some(until) => assert!(found(until) && !found(until + 1), "{said}, {age:?}"),
            None => assert!(!found(0), "{said}, {age:?}"),
        }
    }
}

#[test]
fn an_expires_counts_from_the_date_beside_it() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (expires, fresh) in [("Sun, 06 Nov 1994 08:50:37 GMT", 60), (date, 0), ("0", 0)] {
        let cache = StaleCache::new(StaleSettings::new().fresh_for(Duration::from_secs(7)));
        let response = Response::builder().header("date", date).header("expires", expires);
        read(deliver(&cache, Request::get("/"), good(response)));

        let asked = asked(&cache, Request::get("/")).unwrap();
        let stale =
            |after| cache.find(&asked, origin() + Duration::from_secs(after)).unwrap().stale;
        assert!(stale(fresh + 1) && (fresh == 0 || !stale(fresh - 1)), "{expires}");
    }
}

#[test]
fn a_body_is_not_over_before_its_trailers() {
    let mut stored = Stored::new(http::StatusCode::OK, http::HeaderMap::new(), Bytes::new());
    stored.trailers = Some(http::HeaderMap::new());
    let played = FallbackBody::<Full<Bytes>>::playing(&stored);
    assert!(!http_body::Body::is_end_stream(&played));
    stored.trailers = None;
    let played = FallbackBody::<Full<Bytes>>::playing(&stored);
    assert!(http_body::Body::is_end_stream(&played));
}

#[test]
fn a_caller_says_how_stale_it_takes_an_answer_and_clocks_that_go_back_make_nothing_older() {
    let (cache, now) = (StaleCache::new(StaleSettings::new()), origin());
    let picky = || Request::get("/").header("cache-control", "stale-if-error=5");
    read(deliver(&cache, Request::get("/"), good(Response::builder())));
    let find = |request, now| cache.find(&asked(&cache, request).unwrap(), now);

    let later = now + Duration::from_secs(60);
    assert_eq!(find(picky(), later).unwrap_err(), Skip::TooOld);
    assert!(find(Request::get("/"), later).is_ok());
    let before = now.checked_sub(Duration::from_secs(1)).unwrap();
    assert_eq!(find(picky(), before).unwrap().age, Duration::ZERO);
}

/// For how many seconds a response of this `Date` and `Age` is usable that comes at 12:00:00, by a
/// server's word 10 s fresh and 20 s more.
fn usable_at_noon(by_clock: bool, date: Option<&str>, age: Option<&str>) -> Option<Duration> {
    let noon = httpdate::parse_http_date("Sat, 21 Nov 2026 12:00:00 GMT").unwrap();
    let mut settings = StaleSettings::new();
    if by_clock {
        settings = settings.wall_clock(move || noon);
    }
    let cache = StaleCache::new(settings.clone());
    let asked = asked(&cache, Request::get("/")).unwrap();
    let mut response = Response::builder().header("cache-control", "max-age=10, stale-if-error=20");
    for (name, value) in [("date", date), ("age", age)] {
        if let Some(value) = value {
            response = response.header(name, value);
        }
    }
    let (response, now) = (good(response), origin());
    let longest = Duration::from_secs(3600);
    let kept = settings.keeps(&asked, ResponseHead::of(&response), longest, now);
    kept.map(|(life, _)| life.until().unwrap() - now)
}

#[test]
fn with_a_wall_clock_a_response_is_as_old_as_its_date_or_its_age_says_whichever_is_more() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let noon = |second: u32| format!("Sat, 21 Nov 2026 11:59:{second:02} GMT");
    let (before_7, before_40) = (noon(53), noon(20));

    // RFC 9111, section 4.2.3.
    assert_eq!(usable_at_noon(true, Some(&before_7), None), seconds(23));
    assert_eq!(usable_at_noon(true, Some(&before_7), Some("5")), seconds(23));
    assert_eq!(usable_at_noon(true, Some(&before_7), Some("9")), seconds(21));
    assert_eq!(usable_at_noon(true, Some(&before_40), None), None);
    // A date that is none, or to come, or not there, says nothing.
    for says_nothing in [Some("yesterday"), Some("Sat, 21 Nov 2026 12:00:30 GMT"), None] {
        assert_eq!(usable_at_noon(true, says_nothing, None), seconds(30));
        assert_eq!(usable_at_noon(true, says_nothing, Some("9")), seconds(21));
    }
    // Without a clock the age alone counts.
    assert_eq!(usable_at_noon(false, Some(&before_40), None), seconds(30));
    assert_eq!(usable_at_noon(false, Some(&before_40), Some("9")), seconds(21));
}
