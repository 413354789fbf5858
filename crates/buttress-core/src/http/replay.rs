//! Request bodies that are sent again.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{
    BodyExt, Empty, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};

use crate::retry::Stop;

/// A request body that can be sent again.
///
/// Those that stream are written down while they are sent the first time, up to a limit, and
/// played back: implement [`Rebox`] for a boxed body of your own. Those that are there as a whole
/// are cloned.
#[diagnostic::on_unimplemented(
    message = "a request body of type `{Self}` cannot be sent again",
    note = "implement `Rebox` for a boxed body of your own, or map the body to one of axum, tonic, reqwest or `http_body_util`"
)]
pub trait Replay: Sized {
    /// What is kept of a body.
    type Kept;

    /// Keeps a body while it is sent.
    ///
    /// # Errors
    ///
    /// With why it cannot be kept. It is unchanged then.
    fn keep(&mut self, room: Room) -> Result<Self::Kept, Stop>;

    /// Whether it can be sent again by now.
    ///
    /// # Errors
    ///
    /// With why not.
    fn check(kept: &Self::Kept) -> Result<(), Stop>;

    /// The body once more.
    ///
    /// # Errors
    ///
    /// With why not.
    fn again(kept: &mut Self::Kept) -> Result<Self, Stop>;
}

/// How much of a body is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The most bytes.
    pub limit: usize,
    /// What `Content-Length` promises: who has sent that much may not look for the end.
    pub promised: Option<u64>,
}

impl Room {
    /// Whether a body of so many bytes, or more, fits.
    #[must_use]
    pub fn fits(&self, bytes: u64) -> bool {
        let most = u64::try_from(self.limit).unwrap_or(u64::MAX);
        bytes.max(self.promised.unwrap_or_default()) <= most
    }
}

/// A boxed body, which can take any other body in. Its default is an empty one.
///
/// ```
/// use buttress_core::{BoxError, http::{Rebox, Recorded}};
/// use bytes::Bytes;
/// use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
/// # use std::{pin::Pin, task::{Context, Poll}};
///
/// #[derive(Default)]
/// struct Upload(UnsyncBoxBody<Bytes, BoxError>);
///
/// impl Rebox for Upload {
///     fn rebox(body: Recorded<Self>) -> Self {
///         Self(body.boxed_unsync())
///     }
/// }
/// # impl http_body::Body for Upload {
/// #     type Data = Bytes;
/// #     type Error = BoxError;
/// #     fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>)
/// #         -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
/// #         Pin::new(&mut self.0).poll_frame(cx)
/// #     }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "a request body of type `{Self}` cannot be sent again",
    note = "box it first, outside of this layer: `.map_request(|request: Request<_>| request.map(|body| body.boxed_unsync()))`",
    note = "or implement `Rebox` for a boxed body of your own; those of axum, tonic, reqwest and `http_body_util` are known"
)]
pub trait Rebox: Body<Data = Bytes> + Default + Unpin {
    /// Takes in a body that is written down, or played back.
    fn rebox(body: Recorded<Self>) -> Self
    where
        Self: Sized;
}

impl<B: Rebox> Replay for B {
    type Kept = Recording<B>;

    fn keep(&mut self, room: Room) -> Result<Recording<B>, Stop> {
        if self.is_end_stream() {
            return Ok(Recording(Reel::Empty));
        }
        if !room.fits(self.size_hint().lower()) {
            return Err(Stop::BodyTooLarge);
        }
        let tape = Arc::new(Mutex::new(Tape::Waiting(None)));
        let recorder = Recorder::new(mem::take(self), room, Arc::clone(&tape));
        *self = B::rebox(Recorded(State::Recording(recorder)));
        Ok(Recording(Reel::Running { tape, room }))
    }

    fn check(kept: &Recording<B>) -> Result<(), Stop> {
        match &kept.0 {
            Reel::Empty | Reel::Whole { .. } => Ok(()),
            Reel::Running { tape, .. } => match *lock(tape) {
                Tape::Waiting(Some(_)) | Tape::Whole { .. } => Ok(()),
                Tape::Waiting(None) | Tape::Partial(_) => Err(Stop::BodyUnfinished),
                Tape::TooLong => Err(Stop::BodyTooLarge),
            },
        }
    }

    fn again(kept: &mut Recording<B>) -> Result<B, Stop> {
        Self::check(kept)?;
        if let Reel::Running { tape, room } = &kept.0 {
            let mut reel = lock(tape);
            match mem::replace(&mut *reel, Tape::TooLong) {
                Tape::Waiting(Some(source)) => {
                    *reel = Tape::Waiting(None);
                    // A box that panics gives the body back, for which it locks the tape.
                    drop(reel);
                    let recorder = Recorder::new(source, *room, Arc::clone(tape));
                    return Ok(B::rebox(Recorded(State::Recording(recorder))));
                }
                Tape::Whole { chunks, trailers } => {
                    drop(reel);
                    kept.0 = Reel::Whole { chunks: chunks.into(), trailers };
                }
                // Checked above, and nobody writes to a tape whose recorder is gone.
                Tape::Waiting(None) | Tape::Partial(_) | Tape::TooLong => {
                    return Err(Stop::BodyUnfinished);
                }
            }
        }
        let Reel::Whole { chunks, trailers } = &kept.0 else { return Ok(B::default()) };
        let left = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let player =
            Player { chunks: Arc::clone(chunks), next: 0, left, trailers: trailers.clone() };
        Ok(B::rebox(Recorded(State::Playing(player))))
    }
}

/// What is kept of a body that streams.
#[derive(Debug)]
pub struct Recording<B>(Reel<B>);

#[derive(Debug)]
enum Reel<B> {
    /// There was nothing in it.
    Empty,
    /// It is being sent the first time, or was.
    Running {
        tape: Arc<Mutex<Tape<B>>>,
        room: Room,
    },
    Whole {
        chunks: Arc<[Bytes]>,
        trailers: Option<HeaderMap>,
    },
}

/// What has been written down of a body.
#[derive(Debug)]
enum Tape<B> {
    /// Nothing was read of it yet. Who drops it so gives it back: it is as it was.
    Waiting(Option<B>),
    Partial(Vec<Bytes>),
    Whole {
        chunks: Vec<Bytes>,
        trailers: Option<HeaderMap>,
    },
    TooLong,
}

/// In so many pieces a body is kept: each takes as much room as 32 bytes of it.
const MOST_CHUNKS: usize = 512;

fn lock<B>(tape: &Mutex<Tape<B>>) -> MutexGuard<'_, Tape<B>> {
    // No code of anybody else's runs while it is locked.
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body that is written down while it is sent, or one that was and is played back.
pub struct Recorded<B>(State<B>);

enum State<B> {
    Recording(Recorder<B>),
    Playing(Player),
}

struct Recorder<B> {
    /// `None` once it was given back.
    source: Option<B>,
    /// Whether anything was read of it.
    begun: bool,
    /// How many bytes still fit.
    left: usize,
    /// How many bytes `Content-Length` still promises.
    owed: Option<u64>,
    /// `None` once there is nothing more to write down.
    tape: Option<Arc<Mutex<Tape<B>>>>,
}

struct Player {
    chunks: Arc<[Bytes]>,
    next: usize,
    left: u64,
    trailers: Option<HeaderMap>,
}

impl<B> Recorder<B> {
    fn new(source: B, room: Room, tape: Arc<Mutex<Tape<B>>>) -> Self {
        let (left, owed) = (room.limit, room.promised);
        Self { source: Some(source), begun: false, left, owed, tape: Some(tape) }
    }

    fn note(&mut self, data: &Bytes) {
        let Some(tape) = &self.tape else { return };
        self.owed = self.owed.map(|owed| owed.saturating_sub(data.len() as u64));
        let Some(left) = self.left.checked_sub(data.len()) else {
            // What was kept so far is of no more use.
            *lock(tape) = Tape::TooLong;
            self.tape = None;
            return;
        };
        self.left = left;
        let mut tape = lock(tape);
        // There is more to come than was promised.
        if let Tape::Whole { chunks, .. } = &mut *tape
            && !data.is_empty()
        {
            *tape = Tape::Partial(mem::take(chunks));
        }
        if let Tape::Partial(chunks) = &mut *tape
            && !data.is_empty()
        {
            // Whoever sends crumbs must not make us keep more than what they are made of.
            if chunks.len() == MOST_CHUNKS {
                *chunks = vec![chunks.concat().into()];
            }
            chunks.push(data.clone());
        }
    }

    /// All data was read, but trailers may follow.
    fn complete(&mut self, trailers: Option<HeaderMap>) {
        let Some(tape) = &self.tape else { return };
        let mut tape = lock(tape);
        if let Tape::Partial(chunks) | Tape::Whole { chunks, .. } = &mut *tape {
            *tape = Tape::Whole { chunks: mem::take(chunks), trailers };
        }
    }

    /// The last frame was read.
    fn finish(&mut self, trailers: Option<HeaderMap>) {
        self.complete(trailers);
        self.tape = None;
    }
}

impl<B: Body<Data = Bytes> + Unpin> Recorder<B> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !mem::replace(&mut self.begun, true)
            && let Some(tape) = &self.tape
        {
            *lock(tape) = Tape::Partial(Vec::new());
        }
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *source).poll_frame(cx));
        let ended = source.is_end_stream();
        match &frame {
            None => self.finish(None),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.note(data);
                    if ended {
                        self.finish(None);
                    } else if self.owed == Some(0) {
                        self.complete(None);
                    }
                } else {
                    self.finish(frame.trailers_ref().cloned());
                }
            }
            // A body that failed has no end that could be sent again.
            Some(Err(_)) => self.tape = None,
        }
        Poll::Ready(frame)
    }
}

impl<B> Drop for Recorder<B> {
    fn drop(&mut self) {
        if let Some(tape) = self.tape.take()
            && !self.begun
        {
            *lock(&tape) = Tape::Waiting(self.source.take());
        }
    }
}

impl Player {
    fn frame(&mut self) -> Option<Frame<Bytes>> {
        if let Some(chunk) = self.chunks.get(self.next) {
            self.next += 1;
            self.left -= chunk.len() as u64;
            return Some(Frame::data(chunk.clone()));
        }
        self.trailers.take().map(Frame::trailers)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Recorded<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.0 {
            State::Recording(recorder) => recorder.poll(cx),
            State::Playing(player) => Poll::Ready(player.frame().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Recording(recorder) => recorder.source.as_ref().is_none_or(Body::is_end_stream),
            State::Playing(player) => {
                player.next == player.chunks.len() && player.trailers.is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Recording(recorder) => {
                recorder.source.as_ref().map_or_else(SizeHint::default, Body::size_hint)
            }
            State::Playing(player) => SizeHint::with_exact(player.left),
        }
    }
}

impl<B> fmt::Debug for Recorded<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            State::Recording(_) => "Recorded::Recording",
            State::Playing(_) => "Recorded::Playing",
        };
        f.debug_struct(name).finish_non_exhaustive()
    }
}

impl<E: 'static> Rebox for UnsyncBoxBody<Bytes, E> {
    fn rebox(body: Recorded<Self>) -> Self {
        body.boxed_unsync()
    }
}

impl<E: 'static> Rebox for BoxBody<Bytes, E> {
    fn rebox(body: Recorded<Self>) -> Self {
        body.boxed()
    }
}

/// Bodies that are there as a whole, and cost little to clone.
macro_rules! cloned {
    ($([$($of:tt)*] $body:ty, |$kept:pat_param| $bytes:expr;)*) => {
        $(impl<$($of)*> Replay for $body {
            type Kept = Self;

            #[inline]
            fn keep(&mut self, room: Room) -> Result<Self, Stop> {
                let $kept = &*self;
                if room.fits($bytes) { Ok(self.clone()) } else { Err(Stop::BodyTooLarge) }
            }

            fn check(_: &Self) -> Result<(), Stop> {
                Ok(())
            }

            fn again(kept: &mut Self) -> Result<Self, Stop> {
                Ok(kept.clone())
            }
        })*
    };
}

cloned! {
    [] (), |()| 0;
    [D: Buf] Empty<D>, |_| 0;
    [D: Buf + Clone] Full<D>, |body| body.size_hint().lower();
    [] Bytes, |bytes| bytes.len() as u64;
    [] String, |text| text.len() as u64;
    [] Vec<u8>, |bytes| bytes.len() as u64;
    [] &'static str, |text| text.len() as u64;
}

#[cfg(test)]
mod tests;
