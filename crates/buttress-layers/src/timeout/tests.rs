use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use buttress_core::{BoxError, Code, Deadline, Kind, Plain, Rejection, TimeLimit};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

use super::*;

mod cap;
mod shadow;

const LIMIT: TimeLimit = TimeLimit::from_millis(150);

fn plain(limits: impl Into<Limits>) -> TimeoutLayer<Plain> {
    TimeoutLayer::new("t", limits).exchange(Plain)
}

fn timed_out(error: &BoxError) -> bool {
    Rejection::find(&**error).is_some_and(|rejection| rejection.kind() == Kind::TimedOut)
}

#[tokio::test(start_paused = true)]
async fn refuses_at_the_limit_and_not_before() {
    let (mut service, mut inner) = mock::spawn_layer::<_, (), _>(plain(LIMIT));
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("slow"));
    let _unanswered = assert_request_eq!(inner, "slow");
    assert_pending!(response.poll());

    advance(Duration::from_millis(149)).await;
    assert_pending!(response.poll());
    advance(Duration::from_millis(1)).await;

    assert!(timed_out(&assert_ready_err!(response.poll())));
}

#[tokio::test(start_paused = true)]
async fn the_limit_runs_from_the_call_and_not_from_the_first_poll() {
    let (mut service, _inner) = mock::spawn_layer::<&str, (), _>(plain(LIMIT));
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("forgotten for a while"));

    advance(Duration::from_millis(150)).await;

    assert!(timed_out(&assert_ready_err!(response.poll())));
}

#[tokio::test(start_paused = true)]
async fn a_busy_inner_service_is_waited_for_within_the_limit() {
    let (mut service, mut inner) = mock::spawn_layer::<_, (), _>(plain(LIMIT));
    inner.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("queued"));
    assert_pending!(response.poll());

    advance(Duration::from_millis(100)).await;
    inner.allow(1);
    assert!(response.is_woken());
    assert_pending!(response.poll());
    let _unanswered = assert_request_eq!(inner, "queued");
    advance(Duration::from_millis(50)).await;

    assert!(timed_out(&assert_ready_err!(response.poll())));
}

#[tokio::test(start_paused = true)]
async fn a_request_still_queued_at_the_limit_never_reaches_the_inner_service() {
    let (mut service, mut inner) = mock::spawn_layer::<&str, (), _>(plain(LIMIT));
    inner.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("queued"));
    assert_pending!(response.poll());

    advance(Duration::from_millis(150)).await;

    assert!(timed_out(&assert_ready_err!(response.poll())));
    inner.allow(1);
    assert_pending!(inner.poll_request());
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_and_an_error_of_the_inner_service_pass_unchanged() {
    let (mut service, mut inner) = mock::spawn_layer::<_, _, _>(plain(LIMIT));

    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("one"));
    assert_request_eq!(inner, "one").send_response("answer");
    assert_eq!(assert_ready_ok!(response.poll()), "answer");

    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("two"));
    assert_request_eq!(inner, "two").send_error("broken");
    assert_eq!(assert_ready_err!(response.poll()).to_string(), "broken");
}

#[tokio::test(start_paused = true)]
async fn what_is_inside_is_dropped_as_soon_as_time_is_up() {
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    let never = service_fn(move |()| {
        let inside = Arc::clone(&inside);
        async move {
            std::future::pending::<()>().await;
            drop(inside);
            Ok::<_, BoxError>(())
        }
    });
    let mut service = plain(LIMIT).layer(never);
    assert_ready_ok!(task::spawn(service.ready()).poll());
    let mut response = task::spawn(service.call(()));
    assert_pending!(response.poll());
    assert_eq!(Arc::strong_count(&held), 3);

    advance(Duration::from_millis(150)).await;
    assert_ready_err!(response.poll());

    // The refused future is still there, and its inner one is gone all the same.
    assert_eq!(Arc::strong_count(&held), 2);
}

#[tokio::test(start_paused = true)]
async fn limits_can_be_moved_while_it_works() {
    let layer = plain(LIMIT);
    let handle = layer.handle();
    let service = layer.layer(slow());
    handle.set_limits(Limits::total(TimeLimit::from_millis(40)));
    let started = Instant::now();

    let error = service.oneshot(()).await.unwrap_err();

    assert!(timed_out(&error));
    assert_eq!(started.elapsed(), Duration::from_millis(40));
}

/// A service that answers after an hour.
fn slow() -> impl Service<(), Response = (), Error = BoxError, Future: Send> + Clone {
    service_fn(|()| async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok::<_, BoxError>(())
    })
}

type Answer = Ready<Result<Response<Boxed>, Infallible>>;
type Boxed = UnsyncBoxBody<Bytes, BoxError>;

/// A service whose body is this stream of frames; it answers gRPC in gRPC.
fn streaming<F, I>(
    frames: F,
) -> impl Service<Request<()>, Response = Response<Boxed>, Error = Infallible, Future = Answer> + Clone
where
    F: Fn() -> I + Clone,
    I: Stream<Item = Bytes> + Send + 'static,
{
    service_fn(move |request: Request<()>| {
        let frames = frames().map(|data| Ok::<_, BoxError>(Frame::data(data)));
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        if let Some(spoken) = request.headers().get("content-type") {
            response.headers_mut().insert("content-type", spoken.clone());
        }
        ready(Ok(response))
    })
}

/// A service whose body sends a frame after each of these pauses, in milliseconds.
fn paced(
    pauses: &'static [u64],
) -> impl Service<Request<()>, Response = Response<Boxed>, Error = Infallible, Future = Answer> + Clone
{
    streaming(move || {
        stream::iter(pauses).then(|pause| async {
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            Bytes::from_static(b"frame")
        })
    })
}

fn get() -> Request<()> {
    Request::get("/").body(()).unwrap()
}

fn grpc() -> Request<()> {
    Request::post("/shop.Shop/Watch").header("content-type", "application/grpc").body(()).unwrap()
}

/// Reads a body; the frames that came, how it ended, and when.
async fn read<B>(body: B) -> (usize, Result<Option<http::HeaderMap>, BoxError>, Duration)
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    let started = Instant::now();
    let mut body = pin!(body);
    let mut frames = 0;
    loop {
        match body.as_mut().frame().await {
            None => return (frames, Ok(None), started.elapsed()),
            Some(Err(error)) => {
                assert!(body.frame().await.is_none(), "nothing follows an error");
                return (frames, Err(error), started.elapsed());
            }
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    assert!(body.is_end_stream(), "nothing follows trailers");
                    return (frames, Ok(Some(trailers)), started.elapsed());
                }
                Err(_) => frames += 1,
            },
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_too_long_in_all_is_cut_off() {
    let service = TimeoutLayer::new("t", LIMIT).layer(paced(&[60, 60, 60, 60]));

    let response = service.oneshot(get()).await.unwrap();
    let (frames, end, after) = read(response.into_body()).await;

    assert_eq!(frames, 2);
    assert!(timed_out(&end.unwrap_err()));
    assert_eq!(after, Duration::from_millis(150));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_makes_anybody_wait_is_cut_off_too() {
    let endless = streaming(|| stream::repeat(Bytes::from_static(b"x")));
    let service = TimeoutLayer::new("t", LIMIT).layer(endless);

    let mut body = Box::pin(service.oneshot(get()).await.unwrap().into_body());
    while body.frame().await.expect("endless").is_ok() {
        advance(Duration::from_millis(10)).await;
    }

    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_grpc_body_cut_short_ends_in_trailers_with_a_status() {
    let service = TimeoutLayer::new("t", LIMIT).layer(paced(&[100, 100]));

    let response = service.oneshot(grpc()).await.unwrap();
    let (frames, end, _) = read(response.into_body()).await;

    let trailers = end.unwrap().expect("trailers");
    assert_eq!(frames, 1);
    assert_eq!(trailers["grpc-status"], Code::DeadlineExceeded.number().to_string().as_str());
}

#[tokio::test(start_paused = true)]
async fn a_plain_answer_does_not_end_well_because_its_caller_said_grpc() {
    let plainly = paced(&[100, 100]).map_response(|mut response: Response<Boxed>| {
        response.headers_mut().clear();
        response
    });
    let service = TimeoutLayer::new("t", LIMIT).layer(plainly);

    let response = service.oneshot(grpc()).await.unwrap();
    let (frames, end, _) = read(response.into_body()).await;

    assert_eq!(frames, 1);
    assert!(timed_out(&end.unwrap_err()));
}

#[tokio::test(start_paused = true)]
async fn an_idle_body_is_cut_off_and_a_slow_reader_is_not() {
    let limits = Limits::streaming(LIMIT, TimeLimit::from_millis(100));
    let layer = TimeoutLayer::new("t", limits);
    let handle = layer.handle();

    let response = layer.clone().layer(paced(&[90, 90, 90, 110])).oneshot(get()).await.unwrap();
    let (frames, end, after) = read(response.into_body()).await;
    assert_eq!((frames, after), (3, Duration::from_millis(370)));
    assert!(timed_out(&end.unwrap_err()));
    assert_eq!(handle.snapshot().expired(Clock::Idle), 1);

    let response = layer.layer(paced(&[90, 90, 90])).oneshot(get()).await.unwrap();
    let mut body = Box::pin(response.into_body());
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        advance(Duration::from_secs(60)).await;
    }
    assert_eq!(handle.snapshot().expired(Clock::Idle), 1);
}

/// Answers with the deadline that it was told, and the extension.
fn echo()
-> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
{
    service_fn(|request: Request<()>| {
        let header =
            |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let told = header("grpc-timeout").or(header(TimeoutLayer::<()>::DEADLINE_HEADER));
        let mut response = Response::new(Full::from(told.unwrap_or_default()));
        if let Some(Deadline(at)) = request.extensions().get() {
            response.extensions_mut().insert(Deadline(*at));
        }
        ready(Ok::<_, Infallible>(response))
    })
}

async fn told(layer: TimeoutLayer, request: Request<()>) -> String {
    let response = layer.layer(echo()).oneshot(request).await.unwrap();
    let told = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(told.into()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_sooner_of_the_callers_deadline_and_ours_travels_on() {
    let layer = || TimeoutLayer::new("t", LIMIT).propagate();
    let with = |mut request: Request<()>, name: &'static str, value: &'static str| {
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };

    assert_eq!(told(TimeoutLayer::new("t", LIMIT), get()).await, "", "only when asked to");
    assert_eq!(told(layer(), get()).await, "150");
    assert_eq!(told(layer(), grpc()).await, "150000u");
    assert_eq!(told(layer(), with(get(), "x-request-timeout-ms", "9999")).await, "150");
    // Half a tick of the timer earlier than the caller gives up, rounded down.
    assert_eq!(told(layer(), with(get(), "x-request-timeout-ms", "100")).await, "99");
    assert_eq!(told(layer(), with(grpc(), "grpc-timeout", "100m")).await, "99500000n");
    assert_eq!(told(layer(), with(grpc(), "grpc-timeout", "nonsense")).await, "150000u");
}

#[tokio::test(start_paused = true)]
async fn an_inner_layer_takes_the_deadline_of_the_outer_one() {
    let outer = TimeoutLayer::new("outer", LIMIT).propagate();
    let inner = TimeoutLayer::new("inner", TimeLimit::from_secs(9)).propagate();
    let service = ServiceBuilder::new().layer(outer).layer(inner).service(echo());
    let now = Instant::now();

    let response = service.oneshot(get()).await.unwrap();

    let Deadline(at) = *response.extensions().get().expect("a deadline");
    assert_eq!(at, (now + LIMIT.get()).into_std());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waited_tells_the_next_hop_what_is_left_by_then() {
    let layer = TimeoutLayer::new("t", LIMIT).propagate();
    let (mut service, mut inner) =
        mock::spawn_layer::<Request<()>, Response<Empty<Bytes>>, _>(layer);
    inner.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call(get()));
    assert_pending!(response.poll());

    advance(Duration::from_millis(100)).await;
    inner.allow(1);
    assert_pending!(response.poll());

    let (sent, _) = inner.next_request().await.expect("sent");
    assert_eq!(sent.headers()["x-request-timeout-ms"], "50");
}

#[tokio::test(start_paused = true)]
async fn expired_work_is_refused_before_it_starts() {
    let layer = TimeoutLayer::new("t", LIMIT).propagate();
    let handle = layer.handle();
    let (mut service, mut inner) =
        mock::spawn_layer::<Request<()>, Response<Empty<Bytes>>, _>(layer);

    for name in ["grpc-timeout", "x-request-timeout-ms"] {
        let mut request = if name == "grpc-timeout" { grpc() } else { get() };
        let value = if name == "grpc-timeout" { "0m" } else { "0" };
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_ready_ok!(service.poll_ready());
        let error = assert_ready_err!(task::spawn(service.call(request)).poll());
        assert_eq!(Rejection::find(&*error).map(Rejection::kind), Some(Kind::Expired), "{name}");
    }

    assert_pending!(inner.poll_request());
    assert_eq!(handle.snapshot().refused(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_is_kept_on_the_very_tick() {
    let layer = TimeoutLayer::new("t", LIMIT).propagate();
    let never = service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    });
    let mut request = grpc();
    request.headers_mut().insert("grpc-timeout", "30m".parse().unwrap());
    let started = Instant::now();

    let response = layer.layer(never).oneshot(request).await.unwrap();

    assert_eq!(started.elapsed(), Duration::from_millis(30));
    assert_eq!(response.headers()["grpc-status"], "4");
}

/// Sends itself messages, which use up its task's budget over and over; not for ever, so that a
/// test which lets it go on fails.
async fn busy() {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..1_000_000 {
        sender.send(()).unwrap();
        receiver.recv().await;
    }
    panic!("it should have been cut off long ago");
}

#[tokio::test(start_paused = true)]
async fn a_future_that_uses_up_its_tasks_budget_runs_out_of_time_all_the_same() {
    let service = plain(LIMIT).layer(service_fn(|()| async {
        busy().await;
        Ok::<_, BoxError>(())
    }));
    let call = tokio::spawn(service.oneshot(()));
    tokio::task::yield_now().await;

    advance(Duration::from_millis(150)).await;

    assert!(timed_out(&call.await.unwrap().unwrap_err()));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_uses_up_its_tasks_budget_is_cut_off_all_the_same() {
    let service = TimeoutLayer::new("t", LIMIT).layer(streaming(|| {
        stream::once(async {
            busy().await;
            Bytes::from_static(b"late")
        })
    }));
    let body = service.oneshot(get()).await.unwrap().into_body();
    let reading = tokio::spawn(read(body));
    tokio::task::yield_now().await;

    advance(Duration::from_millis(150)).await;

    assert!(timed_out(&reading.await.unwrap().1.unwrap_err()));
}

#[tokio::test(start_paused = true)]
async fn work_is_not_started_past_its_limit() {
    let (mut service, mut inner) = mock::spawn_layer::<&str, (), _>(plain(LIMIT));
    inner.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("queued"));
    assert_pending!(response.poll());

    // Ready, but only after the limit, and seen in the same poll as the timer.
    advance(Duration::from_millis(151)).await;
    inner.allow(1);

    assert!(timed_out(&assert_ready_err!(response.poll())));
    assert_pending!(inner.poll_request());
}

#[tokio::test(start_paused = true)]
async fn a_longer_deadline_is_never_worse() {
    let layer = TimeoutLayer::new("t", LIMIT).propagate();

    for timeout in ["1n", "499u", "500u", "501u", "1000u"] {
        let mut request = grpc();
        request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        let response = layer.layer(echo()).oneshot(request).await.unwrap();
        assert!(Rejection::of_response(&response).is_none(), "{timeout}");
    }
}

#[test]
fn a_header_that_is_none_is_refused_when_the_layer_is_built() {
    for header in ["", "X-Timeout", "x timeout", "x:timeout", "zeitüberschreitung"] {
        let built = std::panic::catch_unwind(|| TimeoutLayer::new("t", LIMIT).propagate_in(header));
        assert!(built.is_err(), "{header:?}");
    }
    let _ = TimeoutLayer::new("t", LIMIT).propagate_in("x-envoy-expected-rq-timeout-ms");
}
