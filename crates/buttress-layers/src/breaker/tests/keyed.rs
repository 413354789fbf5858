//! A breaker for each key.

use std::{borrow::Cow, num::NonZeroUsize};

use buttress_core::breaker::Trip;

use super::*;

/// The key, and what is to happen.
type Call = (&'static str, Do);

fn first(call: &Call) -> Cow<'_, str> {
    call.0.into()
}

type Key = fn(&Call) -> Cow<'_, str>;

fn keyed(capacity: usize) -> BreakerLayer<Plain, Keyed<Key>> {
    let layer = plain(in_a_row(1)).keyed(first as Key);
    layer.capacity(NonZeroUsize::new(capacity).unwrap())
}

async fn call(layer: &BreakerLayer<Plain, Keyed<Key>>, call: Call) -> Result<(), BoxError> {
    let backend = Scripted::default();
    layer
        .layer(tower::util::MapRequest::new(backend, |(_, script): Call| script))
        .oneshot(call)
        .await
}

fn states(handle: &KeyedBreakerHandle) -> Vec<(String, State)> {
    let keys = handle.keys();
    let mut states: Vec<_> =
        keys.iter().map(|key| (key.key().unwrap().to_owned(), key.state())).collect();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    states
}

fn names(handle: &KeyedBreakerHandle) -> Vec<String> {
    states(handle).into_iter().map(|(name, _)| name).collect()
}

#[tokio::test(start_paused = true)]
async fn what_fails_under_one_key_is_refused_under_that_key_only() {
    let layer = keyed(10);

    call(&layer, ("stock", Do::Fail)).await.unwrap_err();

    assert!(refusal(&call(&layer, ("stock", Do::Succeed)).await.unwrap_err()).is_some());
    call(&layer, ("price", Do::Succeed)).await.unwrap();
    let handle = layer.handle();
    let expected = [("price".to_owned(), State::Closed), ("stock".to_owned(), State::Open)];
    assert_eq!(states(&handle), expected);
    let open = handle.states().into_iter().find(|(state, _)| *state == State::Open);
    assert_eq!(open, Some((State::Open, 1)));
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_makes_room_and_an_open_one_after_all_closed_ones() {
    let layer = keyed(3);
    let (handle, heard) = (layer.handle(), Arc::new(Heard::default()));
    handle.observe(Arc::clone(&heard) as _);

    call(&layer, ("open", Do::Fail)).await.unwrap_err();
    for key in ["a", "b", "a", "c"] {
        call(&layer, (key, Do::Succeed)).await.unwrap();
    }
    assert_eq!(names(&handle), ["a", "c", "open"]);
    call(&layer, ("d", Do::Fail)).await.unwrap_err();
    call(&layer, ("e", Do::Fail)).await.unwrap_err();
    assert_eq!(names(&handle), ["d", "e", "open"]);
    // All are open: the oldest goes.
    call(&layer, ("f", Do::Fail)).await.unwrap_err();
    assert_eq!(names(&handle), ["d", "e", "f"]);
    // One of them closes, and is the first to go.
    advance(WAIT.get()).await;
    call(&layer, ("f", Do::Succeed)).await.unwrap();
    call(&layer, ("g", Do::Succeed)).await.unwrap();
    assert_eq!(names(&handle), ["d", "e", "g"]);

    let full = heard.take().into_iter().filter(|event| event.contains("no room")).count();
    assert_eq!(full, 1, "said once");
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_stays_counted_when_its_breaker_is_gone() {
    let layer = keyed(1);
    let handle = layer.handle();
    let mut hung = task::spawn(
        layer
            .layer(tower::util::MapRequest::new(Scripted::default(), |(_, script): Call| script))
            .oneshot(("a", Do::Take(10))),
    );
    assert_pending!(hung.poll());

    for key in ["b", "c", "d"] {
        call(&layer, (key, Do::Succeed)).await.unwrap();
    }
    assert_eq!(handle.totals().successes, 3);
    advance(Duration::from_millis(10)).await;
    assert_ready_ok!(hung.poll());

    assert_eq!(handle.totals().successes, 4);
    assert!(!handle.is_last());
    drop((layer, hung));
    assert!(handle.is_last());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_been_idle_costs_nothing() {
    let trip = Trip::failure_rate(Ratio::percent(50)).over(Window::time(TimeLimit::from_secs(30)));
    let layer = plain(Settings::new(trip)).keyed(first as Key);
    let handle = layer.handle();
    call(&layer, ("a", Do::Succeed)).await.unwrap();
    call(&layer, ("b", Do::Fail)).await.unwrap_err();

    let counted = handle.totals();
    advance(Duration::from_secs(30)).await;
    assert_eq!(handle.totals(), counted);

    assert_eq!(names(&handle), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn settings_and_shadow_mode_reach_all_keys_those_to_come_included() {
    let layer = keyed(10);
    let handle = layer.handle();
    call(&layer, ("a", Do::Succeed)).await.unwrap();

    handle.set_settings(&in_a_row(3));
    for key in ["a", "b"] {
        call(&layer, (key, Do::Fail)).await.unwrap_err();
        call(&layer, (key, Do::Fail)).await.unwrap_err();
        assert_eq!(handle.get(key).unwrap().state(), State::Closed);
    }
    handle.set_shadow(true);
    for key in ["a", "c"] {
        for _ in 0..5 {
            let error = call(&layer, (key, Do::Fail)).await.unwrap_err();
            assert!(refusal(&error).is_none());
        }
    }

    assert_eq!(handle.totals().would_refuse, 4);
}

#[tokio::test(start_paused = true)]
async fn an_event_says_which_key_it_is_about() {
    let layer = keyed(10);
    let heard = Arc::new(Heard::default());
    layer.handle().observe(Arc::clone(&heard) as _);

    call(&layer, ("stock", Do::Fail)).await.unwrap_err();

    assert_eq!(heard.take(), ["[stock] closed -> open: a failure"]);
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_one_key_moves_that_one() {
    let layer = keyed(10);
    call(&layer, ("a", Do::Succeed)).await.unwrap();
    call(&layer, ("b", Do::Succeed)).await.unwrap();

    layer.handle().get("a").unwrap().force_open();

    assert!(refusal(&call(&layer, ("a", Do::Succeed)).await.unwrap_err()).is_some());
    call(&layer, ("b", Do::Succeed)).await.unwrap();
    assert!(layer.handle().get("unheard of").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_the_jitter_of_each_key_and_no_two_alike() {
    let waits = || async {
        let jittery = OpenFor::fixed(WAIT).jitter(Ratio::percent(50));
        let settings = in_a_row(1).open_for(jittery).seeded(7);
        let layer = plain(settings).keyed(first as Key);
        let handle = layer.handle();
        let mut waits = Vec::new();
        for key in ["stock", "price"] {
            call(&layer, (key, Do::Fail)).await.unwrap_err();
            waits.push(handle.get(key).unwrap().snapshot().until_probe.unwrap());
        }
        waits
    };

    let (once, again) = (waits().await, waits().await);

    assert_eq!(once, again);
    assert_ne!(once[0], once[1]);
}

/// Opens some keys and has them recover, with so much traffic in between that they were looked at
/// while they were open.
async fn recovered(layer: &BreakerLayer<Plain, Keyed<Key>>, keys: &[&'static str]) {
    for key in keys {
        call(layer, (key, Do::Fail)).await.unwrap_err();
    }
    for key in ["x", "y"] {
        call(layer, (key, Do::Succeed)).await.unwrap();
    }
    advance(WAIT.get()).await;
    for key in keys {
        call(layer, (key, Do::Succeed)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_have_recovered_make_room_like_any_other() {
    let layer = keyed(4);
    recovered(&layer, &["a", "b", "c"]).await;
    call(&layer, ("b", Do::Succeed)).await.unwrap();

    for key in ["d", "e", "f"] {
        call(&layer, (key, Do::Succeed)).await.unwrap();
    }

    assert_eq!(names(&layer.handle()), ["b", "d", "e", "f"]);
}

#[tokio::test(start_paused = true)]
async fn keys_that_have_recovered_cost_nothing_once_they_are_idle() {
    let layer = keyed(3);
    recovered(&layer, &["a", "b"]).await;
    let handle = layer.handle();

    let counted = handle.totals();

    assert_eq!((counted.failures, names(&handle)), (2, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_not_closed_are_listed_first() {
    let layer = keyed(10);

    call(&layer, ("a", Do::Fail)).await.unwrap_err();
    call(&layer, ("b", Do::Succeed)).await.unwrap();

    let keys: Vec<_> = layer.handle().keys().iter().map(BreakerHandle::state).collect();
    assert_eq!(keys, [State::Open, State::Closed]);
}

/// An observer that uses every handle there is.
#[derive(Debug)]
struct Nosy(KeyedBreakerHandle);

impl Observe for Nosy {
    fn observe(&self, _: &Event<'_>) {
        let Self(handle) = self;
        assert!(handle.states().len() == State::ALL.len() && !handle.is_last());
        assert!(handle.totals().ended() < 100 && handle.settings().trips().len() == 1);
        for key in handle.keys() {
            assert_eq!(key.snapshot().totals, key.totals());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_ask_what_it_likes() {
    let layer = keyed(2);
    layer.handle().observe(Arc::new(Nosy(layer.handle())));

    for key in ["a", "b", "c", "d"] {
        call(&layer, (key, Do::Fail)).await.unwrap_err();
    }
    layer.handle().set_settings(&in_a_row(4));
    layer.handle().set_shadow(true);
}
