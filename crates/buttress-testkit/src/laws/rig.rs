use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body as _;
use tokio::{runtime::Builder, time::timeout};
use tower_layer::Layer;

use super::{Law, Stacked, Subject, Violation};
use crate::{Body, BodyHandle, BoxError, HttpProbe, ProbeHandle, Step};

/// Longer than any layer under test waits for anything.
pub(super) const AGES: Duration = Duration::from_secs(3600);

/// How often a law does the same: what leaks shows itself once it has run out, so a limit that is
/// greater than this can leak unnoticed.
pub(super) const ROUNDS: u64 = 64;

/// Runs a law where time passes only when everything waits for it.
pub(super) fn run<T>(law: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O needs nothing that could be missing").block_on(law)
}

/// A request like any other.
pub(super) fn request() -> Request<Body> {
    Request::new(Body::empty())
}

/// A layer around a probe, and the law that is checked with them.
pub(super) struct Rig<L, S> {
    law: Law,
    pub(super) subject: Subject<L>,
    /// Kept unready: laws call its clones.
    pub(super) service: S,
    pub(super) probe: ProbeHandle<Request<Body>, Response<Body>, BoxError>,
    spare: HttpProbe,
    /// Calls of the layered service so far.
    called: u64,
}

impl<L, S> Rig<L, S>
where
    L: Layer<HttpProbe, Service = S>,
    S: Stacked,
{
    pub(super) fn new(law: Law, subject: Subject<L>) -> Self {
        let spare = HttpProbe::http();
        let probe = spare.handle();
        let service = subject.layer.layer(spare.clone());
        Self { law, subject, service, probe, spare, called: 0 }
    }

    /// Another service of the same layer value.
    pub(super) fn layer(&self) -> S {
        self.subject.layer.layer(self.spare.clone())
    }

    /// Scripts an answer.
    pub(super) fn reply(&self, body: Body) -> BodyHandle {
        let handle = body.handle();
        self.probe.then(Step::Reply(Ok(Response::new(body))));
        handle
    }

    /// Polls once, in a task that is never woken.
    pub(super) fn poll_ready(&self, service: &mut S) -> Result<Poll<()>, Violation> {
        self.poll_ready_in(&mut Context::from_waker(Waker::noop()), service)
    }

    pub(super) fn poll_ready_in(
        &self,
        cx: &mut Context<'_>,
        service: &mut S,
    ) -> Result<Poll<()>, Violation> {
        match service.poll_ready(cx) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(self.unready(&error.into())),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    pub(super) async fn ready(&self, service: &mut S) -> Result<(), Violation> {
        match timeout(AGES, poll_fn(|cx| service.poll_ready(cx))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.unready(&error.into())),
            Err(_) => self.broken("the service never became ready"),
        }
    }

    pub(super) fn call(&mut self, service: &mut S) -> Pin<Box<S::Future>> {
        self.called += 1;
        Box::pin(service.call(request()))
    }

    /// Awaits a call that is to be answered.
    pub(super) async fn answer(
        &self,
        call: impl Future<Output = Result<S::Response, S::Error>>,
    ) -> Result<S::Response, Violation> {
        let outcome = timeout(AGES, call).await;
        self.proper()?;
        match outcome {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let error: BoxError = error.into();
                self.broken(format!("a call that the inner service answers failed: {error}"))
            }
            Err(_) => self.broken("a call that the inner service answers never returned"),
        }
    }

    /// Reads a body to its end, or to its error, which is returned.
    pub(super) async fn read(
        &self,
        mut body: Pin<Box<S::Body>>,
    ) -> Result<Option<BoxError>, Violation> {
        let read = poll_fn(|cx| {
            loop {
                match ready!(body.as_mut().poll_frame(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Some(error.into())),
                    None => return Poll::Ready(None),
                }
            }
        });
        match timeout(AGES, read).await {
            Ok(error) => Ok(error),
            Err(_) => self.broken("a body never ended"),
        }
    }

    /// Makes a call of a service that is ready or becomes it, up to the end of the body.
    pub(super) async fn exchange(&mut self, service: &mut S) -> Result<(), Violation> {
        self.ready(service).await?;
        let call = self.call(service);
        let response = self.answer(call).await?;
        self.read(Box::pin(response.into_body())).await.map(drop)
    }

    /// Checks that the layer answers, as a rule after something that may have broken it.
    pub(super) async fn works(&mut self, after: &str) -> Result<(), Violation> {
        self.probe.clear();
        let mut service = self.service.clone();
        let worked = self.exchange(&mut service).await;
        worked.map_err(|violation| violation.after(after))
    }

    /// Checks that nothing is held once nothing is under way, and that each call has been settled.
    pub(super) fn at_rest(&self, instances: u64, after: &str) -> Result<(), Violation> {
        let tally = self.probe.tally();
        let checked = (|| {
            self.proper()?;
            self.ensure(tally.in_flight == 0, || "an inner call is still under way".into())?;
            self.ensure(tally.instances == instances, || {
                format!("{} inner services are held, not {instances}", tally.instances)
            })?;
            let Some(settled) = self.subject.settled.as_ref().map(|read| read()) else {
                return Ok(());
            };
            self.ensure(settled.ended == self.called && settled.in_flight == 0, || {
                format!(
                    "of {} calls {} are settled, and {} are under way",
                    self.called, settled.ended, settled.in_flight
                )
            })
        })();
        checked.map_err(|violation: Violation| violation.after(after))
    }

    /// Checks that nothing holds on to the layer's state once all of it is dropped.
    pub(super) fn released(self, after: &str) -> Result<(), Violation> {
        let (law, subject) = self.dismantled();
        if subject.is_released() {
            return Ok(());
        }
        Err(law.broken("something still holds on to the layer's state").after(after))
    }

    /// Drops the layer and its service.
    pub(super) fn dismantled(self) -> (Law, Subject<()>) {
        (self.law, self.subject.without_layer())
    }

    /// Checks that the inner service was treated as the contract has it.
    pub(super) fn proper(&self) -> Result<(), Violation> {
        match self.probe.misuses().first() {
            Some(misuse) => self.broken(misuse.to_string()),
            None => Ok(()),
        }
    }

    pub(super) fn ensure(
        &self,
        holds: bool,
        what: impl FnOnce() -> String,
    ) -> Result<(), Violation> {
        if holds { Ok(()) } else { self.broken(what()) }
    }

    pub(super) fn broken<T>(&self, what: impl Into<String>) -> Result<T, Violation> {
        Err(self.law.broken(what))
    }

    fn unready(&self, error: &BoxError) -> Violation {
        self.law.broken(format!("poll_ready failed: {error}"))
    }
}
