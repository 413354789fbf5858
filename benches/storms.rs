//! What retries make of an outage: how often a service is called that fails, for 10,000 requests.
//!
//! `cargo bench --bench storms` prints our budgets beside tower's `TpsBudget`, the token bucket of
//! tower-resilience, and no budget at all. All of it takes seconds, in which no budget expires or refills.

use std::{
    future::{poll_fn, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    Plain, Ratio,
    retry::{Backoff, Budget, Percentage, RetryLayer, Settings},
};
use tower::{
    Layer, Service, ServiceBuilder,
    retry::{
        Policy,
        budget::{Budget as _, TpsBudget},
    },
};
use tower_resilience::retry::RetryBudgetBuilder;

const REQUESTS: u64 = 10_000;
const ATTEMPTS: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);

fn main() {
    println!("calls of a service for {REQUESTS} requests of up to {ATTEMPTS} attempts");
    println!("{:<44}{:>14}{:>14}", "", "50 % failing", "100 % failing");
    for percent in [0, 10, 20] {
        let budget = || Percentage::new(Ratio::percent(percent)).floor(0);
        row(&format!("buttress, {percent} %"), |s| calls(s, |s| ours(budget().into()).layer(s)));
        // As tower would have it: no floor, and what succeeds pays in.
        let share = [0.0, 0.1, 0.2][percent as usize / 10];
        row(&format!("tower TpsBudget, {percent} %"), |s| {
            let policy = Tps(Arc::new(TpsBudget::new(MINUTE, 0, share)), ATTEMPTS);
            calls(s, |s| ServiceBuilder::new().retry(policy).service(s))
        });
    }
    row("tower-resilience, an empty token bucket", |s| {
        let bucket = RetryBudgetBuilder::new().token_bucket();
        let bucket = bucket.tokens_per_second(0.0).initial_tokens(0).build().expect("a bucket");
        let layer = tower_resilience::retry::RetryLayer::<(), (), &str>::builder()
            .max_attempts(ATTEMPTS as usize)
            .fixed_backoff(Duration::ZERO)
            .budget(bucket)
            .build();
        calls(s, |s| layer.layer(s))
    });
    row("no budget", |s| calls(s, |s| ours(Budget::unlimited()).layer(s)));
}

fn row(name: &str, calls: impl Fn(u64) -> u64) {
    println!("{name:<44}{:>14}{:>14}", calls(50), calls(100));
}

fn ours(budget: Budget) -> RetryLayer<Plain> {
    let settings = Settings::new(Backoff::constant(Duration::ZERO)).attempts(ATTEMPTS);
    RetryLayer::new("r", settings.budget(budget)).exchange(Plain)
}

/// A policy that knows how many attempts it has left.
#[derive(Clone)]
struct Tps(Arc<TpsBudget>, u32);

impl Policy<(), (), &'static str> for Tps {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        (): &mut (),
        result: &mut Result<(), &'static str>,
    ) -> Option<Self::Future> {
        if result.is_ok() {
            self.0.deposit();
            return None;
        }
        self.1 = self.1.checked_sub(1).filter(|left| *left > 0)?;
        self.0.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}

/// How often a service is called that fails for so many of a hundred calls, under what `layered`
/// puts around it.
fn calls<S, E>(failing: u64, layered: impl FnOnce(Failing) -> S) -> u64
where
    S: Service<(), Response = (), Error = E>,
{
    let count = Arc::new(AtomicU64::new(0));
    let mut service = layered(Failing { failing, count: Arc::clone(&count) });
    // With a driver for timers: tower-resilience sleeps for a wait of nothing too.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime without I/O").block_on(async {
        for _ in 0..REQUESTS {
            assert!(poll_fn(|cx| service.poll_ready(cx)).await.is_ok(), "it is always ready");
            let _ = service.call(()).await;
        }
    });
    count.load(Ordering::Relaxed)
}

/// Fails every second time, or always.
#[derive(Clone)]
struct Failing {
    failing: u64,
    count: Arc<AtomicU64>,
}

impl Service<()> for Failing {
    type Response = ();
    type Error = &'static str;
    type Future = std::future::Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let call = self.count.fetch_add(1, Ordering::Relaxed);
        ready(if call % 2 * 50 < self.failing { Err("down") } else { Ok(()) })
    }
}
