//! What is decided and counted, and not done.

use super::*;

#[tokio::test(start_paused = true)]
async fn shadow_mode_decides_and_counts_and_sends_nothing_twice() {
    let server = Server::does([Answers(60 * MS), Answers(60 * MS), Answers(10 * MS)]);
    let budget = Percentage::new(Ratio::ZERO).floor(1).within(TimeLimit::from_secs(1));
    let layer = plain(after(50 * MS).budget(budget));
    layer.handle().set_shadow(true);

    for _ in 0..3 {
        layer.layer(server.service()).oneshot(()).await.unwrap();
    }

    let snapshot = layer.handle().snapshot();
    assert_eq!((server.calls(), snapshot.fired(), snapshot.would_fire()), (3, 0, 2));
    assert_eq!(layer.handle().balance(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn in_shadow_mode_a_failure_after_the_delay_is_passed_on() {
    for most in [1, 4] {
        let server = Server::does([Fails(60 * MS)]);
        let layer = plain(after(50 * MS));
        layer.handle().set_shadow(true);
        let start = Instant::now();

        let failed = if most == 1 {
            tokio::time::timeout(90 * MS, layer.layer(server.service()).oneshot(())).await
        } else {
            let layer = layer.clone().extra::<4>();
            tokio::time::timeout(90 * MS, layer.layer(server.service()).oneshot(())).await
        };

        assert!(failed.expect("nobody else is under way").is_err());
        assert_eq!((start.elapsed(), layer.handle().snapshot().would_fire()), (60 * MS, 1));
    }
}
