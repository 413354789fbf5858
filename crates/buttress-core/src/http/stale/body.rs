use std::{
    fmt, mem,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use pin_project::pin_project;

use super::{Stored, Tape, tape::Noted};
use crate::BoxError;

/// The body of a response that went through a fallback: the service's own, which may be written
/// down on its way, one that is played back, or one of another kind that somebody else answered with, in a
/// box.
#[pin_project]
pub struct FallbackBody<B>(#[pin] State<B>);

#[pin_project(project = StateProj)]
enum State<B> {
    Passing {
        #[pin]
        inner: B,
        tape: Option<Box<Tape>>,
    },
    /// In a box, so that bodies which pass need not make room for it.
    Playing(Box<Player>),
    /// Behind a lock that nobody ever waits for, so that it can be shared whatever is in it.
    Other(Mutex<Other>),
}

type Other = UnsyncBoxBody<Bytes, BoxError>;

struct Player {
    /// Empty once it was played.
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl<B> FallbackBody<B> {
    /// The service's own body, which is written down if there is a tape.
    #[inline]
    pub fn passing(inner: B, tape: Option<Tape>) -> Self {
        Self(State::Passing { inner, tape: tape.map(Box::new) })
    }

    /// A stored body.
    #[must_use]
    pub fn playing(stored: &Stored) -> Self {
        let (body, trailers) = (stored.body.clone(), stored.trailers.clone());
        Self(State::Playing(Box::new(Player { body, trailers })))
    }

    /// Somebody else's body.
    pub fn other<O>(body: O) -> Self
    where
        O: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self(State::Other(Mutex::new(body.map_err(Into::into).boxed_unsync())))
    }
}

fn lock(body: &Mutex<Other>) -> MutexGuard<'_, Other> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn poll_other(
    body: &mut Mutex<Other>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    Pin::new(body.get_mut().unwrap_or_else(PoisonError::into_inner)).poll_frame(cx)
}

impl Player {
    #[cold]
    fn frame(&mut self) -> Option<Frame<Bytes>> {
        if !self.body.is_empty() {
            return Some(Frame::data(mem::take(&mut self.body)));
        }
        self.trailers.take().map(Frame::trailers)
    }
}

impl<B> Body for FallbackBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().0.project() {
            StateProj::Passing { inner, tape: None } => inner.poll_frame(cx).map_err(Into::into),
            StateProj::Passing { mut inner, tape } => {
                let frame = ready!(inner.as_mut().poll_frame(cx));
                note(tape, frame.as_ref(), inner.is_end_stream());
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            StateProj::Playing(player) => Poll::Ready(player.frame().map(Ok)),
            StateProj::Other(body) => poll_other(body, cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Passing { inner, .. } => inner.is_end_stream(),
            State::Playing(player) => player.body.is_empty() && player.trailers.is_none(),
            State::Other(body) => lock(body).is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Passing { inner, .. } => inner.size_hint(),
            State::Playing(player) => SizeHint::with_exact(player.body.len() as u64),
            State::Other(body) => lock(body).size_hint(),
        }
    }
}

fn note<E>(tape: &mut Option<Box<Tape>>, frame: Option<&Result<Frame<Bytes>, E>>, ended: bool) {
    let whole = match frame {
        None => Some(None),
        // A body that failed has no end.
        Some(Err(_)) => {
            *tape = None;
            return;
        }
        Some(Ok(frame)) => match (frame.data_ref(), frame.trailers_ref(), &mut *tape) {
            (Some(data), _, Some(writing)) => match writing.data(data, ended) {
                Noted::Partly => None,
                Noted::Whole => Some(None),
                Noted::TooLong => {
                    *tape = None;
                    return;
                }
            },
            (_, Some(trailers), _) => Some(Some(trailers)),
            _ => None,
        },
    };
    if let Some(trailers) = whole
        && let Some(tape) = tape.take()
    {
        tape.finish(trailers);
    }
}

impl<B: Default> Default for FallbackBody<B> {
    fn default() -> Self {
        Self::passing(B::default(), None)
    }
}

impl<B: From<String>> From<String> for FallbackBody<B> {
    fn from(text: String) -> Self {
        Self::passing(text.into(), None)
    }
}

impl<B> fmt::Debug for FallbackBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            State::Passing { tape: None, .. } => "FallbackBody::Passing",
            State::Passing { tape: Some(_), .. } => "FallbackBody::Storing",
            State::Playing(_) => "FallbackBody::Playing",
            State::Other(_) => "FallbackBody::Other",
        })
    }
}
