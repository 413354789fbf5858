//! Limits of a fleet.

use std::{
    num::NonZeroU32,
    task::{Context, Waker},
};

use buttress::{Rate, TimeLimit};
use buttress_redis::{FleetLimitLayer, Lease, MemoryStore, Settings as How};
use http::{Request, Response};
use http_body::Body;
use tokio::runtime::Runtime;
use tower::{Layer, Service};

use super::{allocations, get, poll_counting, prompt, runtime};

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
