//! gRPC: errors that come with the head, and storing by the trailers.

use http::HeaderMap;

use super::*;

fn call(message: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post("/shop.Shop/Price").header("content-type", "application/grpc");
    request.body(Full::from(message)).unwrap()
}

/// A response without trailers.
fn status(code: u16) -> Answer {
    let mut response = answer(200, "");
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response.headers_mut().insert("grpc-status", code.into());
    response
}

#[tokio::test(start_paused = true)]
async fn codes_that_are_bad_are_answered_for_and_others_are_not() {
    let layer = FallbackLayer::new("f").value(|| status(0));
    let handle = layer.handle();
    for (code, answered) in [(14, true), (13, true), (5, false), (3, false), (8, false), (0, false)]
    {
        let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
            ready(Ok::<_, Infallible>(status(code)))
        }));
        let response = service.oneshot(call("x")).await.unwrap();
        let note = response.extensions().get::<Degraded>();
        assert_eq!(note.is_some(), answered, "{code}");
        if let Some(note) = note {
            assert_eq!(note.why.code().map(|code| u16::from(code.number())), Some(code));
        }
    }
    assert_eq!(handle.snapshot().all_triggered(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_ends_without_a_status_is_answered_for() {
    let layer = FallbackLayer::new("f").value(|| status(0));
    let service = layer.layer(service_fn(|_: Request<Full<Bytes>>| {
        let mut response = answer(200, "");
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        ready(Ok::<_, Infallible>(response))
    }));

    let response = service.oneshot(call("x")).await.unwrap();

    let note = response.extensions().get::<Degraded>().expect("another answered");
    assert_eq!(note.why.reason(), Reason::MissingStatus);
}

/// What is stored of a unary response with these trailers.
async fn stored(settings: StaleSettings, code: u16) -> usize {
    let cache = StaleCache::new(settings);
    let layer = FallbackLayer::new("f").stale(cache.clone());
    let up = Arc::new(AtomicU32::new(1));
    let going = Arc::clone(&up);
    let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.into());
        let body = Full::<Bytes>::from("message").with_trailers(ready(Some(Ok(trailers))));
        let response = Response::builder().header("content-type", "application/grpc");
        let response = response.body(body.boxed_unsync()).unwrap();
        ready(match going.swap(0, Ordering::Relaxed) {
            1 => Ok(response),
            _ => Err(BoxError::from("down")),
        })
    }));
    let collected = service.clone().oneshot(call("x")).await.unwrap().into_body().collect();
    assert_eq!(collected.await.unwrap().to_bytes(), "message");
    if !cache.is_empty() {
        let again = service.oneshot(call("x")).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(again.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(again.to_bytes(), "message");
    }
    cache.len()
}

#[tokio::test(start_paused = true)]
async fn grpc_is_stored_when_that_is_asked_for_and_the_trailers_say_ok() {
    let by_path = || {
        StaleSettings::new()
            .key(|target: &buttress_core::http::Target<'_>| Some(target.path.to_owned()))
    };

    assert_eq!(stored(by_path().grpc(), 0).await, 1);
    assert_eq!(stored(by_path().grpc(), 14).await, 0);
    assert_eq!(stored(by_path(), 0).await, 0, "not switched on");
    assert_eq!(stored(StaleSettings::new().grpc(), 0).await, 0, "without a key");
}

#[tokio::test(start_paused = true)]
async fn a_page_is_no_answer_to_grpc_whatever_the_service_said() {
    let html = || {
        let mut response = answer(503, "<h1>unavailable</h1>");
        response.headers_mut().insert("content-type", "text/html".parse().unwrap());
        response
    };
    let says: [(fn() -> Answer, u16); 2] = [(|| status(14), 200), (html, 503)];
    for (response, expected) in says {
        let layer = FallbackLayer::new("f").respond(StatusCode::OK, "application/json", "{}");
        let log = Log::of(&layer.handle());
        let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
            ready(Ok::<_, Infallible>(response()))
        }));

        let grpc = service.clone().oneshot(call("x")).await.unwrap();

        assert_eq!(grpc.status(), expected);
        assert!(grpc.extensions().get::<Degraded>().is_none());
        assert_ne!(grpc.headers().get("content-type").unwrap(), "application/json");
        let snapshot = layer.handle().snapshot();
        assert_eq!(snapshot.rung("value").unwrap().skipped(Skip::NotForGrpc), 1);
        assert_eq!(snapshot.unanswered, 1);
        let skipped = "[value] a rung was skipped: not_for_grpc".to_owned();
        assert!(log.lines().contains(&skipped), "{:?}", log.lines());
        if expected == 503 {
            let (status, page, _) = ask(service, get("/")).await;
            assert_eq!((status, page.as_str()), (200, "{}"), "others get the page");
        }
    }
}
