use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use buttress_core::{
    http::{Replay, Room},
    retry::Stop,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::{BoxError, ScriptedPanic};

/// A body that does as its script says, and ends where the script ends.
///
/// ```
/// use buttress_testkit::Body;
/// use http_body::Body as _;
/// use tokio_test::{assert_pending, assert_ready, task};
///
/// let body = Body::empty().data("first").stall().data("second");
/// let handle = body.handle();
/// let mut body = task::spawn(body);
///
/// let first = assert_ready!(body.enter(|cx, body| body.poll_frame(cx)));
/// assert_eq!(first.unwrap().unwrap().into_data().unwrap(), "first");
/// assert_pending!(body.enter(|cx, body| body.poll_frame(cx)));
///
/// handle.go_on();
/// assert!(body.is_woken());
/// drop(body);
/// assert!(handle.is_dropped() && !handle.has_ended());
/// ```
#[derive(Debug, Default)]
pub struct Body {
    script: VecDeque<Part>,
    fate: Arc<Mutex<Fate>>,
}

#[derive(Debug)]
enum Part {
    Frame(Frame<Bytes>),
    Stall,
    Fail(BoxError),
    Panic,
}

/// What became of a body.
#[derive(Debug, Default)]
struct Fate {
    polls: u64,
    passes: u64,
    ended: bool,
    dropped: bool,
    waker: Option<Waker>,
}

impl Body {
    /// A body without a frame.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a frame of data.
    #[must_use]
    pub fn data(self, data: impl Into<Bytes>) -> Self {
        self.then(Part::Frame(Frame::data(data.into())))
    }

    /// Adds a frame of trailers.
    #[must_use]
    pub fn trailers(self, trailers: HeaderMap) -> Self {
        self.then(Part::Frame(Frame::trailers(trailers)))
    }

    /// Adds a wait, until [`BodyHandle::go_on`].
    #[must_use]
    pub fn stall(self) -> Self {
        self.then(Part::Stall)
    }

    /// Adds a failure.
    #[must_use]
    pub fn fail(self, error: impl Into<BoxError>) -> Self {
        self.then(Part::Fail(error.into()))
    }

    /// Adds a panic.
    #[must_use]
    pub fn panic(self) -> Self {
        self.then(Part::Panic)
    }

    fn then(mut self, part: Part) -> Self {
        self.script.push_back(part);
        self
    }

    /// Tells what becomes of the body once it is given away.
    #[must_use]
    pub fn handle(&self) -> BodyHandle {
        BodyHandle { fate: Arc::clone(&self.fate) }
    }
}

/// Sent again is what has nothing in it: a script is played once.
impl Replay for Body {
    type Kept = ();

    fn keep(&mut self, _: Room) -> Result<(), Stop> {
        if self.script.is_empty() { Ok(()) } else { Err(Stop::BodyTooLarge) }
    }

    fn check((): &()) -> Result<(), Stop> {
        Ok(())
    }

    fn again((): &mut ()) -> Result<Self, Stop> {
        Ok(Self::empty())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut fate = lock(&this.fate);
        fate.polls += 1;
        loop {
            return match this.script.pop_front() {
                Some(Part::Stall) if fate.passes > 0 => {
                    fate.passes -= 1;
                    continue;
                }
                Some(Part::Stall) => {
                    this.script.push_front(Part::Stall);
                    fate.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(Part::Frame(frame)) => Poll::Ready(Some(Ok(frame))),
                Some(Part::Fail(error)) => {
                    this.script.clear();
                    Poll::Ready(Some(Err(error)))
                }
                Some(Part::Panic) => {
                    // The lock would be poisoned by an unwinding that passes through it.
                    drop(fate);
                    ScriptedPanic::unwind()
                }
                None => {
                    fate.ended = true;
                    Poll::Ready(None)
                }
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.script.is_empty()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        lock(&self.fate).dropped = true;
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::empty().data(text)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::empty().data(text)
    }
}

/// Tells what became of a [`Body`].
#[derive(Clone, Debug)]
pub struct BodyHandle {
    fate: Arc<Mutex<Fate>>,
}

impl BodyHandle {
    /// Lets the body go on past one [`stall`](Body::stall), now or when it comes to it.
    pub fn go_on(&self) {
        let waker = {
            let mut fate = lock(&self.fate);
            fate.passes += 1;
            fate.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// How often it was polled.
    #[must_use]
    pub fn polls(&self) -> u64 {
        lock(&self.fate).polls
    }

    /// Whether it was polled until it had nothing more to say.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        lock(&self.fate).ended
    }

    /// Whether it is gone.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        lock(&self.fate).dropped
    }
}

fn lock(fate: &Mutex<Fate>) -> MutexGuard<'_, Fate> {
    fate.lock().expect("nothing panics while it is held")
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use tokio_test::{assert_ready, task};

    use super::*;
    use crate::ScriptedError;

    #[test]
    fn nothing_follows_an_error() {
        let body = Body::empty().fail(ScriptedError("torn")).data("never");
        let handle = body.handle();
        let mut body = task::spawn(body);

        let error = assert_ready!(body.enter(|cx, body| body.poll_frame(cx))).unwrap();
        let after = assert_ready!(body.enter(|cx, body| body.poll_frame(cx)));

        assert!(error.unwrap_err().is::<ScriptedError>());
        assert!(after.is_none());
        assert!(handle.has_ended() && !handle.is_dropped());
    }
}
