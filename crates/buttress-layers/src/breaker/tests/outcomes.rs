//! What a call's end means.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
};

use buttress_core::{
    End, Facts, Judgement, Raise, Timing, Verdict,
    breaker::Totals,
    http::{Classify, RequestHead, ResponseHead, StatusRules},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use tower::service_fn;

use super::*;

type Boxed = UnsyncBoxBody<Bytes, BoxError>;
type Item = Result<Frame<Bytes>, BoxError>;

fn never_opens() -> Settings {
    Settings::new(Trip::consecutive(1_000_000))
}

fn get() -> Request<()> {
    Request::get("/").body(()).unwrap()
}

fn grpc() -> Request<()> {
    Request::post("/shop.Shop/Buy").header("content-type", "application/grpc").body(()).unwrap()
}

fn frames(items: Vec<Item>) -> Boxed {
    StreamBody::new(stream::iter(items)).boxed_unsync()
}

fn data() -> Frame<Bytes> {
    Frame::data(Bytes::from_static(b"data"))
}

fn trailers(status: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    Frame::trailers(trailers)
}

fn with_status(status: u16) -> Response<Boxed> {
    Response::builder().status(status).body(frames(vec![Ok(data())])).unwrap()
}

fn message(items: Vec<Item>) -> Response<Boxed> {
    Response::builder().header("content-type", "application/grpc").body(frames(items)).unwrap()
}

/// Counts what one call with this answer, read to its end, becomes.
async fn counts(request: Request<()>, answer: Response<Boxed>) -> Totals {
    let layer = BreakerLayer::new("b", never_opens()).on_reject(Raise);
    let handle = layer.handle();
    let answer = Mutex::new(Some(answer));
    let service = service_fn(move |_| {
        let answer = answer.lock().unwrap().take().expect("called once");
        std::future::ready(Ok::<_, BoxError>(answer))
    });
    let mut service = layer.layer(Once(Arc::new(Mutex::new(service))));
    let response = service.ready().await.unwrap().call(request).await.unwrap();
    let _ = response.into_body().collect().await;
    handle.totals()
}

/// Shares a service that cannot be cloned.
struct Once<S>(Arc<Mutex<S>>);

impl<S> Clone for Once<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Service<R>, R> Service<R> for Once<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.lock().unwrap().poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.lock().unwrap().call(request)
    }
}

fn one(count: impl FnOnce(&mut Totals)) -> Totals {
    let mut totals = Totals::default();
    count(&mut totals);
    totals
}

#[tokio::test(start_paused = true)]
async fn a_status_counts_by_the_rules_and_429_softly() {
    let success = one(|totals| totals.successes = 1);
    let failure = one(|totals| totals.failures = 1);
    let neutral = one(|totals| totals.ignored = 1);
    let soft = one(|totals| totals.soft_failures = 1);

    for (status, counted) in [
        (200, success),
        (304, success),
        (500, failure),
        (503, failure),
        (404, neutral),
        (429, soft),
    ] {
        assert_eq!(counts(get(), with_status(status)).await, counted, "{status}");
    }
    for (status, counted) in
        [("0", success), ("14", failure), ("13", failure), ("5", neutral), ("8", soft)]
    {
        let answer = message(vec![Ok(data()), Ok(trailers(status))]);
        assert_eq!(counts(grpc(), answer).await, counted, "grpc-status {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_body_has_the_last_word() {
    let failure = one(|totals| totals.failures = 1);

    let broken = || frames(vec![Ok(data()), Err("connection reset".into())]);
    assert_eq!(counts(get(), Response::new(broken())).await, failure);
    assert_eq!(counts(grpc(), message(vec![Ok(data())])).await, failure, "no trailers");
    // A client error whose body breaks is a failure too: something broke.
    let mut not_found = Response::new(broken());
    *not_found.status_mut() = http::StatusCode::NOT_FOUND;
    assert_eq!(counts(get(), not_found).await, failure);
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_of_ours_refuses_says_nothing_about_the_service_unless_time_ran_out() {
    let refused = |kind| {
        let rejection = Rejection::new(kind, "further in");
        let mut response = with_status(rejection.http_status());
        response.extensions_mut().insert(rejection);
        response
    };
    let neutral = one(|totals| totals.ignored = 1);

    for kind in [Kind::Overloaded, Kind::RateLimited, Kind::CircuitOpen, Kind::Expired] {
        assert_eq!(counts(get(), refused(kind)).await, neutral, "{kind:?}");
    }
    let failure = one(|totals| totals.failures = 1);
    assert_eq!(counts(get(), refused(Kind::TimedOut)).await, failure);

    // The same as errors.
    for (kind, failures) in [(Kind::Overloaded, 0), (Kind::TimedOut, 1)] {
        let layer = plain(never_opens());
        let inner = service_fn(move |()| async move {
            Err::<(), BoxError>(Rejection::new(kind, "further in").into())
        });
        layer.layer(inner).oneshot(()).await.unwrap_err();
        assert_eq!(layer.handle().totals().failures, failures);
    }
}

#[tokio::test(start_paused = true)]
async fn the_handlers_word_goes_before_the_status() {
    let said = |verdict: Verdict, status| {
        let mut response = with_status(status);
        response.extensions_mut().insert(verdict);
        response
    };

    assert_eq!(counts(get(), said(Verdict::Bad, 200)).await.failures, 1);
    assert_eq!(counts(get(), said(Verdict::Good, 500)).await.successes, 1);
    assert_eq!(counts(get(), said(Verdict::Excluded, 429)).await.ignored, 1);
}

#[tokio::test(start_paused = true)]
async fn who_drops_the_body_keeps_what_the_head_said() {
    let layer = BreakerLayer::new("b", never_opens()).on_reject(Raise);
    let handle = layer.handle();
    for status in [200, 500] {
        let service =
            service_fn(move |_: Request<()>| async move { Ok::<_, BoxError>(with_status(status)) });
        let response = layer.layer(service).oneshot(get()).await.unwrap();
        drop(response);
    }

    assert_eq!((handle.totals().successes, handle.totals().failures), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn slow_is_what_takes_long_to_its_head_and_not_a_long_stream() {
    let slow = Trip::slow_rate(Ratio::percent(50), TimeLimit::from_secs(1)).minimum(1);
    let layer = BreakerLayer::new("b", never_opens().or(slow)).on_reject(Raise);
    let handle = layer.handle();
    let after = |to_head: u64, in_body: u64| {
        layer.layer(service_fn(move |_: Request<()>| async move {
            sleep(Duration::from_millis(to_head)).await;
            let frame = stream::once(async move {
                sleep(Duration::from_millis(in_body)).await;
                Ok::<_, BoxError>(data())
            });
            Ok::<_, BoxError>(Response::new(StreamBody::new(frame).boxed_unsync()))
        }))
    };

    let response = after(1000, 60_000).oneshot(get()).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_eq!(handle.snapshot().slow_rate(), Some(Ratio::ZERO));
    assert_eq!(handle.state(), State::Closed);
    let response = after(1001, 0).oneshot(get()).await.unwrap();
    response.into_body().collect().await.unwrap();

    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_head_was_good_meets_the_deadline_of_a_probe() {
    let probes = Probes::new(1).deadline(TimeLimit::from_secs(1));
    let layer = BreakerLayer::new("b", in_a_row(1).probes(probes)).on_reject(Raise);
    let handle = layer.handle();
    let endless = service_fn(|_: Request<()>| async {
        let frames = stream::pending::<Item>();
        Ok::<_, BoxError>(Response::new(StreamBody::new(frames).boxed_unsync()))
    });
    handle.open_for(WAIT);
    advance(WAIT.get()).await;

    let _stream = layer.layer(endless).oneshot(get()).await.unwrap();
    assert_eq!(handle.state(), State::HalfOpen);
    advance(Duration::from_secs(1)).await;

    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn it_stays_open_for_as_long_as_the_server_asks() {
    let asked = |name: &'static str, value: &'static str| {
        let settings = Settings::consecutive(1)
            .open_for(OpenFor::fixed(WAIT).or_as_asked(TimeLimit::from_secs(60)));
        let layer = BreakerLayer::new("b", settings).on_reject(Raise);
        let service = layer.layer(service_fn(move |_: Request<()>| async move {
            let mut response = with_status(503);
            response.headers_mut().insert(name, value.parse().unwrap());
            response.headers_mut().insert("date", "Sat, 21 Nov 2026 08:00:00 GMT".parse().unwrap());
            Ok::<_, BoxError>(response)
        }));
        async move {
            let response = service.oneshot(get()).await.unwrap();
            let _ = response.into_body().collect().await;
            layer.handle().snapshot().until_probe.unwrap()
        }
    };

    assert_eq!(asked("retry-after", "7").await, Duration::from_secs(7));
    assert_eq!(asked("retry-after", "0").await, WAIT.get());
    assert_eq!(asked("retry-after", "3600").await, Duration::from_secs(60));
    let date = asked("retry-after", "Sat, 21 Nov 2026 08:00:30 GMT").await;
    assert_eq!(date, Duration::from_secs(30));
    assert_eq!(asked("retry-after", "soon").await, WAIT.get());
    assert_eq!(asked("grpc-retry-pushback-ms", "2500").await, Duration::from_millis(2500));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_at_its_own_deadline_counts_as_a_failure() {
    let layer = BreakerLayer::new("b", never_opens()).on_reject(Raise);
    let hanging = service_fn(|_: Request<()>| pending::<Result<Response<Boxed>, BoxError>>());
    let request = || {
        let mut request = grpc();
        request.headers_mut().insert("grpc-timeout", "50m".parse().unwrap());
        request
    };

    for after in [49, 50] {
        let mut response = task::spawn(layer.layer(hanging).oneshot(request()));
        assert_pending!(response.poll());
        advance(Duration::from_millis(after)).await;
    }

    let totals = layer.handle().totals();
    assert_eq!((totals.cancelled, totals.failures), (1, 1));
}

/// Good is what was answered within 100 ms; panics at the end of a 500, and at the request for
/// one path.
#[derive(Clone)]
struct Prompt;

impl Classify for Prompt {
    type Note = ();

    fn begin(&self, request: RequestHead<'_>) {
        assert!(request.path != "/begin", "a classifier that panics");
    }

    fn head(&self, (): &mut (), facts: Facts, response: ResponseHead<'_>) -> Option<Judgement> {
        StatusRules::DEFAULT.head(facts, response)
    }

    fn end(
        &self,
        (): &mut (),
        facts: Facts,
        head: Option<Judgement>,
        end: End<'_>,
        timing: Timing,
    ) -> Judgement {
        assert!(facts.status != Some(500), "a classifier that panics");
        let judgement = StatusRules::DEFAULT.judge(facts, head, end);
        if timing.total > Duration::from_millis(100) {
            return Judgement { verdict: Verdict::Bad, ..judgement };
        }
        judgement
    }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_of_ones_own_sees_the_time_and_may_panic() {
    let layer = BreakerLayer::new("b", never_opens()).judge(Prompt).on_reject(Raise);
    let handle = layer.handle();
    let answer = |status: u16, millis: u64| {
        let service = service_fn(move |_: Request<()>| async move {
            sleep(Duration::from_millis(millis)).await;
            Ok::<_, Infallible>(
                with_status(status).map(|_| http_body_util::Full::<Bytes>::default()),
            )
        });
        layer.layer(service.map_err(|never| -> BoxError { match never {} })).oneshot(get())
    };

    drop(answer(200, 100).await.unwrap());
    drop(answer(200, 101).await.unwrap());
    let broken = tokio::spawn(answer(500, 0)).await;

    assert!(broken.is_err_and(|error| error.is_panic()));
    assert_eq!((handle.totals().successes, handle.totals().failures), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_at_the_request_of_a_probe_fails_it_and_what_moved_is_told() {
    let layer = BreakerLayer::new("b", in_a_row(1)).judge(Prompt).on_reject(Raise);
    let (handle, heard) = (layer.handle(), Arc::new(Heard::default()));
    handle.open_for(WAIT);
    handle.observe(Arc::clone(&heard) as _);
    advance(WAIT.get()).await;
    let mut service =
        layer.layer(service_fn(|_: Request<()>| pending::<Result<Response<Boxed>, BoxError>>()));

    let request = Request::get("/begin").body(()).unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| service.call(request)));

    assert!(caught.is_err());
    assert_eq!((handle.totals().failures, handle.totals().ended()), (1, 1));
    assert_eq!(
        heard.take(),
        [
            "open -> half_open: the wait is over",
            "half_open -> open: the probes failed (1 of 1 call failed)",
        ]
    );
}
