//! What observers are told.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_goes_on_is_told_once_and_again_when_it_comes_back() {
    let layer = FallbackLayer::new("f").value(|| answer(200, "value"));
    let log = Log::of(&layer.handle());
    let service = layer.layer(failing().service());
    let told = ["[failed] the service failed (failed)", "[value] a rung answered"];

    for _ in 0..100 {
        ask(service.clone(), get("/")).await;
        advance(Duration::from_secs(30)).await;
    }
    assert_eq!(log.lines(), told);

    advance(Duration::from_secs(30)).await;
    ask(service, get("/")).await;
    assert_eq!(log.lines(), [told, told].concat());
}

#[tokio::test(start_paused = true)]
async fn who_wants_to_hear_of_each_failure_does() {
    let layer =
        FallbackLayer::new("f").function_sync(|_, _| Err::<Answer, _>("no luck")).tell_all();
    let (handle, log) = (layer.handle(), Log::of(&layer.handle()));
    let script = Script::new([Ok((502, "no")), Ok((503, "no"))]);
    let service = layer.layer(script.service());

    ask(service.clone(), get("/")).await;
    ask(service, get("/")).await;
    handle.set_shadow(true);

    let failed = "[function: no luck] a rung failed";
    let unanswered = "no rung answered: the failure is passed on";
    assert_eq!(
        log.lines(),
        [
            "[it answered 502] the service failed (status)",
            failed,
            unanswered,
            "[it answered 503] the service failed (status)",
            failed,
            unanswered,
            "shadow mode on: counts, refuses nothing",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn each_cause_of_the_same_failure_is_told_in_an_outage_without_a_pause() {
    let calls = Arc::new(AtomicU32::new(0));
    let rung = move |_: &Request<Full<Bytes>>| calls.fetch_add(1, Ordering::Relaxed);
    let layer = FallbackLayer::new("f").function_sync_of(rung, |call, _| {
        Err::<Answer, _>(if call < 5 { "the cache is down" } else { "the cache wants a password" })
    });
    let log = Log::of(&layer.handle());
    let script = Script::new([Ok((502, "")), Ok((502, "")), Ok((502, "")), Ok((503, ""))]);
    let service = layer.layer(script.service());

    for _ in 0..10 {
        ask(service.clone(), get("/")).await;
        advance(Duration::from_secs(1)).await;
    }

    assert_eq!(
        log.lines(),
        [
            "[it answered 502] the service failed (status)",
            "[function: the cache is down] a rung failed",
            "no rung answered: the failure is passed on",
            "[it answered 503] the service failed (status)",
            "[function: the cache wants a password] a rung failed",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn causes_that_are_all_different_are_told_eight_times_a_minute() {
    let calls = Arc::new(AtomicU32::new(0));
    let rung = move |_: &Request<Full<Bytes>>| calls.fetch_add(1, Ordering::Relaxed);
    let layer = FallbackLayer::new("f")
        .function_sync_of(rung, |call, _| Err::<Answer, _>(format!("request {call} failed")));
    let log = Log::of(&layer.handle());
    let service = layer.layer(Script::new([Ok((503, ""))]).service());

    for _ in 0..100 {
        ask(service.clone(), get("/")).await;
    }

    assert_eq!(log.lines().iter().filter(|line| line.ends_with("a rung failed")).count(), 8);
}
