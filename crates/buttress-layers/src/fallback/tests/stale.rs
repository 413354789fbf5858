//! The last good response.

use http_body_util::StreamBody;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Fresh for 10 s, and for an error for 60 s more.
fn settings() -> StaleSettings {
    StaleSettings::new().fresh_for(seconds(10)).if_error_for(seconds(60))
}

/// What was answered, how old it was, and whether it was stale; `None` for the error itself.
async fn told(
    service: impl Service<
        Request<Full<Bytes>>,
        Response = Response<impl http_body::Body<Data = Bytes, Error: std::fmt::Debug>>,
        Error = BoxError,
    >,
    request: Request<Full<Bytes>>,
) -> Option<(String, Option<(u64, bool)>)> {
    let response = service.oneshot(request).await.ok()?;
    let note = response.extensions().get::<Degraded>().cloned();
    if let Some(note) = &note {
        assert_eq!(response.headers()["x-degraded"], note.to_string());
        assert_eq!(response.headers()["age"], note.age.unwrap().as_secs().to_string());
        assert!(response.headers().get("warning").is_none());
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let age = note.map(|note| (note.age.unwrap().as_secs(), note.stale));
    Some((String::from_utf8(body.to_vec()).unwrap(), age))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what may be an error")]
fn told_is(body: &str, age: Option<(u64, bool)>) -> Option<(String, Option<(u64, bool)>)> {
    Some((body.to_owned(), age))
}

// T07.
#[tokio::test(start_paused = true)]
async fn stale_on_error_for_as_long_as_it_was_agreed_and_the_service_is_always_asked() {
    let down = Err("down");
    let script = Script::new([Ok((200, "a")), down, down, Ok((200, "b")), down, down]);
    let layer = FallbackLayer::new("f").stale(StaleCache::new(settings()));
    let handle = layer.handle();
    let service = layer.layer(script.service());
    let began = Instant::now();
    let at = |second: u64| tokio::time::sleep_until(began + seconds(second));
    let ask = || told(service.clone(), get("/prices"));

    assert_eq!(ask().await, told_is("a", None));
    at(5).await;
    assert_eq!(ask().await, told_is("a", Some((5, false))));
    at(11).await;
    assert_eq!(ask().await, told_is("a", Some((11, true))));
    at(12).await;
    assert_eq!(ask().await, told_is("b", None));
    at(23).await;
    assert_eq!(ask().await, told_is("b", Some((11, true))));
    at(83).await;
    assert_eq!(ask().await, None, "it is 71 s old");

    assert_eq!(script.calls(), 6);
    let seen = handle.snapshot();
    let rung = seen.rung("stale").unwrap();
    assert_eq!((rung.answered, rung.age_seconds, seen.unanswered), (3, 5 + 11 + 11, 1));
    assert_eq!((seen.stored, seen.stored_bytes), (0, 0), "what is over is swept");
}

// T07, its last sentence.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_further_in_is_a_failure_like_any_other() {
    use crate::breaker::BreakerLayer;

    let layer = FallbackLayer::new("f").stale(StaleCache::new(settings()));
    let breaker = BreakerLayer::new("b", buttress_core::breaker::Settings::rate());
    let circuit = breaker.handle();
    let script = Script::new([Ok((200, "a"))]);
    let service = ServiceBuilder::new().layer(layer).layer(breaker).service(script.service());

    ask(service.clone(), get("/")).await;
    circuit.force_open();
    advance(seconds(7)).await;
    let (_, body, note) = ask(service, get("/")).await;

    let note = note.unwrap();
    assert_eq!((body.as_str(), note.age), ("a", Some(seconds(7))));
    assert_eq!(note.why.reason(), Reason::Refused(Kind::CircuitOpen));
    assert_eq!(script.calls(), 1);
}

/// Whether a response with these headers, to a request with those, answers for a failure a second
/// later.
async fn answers(
    request: impl Fn() -> http::request::Builder,
    response: http::response::Builder,
) -> bool {
    let response =
        Arc::new(Mutex::new(Some(response.body(Full::from(Bytes::from("good"))).unwrap())));
    let layer = FallbackLayer::new("f").stale(StaleCache::new(settings()));
    let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
        ready(response.lock().unwrap().take().ok_or(BoxError::from("down")))
    }));
    let request = || request().uri("/").body(Full::default()).unwrap();
    let first = service.clone().oneshot(request()).await.unwrap();
    first.into_body().collect().await.unwrap();
    advance(seconds(1)).await;
    service.clone().oneshot(request()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn what_may_be_stored_is_what_rfc_9111_allows_a_shared_cache_and_less() {
    let plain = Request::builder;
    let with =
        |name: &'static str, value: &'static str| move || Request::builder().header(name, value);
    let ok = Response::builder;
    let said = |value: &'static str| Response::builder().header("cache-control", value);

    assert!(answers(plain, ok()).await);
    for status in [206, 302, 404] {
        assert!(!answers(plain, ok().status(status)).await, "{status}");
    }
    for value in ["no-store", "private", "private=\"x, y\"", "max-age=3, No-Store", "no-cache"] {
        assert!(!answers(plain, said(value)).await, "{value}");
    }
    for value in ["max-age=60", "foo=\"no-store, private\"", "stale-if-error=1, max-age=0"] {
        assert!(answers(plain, said(value)).await, "{value}");
    }
    // Its own word goes before that of the settings.
    for value in [
        "max-age=0, stale-if-error=0",
        "max-age=0, must-revalidate",
        "s-maxage=0",
        "max-age=0, stale-if-error=600, proxy-revalidate",
    ] {
        assert!(!answers(plain, said(value)).await, "{value}");
    }
    assert!(answers(plain, said("s-maxage=0, stale-if-error=60")).await);
    assert!(!answers(plain, ok().header("age", "100")).await, "it was old when it came");
    assert!(!answers(plain, ok().header("set-cookie", "a=b")).await);
    assert!(!answers(plain, said("public").header("set-cookie", "a=b")).await);

    for own in [("authorization", "Bearer x"), ("cookie", "session=7")] {
        assert!(!answers(with(own.0, own.1), ok()).await, "{own:?}");
        assert!(answers(with(own.0, own.1), said("public")).await, "{own:?}");
    }
    for (name, value) in [("range", "bytes=0-1"), ("cache-control", "no-store")] {
        assert!(!answers(with(name, value), ok()).await, "{name}");
    }
    assert!(!answers(with("cache-control", "no-cache"), ok()).await);
    assert!(!answers(|| Request::builder().method("POST"), ok()).await);
    assert!(
        answers(|| Request::builder().method("HEAD"), ok().header("content-length", "9")).await
    );

    assert!(answers(plain, ok().header("vary", "Accept, origin")).await);
    for vary in ["*", "user-agent", "accept, x-tenant"] {
        assert!(!answers(plain, ok().header("vary", vary)).await, "{vary}");
    }
    // The four bytes of the body are not what was promised.
    for length in ["3", "5"] {
        assert!(!answers(plain, ok().header("content-length", length)).await, "{length}");
    }
    assert!(answers(plain, ok().header("content-length", "4")).await);
    let degraded = Degraded {
        layer: "inner".into(),
        rung: "value".into(),
        why: Why::new(
            Reason::Failed,
            buttress_core::Facts {
                protocol: buttress_core::Protocol::Http,
                method: buttress_core::Method::Get,
                status: None,
                code: None,
            },
        ),
        age: None,
        stale: false,
    };
    assert!(!answers(plain, ok().extension(degraded)).await);
}

#[tokio::test(start_paused = true)]
async fn responses_that_vary_answer_only_who_asked_alike() {
    let layer = FallbackLayer::new("f").stale(StaleCache::new(settings()));
    let up = Arc::new(AtomicU32::new(1));
    let service = {
        let up = Arc::clone(&up);
        layer.layer(service_fn(move |request: Request<Full<Bytes>>| {
            let language = request.headers().get("accept-language").cloned();
            let text = language.map_or("none".to_owned(), |l| l.to_str().unwrap().to_owned());
            let response = Response::builder().header("vary", "Accept-Language");
            let response = response.body(Full::<Bytes>::from(text)).unwrap();
            let is_up = up.load(Ordering::Relaxed) == 1;
            ready(if is_up { Ok(response) } else { Err(BoxError::from("down")) })
        }))
    };
    let speaking = |language: &'static str| {
        let request = Request::get("/").header("accept-language", language);
        request.body(Full::default()).unwrap()
    };

    for language in ["de", "fr"] {
        ask(service.clone(), speaking(language)).await;
    }
    up.store(0, Ordering::Relaxed);

    assert_eq!(ask(service.clone(), speaking("de")).await.1, "de");
    assert_eq!(ask(service.clone(), speaking("fr")).await.1, "fr");
    assert!(service.clone().oneshot(speaking("en")).await.is_err());
    assert!(service.oneshot(get("/")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_or_is_dropped_or_is_too_long_is_not_stored() {
    type Stream = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;
    let frame = |text: &'static str| Ok(http_body::Frame::data(Bytes::from(text)));
    let body = move |kind: &str| -> Stream {
        let frames: Vec<Result<_, BoxError>> = match kind {
            "/broken" => vec![frame("one"), Err("torn".into())],
            "/long" => vec![frame("0123456789"), frame("0123456789")],
            _ => vec![frame("one"), frame("two")],
        };
        StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
    };
    let cache = StaleCache::new(settings().entry_bytes(320));
    let layer = FallbackLayer::new("f").stale(cache.clone());
    let service = layer.layer(service_fn(move |request: Request<Full<Bytes>>| {
        ready(Ok::<_, Infallible>(Response::new(body(request.uri().path()))))
    }));
    let call = |path: &'static str| service.clone().oneshot(get(path));

    assert!(call("/broken").await.unwrap().into_body().collect().await.is_err());
    let mut dropped = call("/dropped").await.unwrap().into_body();
    dropped.frame().await.unwrap().unwrap();
    drop(dropped);
    let long = Bytes::from(vec![b'x'; 400]);
    let other = FallbackLayer::new("f").stale(cache.clone());
    let other = other.layer(service_fn(move |_: Request<Full<Bytes>>| {
        ready(Ok::<_, Infallible>(Response::new(Full::new(long.clone()))))
    }));
    assert_eq!(ask(other, get("/huge")).await.1.len(), 400, "its caller gets all of it");
    assert_eq!(cache.len(), 0);

    call("/whole").await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(cache.len(), 1);
    // Nobody is kept from storing by those that gave up.
    for path in ["/dropped", "/broken"] {
        let _ = call(path).await.unwrap().into_body().collect().await;
    }
    assert_eq!(cache.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_thundering_herd_stores_once_and_a_slow_reader_holds_nobody_up_for_long() {
    let cache = StaleCache::new(settings());
    let layer = FallbackLayer::new("f").stale(cache.clone());
    let script = Script::new([Ok((200, "first")), Ok((200, "second"))]);
    let service = layer.layer(script.service());
    let mut herd = Vec::new();
    for _ in 0..100 {
        herd.push(service.clone().oneshot(get("/")).await.unwrap());
    }
    let storing = |herd: &[Response<_>]| {
        herd.iter().filter(|response| format!("{:?}", response.body()).contains("Storing")).count()
    };

    assert_eq!(storing(&herd), 1);
    drop(herd);
    assert_eq!(cache.len(), 0);

    let slow = service.clone().oneshot(get("/")).await.unwrap();
    advance(seconds(10)).await;
    let fast = service.clone().oneshot(get("/")).await.unwrap();
    assert_eq!((storing(&[slow]), storing(&[fast])), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn while_a_key_fails_one_caller_asks_and_the_others_are_answered_at_once() {
    let cache = StaleCache::new(settings().probe_alone());
    let layer = FallbackLayer::new("f").stale(cache);
    let handle = layer.handle();
    let calls = Arc::new(AtomicU32::new(0));
    let service = {
        let calls = Arc::clone(&calls);
        layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                if (1..=2).contains(&call) {
                    sleep(Duration::from_millis(500)).await;
                    return Err(BoxError::from("down"));
                }
                Ok(answer(200, "good"))
            }
        }))
    };
    ask(service.clone(), get("/")).await;
    ask(service.clone(), get("/")).await;
    assert_eq!(calls.load(Ordering::Relaxed), 2);

    let began = Instant::now();
    let probe = tokio::spawn(ask(service.clone(), get("/")));
    tokio::task::yield_now().await;
    for _ in 0..50 {
        let (_, body, note) = ask(service.clone(), get("/")).await;
        assert_eq!((body.as_str(), note.is_some()), ("good", true));
    }
    assert_eq!((calls.load(Ordering::Relaxed), began.elapsed()), (3, Duration::ZERO));
    probe.await.unwrap();

    // A probe that its caller drops makes room for the next one.
    drop(service.clone().call(get("/")));
    let (_, _, note) = ask(service.clone(), get("/")).await;
    assert!(note.is_none(), "well again");
    ask(service, get("/")).await;
    assert_eq!(calls.load(Ordering::Relaxed), 6);
    assert_eq!(handle.snapshot().rung("stale").unwrap().answered, 52);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_or_reconfigured_answers_no_more() {
    let cache = StaleCache::new(settings());
    let layer = FallbackLayer::new("f").stale(cache.clone());
    let handle = layer.handle();
    let script = Script::new([Ok((200, "a")), Err("down"), Ok((200, "b"))]);
    let service = layer.layer(script.service());

    ask(service.clone(), get("/")).await;
    handle.clear();
    assert!(service.clone().oneshot(get("/")).await.is_err());
    ask(service, get("/")).await;
    assert_eq!(handle.snapshot().stored, 1);
    cache.set_bounds(buttress_core::fallback::Bounds { entries: 0, ..cache.bounds() });

    assert_eq!((handle.snapshot().stored, handle.snapshot().stored_bytes), (0, 0));
    assert_eq!(handle.snapshot().rung("stale").unwrap().skipped(Skip::NotStored), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_ones_own_decides_what_takes_part() {
    let key = |target: &buttress_core::http::Target<'_>| {
        target.path.strip_prefix("/items/").map(str::to_owned)
    };
    let layer = FallbackLayer::new("f").stale(StaleCache::new(settings().key(key)));
    let script = Script::new([Ok((200, "a")), Ok((200, "b")), Err("down")]);
    let service = layer.layer(script.service());
    let post = |path: &str| Request::post(path).body(Full::default()).unwrap();

    ask(service.clone(), post("/items/7?session=1")).await;
    ask(service.clone(), get("/other")).await;

    assert_eq!(ask(service.clone(), get("/items/7?session=2")).await.1, "a");
    assert!(service.oneshot(get("/other")).await.is_err());
}
