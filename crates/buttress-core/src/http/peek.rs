use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::{head::grpc_status, judge::pushback};
use crate::Peeked;

/// A response body into which somebody may have looked before it was handed out.
#[pin_project]
pub struct Peekable<B: Body> {
    #[pin]
    inner: B,
    /// What was seen, and belongs in front of the rest.
    seen: Option<Seen<B>>,
}

enum Seen<B: Body> {
    Frame(Result<Frame<B::Data>, B::Error>),
    End,
}

impl<B: Body> Peekable<B> {
    /// A body into which nobody has looked.
    pub fn new(inner: B) -> Self {
        Self { inner, seen: None }
    }

    /// Looks, without waiting, whether there is nothing but trailers.
    pub(crate) fn peek(&mut self, cx: &mut Context<'_>) -> Option<Peeked>
    where
        B: Unpin,
    {
        if self.seen.is_some() {
            return None;
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else { return None };
        let peeked = match &frame {
            None => Some(Peeked { code: None, asked: None }),
            Some(Ok(frame)) => frame
                .trailers_ref()
                .map(|trailers| Peeked { code: grpc_status(trailers), asked: pushback(trailers) }),
            Some(Err(_)) => None,
        };
        self.seen = Some(frame.map_or(Seen::End, Seen::Frame));
        peeked
    }
}

impl<B: Body> Body for Peekable<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        match this.seen.take() {
            None => this.inner.poll_frame(cx),
            Some(Seen::Frame(frame)) => Poll::Ready(Some(frame)),
            Some(Seen::End) => Poll::Ready(None),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self.seen {
            None => self.inner.is_end_stream(),
            Some(Seen::End) => true,
            Some(Seen::Frame(_)) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        if let Some(Seen::Frame(Ok(frame))) = &self.seen
            && let Some(data) = frame.data_ref()
        {
            let seen = data.remaining() as u64;
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(seen));
            }
            hint.set_lower(hint.lower().saturating_add(seen));
        }
        hint
    }
}

impl<B: Body + Default> Default for Peekable<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: Body + From<String>> From<String> for Peekable<B> {
    fn from(text: String) -> Self {
        Self::new(text.into())
    }
}

impl<B: Body + fmt::Debug> fmt::Debug for Peekable<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peekable").field("inner", &self.inner).finish_non_exhaustive()
    }
}
