//! Limits over a store in memory, on paused time.

mod kept;
mod leases;
mod outages;
mod rules;
mod strict;
#[cfg(feature = "metrics")]
mod told;

use std::{future::ready, num::NonZeroU32, time::Duration};

use buttress_core::{BoxError, Plain, Rate, Rejection};
use buttress_layers::rate_limit::Plan;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use crate::{Fleet, FleetLimitLayer, MemoryStore, Settings};

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const WITHIN: Duration = Duration::from_millis(20);

fn per_second(events: u32) -> Rate {
    Rate::per_second(n(events))
}

type Limit = FleetLimitLayer<MemoryStore, Plain, Plan<Fleet<MemoryStore>>>;

/// A limit as each process of a fleet has one.
fn process(rate: Rate, settings: Settings, store: &MemoryStore) -> Limit {
    FleetLimitLayer::new("api", rate, settings, store.clone()).exchange(Plain)
}

/// Makes a call; the refusal, if it is one.
async fn call<L>(layer: &L, request: u32) -> Result<(), Rejection>
where
    L: Layer<Echo>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    match layer.layer(Echo).oneshot(request).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Rejection::find(&*error).expect("a refusal").clone()),
    }
}

/// A service of which anything can be asked, and which says so.
#[derive(Clone, Debug)]
struct Echo;

impl Service<u32> for Echo {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Ready<Result<u32, BoxError>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        ready(Ok(request))
    }
}

/// How long `what` takes.
async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let out = what.await;
    (out, start.elapsed())
}

async fn admitted<L>(layer: &L, calls: u32) -> u32
where
    L: Layer<Echo>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    let mut admitted = 0;
    for _ in 0..calls {
        admitted += u32::from(call(layer, 1).await.is_ok());
    }
    admitted
}
