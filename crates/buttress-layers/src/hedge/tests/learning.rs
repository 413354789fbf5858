//! A delay that is learned.

use super::*;

fn p90() -> Quantile {
    Quantile::new(Ratio::percent(90)).minimum(20).over(TimeLimit::from_secs(8))
}

async fn ask(layer: &HedgeLayer<Plain>, does: impl IntoIterator<Item = Does>) -> u32 {
    let server = Server::does(does);
    let _ = layer.layer(server.service()).oneshot(()).await;
    server.calls()
}

/// A layer that has seen calls of 10 ms.
async fn taught(settings: Settings) -> HedgeLayer<Plain> {
    let layer = plain(settings);
    for _ in 0..20 {
        assert_eq!(ask(&layer, [Answers(10 * MS)]).await, 1);
    }
    layer
}

#[tokio::test(start_paused = true)]
async fn nothing_is_hedged_until_enough_have_come_and_then_what_takes_longer_is() {
    let layer = plain(Settings::new(p90()));
    assert_eq!(ask(&layer, [Answers(500 * MS)]).await, 1);
    assert_eq!(layer.handle().snapshot().unhedged(Unhedged::Unknown), 1);

    let layer = taught(Settings::new(p90())).await;
    let delay = layer.handle().delay().unwrap();
    assert!((10 * MS..11 * MS).contains(&delay), "{delay:?}");

    assert_eq!(ask(&layer, [Answers(500 * MS), Answers(10 * MS)]).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_lost_counts_as_slow() {
    let layer = taught(Settings::new(p90()).budget(Budget::unlimited())).await;

    // A third of the requests hang, and their hedges come to their aid: were only those counted
    // that answer, the delay would stay at 10 ms and a third would be hedged for ever.
    for _ in 0..20 {
        ask(&layer, [Answers(10 * MS)]).await;
        ask(&layer, [Answers(10 * MS)]).await;
        ask(&layer, [Hangs, Answers(90 * MS)]).await;
    }
    advance(Duration::from_secs(1)).await;

    let delay = layer.handle().delay().unwrap();
    assert!(delay >= 100 * MS, "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_that_come_fast_teach_nothing() {
    let layer = taught(Settings::new(p90())).await;
    let before = layer.handle().delay();

    for _ in 0..200 {
        ask(&layer, [Fails(MS)]).await;
    }
    advance(Duration::from_secs(1)).await;

    assert_eq!(layer.handle().delay(), before);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_early_teaches_nothing_and_one_who_leaves_late_does() {
    let leaving_after = async |patience: Duration| {
        let layer = taught(Settings::new(p90())).await;
        for _ in 0..20 {
            let server = Server::does([Hangs, Hangs]);
            let call = layer.layer(server.service()).oneshot(());
            assert!(tokio::time::timeout(patience, call).await.is_err());
        }
        advance(Duration::from_secs(1)).await;
        layer.handle().delay().unwrap()
    };

    assert!(leaving_after(2 * MS).await < 11 * MS);
    assert!(leaving_after(80 * MS).await >= 80 * MS);
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_learns() {
    let layer = plain(Settings::new(p90()));
    layer.handle().set_shadow(true);
    for _ in 0..20 {
        ask(&layer, [Answers(10 * MS)]).await;
    }

    assert_eq!(ask(&layer, [Answers(500 * MS)]).await, 1);

    assert_eq!(layer.handle().snapshot().would_fire(), 1);
}

#[tokio::test(start_paused = true)]
async fn other_settings_go_on_from_what_was_learned() {
    let layer = taught(Settings::new(p90())).await;
    let handle = layer.handle();
    let before = handle.delay();

    handle.set_settings(handle.settings().body_limit(1));
    assert_eq!(handle.delay(), before);
    handle.set_settings(Settings::new(p90().floor(20 * MS)));
    assert_eq!(handle.delay(), Some(20 * MS));
}
