//! One budget for retries and hedges.

use super::*;
use crate::retry::RetryLayer;

fn floor(events: u32) -> Budget {
    Percentage::new(Ratio::ZERO).floor(events).within(TimeLimit::from_secs(1)).into()
}

#[tokio::test(start_paused = true)]
async fn retries_and_hedges_spend_from_one_budget() {
    let budget = floor(2);
    let hedges = plain(after(10 * MS).budget(budget.clone()));
    let retries = retry::Settings::new(Backoff::constant(MS)).budget(budget.clone());
    let retries = RetryLayer::new("r", retries).exchange(Plain);
    let failing = Server::does([Fails(MS); 9]);
    let slow = Server::does([Answers(20 * MS); 9]);

    assert!(retries.layer(failing.service()).oneshot(()).await.is_err());
    assert_eq!(failing.calls(), 3, "the budget is spent");
    hedges.layer(slow.service()).oneshot(()).await.unwrap();

    assert_eq!((slow.calls(), fates(&hedges.handle()).0), (1, 0));
    assert_eq!(hedges.handle().snapshot().unhedged(Unhedged::Budget), 1);
}

/// A budget that grants as many as there are requests.
#[tokio::test(start_paused = true)]
async fn a_request_that_passes_a_retry_and_a_hedge_is_one_request_to_their_budget() {
    let budget = Budget::from(Percentage::new(Ratio::ONE).floor(0));
    let rules = retry::Settings::new(Backoff::constant(MS)).budget(budget.clone());
    let hedges = Settings::new(Delay::fixed(10 * MS)).like(&rules);
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new("r", rules).exchange(Plain))
        .layer(plain(hedges));
    // Good at once; and good the second time.
    let server = Server::does([Answers(MS), Fails(MS), Answers(MS)]);
    let service = stack.service(server.service());

    service.clone().oneshot(()).await.unwrap();
    assert_eq!(budget.balance(Instant::now().into_std()), Some(1));
    service.oneshot(()).await.unwrap();

    assert_eq!(budget.balance(Instant::now().into_std()), Some(1), "two came in, one was spent");
}

/// Whoever waits in its future calls inside of a poll, and not of the retry's `call`.
#[tokio::test(start_paused = true)]
async fn it_is_one_request_too_if_what_stands_between_them_waits_until_the_hedge_is_ready() {
    let budget = Budget::from(Percentage::new(Ratio::ONE).floor(0));
    let rules = retry::Settings::new(Backoff::constant(MS)).budget(budget.clone());
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new("r", rules.clone()).exchange(Plain))
        .layer(crate::timeout::TimeoutLayer::new("t", TimeLimit::from_secs(9)).exchange(Plain))
        .layer(plain(Settings::new(Delay::fixed(10 * MS)).like(&rules)));
    let (mut service, mut inner) = mock::spawn_layer::<_, &str, _>(stack);
    inner.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    assert_pending!(response.poll());
    inner.allow(9);
    assert_pending!(response.poll());
    let balance = || budget.balance(Instant::now().into_std());
    assert_eq!(balance(), Some(1), "the first attempt");

    inner.next_request().await.unwrap().1.send_error("failed");
    assert_pending!(response.poll());
    advance(MS).await;
    assert_pending!(response.poll());

    assert_request_eq!(inner, "hello").send_response("again");
    assert_eq!((assert_ready_ok!(response.poll()), balance()), ("again", Some(0)));
}

/// Whether the caller leaves while the hedge is under way, or somebody around it does.
#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_failed_costs_its_token_also_when_the_caller_leaves() {
    let budget = Budget::from(Tokens::new(10));
    let rules = retry::Settings::new(Backoff::constant(MS)).budget(budget.clone());
    let hedges = plain(Settings::new(Delay::fixed(10 * MS)).like(&rules));
    let both = ServiceBuilder::new().layer(RetryLayer::new("r", rules).exchange(Plain));
    let both = both.layer(hedges.clone());
    let server = || Server::does([Fails(20 * MS), Hangs]).service();
    let balance = || budget.balance(Instant::now().into_std()).unwrap();

    let alone = hedges.layer(server()).oneshot(());
    assert!(tokio::time::timeout(30 * MS, alone).await.is_err());
    assert_eq!(balance(), 4);
    let both = both.service(server()).oneshot(());
    assert!(tokio::time::timeout(30 * MS, both).await.is_err());
    assert_eq!(balance(), 3);
}

/// gRFC A6: a pushback that says not to retry costs a token, whatever the code.
#[tokio::test(start_paused = true)]
async fn an_answer_that_says_not_to_come_again_costs_a_token() {
    let budget = Budget::from(Tokens::new(10));
    let layer = HedgeLayer::new("h", after(10 * MS).budget(budget.clone()).all_calls());
    let service = service_fn(async |_: Request<()>| {
        let invalid = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "3")
            .header("grpc-retry-pushback-ms", "-1");
        Ok::<_, std::convert::Infallible>(invalid.body(Full::<Bytes>::default()).unwrap())
    });
    let request = Request::post("/shop.Shop/Find").header("content-type", "application/grpc");

    layer.layer(service).oneshot(request.body(()).unwrap()).await.unwrap();

    assert_eq!(budget.balance(Instant::now().into_std()), Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_share_in_flight_is_given_back_however_a_hedge_ends() {
    let budget = Budget::from(InFlight::new(Ratio::ZERO).floor(1));
    let layer = plain(after(10 * MS).budget(budget.clone()));
    for script in [[Hangs, Answers(MS)], [Answers(15 * MS), Hangs], [Hangs, Fails(MS)]] {
        let server = Server::does(script);
        let mut response = task::spawn(layer.layer(server.service()).oneshot(()));
        assert_pending!(response.poll());
        advance(10 * MS).await;
        assert_pending!(response.poll());
        let now = Instant::now().into_std();
        assert_eq!(budget.balance(now), Some(0));

        advance(5 * MS).await;
        let is_ready = response.poll().is_ready();
        drop(response);

        assert_eq!((server.calls(), budget.balance(now)), (2, Some(1)), "{is_ready}");
    }
}

// gRFC A6: tokens are lost by failures and won by successes, and hedges stop at the threshold.
#[tokio::test(start_paused = true)]
async fn tokens_hear_of_each_attempt_once() {
    let budget = Budget::from(Tokens::new(10));
    let rules = retry::Settings::new(Backoff::constant(MS)).attempts(2).budget(budget.clone());
    let hedges = Settings::new(Delay::fixed(10 * MS)).like(&rules);
    let alone = plain(hedges.clone());
    let both = ServiceBuilder::new()
        .layer(RetryLayer::new("r", rules).exchange(Plain))
        .layer(plain(hedges));
    let balance = || budget.balance(Instant::now().into_std()).unwrap();
    assert_eq!(balance(), 5);

    // Two failures: the hedge's, and the first attempt's that is handed out.
    let server = Server::does([Fails(20 * MS), Fails(MS)]);
    assert!(alone.layer(server.service()).oneshot(()).await.is_err());
    assert_eq!(balance(), 3);

    // A failure that is handed out to a retry, which tells; and that of the retry.
    let server = Server::does([Fails(MS), Fails(MS)]);
    assert!(both.service(server.service()).oneshot(()).await.is_err());
    assert_eq!(balance(), 1);

    // At the threshold nothing is hedged.
    let server = Server::does([Fails(MS)]);
    assert!(alone.layer(server.service()).oneshot(()).await.is_err());
    assert_eq!(balance(), 0);
    let server = Server::does([Answers(20 * MS)]);
    assert!(alone.layer(server.service()).oneshot(()).await.is_ok());
    assert_eq!(alone.handle().snapshot().unhedged(Unhedged::Budget), 1);
}
