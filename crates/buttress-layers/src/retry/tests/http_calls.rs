//! What is retried of HTTP, and when.

use http::{HeaderMap, StatusCode};

use super::*;
use crate::timeout::TimeoutLayer;

type Answer = Response<Full<Bytes>>;

/// Answers as its script says, one after the other, and then with 200; keeps what it was asked.
#[derive(Clone, Default)]
pub(super) struct Server {
    script: Arc<Mutex<VecDeque<Answer>>>,
    pub(super) asked: Arc<Mutex<Vec<(Instant, HeaderMap)>>>,
}

impl Server {
    pub(super) fn says(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { script: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    pub(super) fn calls(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub(super) fn waits(&self) -> Vec<u128> {
        let asked = self.asked.lock().unwrap();
        asked.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_millis()).collect()
    }
}

impl<B> Service<Request<B>> for Server {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.asked.lock().unwrap().push((Instant::now(), request.headers().clone()));
        let next = self.script.lock().unwrap().pop_front();
        ready(Ok(next.unwrap_or_else(|| Response::new(Full::default()))))
    }
}

pub(super) fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::default()).unwrap()
}

fn down() -> Answer {
    answer(503, &[])
}

fn layer() -> RetryLayer {
    RetryLayer::new("r", every(10 * MS))
}

async fn status(
    layer: &RetryLayer,
    server: &Server,
    request: http::request::Builder,
) -> StatusCode {
    let response = layer.layer(server.clone()).oneshot(request.body(()).unwrap()).await;
    response.unwrap().status()
}

#[tokio::test(start_paused = true)]
async fn idempotent_methods_are_retried_and_others_with_a_key() {
    for (method, headers, retried) in [
        ("GET", None, true),
        ("PUT", None, true),
        ("DELETE", None, true),
        ("POST", None, false),
        ("PATCH", None, false),
        ("POST", Some("7f3a"), true),
    ] {
        let (layer, server) = (layer(), Server::says([down()]));
        let mut request = Request::builder().method(method);
        if let Some(key) = headers {
            request = request.header("idempotency-key", key);
        }

        let status = status(&layer, &server, request).await;

        assert_eq!(status, if retried { 200 } else { 503 }, "{method}");
        assert_eq!(layer.handle().snapshot().stopped(Stop::Method), u64::from(!retried));
    }
}

// X18
#[tokio::test(start_paused = true)]
async fn nothing_is_copied_of_a_request_that_is_not_repeated() {
    for (method, copies) in [("POST", 0), ("GET", 1)] {
        let costly = Costly::default();
        let clones = Arc::clone(&costly.0);
        let request = Request::builder().method(method).extension(costly);

        status(&layer(), &Server::default(), request).await;

        assert_eq!(clones.load(Ordering::Relaxed), copies, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_another_try_would_not_mend_is_handed_out() {
    for (code, stops) in [(501, 1), (404, 0), (200, 0)] {
        let (layer, server) = (layer(), Server::says([answer(code, &[])]));

        assert_eq!(status(&layer, &server, Request::get("/")).await, code);

        assert_eq!(server.calls(), 1);
        assert_eq!(layer.handle().snapshot().stopped(Stop::Final), stops, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_classifier_of_the_others_is_believed() {
    use buttress_core::{Verdict, http::StatusRules};
    let fussy = StatusRules::DEFAULT.http(404..=404, Verdict::Bad).http(503..=503, Verdict::Good);
    for (code, calls) in [(404, 2), (503, 1)] {
        let server = Server::says([answer(code, &[])]);
        let service = layer().judge(fussy).layer(server.clone());

        service.oneshot(Request::new(())).await.unwrap();

        assert_eq!(server.calls(), calls, "{code}");
    }
}

/// Judges as everybody does, and cannot bear a panic.
#[derive(Clone)]
struct Nervous;

impl buttress_core::http::Classify for Nervous {
    type Note = ();

    fn begin(&self, _: buttress_core::http::RequestHead<'_>) {}

    fn head(
        &self,
        (): &mut (),
        facts: buttress_core::Facts,
        response: buttress_core::http::ResponseHead<'_>,
    ) -> Option<buttress_core::Judgement> {
        buttress_core::http::StatusRules::DEFAULT.head(facts, response)
    }

    fn end(
        &self,
        (): &mut (),
        facts: buttress_core::Facts,
        head: Option<buttress_core::Judgement>,
        end: buttress_core::End<'_>,
        _: buttress_core::Timing,
    ) -> buttress_core::Judgement {
        assert!(!matches!(end, buttress_core::End::Panicked), "how terrible");
        buttress_core::http::StatusRules::DEFAULT.judge(facts, head, end)
    }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_at_a_panic_does_not_abort() {
    let service =
        service_fn(async |_: Request<()>| -> Result<Answer, Infallible> { panic!("the service") });
    let service = layer().judge(Nervous).layer(service);

    let panicked = tokio::spawn(service.oneshot(Request::new(()))).await.unwrap_err().into_panic();

    assert_eq!(panicked.downcast_ref(), Some(&"the service"));
}

// R09
#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_in_seconds_and_as_a_date() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let four_later = "Sun, 06 Nov 1994 08:49:41 GMT";
    for (headers, waits) in [
        (vec![("retry-after", "3")], 3_000),
        (vec![("retry-after", "0")], 10),
        (vec![("retry-after", four_later), ("date", date)], 4_000),
        (vec![("retry-after", date), ("date", four_later)], 10),
        (vec![("retry-after", "soon")], 10),
        (vec![("retry-after", "-1")], 10),
        // The longest of several.
        (vec![("retry-after", "1"), ("retry-after", "3"), ("retry-after", "2")], 3_000),
    ] {
        let server = Server::says([answer(503, &headers)]);

        assert_eq!(status(&layer(), &server, Request::get("/")).await, 200);

        assert_eq!(server.waits(), [waits], "{headers:?}");
    }
}

// R09
#[tokio::test(start_paused = true)]
async fn above_the_ceiling_the_answer_is_passed_on_with_what_it_asks() {
    let (layer, server) = (layer(), Server::says([answer(429, &[("retry-after", "31")])]));

    let response = layer.layer(server.clone()).oneshot(Request::new(())).await.unwrap();

    assert_eq!((response.status().as_u16(), server.calls()), (429, 1));
    assert_eq!(response.headers()["retry-after"], "31");
    assert_eq!(layer.handle().snapshot().stopped(Stop::Ceiling), 1);
}

// R09: never earlier than asked, however much that is, or when nobody can tell how much.
#[tokio::test(start_paused = true)]
async fn a_wait_past_all_numbers_or_without_a_beginning_is_above_the_ceiling() {
    let date = "Sun, 06 Nov 1994 08:49:41 GMT";
    for asked in ["100000000", "99999999999999999999999999", date] {
        let (layer, server) = (layer(), Server::says([answer(503, &[("retry-after", asked)])]));

        assert_eq!(status(&layer, &server, Request::get("/")).await, 503, "{asked}");

        assert_eq!(server.calls(), 1);
        assert_eq!(layer.handle().snapshot().stopped(Stop::Ceiling), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn more_attempts_that_are_granted_during_the_last_one_are_not_made() {
    let layer = RetryLayer::new("r", every(10 * MS).attempts(2));
    let (handle, calls) = (layer.handle(), Calls::default());
    let service = {
        let calls = calls.clone();
        service_fn(move |_: Request<()>| {
            if calls.0.fetch_add(1, Ordering::Relaxed) == 1 {
                // What was kept went out with this one, which was the last.
                handle.set_settings(every(10 * MS).attempts(5));
            }
            ready(Ok::<_, Infallible>(down()))
        })
    };

    let response = layer.layer(service).oneshot(Request::new(())).await.unwrap();

    assert_eq!((response.status().as_u16(), calls.made()), (503, 2));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_upon_which_none_can_follow_has_all_the_time_that_is_left() {
    let limit = every(MS).attempt_timeout(TimeLimit::from_millis(50));
    let slow = || {
        service_fn(async |_: Request<()>| {
            tokio::time::sleep(100 * MS).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        })
    };
    let post = || Request::post("/").body(()).unwrap();
    let stack = tower::ServiceBuilder::new()
        .layer(TimeoutLayer::new("t", TimeLimit::from_millis(500)))
        .layer(RetryLayer::new("r", limit.clone()));

    assert_eq!(stack.service(slow()).oneshot(post()).await.unwrap().status(), 200);
    // Where nobody else would cut it, it is cut.
    let alone = RetryLayer::new("r", limit).layer(slow());
    assert_eq!(alone.oneshot(post()).await.unwrap().status(), 504);
}

#[tokio::test(start_paused = true)]
async fn what_became_possible_after_the_deadline_is_not_sent() {
    let (layer, calls) = (layer(), Calls::default());
    let service = {
        let calls = calls.clone();
        service_fn(move |_: Request<()>| {
            calls.0.fetch_add(1, Ordering::Relaxed);
            ready(Ok::<_, BoxError>(down()))
        })
    };
    // Ready at once the first time, and half a second later than that the second time.
    let busy = Busy { inner: service, until: None };
    let request = Request::get("/").header("x-request-timeout-ms", "100").body(()).unwrap();

    let refused = layer.layer(busy).oneshot(request).await.unwrap_err();

    assert_eq!(Rejection::find(&*refused).unwrap().kind(), buttress_core::Kind::TimedOut);
    assert_eq!(calls.made(), 1);
    assert_eq!(layer.handle().snapshot().stopped(Stop::Deadline), 1);
}

/// A service whose clones need half a second to become ready.
struct Busy<S> {
    inner: S,
    until: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

impl<S: Clone> Clone for Busy<S> {
    fn clone(&self) -> Self {
        let until = Box::pin(tokio::time::sleep(500 * MS));
        Self { inner: self.inner.clone(), until: Some(until) }
    }
}

impl<S: Service<Request<()>>> Service<Request<()>> for Busy<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        if let Some(until) = &mut self.until {
            std::task::ready!(until.as_mut().poll(cx));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<()>) -> S::Future {
        self.inner.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_says_how_often_it_was_sent_before() {
    let server = Server::says([down(), down()]);

    status(&layer(), &server, Request::get("/")).await;
    status(&layer().attempt_header("x-tries"), &Server::default(), Request::get("/")).await;

    let asked = server.asked.lock().unwrap();
    let said: Vec<_> = asked.iter().map(|(_, headers)| headers.get("x-retry-attempt")).collect();
    assert_eq!(said[0], None);
    assert_eq!(said[1].unwrap(), "1");
    assert_eq!(said[2].unwrap(), "2");
}

#[test]
#[should_panic(expected = "no header name in lower case")]
fn a_wrong_header_name_is_refused_when_the_layer_is_built() {
    let _ = layer().attempt_header("X-Tries");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_what_is_left_until_the_deadline() {
    let server = Server::says([down(), down()]);
    let service = tower::ServiceBuilder::new()
        .layer(TimeoutLayer::new("t", TimeLimit::from_millis(100)).propagate())
        .layer(RetryLayer::new("r", every(30 * MS)))
        .service(server.clone());

    assert_eq!(service.oneshot(Request::new(())).await.unwrap().status(), 200);

    let asked = server.asked.lock().unwrap();
    let told = asked.iter().map(|(_, headers)| headers["x-request-timeout-ms"].to_str().unwrap());
    assert_eq!(told.collect::<Vec<_>>(), ["100", "70", "40"]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_a_header_alone_is_kept_to() {
    let (layer, server) = (layer(), Server::says([down(), down()]));
    let request = Request::get("/").header("x-request-timeout-ms", "15");

    assert_eq!(status(&layer, &server, request).await, 503);

    let asked = server.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].1["x-request-timeout-ms"], "5");
    assert_eq!(layer.handle().snapshot().stopped(Stop::Deadline), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_its_handler_calls_bad_is_an_answer_unless_its_status_says_so_too() {
    for (status, calls) in [(200, 1), (302, 1), (503, 3)] {
        let bad = || {
            let mut response = answer(status, &[]);
            response.extensions_mut().insert(buttress_core::Verdict::Bad);
            response
        };
        let server = Server::says([bad(), bad(), bad()]);
        let layer = RetryLayer::new("r", every(MS));

        let response = layer.layer(server.clone()).oneshot(Request::new(())).await.unwrap();

        assert_eq!((response.status().as_u16(), server.calls()), (status, calls));
        let stopped: u64 =
            Stop::ALL.iter().map(|stop| layer.handle().snapshot().stopped(*stop)).sum();
        assert_eq!(stopped, u64::from(status == 503), "{status}");
    }
}
