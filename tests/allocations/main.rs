//! What a call costs in heap allocations: nothing, or the number that stands here.

mod fleet;
mod kept;

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
    http::key,
    rate_limit::RateLimitLayer,
    sli::{Record, SliLayer},
    slo::{Objective, Part, RouteSet, Sli, SloLayer, SloTracker},
    throttle::{Settings as Rule, ThrottleLayer},
    timeout::{Limits, TimeoutLayer},
};
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
