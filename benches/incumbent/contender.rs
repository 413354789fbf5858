//! A breaker of either side around one and the same service.

use std::{
    error::Error,
    fmt,
    future::pending,
    num::NonZeroU32,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError, Plain, Ratio, Rejection, TimeLimit,
    breaker::{BreakerHandle, BreakerLayer, OpenFor, Probes, Settings, State, Trip, Window},
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_resilience::circuitbreaker::{
    CircuitBreakerError, CircuitBreakerHandle, CircuitBreakerLayer, CircuitState, SlidingWindowType,
};

/// What a call asks of the service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Good,
    GoodAfter(Duration),
    Fail,
    Hang,
    Panic,
}

/// The service fails.
#[derive(Debug)]
pub(crate) struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("down")
    }
}

impl Error for Down {}

/// Does as it is asked, and counts.
pub(crate) fn service(
    hits: Arc<AtomicU64>,
) -> impl Service<Ask, Response = (), Error = Down, Future: Send> + Clone + Send + 'static {
    service_fn(move |ask| {
        hits.fetch_add(1, Ordering::SeqCst);
        async move {
            match ask {
                Ask::Good => Ok(()),
                Ask::GoodAfter(time) => {
                    tokio::time::sleep(time).await;
                    Ok(())
                }
                Ask::Fail => Err(Down),
                Ask::Hang => pending().await,
                // Without the hook, which would print it.
                Ask::Panic => resume_unwind(Box::new("as asked")),
            }
        }
    })
}

/// How a breaker is set: on both sides it opens at half of the calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) over: Over,
    pub(crate) minimum: u32,
    pub(crate) open_for: Duration,
    pub(crate) probes: u16,
    /// Theirs has none.
    pub(crate) probe_deadline: Duration,
    /// Theirs only: callers wait in `poll_ready` for the breaker to close.
    pub(crate) backpressure: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    Calls(u16),
    Time(Duration),
}

/// Opens at four failures, for 50 ms; one probe.
pub(crate) const QUICK: Shape = Shape {
    over: Over::Calls(4),
    minimum: 4,
    open_for: Duration::from_millis(50),
    probes: 1,
    probe_deadline: Duration::from_millis(100),
    backpressure: false,
};

/// One side's breaker.
pub(crate) struct Contender {
    pub(crate) service: BoxCloneService<Ask, (), BoxError>,
    pub(crate) hits: Arc<AtomicU64>,
    handle: Handle,
}

enum Handle {
    Ours(BreakerHandle),
    Theirs(CircuitBreakerHandle),
}

pub(crate) type Make = fn(Shape) -> Contender;

pub(crate) fn ours(shape: Shape) -> Contender {
    let limit = |time: Duration| TimeLimit::try_from(time).expect("more than nothing");
    let window = match shape.over {
        Over::Calls(calls) => Window::calls(calls),
        Over::Time(time) => Window::time(limit(time)),
    };
    let trip = Trip::failure_rate(Ratio::percent(50)).over(window).minimum(shape.minimum);
    let settings = Settings::new(trip)
        .open_for(OpenFor::fixed(limit(shape.open_for)))
        .probes(Probes::new(shape.probes).deadline(limit(shape.probe_deadline)));
    let layer = BreakerLayer::new("ours", settings).exchange(Plain);
    let (hits, handle) = (Arc::default(), Handle::Ours(layer.handle()));
    let service = BoxCloneService::new(layer.layer(service(Arc::clone(&hits))));
    Contender { service, hits, handle }
}

pub(crate) fn theirs(shape: Shape) -> Contender {
    let minimum = shape.minimum as usize;
    let builder = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .minimum_number_of_calls(minimum)
        .wait_duration_in_open(shape.open_for)
        .permitted_calls_in_half_open(shape.probes.into());
    let builder = match shape.over {
        Over::Calls(calls) => builder.sliding_window_size(calls.into()),
        Over::Time(time) => {
            builder.sliding_window_type(SlidingWindowType::TimeBased).sliding_window_duration(time)
        }
    };
    let builder = if shape.backpressure { builder.backpressure() } else { builder };
    let (layer, handle) = builder.build_with_handle().expect("a valid configuration");
    let hits = Arc::default();
    let service = layer.layer(service(Arc::clone(&hits))).map_err(BoxError::from);
    Contender { service: BoxCloneService::new(service), hits, handle: Handle::Theirs(handle) }
}

/// What a caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Good,
    Failed,
    Refused,
}

impl Contender {
    /// Makes a call, to the end.
    pub(crate) async fn ask(&self, ask: Ask) -> Answer {
        match self.service.clone().oneshot(ask).await {
            Ok(()) => Answer::Good,
            Err(error) if is_refusal(&error) => Answer::Refused,
            Err(_) => Answer::Failed,
        }
    }

    /// Makes a call that somebody else waits for.
    pub(crate) fn start(&self, ask: Ask) -> tokio::task::JoinHandle<Result<(), BoxError>> {
        tokio::spawn(self.service.clone().oneshot(ask))
    }

    /// Fails until it is open, and waits until a probe may pass.
    pub(crate) async fn trip(&self, shape: Shape) {
        for _ in 0..shape.minimum {
            self.ask(Ask::Fail).await;
        }
        assert_eq!(self.state(), State::Open, "it should have opened by now");
        tokio::time::sleep(shape.open_for + Duration::from_millis(10)).await;
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }

    pub(crate) fn state(&self) -> State {
        match &self.handle {
            Handle::Ours(handle) => handle.state(),
            Handle::Theirs(handle) => match handle.state() {
                CircuitState::Closed => State::Closed,
                CircuitState::Open => State::Open,
                CircuitState::HalfOpen => State::HalfOpen,
            },
        }
    }

    /// The failures that it has counted, as far as they still matter.
    pub(crate) async fn failures(&self) -> u64 {
        match &self.handle {
            Handle::Ours(handle) => handle.snapshot().tally().failures,
            Handle::Theirs(handle) => handle.metrics().await.failure_count as u64,
        }
    }

    pub(crate) async fn reset(&self) {
        match &self.handle {
            Handle::Ours(handle) => handle.reset(),
            Handle::Theirs(handle) => handle.reset().await,
        }
    }
}

/// Whether a breaker refused the call.
pub(crate) fn is_refusal(error: &BoxError) -> bool {
    let theirs = error.downcast_ref::<CircuitBreakerError<Down>>();
    theirs.is_some_and(CircuitBreakerError::is_circuit_open) || Rejection::find(&**error).is_some()
}

/// A number that is not 0.
pub(crate) fn at_most(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("more than nothing")
}
