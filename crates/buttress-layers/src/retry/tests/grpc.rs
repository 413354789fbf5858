//! gRPC: codes, pushback, and where a status may stand.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Code, retry::Tokens};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::{
    http_calls::{Server, answer},
    *,
};

fn request() -> Request<()> {
    Request::post("/shop.Shop/Buy").header("content-type", "application/grpc").body(()).unwrap()
}

fn trailers_only(code: &str, pushback: &[&str]) -> Response<Full<Bytes>> {
    let mut headers = vec![("content-type", "application/grpc"), ("grpc-status", code)];
    headers.extend(pushback.iter().map(|value| ("grpc-retry-pushback-ms", *value)));
    answer(200, &headers)
}

fn ok() -> Response<Full<Bytes>> {
    trailers_only("0", &[])
}

async fn ask(layer: &RetryLayer, server: &Server) -> String {
    let response = layer.layer(server.clone()).oneshot(request()).await.unwrap();
    response.headers()["grpc-status"].to_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_codes_that_are_named_are_retried_and_say_so() {
    let settings = every(10 * MS).codes([Code::Unavailable, Code::Aborted]);
    for (code, calls) in [("14", 2), ("10", 2), ("13", 1), ("5", 1)] {
        let server = Server::says([trailers_only(code, &[]), ok()]);

        ask(&RetryLayer::new("r", settings.clone()), &server).await;

        assert_eq!(server.calls(), calls, "{code}");
        if calls == 2 {
            let asked = server.asked.lock().unwrap();
            assert!(!asked[0].1.contains_key("grpc-previous-rpc-attempts"));
            assert_eq!(asked[1].1["grpc-previous-rpc-attempts"], "1");
        }
    }
}

// R08
#[tokio::test(start_paused = true)]
async fn pushback_is_obeyed_and_the_backoff_starts_again() {
    let settings = Settings::new(Backoff::exponential(10 * MS)).attempts(5);
    let unavailable = |pushback: &[&str]| trailers_only("14", pushback);
    let server = Server::says([
        unavailable(&[]),
        unavailable(&[]),
        unavailable(&["1000"]),
        unavailable(&[]),
        ok(),
    ]);

    assert_eq!(ask(&RetryLayer::new("r", settings), &server).await, "0");

    assert_eq!(server.waits(), [10, 20, 1000, 10]);
}

// R08
#[tokio::test(start_paused = true)]
async fn who_says_no_is_not_asked_again_and_it_costs_a_token() {
    for no in [&["-1"][..], &["xxx"], &["100", "10"]] {
        let budget = Budget::from(Tokens::new(10));
        let layer = RetryLayer::new("r", every(MS).budget(budget.clone()));
        let server = Server::says([trailers_only("14", no)]);

        assert_eq!(ask(&layer, &server).await, "14");

        assert_eq!(server.calls(), 1, "{no:?}");
        assert_eq!(layer.handle().snapshot().stopped(Stop::Pushback), 1);
        assert_eq!(layer.handle().balance(), Some(4));
    }
}

// R06
#[tokio::test(start_paused = true)]
async fn tokens_stop_and_start_the_retries_where_grpc_does() {
    const GOOD: [u32; 10] = [0, 3, 6, 10, 11, 12, 13, 14, 16, 18];
    let script = (0..=18).map(|i| if GOOD.contains(&i) { ok() } else { trailers_only("14", &[]) });
    let server = Server::says(script);
    let budget = Tokens::new(10).ratio(Ratio::percent(50));
    let layer = RetryLayer::new("r", every(MS).attempts(4).budget(budget));

    let mut seen = Vec::new();
    for _ in 0..12 {
        let code = ask(&layer, &server).await;
        seen.push((code == "0", server.calls() - 1));
    }

    let expected = [
        (true, 0),
        (true, 3),
        (true, 6),
        (false, 8),
        (false, 9),
        (true, 10),
        (true, 11),
        (true, 12),
        (true, 13),
        (true, 14),
        (true, 16),
        (false, 17),
    ];
    assert_eq!(seen, expected);
}

/// What a poll of a body brings; `None` is a wait.
type Polled = Option<Result<Part, &'static str>>;

/// A body that does as it is told, one frame for each poll.
#[derive(Clone, Default)]
struct Script(VecDeque<Polled>);

#[derive(Clone)]
enum Part {
    Data(&'static str),
    Trailers(&'static str),
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match self.0.pop_front() {
            None => return Poll::Ready(None),
            Some(None) => return Poll::Pending,
            Some(Some(Err(error))) => Err(error.into()),
            Some(Some(Ok(Part::Data(data)))) => {
                Ok(Frame::data(Bytes::from_static(data.as_bytes())))
            }
            Some(Some(Ok(Part::Trailers(code)))) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", code.parse().unwrap());
                Ok(Frame::trailers(trailers))
            }
        };
        Poll::Ready(Some(frame))
    }
}

/// A service whose calls are answered with these bodies, one after the other.
fn bodies(
    bodies: impl IntoIterator<Item = Script>,
) -> impl Service<Request<()>, Response = Response<Script>, Error = BoxError, Future: Send> + Clone
{
    let bodies = Arc::new(Mutex::new(bodies.into_iter().collect::<VecDeque<_>>()));
    service_fn(move |_: Request<()>| {
        let body = bodies.lock().unwrap().pop_front().expect("another call");
        let response = Response::builder().header("content-type", "application/grpc");
        ready(Ok(response.body(body).unwrap()))
    })
}

fn script(parts: impl IntoIterator<Item = impl Into<Polled>>) -> Script {
    Script(parts.into_iter().map(Into::into).collect())
}

#[expect(clippy::unnecessary_wraps, reason = "a frame beside those that fail")]
const fn trailers(code: &'static str) -> Result<Part, &'static str> {
    Ok(Part::Trailers(code))
}

const MESSAGE: Result<Part, &'static str> = Ok(Part::Data("message"));

async fn read(response: Response<impl Body<Data = Bytes, Error = BoxError>>) -> (Bytes, String) {
    let collected = response.into_body().collect().await.unwrap();
    let code = collected.trailers().map(|trailers| trailers["grpc-status"].to_str().unwrap());
    let code = code.unwrap_or_default().to_owned();
    (collected.to_bytes(), code)
}

#[tokio::test(start_paused = true)]
async fn trailers_that_follow_upon_the_head_at_once_are_seen() {
    let layer = RetryLayer::new("r", every(MS));
    let service = layer.layer(bodies([script([trailers("14")]), script([MESSAGE, trailers("0")])]));

    let response = service.oneshot(request()).await.unwrap();

    assert_eq!(read(response).await, (Bytes::from_static(b"message"), "0".to_owned()));
    assert_eq!(layer.handle().snapshot().retries(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_looked_at_is_still_there_when_it_is_handed_out() {
    let layer = RetryLayer::new("r", every(MS).attempts(1));
    let service = layer.layer(bodies([script([trailers("14")])]));

    let response = service.oneshot(request()).await.unwrap();

    assert_eq!(read(response).await, (Bytes::new(), "14".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_held_up_and_not_retried_once_it_is_handed_out() {
    for parts in [vec![None, Some(trailers("14"))], vec![Some(MESSAGE), Some(trailers("14"))]] {
        let layer = RetryLayer::new("r", every(MS));
        let mut response = task::spawn(layer.layer(bodies([script(parts)])).oneshot(request()));

        let response = assert_ready_ok!(response.poll(), "the head is there");

        let mut body = task::spawn(response.into_body());
        let mut last = None;
        for _ in 0..4 {
            if let Poll::Ready(Some(frame)) = body.enter(|cx, body| body.poll_frame(cx)) {
                last = frame.unwrap().into_trailers().ok();
            }
        }
        assert_eq!(last.unwrap()["grpc-status"], "14");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_behind_the_head_is_passed_on() {
    let layer = RetryLayer::new("r", every(MS));
    let service = layer.layer(bodies([script([Some(Err("reset"))])]));

    let response = service.oneshot(request()).await.unwrap();

    assert_eq!(response.into_body().collect().await.unwrap_err().to_string(), "reset");
}

/// How often a gRPC call is made that always fails so, and why no more.
async fn made(settings: Settings, kind: io::ErrorKind, stop: Stop) -> (u32, u64) {
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let broken = service_fn(move |_: Request<()>| {
        count.fetch_add(1, Ordering::Relaxed);
        ready(Err::<Response<Full<Bytes>>, BoxError>(io::Error::from(kind).into()))
    });
    let layer = RetryLayer::new("r", settings);

    assert!(layer.layer(broken).oneshot(request()).await.is_err());

    (calls.load(Ordering::Relaxed), layer.handle().snapshot().stopped(stop))
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_connection_broke_is_made_again_where_unavailable_is_named() {
    let named = every(MS).codes([Code::Unavailable]);
    let other = every(MS).codes([Code::Aborted, Code::DeadlineExceeded]);
    let broke = io::ErrorKind::ConnectionReset;

    assert_eq!(made(named, broke, Stop::Attempts).await, (3, 1));
    assert_eq!(made(other, broke, Stop::Final).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_reached_the_server_is_made_again_whatever_is_named() {
    let none = every(MS).codes([]);

    let made = made(none, io::ErrorKind::ConnectionRefused, Stop::Attempts).await;

    // The first for nothing.
    assert_eq!(made, (4, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_took_too_long_is_made_again_where_a_code_is_named_that_leaves_it_open() {
    for (code, made, stop, took) in [
        (Code::Unavailable, 3, Stop::Attempts, 152),
        (Code::DeadlineExceeded, 3, Stop::Attempts, 152),
        (Code::Aborted, 1, Stop::Final, 50),
    ] {
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        let hanging = service_fn(move |_: Request<()>| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>()
        });
        let settings = every(MS).codes([code]).attempt_timeout(TimeLimit::from_millis(50));
        let (layer, start) = (RetryLayer::new("r", settings), Instant::now());

        let error = layer.layer(hanging).oneshot(request()).await.unwrap_err();

        assert!(Rejection::find(&*error).is_some(), "{code:?}");
        assert_eq!(calls.load(Ordering::Relaxed), made, "{code:?}");
        assert_eq!(layer.handle().snapshot().stopped(stop), 1, "{code:?}");
        assert_eq!(start.elapsed().as_millis(), took, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_upon_which_none_would_follow_has_all_the_time_of_its_caller() {
    for (code, calls, took) in [(Code::Aborted, 1, 100), (Code::Unavailable, 3, 202)] {
        let (count, start) = (Arc::new(AtomicU32::new(0)), Instant::now());
        let made = Arc::clone(&count);
        let slow = service_fn(move |_: Request<()>| {
            made.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::time::sleep(100 * MS).await;
                Ok::<_, BoxError>(ok())
            }
        });
        let settings = every(MS).codes([code]).attempt_timeout(TimeLimit::from_millis(50));
        let mut request = request();
        request.headers_mut().insert("grpc-timeout", "300m".parse().unwrap());

        let outcome = RetryLayer::new("r", settings).layer(slow).oneshot(request).await;

        assert!(outcome.is_ok(), "{code:?}: the last one is not cut before its caller's time");
        assert_eq!((count.load(Ordering::Relaxed), start.elapsed().as_millis()), (calls, took));
    }
}
