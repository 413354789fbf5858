//! Handles, switches and shadow mode.

use buttress_core::breaker::{Refusal, Tally};

use super::*;

// B20
#[tokio::test(start_paused = true)]
async fn a_forced_breaker_stays_where_it_was_put() {
    let layer = plain(in_a_row(1));
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));

    handle.force_open();
    advance(Duration::from_secs(3600)).await;
    let refused = service.clone().oneshot(Do::Succeed).await.unwrap_err();
    assert_eq!(refusal(&refused).unwrap().retry_after(), None);
    assert_eq!(handle.state(), State::ForcedOpen);
    assert_eq!(handle.totals().refused(Refusal::Forced), 1);

    handle.force_closed();
    for _ in 0..5 {
        service.clone().oneshot(Do::Fail).await.unwrap_err();
    }
    assert_eq!(handle.state(), State::ForcedClosed);
    assert_eq!(handle.snapshot().conditions[0].streak(), Some(0));

    handle.reset();
    assert_eq!(handle.state(), State::Closed);
}

// B11
#[tokio::test(start_paused = true)]
async fn it_can_be_opened_for_a_while_or_until_an_instant() {
    let layer = plain(in_a_row(1));
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));
    let start = tokio::time::Instant::now().into_std();

    handle.open_for(TimeLimit::from_secs(7200));
    advance(Duration::from_secs(3600)).await;
    let refused = service.clone().oneshot(Do::Succeed).await.unwrap_err();
    assert_eq!(refusal(&refused).unwrap().retry_after(), Some(Duration::from_secs(3600)));
    advance(Duration::from_secs(3601)).await;
    service.clone().oneshot(Do::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Closed);

    handle.open_until(start + Duration::from_secs(9000));
    assert_eq!(handle.snapshot().until_probe, Some(Duration::from_secs(9000 - 7201)));
}

// B23
#[tokio::test(start_paused = true)]
async fn one_switch_isolates_all_breakers_that_obey_it() {
    let switch = Isolation::new();
    switch.isolate();
    let layers = ["charge", "refund"]
        .map(|name| BreakerLayer::new(name, in_a_row(1)).exchange(Plain).isolated_by(&switch));
    let heard = Arc::new(Heard::default());
    for layer in &layers {
        layer.handle().observe(Arc::clone(&heard) as _);
    }

    for layer in &layers {
        let error = layer.layer(Scripted::default()).oneshot(Do::Succeed).await.unwrap_err();
        let refused = refusal(&error).unwrap();
        assert_eq!((refused.why(), refused.retry_after()), ("isolated", None));
        assert_eq!(layer.handle().state(), State::Isolated);
    }
    switch.release();
    switch.release();
    for layer in &layers {
        layer.layer(Scripted::default()).oneshot(Do::Succeed).await.unwrap();
        assert_eq!(layer.handle().state(), State::Closed);
    }

    assert_eq!(heard.take(), ["no longer isolated", "no longer isolated"]);
}

#[test]
#[should_panic(expected = "the breaker charge obeys a switch already")]
fn a_second_switch_is_a_mistake() {
    let switch = Isolation::new();

    let _ = BreakerLayer::new("charge", in_a_row(1)).isolated_by(&switch).isolated_by(&switch);
}

// B20
#[tokio::test(start_paused = true)]
async fn in_shadow_mode_it_counts_and_tells_and_refuses_nothing() {
    let layer = plain(in_a_row(2));
    let (handle, heard) = (layer.handle(), Arc::new(Heard::default()));
    handle.observe(Arc::clone(&heard) as Arc<dyn Observe>);
    handle.set_shadow(true);
    let (backend, service) = (Scripted::default(), layer);
    let service = service.layer(backend.clone());

    for script in [Do::Fail, Do::Fail, Do::Fail, Do::Succeed, Do::Fail, Do::Fail] {
        let _ = service.clone().oneshot(script).await;
    }

    assert_eq!(backend.calls(), 6);
    assert_eq!(handle.state(), State::Closed);
    assert!(handle.snapshot().would_refuse);
    // The third failure and the success came when it would have been open.
    assert_eq!(handle.totals().would_refuse, 2);
    assert_eq!(
        heard.take(),
        [
            "shadow mode on: counts, refuses nothing",
            "would open: 2 failures in a row",
            "would open: 2 failures in a row",
        ]
    );
    handle.set_shadow(false);
    assert_eq!(handle.snapshot().conditions[0].streak(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn settings_change_without_losing_what_the_window_holds() {
    let rate = |calls| Trip::failure_rate(Ratio::percent(50)).over(Window::calls(calls)).minimum(8);
    let layer = plain(Settings::new(rate(100)));
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));
    for script in [Do::Succeed, Do::Succeed, Do::Fail, Do::Fail, Do::Fail, Do::Fail] {
        let _ = service.clone().oneshot(script).await;
    }

    handle.set_settings(Settings::new(rate(50)));
    let tally = handle.snapshot().tally();
    let (successes, failures) = (tally.successes, tally.failures);
    assert_eq!((successes, failures), (2, 4));
    service.clone().oneshot(Do::Fail).await.unwrap_err();
    assert_eq!(handle.state(), State::Closed);
    service.clone().oneshot(Do::Fail).await.unwrap_err();

    assert_eq!(handle.state(), State::Open);
    assert_eq!(handle.settings().trips(), Settings::new(rate(50)).trips());
}

// X09
#[tokio::test(start_paused = true)]
async fn a_reset_while_closed_forgets_the_window() {
    let layer = plain(Settings::rate());
    let (handle, service) = (layer.handle(), layer.layer(Scripted::default()));
    for _ in 0..19 {
        service.clone().oneshot(Do::Fail).await.unwrap_err();
    }
    assert_eq!(handle.snapshot().tally().failures, 19);

    handle.reset();

    assert_eq!(handle.snapshot().tally(), Tally::default());
    service.oneshot(Do::Fail).await.unwrap_err();
    assert_eq!(handle.state(), State::Closed);
}

// X09
#[test]
#[should_panic(expected = "without a probe a breaker never closes")]
fn a_breaker_without_probes_cannot_be_configured() {
    let _ = Probes::new(0);
}

#[tokio::test(start_paused = true)]
async fn a_handle_knows_when_it_is_alone() {
    let layer = plain(in_a_row(1));
    let handle = layer.handle();
    let mut response = task::spawn(layer.layer(Scripted::default()).oneshot(Do::Hang));
    assert_pending!(response.poll());
    drop(layer);
    assert!(!handle.is_last());

    drop(response);

    assert!(handle.is_last());
}
