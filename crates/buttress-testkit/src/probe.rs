use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use crate::{
    Body, BoxError, Misuse, ProbeHandle, ScriptedPanic, Step,
    handle::{Shared, State},
};

/// A service that does as it is told, and writes down how it is treated.
///
/// It keeps to the letter of Tower's contract: to be ready belongs to the very instance that was
/// polled, a clone is never ready, and a call uses readiness up. Who breaks the contract is not
/// stopped by a panic, which a layer might catch, but written down as a [`Misuse`].
///
/// ```
/// use buttress_testkit::{Misuse, Probe};
/// use tokio_test::{assert_ready_ok, task};
/// use tower::Service;
///
/// let probe = Probe::<&str, usize, ()>::new(|word| word.len());
/// let handle = probe.handle();
/// let mut probe = task::spawn(probe);
///
/// assert_ready_ok!(probe.enter(|cx, mut probe| probe.poll_ready(cx)));
/// // The obvious mistake: what is called is not what was found ready.
/// let mut response = task::spawn(probe.clone().call("tower"));
///
/// assert_eq!(assert_ready_ok!(response.poll()), 5);
/// assert_eq!(handle.misuses(), [Misuse::CalledUnready { instance: 1 }]);
/// ```
pub struct Probe<Req, Res, E> {
    shared: Arc<Shared<Req, Res, E>>,
    instance: u64,
    ready: bool,
}

/// The probe of layers around HTTP clients: the laws are checked with it.
pub type HttpProbe = Probe<Request<Body>, Response<Body>, BoxError>;

impl<Req, Res, E> Probe<Req, Res, E> {
    /// A probe that answers so, unless its script says otherwise.
    pub fn new(respond: impl Fn(Req) -> Res + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared::new(Box::new(respond)));
        Self { shared, instance: 0, ready: false }
    }

    /// Reads and moves this probe and all its clones.
    #[must_use]
    pub fn handle(&self) -> ProbeHandle<Req, Res, E> {
        ProbeHandle { shared: Arc::clone(&self.shared) }
    }
}

impl HttpProbe {
    /// A probe of HTTP requests, which answers with 200 and a body of one frame.
    #[must_use]
    pub fn http() -> Self {
        Self::new(|_| Response::new(Body::from("answer")))
    }
}

impl<Req, Res, E> Service<Req> for Probe<Req, Res, E> {
    type Response = Res;
    type Error = E;
    type Future = ProbeFuture<Req, Res, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mut state = self.shared.lock();
        state.tally.ready_polls += 1;
        if let Some(error) = state.broken.take() {
            self.ready = false;
            return Poll::Ready(Err(error));
        }
        if !self.ready && state.busy {
            let former = state.waiting.insert(self.instance, cx.waker().clone());
            // It may be the last hold on a task that owns a probe.
            drop(state);
            drop(former);
            return Poll::Pending;
        }
        let former = state.waiting.remove(&self.instance);
        drop(state);
        drop(former);
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> ProbeFuture<Req, Res, E> {
        let instance = self.instance;
        let mut state = self.shared.lock();
        if !mem::take(&mut self.ready) {
            state.misuses.push(Misuse::CalledUnready { instance });
        }
        state.last_called = Some(instance);
        state.tally.calls += 1;
        let step = state.script.pop_front().unwrap_or(Step::Answer);
        if let Step::PanicInCall = step {
            state.tally.panicked += 1;
            drop(state);
            ScriptedPanic::unwind();
        }
        state.tally.in_flight += 1;
        let releases = state.releases;
        drop(state);

        let answer = || Some(Ok((self.shared.respond)(request)));
        let (after, answer) = match step {
            Step::Answer => (After::FirstPoll, answer()),
            Step::Hang => (After::Release(releases), answer()),
            Step::Reply(answer) => (After::FirstPoll, Some(answer)),
            Step::PanicInCall | Step::PanicInPoll => (After::FirstPoll, None),
        };
        let shared = Arc::clone(&self.shared);
        ProbeFuture { shared, instance, after, answer, over: false }
    }
}

impl<Req, Res, E> Clone for Probe<Req, Res, E> {
    fn clone(&self) -> Self {
        let mut state = self.shared.lock();
        state.tally.clones += 1;
        state.tally.instances += 1;
        let instance = state.tally.clones;
        Self { shared: Arc::clone(&self.shared), instance, ready: false }
    }
}

impl<Req, Res, E> Drop for Probe<Req, Res, E> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.tally.instances -= 1;
        let waker = state.waiting.remove(&self.instance);
        drop(state);
        drop(waker);
    }
}

impl<Req, Res, E> fmt::Debug for Probe<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("instance", &self.instance)
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

/// The response of a [`Probe`].
#[must_use = "futures do nothing unless polled"]
pub struct ProbeFuture<Req, Res, E> {
    shared: Arc<Shared<Req, Res, E>>,
    instance: u64,
    after: After,
    /// `None` for a panic.
    answer: Option<Result<Res, E>>,
    over: bool,
}

/// When an answer comes.
#[derive(Clone, Copy, Debug)]
enum After {
    FirstPoll,
    /// Once there have been more releases than these.
    Release(u64),
}

/// Nothing in it is pinned.
impl<Req, Res, E> Unpin for ProbeFuture<Req, Res, E> {}

impl<Req, Res, E> Future for ProbeFuture<Req, Res, E> {
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Res, E>> {
        let this = self.get_mut();
        let mut state = this.shared.lock();
        if this.over {
            let instance = this.instance;
            state.misuses.push(Misuse::PolledAfterCompletion { instance });
            return Poll::Pending;
        }
        if let After::Release(releases) = this.after
            && state.releases <= releases
        {
            if !state.hanging.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.hanging.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        this.over = true;
        state.tally.in_flight -= 1;
        let Some(answer) = this.answer.take() else {
            state.tally.panicked += 1;
            drop(state);
            ScriptedPanic::unwind();
        };
        state.tally.answered += 1;
        Poll::Ready(answer)
    }
}

impl<Req, Res, E> Drop for ProbeFuture<Req, Res, E> {
    fn drop(&mut self) {
        if !self.over {
            let State { tally, .. } = &mut *self.shared.lock();
            tally.in_flight -= 1;
            tally.abandoned += 1;
        }
    }
}

impl<Req, Res, E> fmt::Debug for ProbeFuture<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeFuture")
            .field("instance", &self.instance)
            .field("after", &self.after)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
