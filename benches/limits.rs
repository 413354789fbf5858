//! What a rate limit adds to a call, ours beside its peers, in the same run.
//!
//! `cargo bench --bench limits` prints nanoseconds added over the bare service, as a ratio to
//! governor, and what two threads make of one thread's throughput: on one key in the first group,
//! on 20,000 in the second; in the third nobody is admitted. With `-- --instructions` instructions
//! per call too, which do not depend on the machine's mood.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{poll_fn, ready},
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use buttress::{Rate, TimeLimit, rate_limit::RateLimitLayer};
use buttress_benches::{Calls, Case, Options, only, print};
use clap::Parser;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota};
use http::{Request, Response};
use tower::{Layer, Service, ServiceBuilder, buffer::Buffer, service_fn};
use tower_governor::{
    GovernorError, GovernorLayer, governor::GovernorConfigBuilder, key_extractor::KeyExtractor,
};
use tower_resilience::ratelimiter::RateLimiterLayer;

fn main() {
    let options = Options::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
    let runtime = Box::leak(Box::new(runtime.expect("a runtime without I/O")));
    let groups = [
        ("one bucket", one(runtime)),
        ("10,000 keys a thread", keyed()),
        ("an empty bucket", refused()),
    ];
    let Some(wanted) = &options.only else {
        let asked = options.group.as_deref().unwrap_or_default();
        let asked = groups.iter().filter(|(what, _)| what.contains(asked));
        return asked.for_each(|(what, group)| print(what, group, &options, |case| (case.ready)()));
    };
    if let Some(case) = groups.iter().flat_map(|group| &group.1).find(|case| case.name == wanted) {
        let make = if options.mode == "ready" { &case.ready } else { &case.oneshot };
        let mut calls = make();
        // All keys are known then.
        calls(KEYS);
        only(&mut calls, options.calls);
    }
}

/// So many that nobody is ever refused.
const MANY: NonZeroU32 = NonZeroU32::new(1_000_000_000).unwrap();
const RATE: Rate = Rate::per_second(MANY);

/// A service that is always ready and answers at once, with the body that `tower_governor` wants.
fn bare() -> impl Service<Request<()>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(Body::from("hello")))))
}

fn request() -> Request<()> {
    Request::new(())
}

fn one(runtime: &'static tokio::runtime::Runtime) -> Vec<Case> {
    let quota = Quota::per_second(MANY);
    let direct = Arc::new(DefaultDirectRateLimiter::direct(quota));
    let governed = Checked { inner: bare(), check: move |_: &Request<()>| direct.check().is_ok() };
    let mut config = GovernorConfigBuilder::default();
    config.period(Duration::from_nanos(1)).burst_size(u32::MAX);
    let config = config.key_extractor(Everybody).finish().expect("a quota");
    let theirs = RateLimiterLayer::builder().limit_for_period(1_000_000_000);
    let theirs = theirs.refresh_period(Duration::from_secs(1)).build().expect("a limit");
    let waiting = RateLimitLayer::new("r", RATE).wait(TimeLimit::from_secs(1));
    let several = RateLimitLayer::several("r", [RATE, Rate::per_day(NonZeroU32::MAX)]);
    vec![
        Case::new("bare", bare(), request),
        Case::new("governor in a service", governed, request),
        Case::new("tower_governor, one key", GovernorLayer::new(config).layer(bare()), request),
        Case::new("tower-resilience", theirs.layer(bare()), request),
        buffered(runtime),
        Case::new("buttress RateLimit", RateLimitLayer::new("r", RATE).layer(bare()), request),
        Case::new("buttress RateLimit, waiting", waiting.layer(bare()), request),
        Case::new("buttress RateLimit of two", several.layer(bare()), request),
    ]
}

fn keyed() -> Vec<Case> {
    // Keys that are in use, and not full again before they are asked for the next time.
    let burst = NonZeroU32::new(1_000_000).expect("not 0");
    let rate = Rate::per_minute(NonZeroU32::MIN).burst(burst);
    let quota = Quota::per_minute(NonZeroU32::MIN).allow_burst(burst);
    let keyed = Arc::new(DefaultKeyedRateLimiter::<u64>::keyed(quota));
    let governed =
        Checked { inner: bare(), check: move |_: &Request<()>| keyed.check_key(&next()).is_ok() };
    let mut config = GovernorConfigBuilder::default();
    config.period(Duration::from_secs(60)).burst_size(burst.get());
    let config = config.key_extractor(Next).finish().expect("a quota");
    let ours = RateLimitLayer::new("r", rate).keyed(|_: &Request<()>| next());
    vec![
        Case::new("bare", bare(), request),
        Case::new("governor in a service, keyed", governed, request),
        Case::new("tower_governor, keyed", GovernorLayer::new(config).layer(bare()), request),
        Case::new("buttress RateLimit, keyed", ours.layer(bare()), request),
    ]
}

/// All but the first requests are answered with a 429.
fn refused() -> Vec<Case> {
    let once_a_day = Duration::from_secs(86_400);
    let mut config = GovernorConfigBuilder::default();
    config.period(once_a_day).burst_size(1);
    let config = config.key_extractor(Everybody).finish().expect("a quota");
    let ours = || RateLimitLayer::new("r", Rate::per_day(NonZeroU32::MIN));
    vec![
        Case::new("bare", bare(), request),
        Case::new("tower_governor, refused", GovernorLayer::new(config).layer(bare()), request),
        Case::new("buttress RateLimit, refused", ours().layer(bare()), request),
        Case::new(
            "buttress RateLimit, keyed, refused",
            ours().keyed(|_: &Request<()>| 7_u64).layer(bare()),
            request,
        ),
    ]
}

/// How many keys a thread has.
const KEYS: u64 = 10_000;

/// One of the keys that this thread has to itself, far from the last.
fn next() -> u64 {
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(0) };
    }
    let step = LAST.get().wrapping_add(7_919) % KEYS;
    LAST.set(step);
    buttress::cells::stripe() as u64 * KEYS + step
}

/// A service that asks before each call.
#[derive(Clone)]
struct Checked<S, F> {
    inner: S,
    check: F,
}

impl<S, F> Service<Request<()>> for Checked<S, F>
where
    S: Service<Request<()>>,
    F: Fn(&Request<()>) -> bool,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<()>) -> S::Future {
        assert!((self.check)(&request), "there is always enough");
        self.inner.call(request)
    }
}

#[derive(Clone, Debug)]
struct Everybody;

impl KeyExtractor for Everybody {
    type Key = ();

    fn extract<T>(&self, _: &Request<T>) -> Result<(), GovernorError> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Next;

impl KeyExtractor for Next {
    type Key = u64;

    fn extract<T>(&self, _: &Request<T>) -> Result<u64, GovernorError> {
        Ok(next())
    }
}

/// tower's `RateLimit` is not `Clone`; behind a `Buffer`, whose task must be waited for, it is.
fn buffered(runtime: &'static tokio::runtime::Runtime) -> Case {
    let _entered = runtime.enter();
    let limited =
        ServiceBuilder::new().rate_limit(u64::MAX, Duration::from_secs(1)).service(bare());
    let service = Buffer::new(limited, 1024);
    let make = move |fresh: bool| -> Calls {
        let mut service = service.clone();
        Box::new(move |calls| {
            runtime.handle().block_on(async {
                for _ in 0..calls {
                    let mut clone = fresh.then(|| service.clone());
                    let service = clone.as_mut().unwrap_or(&mut service);
                    poll_fn(|cx| service.poll_ready(cx)).await.expect("the task is there");
                    let answer = service.call(request()).await.expect("it answers");
                    std::hint::black_box(answer.status());
                }
            });
        })
    };
    let again = make.clone();
    Case {
        name: "tower RateLimit behind Buffer",
        ready: Box::new(move || make(false)),
        oneshot: Box::new(move || again(true)),
    }
}
