//! What a call costs in heap allocations: nothing, or the number that stands here.

use std::{
    convert::Infallible,
    future::{Future, ready},
    hint::black_box,
    num::NonZeroU32,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use buttress::{
    Criticality, Raise, Rate, Ratio, TimeLimit, Verdict,
    breaker::{BreakerLayer, Settings, Trip, Window},
    bulkhead::{Adaptive, BulkheadLayer, Partitions, Shedding},
    fallback::{FallbackLayer, StaleCache, StaleSettings},
    hedge::{Delay, HedgeLayer, Quantile, Settings as Hedges},
    http::key,
    rate_limit::RateLimitLayer,
    retry::{Budget, InFlight, RetryLayer, Settings as Attempts, Tokens},
    sli::{Record, SliLayer},
    slo::{Objective, Part, RouteSet, Sli, SloLayer, SloTracker},
    throttle::{Settings as Rule, ThrottleLayer},
    timeout::{Limits, TimeoutLayer},
};
use buttress_redis::{FleetLimitLayer, Lease, MemoryStore, Settings as How};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::{runtime::Runtime, time::sleep};
use tower::{Layer, Service, ServiceBuilder, service_fn};

const LIMIT: TimeLimit = TimeLimit::from_secs(30);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Allocations of one call, from readiness to the end of the body, once the layer has seen a
/// call of that kind.
fn allocations<S, B>(runtime: &Runtime, service: &mut S, request: fn() -> Request<()>) -> u64
where
    S: Service<Request<()>, Response = Response<B>>,
    B: Body,
{
    let mut calls = [request(), request(), request()].map(|request| {
        let mut counted = 0;
        runtime.block_on(async {
            counted = poll_counting(async {
                let cx = &mut Context::from_waker(Waker::noop());
                assert!(service.poll_ready(cx).is_ready());
                let Ok(response) = service.call(request).await else { panic!("it answers") };
                let mut body = pin!(response.into_body());
                while let Some(frame) =
                    std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await
                {
                    black_box(frame.is_ok());
                }
            })
            .await;
        });
        counted
    });
    // The first call may make room for its kind of answer; no later one does.
    calls[0] = calls[1];
    assert_eq!(calls[1], calls[2], "a call costs the same each time");
    calls[1]
}

/// Drives `work` to its end and counts what its polls allocate, and nothing in between.
async fn poll_counting(work: impl Future<Output = ()>) -> u64 {
    let mut work = pin!(work);
    let mut counted = 0;
    std::future::poll_fn(move |cx| {
        let mut polled = Poll::Pending;
        counted += measure(|| polled = work.as_mut().poll(cx)).count_total;
        polled.map(|()| counted)
    })
    .await
}

fn get() -> Request<()> {
    Request::new(())
}

/// Answers at once, with a body of one frame.
fn prompt()
-> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
{
    service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(Full::from(Bytes::from_static(b"hello")))))
    })
}

#[test]
fn a_timeout_allocates_nothing() {
    let runtime = runtime();
    let mut bare = prompt();
    let mut total = TimeoutLayer::new("t", LIMIT).layer(prompt());
    let mut streaming = TimeoutLayer::new("t", Limits::streaming(LIMIT, LIMIT)).layer(prompt());

    assert_eq!(allocations(&runtime, &mut bare, get), 0);
    assert_eq!(allocations(&runtime, &mut total, get), 0);
    assert_eq!(allocations(&runtime, &mut streaming, get), 0);
}

#[test]
fn a_timeout_allocates_the_timer_of_a_body_that_keeps_it_waiting_and_no_other() {
    let runtime = runtime();
    // The head and each frame keep the caller waiting, so that every timer is set and reset. What
    // the body of the test itself allocates is what it allocates without the layer. The timer of
    // the body is in a box: in the body every layer further out would move it with the response,
    // of the many that never wait as well.
    let slow = || {
        service_fn(|_: Request<()>| async {
            sleep(Duration::from_millis(10)).await;
            let frames = stream::unfold(0, |sent| async move {
                sleep(Duration::from_millis(10)).await;
                let frame = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"frame")));
                (sent < 3).then(|| (frame(), sent + 1))
            });
            Ok::<_, Infallible>(Response::new(StreamBody::new(frames).boxed_unsync()))
        })
    };

    let without = allocations(&runtime, &mut slow(), get);
    let mut limited =
        TimeoutLayer::new("t", Limits::total(LIMIT).head(LIMIT).idle(LIMIT)).layer(slow());

    assert_eq!(without, 1, "the box of the test's own body");
    assert_eq!(allocations(&runtime, &mut limited, get), without + 1);
}

#[test]
fn a_breaker_that_admits_allocates_nothing() {
    let runtime = runtime();
    let slow = Trip::slow_rate(Ratio::percent(50), LIMIT);
    let settings = [
        Settings::rate(),
        Settings::consecutive(5),
        Settings::rate().or(slow).or(Trip::consecutive(9)),
        Settings::new(Trip::failure_rate(Ratio::percent(50)).over(Window::calls(100))),
        Settings::rate().ramp(LIMIT),
    ];

    for settings in settings {
        let mut breaker = BreakerLayer::new("b", settings.clone()).layer(prompt());
        assert_eq!(allocations(&runtime, &mut breaker, get), 0);

        // Of a key that is there.
        let keyed = BreakerLayer::new("b", settings).keyed(key::authority::<()>);
        assert_eq!(allocations(&runtime, &mut keyed.layer(prompt()), get), 0);
    }
}

// X21: what is in a window of time is kept nowhere, so it cannot cost more the more there is. How
// long a call takes with 1,000 and with 30,000 of them, `cargo bench --bench incumbent` prints.
#[test]
fn fifty_thousand_calls_in_a_window_of_time_are_kept_in_no_memory() {
    let runtime = runtime();
    let settings = Settings::rate().or(Trip::slow_rate(Ratio::percent(50), LIMIT));
    let layer = BreakerLayer::new("b", settings);
    let mut breaker = layer.layer(prompt());
    let mut allocated = 0;

    runtime.block_on(async {
        for _ in 0..50_000 {
            let cx = &mut Context::from_waker(Waker::noop());
            allocated += measure(|| {
                assert!(breaker.poll_ready(cx).is_ready());
                let answered = pin!(breaker.call(get())).poll(cx);
                assert!(answered.is_ready());
            })
            .count_total;
        }
    });

    assert_eq!(layer.handle().snapshot().tally().successes, 50_000);
    assert_eq!(allocated, 0);
}

#[test]
fn a_rate_limit_allocates_nothing_for_who_is_admitted() {
    let runtime = runtime();
    let rate = Rate::per_second(NonZeroU32::new(1000).unwrap());
    let waiting = RateLimitLayer::new("r", rate).wait(LIMIT);
    let several = RateLimitLayer::several("r", [rate, Rate::per_day(NonZeroU32::MAX)]);
    let keyed = RateLimitLayer::new("r", rate).keyed(|request: &Request<()>| request.version());

    let mut refusing = RateLimitLayer::new("r", rate).layer(prompt());
    assert_eq!(allocations(&runtime, &mut refusing, get), 0);
    assert_eq!(allocations(&runtime, &mut waiting.layer(prompt()), get), 0);
    assert_eq!(allocations(&runtime, &mut several.layer(prompt()), get), 0);
    // The first request of a key makes its bucket.
    assert_eq!(allocations(&runtime, &mut keyed.layer(prompt()), get), 0);
    let within = RateLimitLayer::new("r", rate).keyed(|request: &Request<()>| request.version());
    assert_eq!(allocations(&runtime, &mut within.within([rate]).layer(prompt()), get), 0);
}

#[test]
fn an_sli_with_a_sink_allocates_nothing() {
    let runtime = runtime();
    let sink = |record: &Record<'_>| {
        black_box(record.judgement);
    };
    let mut server = SliLayer::server("s").sink(sink).layer(prompt());
    let mut client = SliLayer::client("c").sink(sink).layer(prompt());

    assert_eq!(allocations(&runtime, &mut server, get), 0);
    assert_eq!(allocations(&runtime, &mut client, get), 0);
}

#[test]
fn recording_for_objectives_allocates_nothing() {
    let runtime = runtime();
    let named =
        |name: &str, sli| Objective::new(name.parse().unwrap(), sli, "99%".parse().unwrap());
    let objectives = [
        named("up", Sli::Availability),
        named("fast", Sli::Latency { within: LIMIT, part: Part::Total }),
        named("right", Sli::Correctness { unsaid: Verdict::Good }),
        named("cart", Sli::Availability).for_routes(RouteSet::only(["/cart"])),
    ];
    let tracker = SloTracker::new("shop".parse().unwrap(), objectives).unwrap();
    let mut service = SloLayer::server("shop", &tracker).layer(prompt());

    assert_eq!(allocations(&runtime, &mut service, get), 0);
    assert_eq!(tracker.recorder("up").unwrap().counts().good, 3);
    // Nor does a second in which nothing happens but calls.
    tracker.tick();
    assert_eq!(measure(|| tracker.tick()).count_total, UPTIME);
}

/// What reading the clock since boot allocates: the text of a file, where there is such a file.
const UPTIME: u64 = if cfg!(target_os = "linux") { 2 } else { 0 };

#[test]
fn a_grpc_call_is_read_and_judged_without_allocating() {
    let runtime = runtime();
    let request = || {
        let request = Request::post("/shop.Shop/Buy").header("content-type", "application/grpc");
        request.header("grpc-timeout", "5S").body(()).unwrap()
    };
    let service = service_fn(|_: Request<()>| {
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", "0".parse().unwrap());
        let body = Full::new(Bytes::from_static(b"message"));
        ready(Ok::<_, Infallible>(Response::new(body.with_trailers(ready(Some(Ok(trailers)))))))
    });
    // The test's own body is no `Default`, which a response in a refusal's stead would have to be.
    let timeout = TimeoutLayer::new("t", LIMIT).on_reject(Raise);
    let layered = ServiceBuilder::new().layer(SliLayer::server("s")).layer(timeout);

    let without = allocations(&runtime, &mut service.clone(), request);

    assert_eq!(allocations(&runtime, &mut layered.service(service), request), without);
}

#[test]
fn a_bulkhead_allocates_nothing_for_whom_it_lets_in() {
    let runtime = runtime();
    let layer = || BulkheadLayer::new("b", 2.try_into().unwrap());
    let shares = || Partitions::new().share("live", Ratio::percent(50));
    let ask = |_: &Request<()>| Some(Criticality::CriticalPlus);
    let counted = [
        allocations(&runtime, &mut layer().layer(prompt()), get),
        allocations(&runtime, &mut layer().queue(9).layer(prompt()), get),
        allocations(&runtime, &mut layer().until_head().layer(prompt()), get),
        allocations(&runtime, &mut layer().bypass(|_: &_| true).layer(prompt()), get),
        allocations(
            &runtime,
            &mut layer().partitions(shares(), |_: &_| "live").layer(prompt()),
            get,
        ),
        allocations(
            &runtime,
            &mut layer().criticality_by(Shedding::new(), ask).layer(prompt()),
            get,
        ),
        allocations(&runtime, &mut layer().adaptive(Adaptive::aimd()).layer(prompt()), get),
        allocations(&runtime, &mut layer().adaptive(Adaptive::gradient2()).layer(prompt()), get),
    ];

    assert_eq!(counted, [0; 8]);
}

#[test]
fn a_bulkhead_allocates_nothing_for_whom_it_lets_wait_either() {
    let runtime = runtime();
    let slow = || {
        service_fn(|_: Request<()>| async {
            sleep(Duration::from_millis(10)).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
        })
    };
    let layer = BulkheadLayer::new("b", 1.try_into().unwrap()).queue(9).until_head();
    let mut service = layer.layer(slow());
    let counted = runtime.block_on(async {
        let mut counted = [0; 3];
        for counted in &mut counted {
            let first = tokio::spawn(service.call(get()));
            // Its place in line, its waker and its timer.
            let second = service.call(get());
            *counted = poll_counting_total(second).await;
            first.await.unwrap().unwrap();
        }
        counted
    });

    // The first makes the queue's room.
    assert_eq!(counted[1..], [0, 0]);
    let seen = layer.handle().snapshot();
    assert_eq!((seen.waited, seen.admitted), (3, 6));
}

/// As [`poll_counting`], of a call whose answer nobody reads.
async fn poll_counting_total<T>(work: impl Future<Output = T>) -> u64 {
    poll_counting(async {
        work.await;
    })
    .await
}

/// The value of the header is static; the box of the extension.
#[test]
fn a_propagated_criticality_costs_what_is_stated() {
    let runtime = runtime();
    let layer = BulkheadLayer::new("b", 1.try_into().unwrap());
    let mut propagating = layer.criticality(Shedding::new().propagate()).layer(prompt());
    let furnished = || {
        let mut request = Request::get("/").header("accept", "*/*").body(()).unwrap();
        request.extensions_mut().insert("of a router");
        request
    };

    assert_eq!(allocations(&runtime, &mut propagating, furnished), 1);
}

/// The header's value, and the box of the extension.
const PROPAGATION: u64 = 2;
/// The two parts of a header map, and the two of an extension map, where the request had none.
const FIRST_HEADER: u64 = 2;
const FIRST_EXTENSION: u64 = 2;

#[test]
fn a_propagated_deadline_costs_what_is_stated() {
    let runtime = runtime();
    let mut propagating = TimeoutLayer::new("t", LIMIT).propagate().layer(prompt());

    let furnished = || {
        let mut request = Request::get("/").header("accept", "*/*").body(()).unwrap();
        request.extensions_mut().insert("of a router");
        request
    };

    assert_eq!(allocations(&runtime, &mut propagating, furnished), PROPAGATION);
    let empty = PROPAGATION + FIRST_HEADER + FIRST_EXTENSION;
    assert_eq!(allocations(&runtime, &mut propagating, get), empty);
}

#[test]
fn a_throttle_allocates_nothing() {
    let runtime = runtime();
    let mut throttle = ThrottleLayer::new("t", Rule::new()).layer(prompt());

    assert_eq!(allocations(&runtime, &mut throttle, get), 0);
}

/// The two parts of a header map and the two of an extension map, one extension in its box, and
/// what the value of one header takes to be shared from now on: the one copy of the head of a
/// request that may be sent again. Its method and address cost nothing here.
const COPY_OF_HEAD: u64 = 6;

/// A request with one header and one extension.
fn furnished(method: &'static str) -> Request<()> {
    let request = Request::builder().method(method).uri("/").header("accept", "*/*");
    request.extension("of a router").body(()).unwrap()
}

#[test]
fn a_retry_that_is_not_needed_costs_the_one_copy_of_the_head_that_it_keeps() {
    let runtime = runtime();
    for settings in [
        Attempts::default(),
        Attempts::default().budget(Tokens::new(10)),
        Attempts::default().budget(InFlight::new(Ratio::percent(20))),
    ] {
        let mut retry = RetryLayer::new("r", settings.clone()).layer(prompt());
        let mut once = RetryLayer::new("r", settings.attempts(1)).layer(prompt());

        assert_eq!(allocations(&runtime, &mut retry, || furnished("GET")), COPY_OF_HEAD);
        assert_eq!(allocations(&runtime, &mut retry, get), 0, "of a head with nothing in it");
        // What cannot be retried.
        assert_eq!(allocations(&runtime, &mut retry, || furnished("POST")), 0);
        assert_eq!(allocations(&runtime, &mut once, || furnished("GET")), 0);
    }
}

#[test]
fn a_hedge_that_does_not_fire_costs_the_one_copy_of_the_head_that_it_keeps() {
    let runtime = runtime();
    let later = || Delay::fixed(LIMIT.get());
    for settings in [
        Hedges::new(later()),
        Hedges::new(Quantile::new(Ratio::percent(95)).minimum(1).floor(LIMIT.get())),
        Hedges::new(later()).budget(InFlight::new(Ratio::percent(20))),
    ] {
        let layer = HedgeLayer::new("h", settings);
        let (mut one, mut four) =
            (layer.layer(prompt()), layer.clone().extra::<4>().layer(prompt()));
        let mut waiting = layer.layer(slow());

        assert_eq!(allocations(&runtime, &mut one, || furnished("GET")), COPY_OF_HEAD);
        assert_eq!(allocations(&runtime, &mut four, || furnished("GET")), COPY_OF_HEAD);
        // Its timer is set.
        assert_eq!(allocations(&runtime, &mut waiting, || furnished("GET")), COPY_OF_HEAD);
        assert_eq!(allocations(&runtime, &mut one, get), 0, "a head without headers");
        // What is not hedged is not kept.
        assert_eq!(allocations(&runtime, &mut one, || furnished("POST")), 0);
        assert_eq!(allocations(&runtime, &mut waiting, || furnished("POST")), 0);
        layer.handle().set_shadow(true);
        assert_eq!(allocations(&runtime, &mut one, || furnished("GET")), 0);
    }
    // As long as too little is known, and where it is switched off.
    for settings in [Hedges::default(), Hedges::new(Delay::never())] {
        let mut hedge = HedgeLayer::new("h", settings).layer(slow());
        assert_eq!(allocations(&runtime, &mut hedge, || furnished("GET")), 0);
    }
}

/// What a hedge costs that is sent: the number of its attempt, and room for one more header, which
/// is two parts of a map. The copy that was kept is sent.
const ATTEMPT_NUMBER: u64 = 3;

#[test]
fn a_hedge_that_fires_costs_the_number_that_it_says_besides() {
    let runtime = runtime();
    let hedge = HedgeLayer::new(
        "h",
        Hedges::new(Delay::fixed(Duration::from_millis(5))).budget(Budget::unlimited()),
    );
    let mut service = hedge.layer(slow());

    let counted = allocations(&runtime, &mut service, || furnished("GET"));

    assert_eq!(counted, COPY_OF_HEAD + ATTEMPT_NUMBER);
    assert_eq!(hedge.handle().snapshot().fired(), 3);
}

/// Answers in 10 ms, with a body of one frame.
fn slow()
-> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
{
    service_fn(|_: Request<()>| async {
        sleep(Duration::from_millis(10)).await;
        Ok::<_, Infallible>(Response::new(Full::from(Bytes::from_static(b"hello"))))
    })
}

/// The key, as it is made and as it is kept; the head, in two parts, and its values in one; the
/// body, in one piece; the tape; what is stored and its entry, and their places on the shelf.
const STORED: u64 = 11;

#[test]
fn a_fallback_that_is_not_needed_costs_what_its_rungs_keep() {
    let runtime = runtime();
    let layer = || FallbackLayer::new("f");
    let empty = || Response::new(Full::<Bytes>::default());
    let mut value = layer().value(empty).layer(prompt());
    let mut fixed = layer().respond(http::StatusCode::OK, "text/plain", "x").layer(prompt());
    let mut of_method = layer()
        .function_of(
            |request: &Request<()>| request.method() == "GET",
            |_, _| ready(None::<Response<Full<Bytes>>>),
        )
        .layer(prompt());
    let mut of_head = layer().function_sync(|_, _| None::<Response<Full<Bytes>>>).layer(prompt());
    let mut service = layer().service(prompt()).layer(prompt());
    let mut stale = layer().stale(StaleCache::new(StaleSettings::new())).layer(prompt());
    let post = || furnished("POST");
    let get = || furnished("GET");

    assert_eq!(allocations(&runtime, &mut value, get), 0);
    assert_eq!(allocations(&runtime, &mut fixed, get), 0);
    assert_eq!(allocations(&runtime, &mut of_method, get), 0);
    assert_eq!(allocations(&runtime, &mut of_head, get), COPY_OF_HEAD);
    assert_eq!(allocations(&runtime, &mut service, post), COPY_OF_HEAD);
    assert_eq!(allocations(&runtime, &mut stale, post), 0, "it takes no part");
    assert_eq!(allocations(&runtime, &mut stale, get), STORED);
}

/// The tape on which a body that streams is written down, its list of four chunks, and the box of
/// `UnsyncBoxBody` around it: all that it takes to keep 4 KiB.
const TAPE: u64 = 3;

#[test]
fn a_body_that_has_to_be_written_down_costs_what_is_stated_and_no_byte_is_copied() {
    type Upload = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;
    fn upload(chunks: usize) -> Request<Upload> {
        let frame = |_| Ok(Frame::data(Bytes::from_static(&[7; 1024])));
        let body = StreamBody::new(stream::iter((0..chunks).map(frame)));
        Request::put("/").body(body.boxed_unsync()).unwrap()
    }
    let reads = || {
        service_fn(|request: Request<Upload>| async {
            black_box(request.into_body().collect().await.unwrap().to_bytes().len());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        })
    };
    let runtime = runtime();
    let count = |runtime: &Runtime, request: Request<Upload>, retry: bool| {
        let (bare, retrying) = (reads(), RetryLayer::new("r", Attempts::default()).layer(reads()));
        let mut counted = 0;
        runtime.block_on(async {
            let work: std::pin::Pin<Box<dyn Future<Output = ()>>> = if retry {
                let mut retrying = retrying;
                Box::pin(async move { drop(retrying.call(request).await) })
            } else {
                let mut bare = bare;
                Box::pin(async move { drop(bare.call(request).await) })
            };
            counted = poll_counting(work).await;
        });
        counted
    };

    let without = count(&runtime, upload(4), false);
    let with = count(&runtime, upload(4), true);

    assert_eq!(with - without, TAPE);
}

/// What the store itself allocates to ask is its own: this one answers at once, from memory.
#[test]
fn a_limit_of_a_fleet_allocates_nothing_itself() {
    let runtime = runtime();
    let ample = Rate::per_second(NonZeroU32::new(1_000_000).unwrap());
    let limit = |settings| {
        let _entered = runtime.enter();
        FleetLimitLayer::new("f", ample, settings, MemoryStore::new())
    };
    let lease = Lease::new(NonZeroU32::new(1000).unwrap());
    let mut strict = limit(How::strict()).layer(prompt());
    let mut leased = limit(How::leased(lease)).layer(prompt());
    // Batches have grown to more than the calls that are counted.
    for _ in 0..50 {
        allocations(&runtime, &mut leased, get);
    }

    assert_eq!(allocations(&runtime, &mut strict, get), 0);
    assert_eq!(allocations(&runtime, &mut leased, get), 0);
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_request_to_redis_allocates_so_often() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = buttress_tests::redis_server::Server::start();
    let ample = Rate::per_second(NonZeroU32::new(1_000_000).unwrap());
    let store = buttress_redis::RedisStore::open(&server.url()).expect("a URL");
    let patient = How::strict().within(TimeLimit::from_secs(5));
    let limit = FleetLimitLayer::new("f", ample, patient, store);
    let mut strict = limit.layer(prompt());
    for _ in 0..3 {
        allocations_within(&runtime, &mut strict, get);
    }

    let (mine, _) = allocations_within(&runtime, &mut strict, get);

    // Ours and the client library's, in the task of the caller. What its connection's own task
    // allocates comes on top of it.
    assert_eq!(mine, 15);
}

/// Allocations of one call, in the polls of its own task.
fn allocations_within<S, B>(
    runtime: &Runtime,
    service: &mut S,
    request: fn() -> Request<()>,
) -> (u64, bool)
where
    S: Service<Request<()>, Response = Response<B>>,
    B: Body,
{
    let request = request();
    runtime.block_on(async {
        let mut well = false;
        let counted = poll_counting(async {
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(service.poll_ready(cx).is_ready());
            well = service.call(request).await.is_ok();
        })
        .await;
        (counted, well)
    })
}
