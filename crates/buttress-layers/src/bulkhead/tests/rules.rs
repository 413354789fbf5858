//! Who comes first, what moves the limit, and who is told.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_may_bypass_takes_no_place_and_is_let_in_when_nobody_else_is() {
    let layer = plain(1).bypass(|request: &&str| *request == "health");
    let handle = layer.handle();
    handle.set_limit(0);
    let mut service = layer.layer(service_fn(|request| ready(Ok::<_, BoxError>(request))));

    let health = service.ready().await.unwrap().call("health").await;
    let other = service.ready().await.unwrap().call("other").await;

    assert_eq!(health.unwrap(), "health");
    assert_eq!(kind(&other.unwrap_err()), Some(Kind::Overloaded));
    let now = handle.snapshot();
    assert_eq!((now.bypassed, now.admitted, now.all_refused()), (1, 0, 1));
}

/// K06 (b), through the layer.
#[tokio::test(start_paused = true)]
async fn partitions_get_back_what_others_have_borrowed() {
    let shares =
        Partitions::new().share("batch", Ratio::percent(30)).share("live", Ratio::percent(70));
    let layer = plain(10).queue(10).partitions(shares, |request: &&'static str| *request);
    let handle = layer.handle();
    let service = layer.layer(service_fn(|_| pending::<Result<(), BoxError>>()));
    let come = |who: &'static str| {
        let mut call = task::spawn(service.clone().oneshot(who));
        assert_pending!(call.poll());
        call
    };
    let inside =
        || handle.snapshot().partitions.iter().map(|part| part.in_flight).collect::<Vec<_>>();

    let mut batch: Vec<_> = (0..10).map(|_| come("batch")).collect();
    let _more = come("batch");
    let _live: Vec<_> = (0..7).map(|_| come("live")).collect();
    assert_eq!(inside(), [10, 0]);
    for live in 1..=7 {
        batch.pop();
        assert_eq!(inside(), [10 - live, live]);
    }

    let live = &handle.snapshot().partitions[1];
    assert_eq!((live.name, live.guaranteed, live.queued), ("live", 7, 0));
    assert_eq!(handle.snapshot().partitions[0].queued, 1);
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_counts_and_neither_refuses_nor_lets_wait() {
    let layer = plain(1).queue(1);
    let handle = layer.handle();
    let (mut service, mut inner) = mocked(&layer);
    let _first = call(&mut service, "first");
    let mut waits = call(&mut service, "waits");
    assert_pending!(waits.poll());

    handle.set_shadow(true);
    assert!(waits.is_woken());
    assert_pending!(waits.poll());
    let _third = call(&mut service, "third");
    handle.set_queue(0);
    let _fourth = call(&mut service, "fourth");

    for request in ["first", "waits", "third", "fourth"] {
        assert_request_eq!(inner, request);
    }
    let now = handle.snapshot();
    assert_eq!((now.in_flight, now.queued, now.waited, now.refused(Refusal::Full)), (4, 0, 2, 1));
    handle.set_shadow(false);
    assert_eq!(kind(&assert_ready_err!(call(&mut service, "no").poll())), Some(Kind::Overloaded));
}

#[test]
fn observers_hear_of_what_is_set() {
    struct Heard(Mutex<Vec<Change>>);
    impl Observe for Heard {
        fn observe(&self, event: &Event<'_>) {
            assert_eq!((event.layer, event.name), ("bulkhead", "b"));
            self.0.lock().unwrap().push(event.change);
        }
    }
    let handle = plain(1).handle();
    let heard = Arc::new(Heard(Mutex::default()));
    handle.observe(Arc::clone(&heard) as Arc<dyn Observe>);

    handle.set_limit(3);
    handle.set_queue(2);
    handle.set_wait(WAIT);
    handle.set_shadow(true);

    let room = |limit, queue, wait| Change::Room { limit, queue, wait };
    let default = BulkheadLayer::DEFAULT_WAIT;
    let expected =
        [room(3, 0, default), room(3, 2, default), room(3, 2, WAIT), Change::Shadow(true)];
    assert_eq!(*heard.0.lock().unwrap(), expected);
    assert_eq!(expected[2].to_string(), "room set: 3 under way, 2 waiting for 50ms at most");
}

/// A01: the limit moves with what is measured through the layer.
#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_grows_while_it_is_used_and_shrinks_when_calls_are_dropped() {
    let layer = plain(4).adaptive(Adaptive::aimd());
    let handle = layer.handle();
    let service = layer.layer(service_fn(|millis: u32| async move {
        tokio::time::sleep(MILLIS * millis).await;
        Ok::<_, BoxError>(())
    }));

    for _ in 0..5 {
        let calls: Vec<_> = (0..4).map(|_| tokio::spawn(service.clone().oneshot(110))).collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    }
    assert!(handle.limit() > 4, "{}", handle.limit());

    let grown = handle.limit();
    for _ in 0..30 {
        let given_up = timeout(MILLIS * 20, service.clone().oneshot(1_000)).await;
        assert!(given_up.is_err());
    }
    assert!(handle.limit() < grown, "{}", handle.limit());

    // What is not used does not grow.
    handle.set_limit(40);
    for _ in 0..50 {
        service.clone().oneshot(10).await.unwrap();
    }
    assert_eq!(handle.limit(), 40);
}

/// What fails further in for want of time or room is a drop, and other failures say nothing.
#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_tells_overload_from_other_failures() {
    let after = |status: u16| async move {
        let layer = BulkheadLayer::new("b", number(12)).adaptive(Adaptive::aimd());
        let service = layer.layer(service_fn(move |_: Request<()>| async move {
            tokio::time::sleep(MILLIS * 20).await;
            Ok::<_, Infallible>(
                Response::builder().status(status).body(Full::<Bytes>::from("body")).unwrap(),
            )
        }));
        let mut calls = Vec::new();
        for _ in 0..200 {
            let service = service.clone();
            calls.push(tokio::spawn(async move {
                let response = service.oneshot(Request::new(())).await.unwrap();
                Box::pin(response.into_body()).collect().await.unwrap();
            }));
            advance(MILLIS * 2).await;
        }
        layer.handle().limit()
    };

    assert!(after(200).await > 12);
    assert!(after(503).await < 12);
    assert_eq!(after(500).await, 12);
}

/// 0 is where nobody is let in, and nowhere a rule could go on from.
#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_that_was_drained_keeps_its_floor() {
    let layer = plain(20).adaptive(Adaptive::aimd().floor(number(10)));
    let handle = layer.handle();
    handle.set_limit(0);
    handle.set_limit(20);

    // Each is dropped before it has an answer.
    let mut service = layer.layer(service_fn(|()| pending::<Result<(), BoxError>>()));
    for _ in 0..400 {
        drop(service.call(()));
        advance(MILLIS * 20).await;
    }

    assert_eq!(handle.limit(), 10);
}

/// Criticality is read from an extension, a header or a function, and travels on.
#[tokio::test(start_paused = true)]
async fn the_least_critical_are_shed_first_and_criticality_travels_on() {
    let shedding = Shedding::new().propagate();
    let layer = BulkheadLayer::new("b", number(10)).criticality(shedding);
    let handle = layer.handle();
    let service = layer.layer(service_fn(|request: Request<()>| {
        let told = request.headers()[Criticality::HEADER].to_str().unwrap().to_owned();
        assert_eq!(request.extensions().get::<Criticality>().unwrap().as_str(), told);
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(told))))
    }));
    let request = |class: &str| {
        let request = Request::get("/").header(Criticality::HEADER, class);
        request.body(()).unwrap()
    };
    // What is called and not yet polled is under way.
    let _six: Vec<_> = (0..6).map(|_| service.clone().call(Request::new(()))).collect();

    let mut told = Vec::new();
    for class in ["sheddable", "SHEDDABLE-PLUS", "nonsense", "critical_plus"] {
        let response = service.clone().oneshot(request(class)).await.unwrap();
        let why = Rejection::of_response(&response).map(Rejection::why);
        let body = Box::pin(response.into_body()).collect().await.unwrap().to_bytes();
        told.push(why.map_or(String::from_utf8(body.into()).unwrap(), str::to_owned));
    }

    let shed = "shed in favour of more critical requests";
    assert_eq!(told, [shed, "sheddable_plus", "critical", "critical_plus"]);
    let now = handle.snapshot();
    assert_eq!((now.refused(Refusal::Shed), now.shed(Criticality::Sheddable)), (1, 1));

    let by = |request: &Request<()>| {
        request.headers().contains_key("batch").then_some(Criticality::Sheddable)
    };
    let layer = BulkheadLayer::new("b", number(2)).criticality_by(Shedding::new(), by);
    let service = layer.layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    }));
    let _one = service.clone().call(Request::new(()));
    let batch = Request::get("/").header("batch", "1").body(()).unwrap();
    assert_eq!(service.clone().oneshot(batch).await.unwrap().status(), 503);
    assert_eq!(service.clone().oneshot(Request::new(())).await.unwrap().status(), 200);
}

#[test]
fn a_header_that_is_none_is_refused_when_the_layer_is_built() {
    for header in ["", "X-Criticality", "x criticality"] {
        assert!(catch_unwind(|| Shedding::new().header(header)).is_err(), "{header:?}");
    }
    assert_eq!(Shedding::default(), Shedding::new().header("x-criticality"));
}
