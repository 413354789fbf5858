//! Shadow mode decides and counts, and changes nothing for anybody.

use super::*;

#[tokio::test(start_paused = true)]
async fn shadow_mode_counts_once_and_refuses_nothing() {
    let layer = plain(LIMIT);
    let handle = layer.handle();
    handle.set_shadow(true);
    let (mut service, mut inner) = mock::spawn_layer::<_, _, _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("slow"));
    let sent = assert_request_eq!(inner, "slow");
    assert_pending!(response.poll());

    advance(Duration::from_millis(400)).await;
    assert_pending!(response.poll());
    assert_pending!(response.poll());
    sent.send_response("late");

    assert_eq!(assert_ready_ok!(response.poll()), "late");
    assert_eq!(handle.snapshot().expired(Clock::Total), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_once_whatever_clocks_it_outlasts() {
    let second = TimeLimit::from_secs(1);
    let layer =
        TimeoutLayer::new("t", Limits::total(TimeLimit::from_secs(2)).head(second).idle(second));
    let handle = layer.handle();
    handle.set_shadow(true);
    let service = layer.layer(paced(&[3_000, 3_000]));

    let response = service.oneshot(get()).await.unwrap();
    let (frames, end, _) = read(response.into_body()).await;

    assert_eq!(frames, 2);
    assert!(end.is_ok());
    let snapshot = handle.snapshot();
    assert_eq!(Clock::ALL.map(|clock| snapshot.expired(clock)).iter().sum::<u64>(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_would_have_been_kept_from_starting_starts() {
    let layer = plain(LIMIT);
    let handle = layer.handle();
    handle.set_shadow(true);
    let (mut service, mut inner) = mock::spawn_layer::<_, _, _>(layer);
    inner.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("queued"));
    assert_pending!(response.poll());

    advance(Duration::from_millis(200)).await;
    inner.allow(1);
    assert_pending!(response.poll());
    assert!(response.is_woken(), "it is polled again, and starts");
    assert_pending!(response.poll());
    assert_request_eq!(inner, "queued").send_response("late");

    assert_eq!(assert_ready_ok!(response.poll()), "late");
    assert_eq!(handle.snapshot().expired(Clock::Total), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_hop_is_told_the_callers_deadline_and_not_ours() {
    let layer = TimeoutLayer::new("t", LIMIT).propagate();
    layer.handle().set_shadow(true);
    let with = |value: &'static str| {
        let mut request = get();
        request.headers_mut().insert("x-request-timeout-ms", value.parse().unwrap());
        request
    };

    assert_eq!(told(layer.clone(), get()).await, "");
    assert_eq!(told(layer.clone(), with("9000")).await, "8999");
    assert_eq!(told(layer, with("0")).await, "0", "passed on as it came");
}

/// What tonic answers when it gives up on a deadline itself, after so many milliseconds.
fn gives_up(
    millis: u64,
) -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
{
    service_fn(move |_: Request<()>| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        let response = Response::builder().header("content-type", "application/grpc");
        let response =
            response.header("grpc-status", "1").header("grpc-message", "Timeout expired");
        Ok::<_, Infallible>(response.body(Full::default()).unwrap())
    })
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_once_when_the_inner_service_gives_up_as_well() {
    let expired = |handle: &TimeoutHandle| Clock::ALL.map(|clock| handle.snapshot().expired(clock));
    let layer = || {
        let layer = TimeoutLayer::new("t", LIMIT).propagate();
        layer.handle().set_shadow(true);
        layer
    };
    let (after, before, never) = (layer(), layer(), layer());
    let mut stillborn = grpc();
    stillborn.headers_mut().insert("grpc-timeout", "0m".parse().unwrap());

    after.layer(gives_up(200)).oneshot(grpc()).await.unwrap();
    before.layer(gives_up(100)).oneshot(grpc()).await.unwrap();
    never.layer(gives_up(0)).oneshot(stillborn).await.unwrap();

    assert_eq!(expired(&after.handle()), [0, 1, 0, 0]);
    assert_eq!(expired(&before.handle()), [0, 0, 0, 1]);
    assert_eq!(expired(&never.handle()), [0, 0, 0, 0]);
    assert_eq!(never.handle().snapshot().refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_in_the_queue_goes_on_as_it_came() {
    let layer = TimeoutLayer::new("t", LIMIT).propagate();
    layer.handle().set_shadow(true);
    let (mut service, mut inner) =
        mock::spawn_layer::<Request<()>, Response<Empty<Bytes>>, _>(layer);
    inner.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut request = get();
    request.headers_mut().insert("x-request-timeout-ms", "100".parse().unwrap());
    let mut response = task::spawn(service.call(request));
    assert_pending!(response.poll());

    advance(Duration::from_millis(200)).await;
    inner.allow(1);
    assert_pending!(response.poll());
    assert_pending!(response.poll());

    let (sent, _) = inner.next_request().await.expect("sent");
    assert_eq!(sent.headers()["x-request-timeout-ms"], "100");
}
