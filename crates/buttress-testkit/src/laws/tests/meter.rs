use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread::panicking,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Body, BoxError, HttpProbe, laws::Settled};

/// A limit on calls under way that keeps all laws, but for the one fault that is in it.
#[derive(Clone, Debug)]
pub(super) struct MeterLayer {
    fault: Fault,
    meter: Arc<Meter>,
}

/// The ways in which layers go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    CallsAClone,
    LosesItsPlace,
    ClonesReadiness,
    LeaksWhenDropped,
    SettlesTwice,
    LeaksByPanics,
    SwallowsPanics,
    RefusesWhenPolled,
    ShedsWhenPolled,
    WakesItself,
    PollsByATimer,
    LosesWakeUps,
    StatePerService,
    HidesErrors,
}

#[derive(Debug)]
pub(super) struct Meter {
    limit: u64,
    filled: AtomicBool,
    in_flight: AtomicU64,
    ended: AtomicU64,
    refused: AtomicU64,
}

impl MeterLayer {
    pub(super) fn new(limit: u64, fault: Fault) -> Self {
        Self { fault, meter: Arc::new(Meter::new(limit)) }
    }

    pub(super) fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }
}

impl Meter {
    fn new(limit: u64) -> Self {
        Self {
            limit,
            filled: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn settled(&self) -> Settled {
        Settled {
            ended: self.ended.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Leaves no room.
    pub(super) fn fill(&self) {
        self.filled.store(true, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.filled.load(Ordering::Relaxed) || self.in_flight.load(Ordering::Relaxed) >= self.limit
    }
}

impl Layer<HttpProbe> for MeterLayer {
    type Service = Metered;

    fn layer(&self, inner: HttpProbe) -> Metered {
        let meter = match self.fault {
            Fault::StatePerService => Arc::new(Meter::new(self.meter.limit)),
            _ => Arc::clone(&self.meter),
        };
        Metered { inner, ready: false, timer: None, fault: self.fault, meter }
    }
}

#[derive(Debug)]
pub(super) struct Metered {
    inner: HttpProbe,
    ready: bool,
    timer: Option<Pin<Box<Sleep>>>,
    fault: Fault,
    meter: Arc<Meter>,
}

impl Clone for Metered {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            ready: self.ready && self.fault == Fault::ClonesReadiness,
            timer: None,
            fault: self.fault,
            meter: Arc::clone(&self.meter),
        }
    }
}

impl Service<Request<Body>> for Metered {
    type Response = Response<MeteredBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.ready {
            return Poll::Ready(Ok(()));
        }
        if self.fault == Fault::RefusesWhenPolled && self.meter.is_full() {
            return Poll::Ready(Err("full".into()));
        }
        let polled = match self.fault {
            Fault::LosesWakeUps => self.inner.poll_ready(&mut Context::from_waker(Waker::noop())),
            _ => self.inner.poll_ready(cx),
        };
        self.ready = matches!(polled, Poll::Ready(Ok(())));
        if polled.is_pending() {
            match self.fault {
                Fault::LosesItsPlace => self.inner = self.inner.clone(),
                Fault::ShedsWhenPolled => return Poll::Ready(Err("busy".into())),
                Fault::WakesItself => cx.waker().wake_by_ref(),
                Fault::PollsByATimer => {
                    let timer = self.timer.insert(Box::pin(sleep(Duration::from_millis(1))));
                    let _ = timer.as_mut().poll(cx);
                }
                _ => {}
            }
        }
        if self.fault == Fault::HidesErrors {
            return polled.map_err(|_| "sorry".into());
        }
        polled
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fault = self.fault;
        self.ready = false;
        if self.meter.is_full() {
            self.meter.refused.fetch_add(1, Ordering::Relaxed);
            self.meter.ended.fetch_add(1, Ordering::Relaxed);
            return Box::pin(async { Err("full".into()) });
        }
        let permit = Permit { meter: Arc::clone(&self.meter), fault, over: false };
        permit.meter.in_flight.fetch_add(1, Ordering::Relaxed);
        let inner = match fault {
            Fault::CallsAClone => self.inner.clone().call(request),
            _ => self.inner.call(request),
        };
        Box::pin(async move {
            let mut permit = permit;
            let outcome = match fault {
                Fault::SwallowsPanics => caught(inner).await,
                _ => inner.await,
            };
            permit.over = outcome.is_err();
            match outcome {
                Ok(response) => Ok(response.map(|inner| MeteredBody { inner, permit })),
                Err(_) if fault == Fault::HidesErrors => Err("sorry".into()),
                Err(error) => Err(error),
            }
        })
    }
}

async fn caught<T>(work: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(Err("something went wrong".into())))
    })
    .await
}

#[derive(Debug)]
struct Permit {
    meter: Arc<Meter>,
    fault: Fault,
    over: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let ends = match self.fault {
            Fault::LeaksWhenDropped if !self.over => return,
            Fault::LeaksByPanics if panicking() => return,
            Fault::SettlesTwice if self.over => 2,
            _ => 1,
        };
        self.meter.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.meter.ended.fetch_add(ends, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct MeteredBody {
    inner: Body,
    permit: Permit,
}

impl http_body::Body for MeteredBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        self.permit.over |= matches!(frame, Poll::Ready(None | Some(Err(_))));
        frame
    }
}
