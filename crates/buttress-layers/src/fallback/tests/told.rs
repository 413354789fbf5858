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
