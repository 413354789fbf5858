use std::num::NonZeroUsize;

use buttress_core::rate_limit::Ask;

use super::*;

type ByNumber = Plan<Keyed<u32, fn(&u32) -> u32>>;

fn keyed(rate: Rate) -> RateLimitLayer<Plain, ByNumber> {
    layer(rate).keyed(|request: &u32| *request)
}

fn admits<S>(service: &mut S, request: u32) -> bool
where
    S: Service<u32, Error = BoxError>,
{
    assert_ready!(call(service, request).poll()).is_ok()
}

/// L12.
#[tokio::test(start_paused = true)]
async fn each_key_has_a_bucket_of_its_own() {
    let layer = keyed(Rate::per_second(n(2)));
    let mut service = layer.layer(echo());

    let (a, b) = (1, 2);
    let admitted = [a, a, a, b, b].map(|key| admits(&mut service, key));

    assert_eq!(admitted, [true, true, false, true, true]);
    assert_eq!(layer.handle().known(), 2);
    assert_eq!(layer.handle().peek(&a).unwrap().available, 0);
    assert_eq!(layer.handle().peek(&3), None);
}

/// L12: governor and r4j keep them for ever.
#[tokio::test(start_paused = true)]
async fn a_million_keys_that_came_once_are_forgotten_and_their_memory_returns() {
    let layer = keyed(Rate::per_second(n(2))).capacity(NonZeroUsize::new(2_000_000).unwrap());
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));
    let empty = handle.bytes();
    for key in 0..1_000_000 {
        assert!(admits(&mut service, key));
    }
    let (known, bytes) = (handle.known(), handle.bytes());

    advance(ms(10_000)).await;
    handle.sweep();

    // 36 for u64 keys, which these are half of.
    assert_eq!(known, 1_000_000);
    assert!(bytes <= 28_000_000, "{bytes} bytes");
    assert_eq!(handle.known(), 0);
    assert_eq!(handle.bytes(), empty);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_idle_make_room_without_a_sweep() {
    let layer = keyed(Rate::per_second(n(1)));
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));

    let mut most = 0;
    for key in 0..200_000 {
        // A thousand are active at a time.
        advance(ms(1)).await;
        assert!(admits(&mut service, key));
        most = most.max(handle.known());
    }

    // Each of 256 shards grows to the size for its keys and is looked through once in so many.
    assert!(most <= 8_000, "{most} keys were kept of 1,000 that were active");
}

#[tokio::test(start_paused = true)]
async fn strictly_a_key_that_is_pushed_out_gets_no_more_by_it() {
    struct Full(Arc<Mutex<usize>>);
    impl Observe for Full {
        fn observe(&self, event: &Event<'_>) {
            assert_eq!(event.change, Change::KeysFull { capacity: 100 });
            *self.0.lock().unwrap() += 1;
        }
    }
    let full = Arc::new(Mutex::new(0));
    let layer = keyed(Rate::per_second(n(3))).capacity(NonZeroUsize::new(100).unwrap());
    let layer = layer.when_full(WhenFull::Strict);
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));
    handle.observe(Arc::new(Full(Arc::clone(&full))));

    let mut admitted = [0; 1000];
    for _ in 0..5 {
        for key in 0..1000 {
            admitted[key as usize] += u32::from(admits(&mut service, key));
            assert!(handle.known() <= 100, "{} keys", handle.known());
        }
    }

    assert!(admitted.iter().all(|admitted| *admitted <= 3), "{:?}", admitted.iter().max());
    assert_eq!(*full.lock().unwrap(), 1, "told once");
    advance(ms(1000)).await;
    // Once time has passed, a new key has a full bucket again.
    assert_eq!((0..4).filter(|_| admits(&mut service, 5000)).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_costs_too_much_leaves_no_key_behind() {
    let layer = keyed(Rate::per_second(n(5))).cost(|_: &u32| n(6));
    let mut service = layer.layer(echo());

    assert!(!admits(&mut service, 1));

    assert_eq!(layer.handle().known(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_queue_of_its_own() {
    let layer = keyed(Rate::per_second(n(1))).wait(TimeLimit::from_secs(5));
    let (handle, mut service) = (layer.handle(), layer.layer(echo()));
    let start = Instant::now();
    assert!(admits(&mut service, 1));

    let mut first = call(&mut service, 1);
    let mut second = call(&mut service, 1);
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert!(admits(&mut service, 2), "another key does not wait");
    let waiting = (handle.waiting(), handle.peek(&1).unwrap().available);
    drop(first);
    let answer = second.into_inner().await;

    assert_eq!(waiting, (2, -2));
    assert_eq!((answer.unwrap(), start.elapsed()), (1, ms(1000)));
    assert_eq!((handle.waiting(), handle.totals().left, handle.totals().waited), (0, 1, 1));
    handle.sweep();
    assert_eq!(handle.known(), 1, "a second has not passed since it was let in");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_not_pushed_out() {
    let layer =
        keyed(Rate::per_second(n(1))).capacity(NonZeroUsize::MIN).wait(TimeLimit::from_secs(5));
    let mut service = layer.layer(echo());
    assert!(admits(&mut service, 1));
    let mut waits = call(&mut service, 1);
    assert_pending!(waits.poll());

    for key in 2..1000 {
        let _ = call(&mut service, key).poll();
    }

    assert_eq!(waits.into_inner().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn several_limits_hold_for_each_key_all_or_nothing() {
    let rates = [Rate::per_second(n(2)), Rate::per_day(n(3))];
    let layer = RateLimitLayer::several("limit", rates).exchange(Plain).keyed(|key: &u32| *key);
    let mut service = layer.layer(echo());

    let now: Vec<_> = [1, 1, 1, 2, 2].map(|key| admits(&mut service, key)).into();
    advance(ms(1000)).await;
    let later: Vec<_> = [1, 1, 2, 2].map(|key| admits(&mut service, key)).into();
    let error = assert_ready_err!(call(&mut service, 1).poll());

    assert_eq!(now, [true, true, false, true, true]);
    assert_eq!(later, [true, false, true, false]);
    assert_eq!(refusal(&error).1, Some(ms(86_400_000 / 3 - 1000)));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_rate_holds_for_all_keys_and_is_no_burst() {
    let layer = keyed(Rate::per_second(n(2)));
    let mut service = layer.layer(echo());
    assert!(admits(&mut service, 1) && admits(&mut service, 1) && admits(&mut service, 2));

    layer.handle().set_rate(Rate::per_second(n(10)));

    let admitted = [1, 2, 3].map(|key| (0..20).filter(|_| admits(&mut service, key)).count());
    assert_eq!(admitted, [0, 1, 10]);
    advance(ms(100)).await;
    assert!(admits(&mut service, 1));
    layer.handle().refund(&1, n(1));
    assert!(admits(&mut service, 1));
}

#[tokio::test(start_paused = true)]
async fn a_key_for_which_there_is_no_room_is_not_told_that_its_bucket_is_full() {
    let layer = keyed(Rate::per_second(n(3))).capacity(NonZeroUsize::MIN);
    let layer = layer.when_full(WhenFull::Strict);
    let mut service = layer.layer(echo());
    for key in 0..2000 {
        admits(&mut service, key);
        admits(&mut service, key);
        admits(&mut service, key);
    }

    assert!(!admits(&mut service, 5000));

    let left = layer.handle().keys.standings(&5000, Instant::now().into_std());
    let third = Duration::from_nanos(333_333_334);
    assert_eq!((left[0].available, left[0].next_in), (0, Some(third)));
}

#[test]
fn rates_that_are_set_at_once_leave_all_keys_with_the_same() {
    for _ in 0..200 {
        let layer = keyed(Rate::per_second(n(1)));
        let handle = layer.handle();
        let keys = &*handle.keys;
        let now = Instant::now().into_std();

        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for events in [5, 7] {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    keys.set_rate(0, Rate::per_second(n(events)), now);
                });
            }
        });

        let mut left = (0..500).map(|key| {
            let _ = keys.enter(&key, Ask::one(), None, now);
            keys.standings(&key, now)[0].available
        });
        let first = left.next();
        assert!(left.all(|left| Some(left) == first));
    }
}

/// Strangers with keys without number, each of whom comes once: an IPv6 network, or whatever stands
/// in a header that nobody has looked at yet.
#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_locks_nobody_out_who_has_something_left() {
    let layer = keyed(Rate::per_hour(n(5))).capacity(NonZeroUsize::new(1000).unwrap());
    let mut service = layer.layer(echo());
    let customer = u32::MAX;
    let first = admits(&mut service, customer);

    for stranger in 0..10_000 {
        assert!(admits(&mut service, stranger));
    }

    let (known, newcomer) = (admits(&mut service, customer), admits(&mut service, customer - 1));
    assert_eq!((first, known, newcomer), (true, true, true));
    assert_eq!(layer.handle().known(), 1000);
}

/// Who comes once each has more left than who has used up all.
#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_does_not_let_anybody_be_forgotten_who_has_used_up_its_bucket() {
    for room in [10_000, 50_000] {
        let layer = keyed(Rate::per_hour(n(5))).capacity(NonZeroUsize::new(room).unwrap());
        let mut service = layer.layer(echo());
        let greedy = u32::MAX;
        assert_eq!((0..9).filter(|_| admits(&mut service, greedy)).count(), 5);

        for stranger in 0..100_000 {
            assert!(admits(&mut service, stranger));
        }

        assert!(!admits(&mut service, greedy));
    }
}

/// Full of keys that have used up three of five each, and nobody is idle.
fn full_of_thousand() -> RateLimitLayer<Plain, ByNumber> {
    let layer = keyed(Rate::per_hour(n(5))).capacity(NonZeroUsize::new(1000).unwrap());
    let mut service = layer.layer(echo());
    for key in 0..1000 {
        assert!((0..3).all(|_| admits(&mut service, key)));
    }
    layer
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_there_is_no_room_is_limited_like_all_others() {
    let layer = full_of_thousand();
    let mut service = layer.layer(echo());

    for newcomer in 1000..1020 {
        let admitted = (0..100).filter(|_| admits(&mut service, newcomer)).count();
        assert!(admitted <= 10, "{admitted} of {newcomer}");
    }

    assert_eq!(layer.handle().known(), 1000);
}

#[tokio::test(start_paused = true)]
async fn newcomers_who_take_turns_do_not_push_each_other_out_for_ever() {
    // Hashes are seeded at random: each time others meet in one part.
    for _ in 0..20 {
        let layer = full_of_thousand();
        let mut service = layer.layer(echo());

        let mut admitted = [0; 20];
        for _ in 0..100 {
            for (newcomer, admitted) in (1000..).zip(&mut admitted) {
                *admitted += u32::from(admits(&mut service, newcomer));
            }
        }

        assert!(admitted.iter().all(|admitted| *admitted <= 15), "{admitted:?}");
        assert!(admitted.iter().sum::<u32>() <= 20 * 6, "{admitted:?}");
    }
}

/// The least room: whoever comes pushes out the other, and not itself.
#[tokio::test(start_paused = true)]
async fn where_there_is_room_for_one_the_one_who_came_last_is_kept() {
    let layer = keyed(Rate::per_hour(n(5))).capacity(NonZeroUsize::MIN);
    let mut service = layer.layer(echo());

    for key in 0..100 {
        assert_eq!((0..10).filter(|_| admits(&mut service, key)).count(), 5);
    }

    assert_eq!(layer.handle().known(), 1);
}

#[derive(Default)]
struct Told(Mutex<Vec<Change>>);

impl Observe for Told {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(event.change);
    }
}

/// A router that serves an admin's port without saying who connects, and one for the public that
/// does, on one thread.
#[tokio::test(start_paused = true)]
async fn what_nobody_says_to_one_layer_is_not_told_of_another() {
    use std::net::{IpAddr, SocketAddr};

    use buttress_core::http::{TrustedProxies, key};
    use http::Request;

    fn bare() -> Request<()> {
        Request::new(())
    }
    let from = |last: u8| {
        let mut request = bare();
        request.extensions_mut().insert(SocketAddr::from(([203, 0, 113, last], 4711)));
        request
    };
    let inner = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(()) });
    let admin = layer(Rate::per_second(n(9))).keyed(key::client_address(TrustedProxies::none()));
    let public = layer(Rate::per_second(n(9))).keyed(key::client_address(TrustedProxies::none()));
    // Goes by something else, which is missing here.
    let other = layer(Rate::per_second(n(9)))
        .keyed(|it: &Request<()>| it.extensions().get::<IpAddr>().copied());
    let told = [(); 3].map(|()| Arc::new(Told::default()));
    admin.handle().observe(Arc::<Told>::clone(&told[0]));
    public.handle().observe(Arc::<Told>::clone(&told[1]));
    other.handle().observe(Arc::<Told>::clone(&told[2]));
    let (mut at_admin, mut at_public, mut at_other) =
        (admin.layer(inner), public.layer(inner), other.layer(inner));

    for last in 1..4 {
        at_admin.call(bare()).await.unwrap();
        at_public.call(from(last)).await.unwrap();
        at_admin.call(bare()).await.unwrap();
        at_other.call(bare()).await.unwrap();
        at_admin.call(bare()).await.unwrap();
        public.handle().drain(&Some(IpAddr::from([198, 51, 100, last])));
    }

    assert_eq!(told.map(|told| told.0.lock().unwrap().len()), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn that_nothing_says_who_has_connected_is_told_once_with_what_to_do() {
    use std::net::SocketAddr;

    use buttress_core::http::{TrustedProxies, key};
    use http::Request;

    let told = Arc::new(Told::default());
    let layer = layer(Rate::per_second(n(1))).keyed(key::client_address(TrustedProxies::none()));
    layer.handle().observe(Arc::<Told>::clone(&told));
    let service = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(()) });
    let mut service = layer.layer(service);
    let mut request = Request::new(());
    request.extensions_mut().insert(SocketAddr::from(([203, 0, 113, 7], 4711)));

    let known = service.call(request).await;
    assert!(known.is_ok() && told.0.lock().unwrap().is_empty());
    let (first, second) =
        (service.call(Request::new(())).await, service.call(Request::new(())).await);

    assert_eq!((first.is_ok(), second.is_ok()), (true, false));
    let told = told.0.lock().unwrap().clone();
    let [Change::Advice(what)] = told[..] else { panic!("{told:?}") };
    assert!(what.contains("into_make_service_with_connect_info"), "{what}");
}
