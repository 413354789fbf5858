//! Callers that make things up, and code of our users that panics.

use std::panic::panic_any;

use buttress_core::{
    Change, Code, End, Event, Facts, Observe, Route,
    http::{Classify, RequestHead, ResponseHead},
};

use super::*;

#[tokio::test(start_paused = true)]
async fn made_up_grpc_methods_take_up_no_room() {
    let layer = SliLayer::server_with_routes("s", 2);
    let handle = layer.handle();

    for number in 0..50 {
        let unknown =
            Response::builder().header("grpc-status", "12").body(Boxed::default()).unwrap();
        answer(&layer, grpc(&format!("/made.Up/Method{number}")), unknown).await;
    }
    for path in ["/shop.Shop/Buy", "/shop.Shop/Sell", "/shop.Shop/Swap"] {
        answer(&layer, grpc(path), message(vec![trailers("0")])).await;
    }

    let counts = |route: &str| {
        let snapshot = handle.snapshot();
        snapshot
            .routes
            .iter()
            .find(|counts| &*counts.route == route)
            .map(|found| found.counts().total())
    };
    assert_eq!(counts("/shop.Shop/Buy"), Some(1));
    assert_eq!(counts("/shop.Shop/Sell"), Some(1));
    assert_eq!(counts("/shop.Shop/Swap"), None);
    assert_eq!(counts(OTHER), Some(51));
}

/// A gRPC response that is over with its head.
fn trailers_only(status: &str) -> Response<Boxed> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.header("grpc-status", status).body(Boxed::default()).unwrap()
}

/// The templates that a layer has seen.
fn routes(handle: &SliHandle) -> Vec<Box<str>> {
    handle.snapshot().routes.into_iter().map(|counts| counts.route).collect()
}

#[tokio::test(start_paused = true)]
async fn made_up_methods_take_up_no_room_when_a_layer_answers_for_them() {
    let layer = SliLayer::server_with_routes("s", 2);
    let handle = layer.handle();
    let refused = || {
        Rejection::new(Kind::RateLimited, "r").into_response::<Boxed>(buttress_core::Protocol::Grpc)
    };
    let unauthenticated = || trailers_only("16");

    for number in 0..20 {
        let path = format!("/made.Up/Method{number}");
        answer(&layer, grpc(&path), refused()).await;
        answer(&layer, grpc(&path), unauthenticated()).await;
        let mut left = task::spawn(layer.layer(hanging()).oneshot(grpc(&path)));
        assert_pending!(left.poll());
    }

    assert_eq!(routes(&handle), [OTHER.into()]);
}

#[tokio::test(start_paused = true)]
async fn a_method_is_known_by_a_stream_or_a_success_and_not_by_an_error_alone() {
    let layer = SliLayer::server("s");

    for status in ["2", "3", "8", "13", "14"] {
        answer(&layer, grpc("/made.Up/Method"), trailers_only(status)).await;
    }
    answer(&layer, grpc("/shop.Shop/Empty"), trailers_only("0")).await;
    let stream = message(vec![data(), data()]);
    let watched = Mutex::new(Some(stream));
    let service = layer.layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(watched.lock().unwrap().take().expect("one call")))
    }));
    let mut left = service.oneshot(grpc("/shop.Shop/Watch")).await.unwrap().into_body();
    left.frame().await.unwrap().unwrap();
    drop(left);

    let mut known = routes(&layer.handle());
    known.sort();
    assert_eq!(known, ["/shop.Shop/Empty".into(), "/shop.Shop/Watch".into(), OTHER.into()]);
}

#[tokio::test(start_paused = true)]
async fn the_handlers_word_on_its_own_status_is_believed() {
    let (layer, log) = logged(SliLayer::server("s"));
    let mut own = trailers_only("4");
    own.extensions_mut().insert(Verdict::Excluded);

    answer(&layer, grpc("/a/B"), own).await;

    assert_eq!(judged(&log), [(Verdict::Excluded, Reason::Application)]);
}

struct Panics;

impl Observe for Panics {
    fn observe(&self, _: &Event<'_>) {
        panic_any("an observer");
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_keeps_no_call_from_being_counted_and_aborts_nothing() {
    let full = || {
        let layer = SliLayer::server_with_routes("s", 1).routes(["/a"]);
        layer.handle().observe(Arc::new(Panics));
        layer
    };
    let request = || {
        let mut request = get();
        request.extensions_mut().insert(Route::from("/b"));
        request
    };
    let (answers, panics) = (full(), full());
    let answering = answers.layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(Boxed::default())))
    }));
    let mut panicking = panics.layer(service_fn(
        |_: Request<()>| -> std::future::Ready<Result<Response<Boxed>, Infallible>> {
            panic_any("a handler")
        },
    ));

    let answered =
        catch_unwind(AssertUnwindSafe(|| drop(answering.oneshot(request()).now_or_never())));
    let panicked = catch_unwind(AssertUnwindSafe(|| drop(panicking.call(request()))));

    assert_eq!(*answered.unwrap_err().downcast::<&str>().unwrap(), "an observer");
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "a handler");
    for (handle, bad) in [(answers.handle(), 0), (panics.handle(), 1)] {
        assert_eq!((handle.counts().total(), handle.counts().bad), (1, bad));
        assert_eq!(handle.snapshot().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_does_not_turn_a_plain_answer_bad_nor_a_path_into_a_route() {
    let (layer, log) = logged(SliLayer::server("s"));
    let handle = layer.handle();

    for number in 0..3 {
        answer(&layer, grpc(&format!("/users/{number}")), Response::new(frames(vec![data()])))
            .await;
    }

    assert_eq!(judged(&log), [(Verdict::Good, Reason::Status); 3]);
    assert_eq!(routes(&handle), [OTHER.into()]);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_content_with_a_plain_answer_to_a_grpc_call() {
    let (layer, log) = logged(SliLayer::client("c"));

    answer(&layer, grpc("/a/B"), Response::new(frames(vec![data()]))).await;

    assert_eq!(judged(&log), [(Verdict::Bad, Reason::MissingStatus)]);
}

#[tokio::test(start_paused = true)]
async fn endless_templates_are_no_templates() {
    let layer = SliLayer::server("s");
    let mut request = get();
    request.extensions_mut().insert(Route::from("/x".repeat(1000)));

    answer(&layer, request, Response::new(frames(vec![]))).await;

    assert_eq!(routes(&layer.handle()), [OTHER.into()]);
}

#[derive(Default)]
struct Heard(Mutex<Vec<Change>>);

impl Observe for Heard {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(event.change);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_table_is_told_of_once_when_the_first_route_finds_no_room() {
    let layer = SliLayer::server_with_routes("s", 2).routes(["/a", "/b"]);
    let heard = Arc::new(Heard::default());
    layer.handle().observe(Arc::clone(&heard) as Arc<dyn Observe>);

    for _ in 0..3 {
        let mut request = get();
        request.extensions_mut().insert(Route::from("/c"));
        answer(&layer, request, Response::new(frames(vec![]))).await;
    }

    assert_eq!(*heard.0.lock().unwrap(), [Change::LabelsFull { capacity: 2 }]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_body_is_bad_whatever_its_head_said() {
    let (layer, log) = logged(SliLayer::server("s"));
    let missing = Response::builder().status(404).body(frames(vec![Err("gone".into())])).unwrap();
    let mut praised = message(vec![data()]);
    praised.extensions_mut().insert(Verdict::Good);
    let mut cut = message(vec![data(), trailers("4")]);
    cut.extensions_mut().insert(Verdict::Good);

    answer(&layer, get(), missing).await;
    answer(&layer, grpc("/a/B"), praised).await;
    answer(&layer, grpc("/a/B"), cut).await;

    let bad = |reason| (Verdict::Bad, reason);
    let expected = [bad(Reason::Broken), bad(Reason::MissingStatus), bad(Reason::Status)];
    assert_eq!(judged(&log), expected);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_refusal_counts_as_its_code_does() {
    let log = Log::default();
    let into = Arc::clone(&log);
    let rules = StatusRules::DEFAULT.grpc(Code::ResourceExhausted, Verdict::Bad);
    let layer = SliLayer::server("s").judge(rules).sink(move |record: &Record<'_>| {
        into.lock().unwrap().push((record.judgement, record.timing));
    });
    let service = layer.layer(service_fn(|_: Request<()>| {
        let refused = Rejection::new(Kind::RateLimited, "r");
        ready(Ok::<_, Infallible>(refused.into_response::<Boxed>(buttress_core::Protocol::Grpc)))
    }));

    service.oneshot(grpc("/a/B")).await.unwrap();

    assert_eq!(judged(&log), [(Verdict::Bad, Reason::Refused(Kind::RateLimited))]);
}

#[tokio::test(start_paused = true)]
async fn a_body_read_to_its_exact_size_has_not_been_left() {
    /// Knows its size, and not that it has ended.
    struct Sized(Option<Bytes>);

    impl http_body::Body for Sized {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> Poll<Option<Item>> {
            Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.0.as_ref().map_or(0, |data| data.len() as u64))
        }
    }
    let (layer, log) = logged(SliLayer::server("s"));
    let service = layer.layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(Sized(Some(Bytes::from_static(b"all"))))))
    }));

    let mut body = service.oneshot(get()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);

    assert_eq!(judged(&log), [(Verdict::Good, Reason::Status)]);
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_dropped_end_when_they_are() {
    let (layer, log) = logged(SliLayer::client("c"));
    let service = layer.layer(service_fn(|_: Request<()>| {
        let body = StreamBody::new(stream::iter([data(), data()])).boxed_unsync();
        let response = Response::builder().header("content-length", "4").body(body);
        ready(Ok::<_, Infallible>(response.unwrap()))
    }));
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let mut body = service.clone().oneshot(get()).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        bodies.push(body);
    }

    drop(bodies.pop());
    advance(Duration::from_secs(10)).await;
    drop(bodies.pop());

    let totals: Vec<_> = log.lock().unwrap().iter().map(|(_, timing)| timing.total).collect();
    assert_eq!(totals, [Duration::ZERO, Duration::from_secs(10)]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_keeps_no_call_from_being_counted_and_aborts_nothing() {
    let layer = SliLayer::server("s").sink(|_: &Record<'_>| panic_any("a sink"));
    let handle = layer.handle();
    let panics = layer.layer(service_fn(
        |_: Request<()>| -> std::future::Ready<Result<Response<Boxed>, Infallible>> {
            panic_any("a handler")
        },
    ));
    let answers = layer.layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(Boxed::default())))
    }));

    let payload = |work: &mut dyn FnMut()| {
        *catch_unwind(AssertUnwindSafe(work)).unwrap_err().downcast::<&str>().unwrap()
    };
    assert_eq!(payload(&mut || drop(panics.clone().call(get()))), "a handler");
    assert_eq!(payload(&mut || drop(answers.clone().oneshot(get()).now_or_never())), "a sink");

    assert_eq!((handle.counts().bad, handle.counts().good), (1, 1));
    assert_eq!(handle.snapshot().in_flight, 0);
}

/// Panics where it is told to.
#[derive(Clone)]
struct Broken {
    at_head: bool,
}

impl Classify for Broken {
    type Note = ();

    fn begin(&self, _: RequestHead<'_>) {}

    fn head(&self, (): &mut (), facts: Facts, response: ResponseHead<'_>) -> Option<Judgement> {
        assert!(!self.at_head, "a classifier");
        StatusRules::DEFAULT.head(facts, response)
    }

    fn end(
        &self,
        (): &mut (),
        facts: Facts,
        head: Option<Judgement>,
        end: End<'_>,
        _: Timing,
    ) -> Judgement {
        assert!(self.at_head, "a classifier");
        StatusRules::DEFAULT.judge(facts, head, end)
    }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_makes_the_call_bad_and_leaves_none_under_way() {
    for at_head in [true, false] {
        let layer = SliLayer::server("s").judge(Broken { at_head });
        let handle = layer.handle();
        let service = layer.layer(service_fn(|_: Request<()>| {
            ready(Ok::<_, Infallible>(Response::new(Boxed::default())))
        }));

        let caught = catch_unwind(AssertUnwindSafe(|| drop(service.oneshot(get()).now_or_never())));

        assert!(caught.is_err());
        assert_eq!(handle.counts(), Counts { good: 0, bad: 1, excluded: 0 });
        assert_eq!(handle.snapshot().in_flight, 0);
    }
}
