//! T04: of expired work a share of what is served is refused. One refusal takes five that were
//! served within ten seconds.

use buttress_core::{ExpiredCap, Ratio};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A layer with a cap of 20 % over 10 seconds, around a service that answers at once.
struct Rig {
    layer: TimeoutLayer,
}

impl Rig {
    fn new() -> Self {
        let cap = ExpiredCap::new(Ratio::percent(20)).within(TimeLimit::from_secs(10));
        let layer = TimeoutLayer::new("t", TimeLimit::from_secs(60)).propagate();
        Self { layer: layer.refuse_expired_at_most(cap) }
    }

    /// Whether a request is served, which came so long after it was sent and had so much time.
    async fn serves(&self, time: Option<Duration>, after: Duration) -> bool {
        let mut request = get();
        if let Some(time) = time {
            request.extensions_mut().insert(Deadline((Instant::now() + time).into_std()));
        }
        advance(after).await;
        let service = service_fn(|_: Request<()>| {
            ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
        });
        let response = self.layer.layer(service).oneshot(request).await.unwrap();
        response.extensions().get::<Rejection>().is_none()
    }

    /// Serves so many that are in time.
    async fn serve(&self, requests: u32) {
        for _ in 0..requests {
            assert!(self.serves(Some(SECOND), Duration::ZERO).await);
        }
    }

    /// Whether one is served that comes a second late.
    async fn serves_late(&self) -> bool {
        self.serves(Some(SECOND), 2 * SECOND).await
    }

    /// How many came late, and how many were refused.
    fn counts(&self) -> (u64, u64) {
        let snapshot = self.layer.handle().snapshot();
        (snapshot.came_late(), snapshot.refused())
    }
}

// T04 (a)
#[tokio::test(start_paused = true)]
async fn five_that_were_served_pay_for_a_refusal() {
    let rig = Rig::new();
    rig.serve(5).await;

    assert!(!rig.serves_late().await);

    assert_eq!(rig.counts(), (1, 1));
}

// T04 (b)
#[tokio::test(start_paused = true)]
async fn three_do_not() {
    let rig = Rig::new();
    rig.serve(3).await;

    assert!(rig.serves_late().await);

    assert_eq!(rig.counts(), (1, 0));
}

// T04 (c)
#[tokio::test(start_paused = true)]
async fn in_shadow_mode_it_counts_and_serves() {
    let rig = Rig::new();
    rig.layer.handle().set_shadow(true);
    rig.serve(5).await;

    assert!(rig.serves_late().await);

    assert_eq!(rig.counts(), (1, 1));
}

// T04 (d)
#[tokio::test(start_paused = true)]
async fn expired_ones_that_are_served_pay_too() {
    let rig = Rig::new();
    let mut served = Vec::new();
    for _ in 0..7 {
        served.push(rig.serves(Some(Duration::ZERO), Duration::from_millis(1)).await);
    }

    assert_eq!(served, [true, true, true, true, true, false, true]);
    assert_eq!(rig.counts(), (7, 1));
}

// T04 (e)
#[tokio::test(start_paused = true)]
async fn after_a_refusal_four_are_too_few_for_the_next() {
    let rig = Rig::new();
    rig.serve(5).await;
    assert!(!rig.serves_late().await);
    rig.serve(4).await;

    assert!(rig.serves(Some(Duration::ZERO), Duration::ZERO).await);

    assert_eq!(rig.counts(), (2, 1));
    // And that one was the fifth.
    assert!(!rig.serves(Some(Duration::ZERO), Duration::ZERO).await);
}

// T04 (f)
#[tokio::test(start_paused = true)]
async fn what_was_served_eleven_seconds_ago_pays_for_nothing() {
    let rig = Rig::new();
    rig.serve(5).await;

    assert!(rig.serves(Some(SECOND), 11 * SECOND).await);

    assert_eq!(rig.counts(), (1, 0));
}

// T04 (g)
#[tokio::test(start_paused = true)]
async fn requests_without_a_deadline_pay_too() {
    let rig = Rig::new();
    for _ in 0..5 {
        assert!(rig.serves(None, Duration::ZERO).await);
    }

    assert!(!rig.serves_late().await);
}

// T04, its figures
#[tokio::test(start_paused = true)]
async fn it_says_how_late_requests_came_and_how_much_time_they_had_left() {
    let rig = Rig::new();

    rig.serves(Some(Duration::from_millis(200)), SECOND).await;
    rig.serves(Some(Duration::from_millis(1_200)), SECOND).await;

    let arrivals = rig.layer.handle().arrivals().unwrap();
    assert_eq!(arrivals.late.sum(), Duration::from_millis(800));
    assert_eq!(arrivals.left.sum(), Duration::from_millis(200));
    assert_eq!((arrivals.late.count(), arrivals.left.count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_is_spared_is_held_to_our_own_limit() {
    let cap = ExpiredCap::new(Ratio::percent(20));
    let layer = TimeoutLayer::new("t", LIMIT).propagate().refuse_expired_at_most(cap);
    let never = service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    });
    let mut request = get();
    request.headers_mut().insert("x-request-timeout-ms", "0".parse().unwrap());
    let start = Instant::now();

    let response = layer.layer(never).oneshot(request).await.unwrap();

    assert_eq!(response.extensions().get::<Rejection>().unwrap().kind(), Kind::TimedOut);
    assert_eq!(start.elapsed(), LIMIT.get());
    assert_eq!(layer.handle().snapshot().expired(Clock::Total), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_inside_is_told_our_own_limit_of_who_is_spared() {
    for (shadow, told) in [(false, "60000"), (true, "0")] {
        let rig = Rig::new();
        rig.layer.handle().set_shadow(shadow);
        let service = service_fn(|request: Request<()>| {
            let header = request.headers()["x-request-timeout-ms"].clone();
            let mut response = Response::new(Empty::<Bytes>::new());
            response.headers_mut().insert("told", header);
            ready(Ok::<_, Infallible>(response))
        });
        let mut request = get();
        request.headers_mut().insert("x-request-timeout-ms", "0".parse().unwrap());

        let response = rig.layer.layer(service).oneshot(request).await.unwrap();

        assert_eq!(response.headers()["told"], told, "or the next hop refuses it");
    }
}

#[test]
#[should_panic(expected = "a timeout has one cap")]
fn a_second_cap_is_refused_when_the_layer_is_built() {
    let layer = || TimeoutLayer::new("t", LIMIT).refuse_expired_at_most(Ratio::percent(20));
    let _ = layer().refuse_expired_at_most(Ratio::percent(10));
}
