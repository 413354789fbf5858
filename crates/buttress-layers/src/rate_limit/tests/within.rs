//! What all keys have together, in one decision with what each has.

use std::num::NonZeroUsize;

use super::{super::shard::Entered, *};

type ByNumber = Plan<Keyed<u32, fn(&u32) -> u32>>;

/// So many a second for each key, and so many for all.
fn within(each: u32, all: u32) -> RateLimitLayer<Plain, ByNumber> {
    let key: fn(&u32) -> u32 = |request| request / 10;
    layer(Rate::per_second(n(each))).keyed(key).within([Rate::per_second(n(all))])
}

fn admits<S>(service: &mut S, request: u32) -> bool
where
    S: Service<u32, Error = BoxError>,
{
    assert_ready!(call(service, request).poll()).is_ok()
}

fn wait<S>(service: &mut S, request: u32) -> Duration
where
    S: Service<u32, Error = BoxError, Response: std::fmt::Debug>,
{
    refusal(&assert_ready_err!(call(service, request).poll())).1.expect("it is no hopeless one")
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_by_one_takes_nothing_of_the_other() {
    let layer = within(2, 5);
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));

    // The third of each key is refused by its key, and the sixth that is admitted by all.
    let admitted = [10, 10, 10, 10, 20, 20, 20, 30, 30, 30].map(|key| admits(&mut service, key));

    let expected = [true, true, false, false, true, true, false, true, false, false];
    assert_eq!(admitted, expected);
    assert_eq!(handle.peek_together().unwrap().available, 0);
    assert_eq!(handle.peek(&3).unwrap().available, 1, "it was all together that refused it");
    assert_eq!((handle.totals().admitted, handle.totals().refused(Refusal::Empty)), (5, 5));
    let unknown = (admits(&mut service, 40), handle.peek(&4), handle.known());
    assert_eq!(unknown, (false, None, 3), "nothing is kept of a key that is refused");
}

#[tokio::test(start_paused = true)]
async fn the_tightest_names_the_wait() {
    let layer = within(1, 4);
    let mut service = layer.layer(echo());
    for key in [10, 20, 30, 40] {
        assert!(admits(&mut service, key));
    }

    let (both, all) = (wait(&mut service, 10), wait(&mut service, 50));
    advance(ms(900)).await;
    let key = wait(&mut service, 10);
    assert!(admits(&mut service, 50) && admits(&mut service, 60) && admits(&mut service, 70));
    let (short_of_both, short_of_all) = (wait(&mut service, 20), wait(&mut service, 80));

    // A second for the key, a quarter for all.
    assert_eq!((both, all, key), (ms(1000), ms(250), ms(100)));
    // A tenth for the key, and after 3.6 tokens were three for all 0.4 of 250 ms.
    assert_eq!((short_of_both, short_of_all), (ms(100), ms(100)));
}

#[tokio::test(start_paused = true)]
async fn what_costs_more_than_all_may_have_at_once_is_refused_for_good() {
    let layer = within(9, 5).cost(|request: &u32| n(request % 10 + 1));
    let mut service = layer.layer(echo());

    let error = assert_ready_err!(call(&mut service, 17).poll());

    assert_eq!(refusal(&error), (Kind::RateLimited, None));
    assert_eq!(layer.handle().totals().refused(Refusal::TooMuch), 1);
    assert!(admits(&mut service, 14));
}

#[tokio::test(start_paused = true)]
async fn who_waits_waits_for_its_key_and_then_for_all_and_is_let_in_once() {
    let layer = within(2, 2).wait(TimeLimit::from_secs(5));
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));
    let start = Instant::now();
    assert!(admits(&mut service, 10) && admits(&mut service, 10));

    // For both, for all, and behind the first for both.
    let mut waiting: Vec<_> = [11, 20, 12].map(|request| call(&mut service, request)).into();
    for future in &mut waiting {
        assert_pending!(future.poll());
    }
    let waits = handle.waiting();
    let mut order = Vec::new();
    for step in 1..=3 {
        advance(ms(500)).await;
        waiting.retain_mut(|future| match future.poll() {
            std::task::Poll::Ready(answer) => {
                order.push((step, answer.unwrap()));
                false
            }
            std::task::Poll::Pending => true,
        });
    }

    assert_eq!(waits, 3);
    // Whoever waits for all alone stands before whoever has yet to wait for its key.
    assert_eq!(order, [(1, 20), (2, 11), (3, 12)]);
    assert_eq!((start.elapsed(), handle.waiting()), (ms(1500), 0));
    assert_eq!((handle.totals().admitted, handle.totals().waited), (5, 3));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_it_waits_for_all_gives_its_key_back() {
    let layer = within(2, 1).wait(TimeLimit::from_secs(5));
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));
    assert!(admits(&mut service, 10));
    let mut waits = call(&mut service, 20);
    assert_pending!(waits.poll());
    let held = handle.peek(&2).unwrap().available;

    drop(waits);

    assert_eq!((held, handle.peek(&2).unwrap().available), (1, 2));
    assert_eq!((handle.waiting(), handle.totals().left), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_have_both_in_time_is_refused_at_once_and_takes_neither() {
    let layer = within(1, 1).wait(TimeLimit::from_secs(2));
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));
    assert!(admits(&mut service, 10));
    let mut waiting = [call(&mut service, 20), call(&mut service, 30)];
    for future in &mut waiting {
        assert_pending!(future.poll());
    }

    let of_all = wait(&mut service, 40);
    let of_both = wait(&mut service, 10);

    assert_eq!((of_all, of_both), (ms(3000), ms(3000)));
    assert_eq!((handle.peek(&1).unwrap().waiting, handle.peek(&4)), (0, None));
}

/// Those of other keys that came while it waited for its own were before it.
#[tokio::test(start_paused = true)]
async fn who_is_refused_for_all_after_it_has_waited_for_its_key_gets_that_back() {
    let layer = within(1, 2).wait(TimeLimit::from_secs(1));
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));
    assert!(admits(&mut service, 10));
    let mut waits = call(&mut service, 11);
    assert_pending!(waits.poll());
    advance(ms(500)).await;
    let mut others: Vec<_> = [20, 30, 40].map(|request| call(&mut service, request)).into();
    assert!(assert_ready!(others[0].poll()).is_ok());
    assert!(assert_ready!(others[1].poll()).is_ok());
    assert_pending!(others[2].poll());
    advance(ms(500)).await;

    let error = assert_ready_err!(waits.poll());

    assert_eq!(refusal(&error).1, Some(ms(500)));
    assert_eq!(handle.peek(&1).unwrap().available, 1);
    assert_ready_ok!(others[2].poll());
}

#[tokio::test(start_paused = true)]
async fn in_shadow_mode_both_are_drawn_from_or_neither() {
    let layer = within(1, 3).wait(TimeLimit::from_secs(1));
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));
    handle.set_shadow(true);

    for _ in 0..3 {
        assert!(admits(&mut service, 10));
    }

    // One at once, one that would wait, and one that would wait for two seconds.
    let totals = handle.totals();
    assert_eq!((totals.waited, totals.refused(Refusal::TooLong)), (1, 1));
    assert_eq!(handle.peek_together().unwrap().available, 1);
    assert_eq!(handle.peek(&1).unwrap().next_in, ms(2000));

    // All together have six within a second; the seventh takes nothing of its key either.
    for key in [20, 20, 30, 40, 40] {
        assert!(admits(&mut service, key));
    }
    assert_eq!(handle.totals().refused(Refusal::TooLong), 2);
    assert_eq!(handle.peek(&4).unwrap().next_in, ms(1000));
}

#[tokio::test(start_paused = true)]
async fn it_is_told_moved_refunded_and_drained_with_the_others() {
    let layer = within(2, 5);
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));
    assert!(admits(&mut service, 10));

    handle.set_rate_of(1, Rate::per_second(n(50)));
    let moved = (handle.peek_together().unwrap().available, handle.rates());
    handle.refund(&1, n(1));
    let refunded = (handle.peek_together().unwrap().available, handle.peek(&1).unwrap().available);
    handle.drain(&1);
    handle.drain(&7);

    assert_eq!(moved, (4, vec![Rate::per_second(n(2)), Rate::per_second(n(50))]));
    assert_eq!(refunded, (5, 2));
    assert!(!admits(&mut service, 10) && !admits(&mut service, 70) && admits(&mut service, 20));
    assert_eq!(handle.known(), 3);
}

/// Ours takes both under the lock of the key, and so never refuses for a token that comes back.
#[test]
fn threads_that_are_refused_by_their_keys_cost_the_others_nothing() {
    let layer = within(100, 400).capacity(NonZeroUsize::new(100).unwrap());
    let keys = &layer.handle().keys;
    let now = Instant::now().into_std();
    let ask = buttress_core::rate_limit::Ask::one();

    let admitted: usize = std::thread::scope(|scope| {
        let threads = (0..4).map(|key| {
            let take = move || matches!(keys.enter(&key, ask, None, now), Entered::Admitted);
            scope.spawn(move || (0..2000).filter(|_| take()).count())
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });

    assert_eq!(admitted, 400);
}

#[test]
#[should_panic(expected = "limited already; name all rates at once")]
fn to_limit_all_together_twice_is_a_mistake() {
    let _ = within(1, 2).within([Rate::per_second(n(3))]);
}
