//! Which of several answers counts, and what servers ask for.

use std::convert::Infallible;

use buttress_core::{Kind, Rejection, breaker};
use http::HeaderMap;

use super::*;
use crate::breaker::BreakerLayer;

#[tokio::test(start_paused = true)]
async fn a_bad_answer_waits_for_the_other_attempt() {
    for (script, answer) in
        [([Fails(60 * MS), Answers(20 * MS)], 1), ([Answers(80 * MS), Fails(20 * MS)], 0)]
    {
        let (server, layer) = (Server::does(script), plain(after(50 * MS)));

        assert_eq!(layer.layer(server.service()).oneshot(()).await.unwrap(), answer);
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_caller_sees_what_the_first_one_ended_in() {
    for script in [[Fails(60 * MS), Fails(20 * MS)], [Fails(90 * MS), Fails(20 * MS)]] {
        let (server, layer) = (Server::does(script), plain(after(50 * MS)));

        let error = layer.layer(server.service()).oneshot(()).await.unwrap_err();

        assert_eq!((error.to_string(), server.calls()), ("call 0 failed".to_owned(), 2));
        assert_eq!(fates(&layer.handle()), (1, [0, 0, 1, 0, 0]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_fails_before_the_delay_is_passed_on_at_once() {
    let (server, layer) = (Server::does([Fails(10 * MS)]), plain(after(50 * MS)));
    let start = Instant::now();

    assert!(layer.layer(server.service()).oneshot(()).await.is_err());

    assert_eq!((start.elapsed(), server.calls()), (10 * MS, 1));
}

#[tokio::test(start_paused = true)]
async fn all_that_were_sent_having_failed_no_more_are() {
    let server = Server::does([Fails(60 * MS), Fails(5 * MS)]);
    let layer = plain(after(50 * MS)).extra::<4>();
    let start = Instant::now();

    assert!(layer.layer(server.service()).oneshot(()).await.is_err());

    assert_eq!((start.elapsed(), server.calls()), (60 * MS, 2));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_refuses_the_hedge_leaves_the_first_attempt_be() {
    let (server, layer) = (Server::does([Answers(90 * MS)]), plain(after(50 * MS)));
    let breaker = BreakerLayer::new("b", breaker::Settings::rate()).exchange(Plain);
    let state = breaker.handle();
    let stack = ServiceBuilder::new().layer(layer.clone()).layer(breaker);
    let mut response = task::spawn(stack.service(server.service()).oneshot(()));
    assert_pending!(response.poll());
    state.force_open();

    advance(50 * MS).await;
    assert_pending!(response.poll());
    assert_eq!(fates(&layer.handle()), (1, [0, 0, 0, 1, 0]));
    advance(40 * MS).await;

    assert_eq!(assert_ready_ok!(response.poll()), 0);
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_first_attempt_waits_for_the_hedge_too() {
    let calls = Arc::new(AtomicU32::new(0));
    let service = service_fn(move |()| {
        let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            // As a bulkhead does whose queue takes so long.
            sleep(60 * MS).await;
            if is_first {
                Err(BoxError::from(Rejection::new(Kind::Overloaded, "b")))
            } else {
                Ok(7)
            }
        }
    });

    assert_eq!(plain(after(50 * MS)).layer(service).oneshot(()).await.unwrap(), 7);
}

type Answer = Response<Full<Bytes>>;

/// A server that gives these answers, each after so long.
fn server(
    answers: impl IntoIterator<Item = (Duration, Answer)>,
) -> (
    impl Service<Request<()>, Response = Answer, Error = Infallible, Future: Send> + Clone,
    Arc<Mutex<Vec<HeaderMap>>>,
) {
    let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
    let asked = Arc::<Mutex<Vec<HeaderMap>>>::default();
    let seen = Arc::clone(&asked);
    let service = service_fn(move |request: Request<()>| {
        seen.lock().unwrap().push(request.headers().clone());
        let (wait, answer) = answers.lock().unwrap().pop_front().expect("another call");
        async move {
            sleep(wait).await;
            Ok(answer)
        }
    });
    (service, asked)
}

fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status.try_into().unwrap();
    for (name, value) in headers {
        answer.headers_mut().insert(*name, value.parse().unwrap());
    }
    answer
}

#[tokio::test(start_paused = true)]
async fn of_http_what_is_bad_waits_and_what_the_caller_did_wrong_is_an_answer() {
    for (status, calls, expected) in
        [(503, 2, 200), (501, 2, 200), (429, 2, 200), (404, 2, 404), (400, 2, 400)]
    {
        let (service, asked) =
            server([(60 * MS, answer(status, &[])), (50 * MS, answer(200, &[]))]);

        let response = HedgeLayer::new("h", after(50 * MS)).layer(service);
        let response = response.oneshot(Request::new(())).await.unwrap();

        assert_eq!((response.status().as_u16(), asked.lock().unwrap().len()), (expected, calls));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_says_how_many_attempts_there_were_before_it() {
    for (request, header) in
        [(Request::new(()), "x-retry-attempt"), (grpc(), "grpc-previous-rpc-attempts")]
    {
        let slow = || (40 * MS, answer(200, &[]));
        let (service, asked) = server([slow(), slow(), slow()]);
        let layer = HedgeLayer::new("h", after(15 * MS).all_calls()).extra::<2>();

        layer.layer(service).oneshot(request).await.unwrap();

        let asked = asked.lock().unwrap();
        let said: Vec<_> = asked
            .iter()
            .map(|headers| headers.get(header).map(|value| value.to_str().unwrap()))
            .collect();
        assert_eq!(said, [None, Some("1"), Some("2")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_inside_of_a_retry_counts_the_attempts_of_both() {
    for (request, header) in
        [(Request::new(()), "x-retry-attempt"), (grpc(), "grpc-previous-rpc-attempts")]
    {
        let fails = |request: &Request<()>| match request.method().as_str() {
            "POST" => code("14", None),
            _ => answer(503, &[]),
        };
        let first = [(30 * MS, fails(&request)), (10 * MS, fails(&request))];
        let slow = || (40 * MS, answer(200, &[]));
        let (service, asked) = server(first.into_iter().chain([slow(), slow()]));
        let rules = retry::Settings::new(Backoff::constant(MS));
        let stack = ServiceBuilder::new()
            .layer(crate::retry::RetryLayer::new("r", rules))
            .layer(HedgeLayer::new("h", after(15 * MS).all_calls()));

        stack.service(service).oneshot(request).await.unwrap();

        let asked = asked.lock().unwrap();
        let said: Vec<_> = asked
            .iter()
            .map(|headers| headers.get(header).map(|value| value.to_str().unwrap()))
            .collect();
        assert_eq!(said, [None, Some("1"), Some("1"), Some("2")]);
    }
}

fn grpc() -> Request<()> {
    Request::post("/shop.Shop/Find").header("content-type", "application/grpc").body(()).unwrap()
}

fn code(code: &'static str, pushback: Option<&'static str>) -> Answer {
    let mut headers = vec![("content-type", "application/grpc"), ("grpc-status", code)];
    headers.extend(pushback.map(|value| ("grpc-retry-pushback-ms", value)));
    answer(200, &headers)
}

// gRFC A6
#[tokio::test(start_paused = true)]
async fn a_server_that_asks_not_to_be_tried_again_gets_no_more_hedges() {
    for (protocol, first) in [
        (grpc(), code("14", Some("-1"))),
        (grpc(), code("14", Some("soon"))),
        (Request::new(()), answer(503, &[("retry-after", "1")])),
    ] {
        // The second attempt is under way when the first one fails.
        let good = if protocol.method() == "POST" { code("0", None) } else { answer(200, &[]) };
        let (service, asked) = server([(30 * MS, first), (500 * MS, good)]);
        let layer = HedgeLayer::new("h", after(20 * MS).all_calls()).extra::<4>();
        let start = Instant::now();

        let response = layer.layer(service).oneshot(protocol).await.unwrap();

        assert_eq!((response.status().as_u16(), start.elapsed()), (200, 520 * MS));
        assert_eq!(asked.lock().unwrap().len(), 2);
        assert_eq!(layer.handle().snapshot().unhedged(Unhedged::Pushback), 1);
    }
}

// gRFC A6
#[tokio::test(start_paused = true)]
async fn a_grpc_server_that_asks_for_a_wait_gets_the_next_hedge_then() {
    let slow = || (500 * MS, code("0", None));
    let (service, asked) = server([slow(), (10 * MS, code("14", Some("100"))), slow(), slow()]);
    let layer = HedgeLayer::new("h", after(20 * MS).all_calls()).extra::<3>();
    let mut response = task::spawn(layer.layer(service).oneshot(grpc()));
    let start = Instant::now();

    let mut sent = Vec::new();
    loop {
        let is_ready = response.poll().is_ready();
        if asked.lock().unwrap().len() > sent.len() {
            sent.push(start.elapsed().as_millis());
        }
        if is_ready {
            break;
        }
        advance(MS).await;
    }

    assert_eq!(sent, [0, 20, 130, 150]);
}

#[tokio::test(start_paused = true)]
async fn only_grpc_methods_that_were_named_are_hedged() {
    for (settings, calls) in [(after(MS), 1), (after(MS).call("/shop.Shop/Find"), 2)] {
        let slow = || (20 * MS, code("0", None));
        let (service, asked) = server([slow(), slow()]);
        let layer = HedgeLayer::new("h", settings);

        layer.layer(service).oneshot(grpc()).await.unwrap();

        assert_eq!(asked.lock().unwrap().len(), calls);
        let refused = layer.handle().snapshot().unhedged(Unhedged::Method);
        assert_eq!(refused, u64::from(calls == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_may_be_switched_on_and_off_by_an_extension_and_by_a_closure() {
    let by_header = |request: &Request<()>| match request.headers().get("x-hedge")?.as_bytes() {
        b"on" => Some(Switch::On),
        _ => Some(Switch::Off),
    };
    let (post, get) = (|| Request::post("/"), || Request::get("/"));
    for (request, calls) in [
        (get(), 2),
        (get().extension(Switch::Off), 1),
        (get().header("x-hedge", "off"), 1),
        (post(), 1),
        (post().extension(Switch::On), 2),
        (post().header("x-hedge", "on").extension(Switch::Off), 2),
    ] {
        let slow = || (20 * MS, answer(200, &[]));
        let (service, asked) = server([slow(), slow()]);
        let layer = HedgeLayer::new("h", after(MS)).switch(by_header);
        let request = request.body(()).unwrap();
        let is_off = request.method() == "GET" && calls == 1;

        layer.layer(service).oneshot(request).await.unwrap();

        assert_eq!(asked.lock().unwrap().len(), calls);
        assert_eq!(layer.handle().snapshot().unhedged(Unhedged::Off), u64::from(is_off));
    }
}
