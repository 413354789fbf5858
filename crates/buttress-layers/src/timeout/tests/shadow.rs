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
