//! What the rungs do, and what becomes of a call when they do not.

use std::task::{Context, Poll};

use super::*;

fn post(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("/orders").header("x-tenant", "a").body(Full::from(body)).unwrap()
}

/// Answers with what it was sent.
fn echo()
-> impl Service<Request<Full<Bytes>>, Response = Answer, Error = Infallible, Future: Send> + Clone {
    service_fn(|request: Request<Full<Bytes>>| async move {
        let tenant = request.headers()["x-tenant"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let text = format!("{tenant}: {}", str::from_utf8(&body).unwrap());
        Ok(Response::new(Full::from(text)))
    })
}

#[tokio::test(start_paused = true)]
async fn another_service_gets_the_request_with_its_body() {
    let layer = FallbackLayer::new("f").service(echo());
    let service = layer.layer(failing().service());

    assert_eq!(ask(service, post("seven books")).await.1, "a: seven books");
}

// With X25: what is longer than the cap is sent once.
#[tokio::test(start_paused = true)]
async fn for_a_body_over_the_cap_another_service_is_skipped_and_says_why() {
    let layer =
        FallbackLayer::new("f").service(echo()).value(|| answer(200, "value")).body_limit(4);
    let (handle, log) = (layer.handle(), Log::of(&layer.handle()));
    let service = layer.layer(failing().service());

    assert_eq!(ask(service.clone(), post("four")).await.1, "a: four");
    assert_eq!(ask(service, post("fives")).await.1, "value");

    assert_eq!(handle.snapshot().rung("service").unwrap().skipped(Skip::BodyTooLarge), 1);
    let skipped = "[service] a rung was skipped: body_too_large";
    assert!(log.lines().iter().any(|line| line == skipped), "{:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_not_sent_to_its_end_is_not_sent_to_another_service() {
    type Upload = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;
    let layer = FallbackLayer::new("f").service(service_fn(|_: Request<Upload>| {
        ready(Ok::<_, Infallible>(answer(200, "another")))
    }));
    let handle = layer.handle();
    let service = layer.layer(service_fn(|request: Request<Upload>| async {
        // It reads the first frame, and fails.
        let mut body = request.into_body();
        body.frame().await;
        Err::<Answer, _>(BoxError::from("down"))
    }));
    let frames = ["one", "two"].map(|text| Ok(http_body::Frame::data(Bytes::from(text))));
    let upload = http_body_util::StreamBody::new(futures_util::stream::iter(frames));

    assert!(service.oneshot(Request::new(upload.boxed_unsync())).await.is_err());
    assert_eq!(handle.snapshot().rung("service").unwrap().skipped(Skip::BodyUnfinished), 1);
}

/// Is ready once it is told so.
#[derive(Clone)]
struct NeverReady;

impl Service<Request<Full<Bytes>>> for NeverReady {
    type Response = Answer;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Pending
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        panic!("it is not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_has_its_time_and_no_more() {
    let layer = FallbackLayer::new("f")
        .service(NeverReady)
        .within(TimeLimit::from_millis(80))
        .function(|_, _| pending::<Option<Answer>>())
        .within(TimeLimit::from_millis(20))
        .value(|| answer(200, "value"));
    let handle = layer.handle();
    let service = layer.layer(failing().service());

    let began = Instant::now();
    assert_eq!(ask(service.clone(), get("/")).await.1, "value");
    assert_eq!(began.elapsed(), Duration::from_millis(100));
    handle.set_limit("service", Some(TimeLimit::from_millis(10))).unwrap();
    ask(service, get("/")).await;
    assert_eq!(began.elapsed(), Duration::from_millis(130));

    let seen = handle.snapshot();
    let timed_out = ["service", "function"].map(|rung| seen.rung(rung).unwrap().timed_out);
    assert_eq!(timed_out, [2, 2]);
    let error = handle.set_limit("other", None).unwrap_err().to_string();
    assert_eq!(error, r#"there is no rung "other"; the rungs are service, function, value"#);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_service_that_is_a_failure_itself_is_none() {
    let other = Script::new([Ok((503, "no")), Err("gone"), Ok((404, "not here"))]);
    let layer = FallbackLayer::new("f").service(other.service()).value(|| answer(200, "value"));
    let handle = layer.handle();
    let service = layer.layer(failing().service());

    assert_eq!(ask(service.clone(), get("/")).await.1, "value");
    assert_eq!(ask(service.clone(), get("/")).await.1, "value");
    // What is the caller's doing is an answer.
    assert_eq!(ask(service, get("/")).await.0, 404);
    assert_eq!(handle.snapshot().rung("service").unwrap().failed, 2);
}

#[tokio::test(start_paused = true)]
async fn when_every_rung_fails_the_caller_gets_the_failure_itself() {
    let layer = FallbackLayer::new("f")
        .function(|_, _| ready(Err::<Answer, _>("no luck")))
        .function_sync(|_, _| None::<Answer>);
    let handle = layer.handle();
    let script = Script::new([Ok((503, "the body of the failure")), Err("connection reset")]);
    let service = layer.layer(script.service());

    let (status, body, note) = ask(service.clone(), get("/")).await;
    assert_eq!((status, body.as_str()), (503, "the body of the failure"));
    assert!(note.is_none(), "nobody answered in its stead");
    let error = service.oneshot(get("/")).await.unwrap_err();
    assert_eq!(error.to_string(), "connection reset");

    let seen = handle.snapshot();
    assert_eq!((seen.all_triggered(), seen.unanswered), (2, 2));
    assert_eq!(seen.rung("function").unwrap().failed, 2);
    assert_eq!(seen.rung("function_2").unwrap().skipped(Skip::Declined), 2);
}

#[tokio::test(start_paused = true)]
async fn functions_are_told_the_request_and_why() {
    let layer = FallbackLayer::new("f").function(|parts, why| async move {
        let tenant = parts.headers.get("x-tenant")?.to_str().ok()?;
        let text = format!("{} {} {tenant}: {why}", parts.method, parts.uri);
        Some(Response::new(Full::<Bytes>::from(text)))
    });
    let of_path = FallbackLayer::new("f").function_sync_of(
        |request: &Request<Full<Bytes>>| request.uri().path().len(),
        |length, why| Ok::<_, BoxError>(Response::new(format!("{length}, {:?}", why.status()))),
    );
    let script = Script::new([Ok((500, "no"))]);

    let (_, body, _) = ask(layer.layer(script.service()), post("x")).await;
    assert_eq!(body, "POST /orders a: it answered 500");
    assert_eq!(ask(of_path.layer(script.service()), post("x")).await.1, "7, Some(500)");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_status_and_bytes_needs_no_body_of_the_services_type() {
    let layer = FallbackLayer::new("f")
        .respond(StatusCode::OK, "application/json", r#"{"items":[]}"#)
        .header("x-instead");
    let response = layer.layer(failing().service()).oneshot(get("/")).await.unwrap();

    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-instead"], "f; rung=value");
    assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(12));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, r#"{"items":[]}"#);

    let silent = FallbackLayer::new("f").value(|| answer(200, "x")).without_header();
    let response = silent.layer(failing().service()).oneshot(get("/")).await.unwrap();
    assert!(response.headers().is_empty() && response.extensions().get::<Degraded>().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_failure_of_the_service_is_not_answered_for() {
    let layer = FallbackLayer::new("f").value(|| answer(200, "value"));
    let handle = layer.handle();
    let script = Script::new([Ok((404, "no such thing")), Ok((429, "slower")), Ok((302, "there"))]);
    let service = layer.layer(script.service());

    for status in [404, 429, 302] {
        assert_eq!(ask(service.clone(), get("/")).await.0, status);
    }
    assert_eq!(handle.snapshot().all_triggered(), 0);
}

#[tokio::test(start_paused = true)]
async fn being_rate_limited_is_answered_for_only_when_that_is_asked_for() {
    let limited = || {
        let rejection = Rejection::new(Kind::RateLimited, "r");
        service_fn(move |_: Request<Full<Bytes>>| {
            ready(Err::<Answer, BoxError>(rejection.clone().into()))
        })
    };
    let layer = FallbackLayer::new("f").value(|| answer(200, "value"));
    let handle = layer.handle();
    let service = layer.layer(limited());

    let error = service.clone().oneshot(get("/")).await.unwrap_err();
    assert_eq!(refused(&error), Some(Kind::RateLimited));
    handle.set_triggers(Triggers::new().on(Kind::RateLimited));
    assert_eq!(ask(service.clone(), get("/")).await.1, "value");
    handle.set_triggers(Triggers::none());
    assert!(service.oneshot(get("/")).await.is_err());
    assert_eq!(handle.snapshot().all_triggered(), 1);
}

#[tokio::test(start_paused = true)]
async fn in_shadow_mode_it_decides_and_counts_and_answers_nothing() {
    let cache = StaleCache::new(StaleSettings::new());
    let layer = FallbackLayer::new("f").stale(cache.clone()).service(echo());
    let handle = layer.handle();
    handle.set_shadow(true);
    let script = Script::new([Ok((200, "a")), Err("down")]);
    let service = layer.layer(script.service());

    ask(service.clone(), get("/")).await;
    assert!(service.oneshot(get("/")).await.is_err());

    let seen = handle.snapshot();
    assert_eq!((seen.would_trigger, seen.all_triggered(), seen.unanswered), (1, 0, 0));
    assert!(cache.is_empty(), "who answers nothing keeps nothing");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_function_goes_on_and_leaves_the_layer_working() {
    let panics = Arc::new(AtomicU32::new(0));
    let layer = {
        let panics = Arc::clone(&panics);
        FallbackLayer::new("f").function(move |_, _| {
            let first = panics.fetch_add(1, Ordering::Relaxed);
            assert!(first > 0, "in the function");
            async move {
                assert!(first > 1, "in its future");
                Some(answer(200, "third"))
            }
        })
    };
    let handle = layer.handle();
    let service = layer.layer(failing().service());

    for what in ["in the function", "in its future"] {
        let call = AssertUnwindSafe(service.clone().oneshot(get("/")));
        let payload = call.catch_unwind().await.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&what));
    }
    assert_eq!(ask(service, get("/")).await.1, "third");
    let rung = handle.snapshot().rung("function").unwrap().clone();
    assert_eq!((rung.failed, rung.answered), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_at_any_time_runs_no_further_rung_and_holds_nothing() {
    let ran = Arc::new(AtomicU32::new(0));
    let step = |millis| {
        let ran = Arc::clone(&ran);
        move |_, _| {
            let ran = Arc::clone(&ran);
            async move {
                ran.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(millis)).await;
                None::<Answer>
            }
        }
    };
    let cache = StaleCache::new(StaleSettings::new().probe_alone());
    let layer =
        FallbackLayer::new("f").function(step(10)).stale(cache).function(step(10)).service(echo());
    let handle = layer.handle();
    let slow = service_fn(|_: Request<Full<Bytes>>| async {
        sleep(Duration::from_millis(10)).await;
        Err::<Answer, _>(BoxError::from("down"))
    });
    let service = layer.layer(slow);

    for (after, runs) in [(0, 0), (5, 0), (15, 1), (25, 2)] {
        ran.store(0, Ordering::Relaxed);
        let call = service.clone().oneshot(post("x"));
        let cut = tokio::time::timeout(Duration::from_millis(after), call).await;
        assert!(cut.is_err());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(ran.load(Ordering::Relaxed), runs, "after {after} ms");
    }
    drop((service, layer));
    assert!(handle.is_last());
}

#[test]
#[should_panic(expected = "there is a rung \"a\" already; name each one differently")]
fn two_rungs_of_one_name_are_told_apart_or_refused() {
    let _ = FallbackLayer::new("f").value(|| 1).named("a").value(|| 2).named("a");
}
