use std::{
    convert::Infallible,
    future::{pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use buttress_core::{
    BoxError, Judgement, Kind, Plain, Reason, Rejection, Side, TimeLimit, Timing, Verdict,
    http::StatusRules,
};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::*;

mod hostile;

type Boxed = UnsyncBoxBody<Bytes, BoxError>;
type Item = Result<Frame<Bytes>, BoxError>;
type Log = Arc<Mutex<Vec<(Judgement, Timing)>>>;

/// A layer, and what it hands to its sink.
fn logged(layer: SliLayer) -> (SliLayer, Log) {
    let log = Log::default();
    let into = Arc::clone(&log);
    let layer = layer.sink(move |record: &Record<'_>| {
        into.lock().unwrap().push((record.judgement, record.timing));
    });
    (layer, log)
}

fn judged(log: &Log) -> Vec<(Verdict, Reason)> {
    log.lock().unwrap().iter().map(|(judged, _)| (judged.verdict, judged.reason)).collect()
}

fn get() -> Request<()> {
    Request::get("/").body(()).unwrap()
}

fn grpc(path: &str) -> Request<()> {
    Request::post(path).header("content-type", "application/grpc").body(()).unwrap()
}

/// A body of frames that are there at once.
fn frames(frames: Vec<Item>) -> Boxed {
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside items that fail")]
fn data() -> Item {
    Ok(Frame::data(Bytes::from_static(b"data")))
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside items that fail")]
fn trailers(status: &'static str) -> Item {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    Ok(Frame::trailers(trailers))
}

/// A gRPC response of these frames.
fn message(items: Vec<Item>) -> Response<Boxed> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(frames(items)).unwrap()
}

/// Calls a service that answers with `response`, and reads the body to its end.
async fn answer(layer: &SliLayer, request: Request<()>, response: Response<Boxed>) {
    let response = Mutex::new(Some(response));
    let service = service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(response.lock().unwrap().take().expect("one call")))
    });
    let response = layer.layer(service).oneshot(request).await.unwrap();
    let _ = response.into_body().collect().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_is_judged_when_the_body_has_ended() {
    let (layer, log) = logged(SliLayer::server("s"));
    let cases =
        [(200, Verdict::Good), (302, Verdict::Good), (404, Verdict::Excluded), (500, Verdict::Bad)];

    for (status, _) in cases {
        let response = Response::builder().status(status).body(frames(vec![data()])).unwrap();
        answer(&layer, get(), response).await;
    }

    assert_eq!(judged(&log), cases.map(|(_, verdict)| (verdict, Reason::Status)));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_is_bad_though_its_head_was_good() {
    let (layer, log) = logged(SliLayer::server("s"));

    answer(&layer, get(), Response::new(frames(vec![data(), Err("lost the disk".into())]))).await;

    assert_eq!(judged(&log), [(Verdict::Bad, Reason::Broken)]);
}

#[tokio::test(start_paused = true)]
async fn a_body_shorter_than_it_promised_is_bad() {
    let (layer, log) = logged(SliLayer::server("s"));

    for length in ["4", "5"] {
        let response = Response::builder().header("content-length", length);
        answer(&layer, get(), response.body(frames(vec![data()])).unwrap()).await;
    }

    assert_eq!(judged(&log), [(Verdict::Good, Reason::Status), (Verdict::Bad, Reason::Broken)]);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_is_judged_by_its_trailers() {
    let (layer, log) = logged(SliLayer::server("s"));

    for status in ["0", "14", "5", "nonsense"] {
        answer(&layer, grpc("/a/B"), message(vec![data(), trailers(status)])).await;
    }
    answer(&layer, grpc("/a/B"), message(vec![data()])).await;
    let trailers_only =
        Response::builder().header("grpc-status", "4").body(Boxed::default()).unwrap();
    answer(&layer, grpc("/a/B"), trailers_only).await;
    let of_a_proxy = Response::builder().status(503).body(Boxed::default()).unwrap();
    answer(&layer, grpc("/a/B"), of_a_proxy).await;

    assert_eq!(
        judged(&log),
        [
            (Verdict::Good, Reason::Status),
            (Verdict::Bad, Reason::Status),
            (Verdict::Excluded, Reason::Status),
            (Verdict::Bad, Reason::Status),
            (Verdict::Bad, Reason::MissingStatus),
            (Verdict::Bad, Reason::Status),
            (Verdict::Bad, Reason::Status),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn grpc_web_keeps_its_status_in_the_body_and_is_judged_as_http() {
    let (layer, log) = logged(SliLayer::server("s"));
    let request = Request::post("/a/B").header("content-type", "application/grpc-web+proto");

    answer(&layer, request.body(()).unwrap(), Response::new(frames(vec![data()]))).await;

    assert_eq!(judged(&log), [(Verdict::Good, Reason::Status)]);
}

#[tokio::test(start_paused = true)]
async fn the_handlers_word_and_our_own_refusals_go_before_the_status() {
    let (layer, log) = logged(SliLayer::server("s"));
    let with = |status: u16, extension: fn(&mut http::Extensions)| {
        let mut response = Response::builder().status(status).body(Boxed::default()).unwrap();
        extension(response.extensions_mut());
        response
    };

    answer(
        &layer,
        get(),
        with(200, |it| {
            it.insert(Verdict::Bad);
        }),
    )
    .await;
    let refused = |it: &mut http::Extensions| {
        it.insert(Rejection::new(Kind::CircuitOpen, "b"));
    };
    answer(&layer, get(), with(503, refused)).await;
    let limited = |it: &mut http::Extensions| {
        it.insert(Rejection::new(Kind::RateLimited, "r"));
    };
    answer(&layer, get(), with(429, limited)).await;

    assert_eq!(
        judged(&log),
        [
            (Verdict::Bad, Reason::Application),
            (Verdict::Bad, Reason::Refused(Kind::CircuitOpen)),
            (Verdict::Excluded, Reason::Refused(Kind::RateLimited)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn errors_are_bad_and_refusals_count_as_their_status_does() {
    let (layer, log) = logged(SliLayer::client("c"));
    let errors: [fn() -> BoxError; 3] = [
        || "connection reset".into(),
        || Rejection::new(Kind::RateLimited, "r").into(),
        || Rejection::new(Kind::TimedOut, "t").into(),
    ];

    for error in errors {
        let service = service_fn(move |_: Request<()>| ready(Err::<Response<Boxed>, _>(error())));
        layer.layer(service).oneshot(get()).await.unwrap_err();
    }

    assert_eq!(
        judged(&log),
        [
            (Verdict::Bad, Reason::Failed),
            (Verdict::Excluded, Reason::Refused(Kind::RateLimited)),
            (Verdict::Bad, Reason::Refused(Kind::TimedOut)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn rules_can_be_replaced() {
    let log = Log::default();
    let into = Arc::clone(&log);
    let layer = SliLayer::server("s").judge(StatusRules::DEFAULT.only_good(200..=299)).sink(
        move |record: &Record<'_>| into.lock().unwrap().push((record.judgement, record.timing)),
    );
    let redirect = service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::builder().status(302).body(Boxed::default()).unwrap()))
    });

    layer.layer(redirect).oneshot(get()).await.unwrap();

    assert_eq!(judged(&log), [(Verdict::Bad, Reason::Status)]);
}

/// Never answers.
fn hanging()
-> impl Service<Request<()>, Response = Response<Boxed>, Error = Infallible, Future: Unpin> + Clone
{
    service_fn(|_: Request<()>| pending().boxed())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_excluded_unless_we_were_late() {
    let (layer, log) = logged(SliLayer::server("s").late_after(TimeLimit::from_millis(100)));
    let mut deadline = grpc("/a/B");
    deadline.headers_mut().insert("grpc-timeout", "30m".parse().unwrap());

    for (request, leaves_after) in
        [(get(), 99), (get(), 100), (deadline.clone(), 26), (deadline, 27)]
    {
        let mut call = task::spawn(layer.layer(hanging()).oneshot(request));
        assert_pending!(call.poll());
        advance(Duration::from_millis(leaves_after)).await;
        drop(call);
    }

    let left = (Verdict::Excluded, Reason::Left);
    let late = (Verdict::Bad, Reason::Deadline);
    assert_eq!(judged(&log), [left, late, left, late]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_drops_the_body_keeps_the_heads_verdict_on_a_client() {
    let leaves = |layer: SliLayer| async move {
        let (layer, log) = logged(layer);
        for status in [200, 503] {
            let service = service_fn(move |_: Request<()>| {
                let endless = StreamBody::new(stream::pending::<Item>());
                let response = Response::builder().status(status).body(endless.boxed_unsync());
                ready(Ok::<_, Infallible>(response.unwrap()))
            });
            drop(layer.layer(service).oneshot(get()).await.unwrap());
        }
        judged(&log)
    };

    let bad = (Verdict::Bad, Reason::Status);
    assert_eq!(leaves(SliLayer::client("c")).await, [(Verdict::Good, Reason::Status), bad]);
    assert_eq!(leaves(SliLayer::server("s")).await, [(Verdict::Excluded, Reason::Left), bad]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_bad_and_goes_on_wherever_it_comes_from() {
    let (layer, log) = logged(SliLayer::server("s"));
    let in_call =
        service_fn(|_: Request<()>| -> std::future::Ready<Result<Response<Boxed>, Infallible>> {
            panic!("in call")
        });
    let in_poll = service_fn(|_: Request<()>| async {
        panic!("in poll") as Result<Response<Boxed>, Infallible>
    });
    let in_body = service_fn(|_: Request<()>| {
        let frames = stream::poll_fn(|_| -> Poll<Option<Item>> { panic!("in body") });
        let body = StreamBody::new(frames);
        ready(Ok::<_, Infallible>(Response::new(body.boxed_unsync())))
    });

    let panics = |work: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(work)).is_err();
    assert!(panics(&mut || drop(layer.layer(in_call).call(get()))));
    assert!(panics(&mut || drop(layer.layer(in_poll).oneshot(get()).now_or_never())));
    let response = layer.layer(in_body).oneshot(get()).await.unwrap();
    let mut body = response.into_body();
    assert!(panics(&mut || drop(body.frame().now_or_never())));
    drop(body);

    assert_eq!(judged(&log), [(Verdict::Bad, Reason::Panicked); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_elsewhere_is_not_blamed_on_a_call_that_is_dropped_by_it() {
    let (layer, log) = logged(SliLayer::server("s"));
    let mut call = task::spawn(layer.layer(hanging()).oneshot(get()));
    assert_pending!(call.poll());

    let unrelated = catch_unwind(AssertUnwindSafe(move || {
        let _held = call;
        panic!("not the call's");
    }));

    assert!(unrelated.is_err());
    assert_eq!(judged(&log), [(Verdict::Excluded, Reason::Left)]);
}

#[tokio::test(start_paused = true)]
async fn time_to_head_and_total_are_told_apart() {
    let (layer, log) = logged(SliLayer::server("s"));
    let service = service_fn(|_: Request<()>| async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let body = StreamBody::new(stream::once(async {
            tokio::time::sleep(Duration::from_millis(70)).await;
            data()
        }));
        Ok::<_, Infallible>(Response::new(body.boxed_unsync()))
    });

    let response = layer.layer(service).oneshot(get()).await.unwrap();
    response.into_body().collect().await.unwrap();

    let timing = log.lock().unwrap()[0].1;
    assert_eq!(timing.to_head, Some(Duration::from_millis(30)));
    assert_eq!(timing.total, Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_sink_is_told_of_the_calls_that_come_after_it_and_the_counts_of_all() {
    let layer = SliLayer::server("s");
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(frames(vec![data()])))
    }));
    let log = Log::default();
    let into = Arc::clone(&log);

    let before = service.clone().oneshot(get()).await.unwrap();
    layer.handle().add_sink(move |record: &Record<'_>| {
        into.lock().unwrap().push((record.judgement, record.timing));
    });
    before.into_body().collect().await.unwrap();
    assert!(log.lock().unwrap().is_empty());
    service.oneshot(get()).await.unwrap().into_body().collect().await.unwrap();

    assert!(log.lock().unwrap()[0].1.to_head.is_some());
    assert_eq!(layer.handle().counts().good, 2);
}

#[tokio::test(start_paused = true)]
async fn nested_layers_end_a_call_at_the_same_instant() {
    let (outer, outer_log) = logged(SliLayer::server("outer"));
    let (inner, inner_log) = logged(SliLayer::server("inner"));
    let service = ServiceBuilder::new().layer(outer).layer(inner).service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(frames(vec![data()]))))
    });

    service.oneshot(get()).await.unwrap().into_body().collect().await.unwrap();

    assert_eq!(*outer_log.lock().unwrap(), *inner_log.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_are_counted_and_come_back_to_zero() {
    let layer = SliLayer::server("s");
    let handle = layer.handle();
    let mut calls: Vec<_> =
        (0..5).map(|_| task::spawn(layer.layer(hanging()).oneshot(get()))).collect();

    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(handle.snapshot().in_flight, 5);
    calls.clear();

    assert_eq!(handle.snapshot().in_flight, 0);
    assert_eq!(handle.counts().excluded, 5);
    assert_eq!(handle.side(), Side::Server);
}

#[tokio::test(start_paused = true)]
async fn routes_named_beforehand_are_there_before_their_first_call() {
    let layer = SliLayer::server("s").routes(["/a", "/b"]);

    let routes: Vec<_> = layer.handle().snapshot().routes.into_iter().map(|it| it.route).collect();

    assert_eq!(routes.len(), 2);
    assert!(routes.iter().all(|route| ["/a", "/b"].contains(&&**route)));
}

#[tokio::test(start_paused = true)]
async fn a_plain_service_is_judged_by_ok_and_err() {
    let layer = SliLayer::client("c").exchange(Plain);
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(|fail: bool| {
        ready(if fail { Err::<u8, BoxError>("no".into()) } else { Ok(1) })
    }));

    service.ready().await.unwrap().call(false).await.unwrap();
    service.ready().await.unwrap().call(true).await.unwrap_err();

    assert_eq!((handle.counts().good, handle.counts().bad), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_the_services_stead_is_good_and_counted_beside_or_bad_if_that_is_said() {
    use buttress_core::{
        Facts,
        fallback::{Degraded, Why},
    };

    let note = || {
        let facts = Facts {
            protocol: buttress_core::Protocol::Http,
            method: buttress_core::Method::Get,
            status: None,
            code: None,
        };
        let why = Why::new(Reason::Failed, facts);
        Degraded { layer: "f".into(), rung: "value".into(), why, age: None, stale: false }
    };
    for (strict, outcome) in
        [(false, (Verdict::Good, Reason::Status)), (true, (Verdict::Bad, Reason::Degraded))]
    {
        let layer = SliLayer::server("s");
        let (layer, log) = logged(if strict { layer.degraded_is_bad() } else { layer });
        let handle = layer.handle();
        let service = layer.layer(service_fn(move |request: Request<()>| {
            let status = if request.method() == "GET" { 200 } else { 500 };
            let response = Response::builder().status(status).extension(note());
            ready(Ok::<_, Infallible>(response.body(frames(Vec::new())).unwrap()))
        }));

        for request in [get(), Request::post("/").body(()).unwrap()] {
            let response = service.clone().oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap();
        }

        // What is bad by itself stays what it is.
        assert_eq!(judged(&log), [outcome, (Verdict::Bad, Reason::Status)]);
        assert_eq!(handle.degraded(), 1);
    }
}
