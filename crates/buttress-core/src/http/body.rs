use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Buf;
use http::{HeaderMap, Response, header};
use http_body::{Body, Frame, SizeHint};
use pin_project::{pin_project, pinned_drop};

use super::head::{ResponseHead, grpc_status, is_bodyless};
use crate::{BoxError, Code, Facts, Finish, OnUnwind, Protocol, Rejection, Watch, clock};

/// A response body whose end somebody watches.
///
/// It ends once: complete, broken, cut off, panicked or dropped. It does not say that it is at
/// its end before the watch has seen it, so a server polls on to the trailers. A server that
/// stops at the last byte which `Content-Length` promised, or never polls the body of a `HEAD`,
/// is not taken for a client that left. A body that ends short of its `Content-Length` is broken; one
/// that is empty from the start is not looked at, for HTTP/1 servers correct the header then.
#[pin_project(PinnedDrop)]
pub struct Watched<B, W: Watch> {
    /// `None` once it was cut off, so that what it holds is free at once.
    #[pin]
    inner: Option<B>,
    #[pin]
    watch: Option<W>,
    /// What was promised and has not come yet; [`UNTOLD`] where nobody said how much it is. Every
    /// layer further out moves this with the response, and an `Option` would be twice as large.
    owed: u64,
    protocol: Protocol,
    /// The code of the head, where no trailers will follow.
    code: Option<Code>,
    /// Whether `Content-Length` promised it. A server derives one from an exact size as well.
    promised: bool,
    /// Whether the inner body has said that it is at its end. Layers ask for that after each
    /// frame, and each would ask all bodies further in.
    over: bool,
}

impl<B, W: Watch> Watched<B, W> {
    /// A body whose end nobody watches.
    #[inline]
    pub fn passing(inner: B) -> Self {
        Self {
            inner: Some(inner),
            watch: None,
            protocol: Protocol::Http,
            owed: UNTOLD,
            code: None,
            promised: false,
            over: false,
        }
    }
}

impl<B: Body, W: Watch> Watched<B, W> {
    /// Watches the body of `response`, which may have ended already.
    #[inline]
    pub fn around(facts: Facts, response: Response<B>, watch: W) -> Response<Self> {
        // By what the answer is, and not by what its caller asked for: an answer in plain HTTP
        // that was cut off must not end as if it were whole.
        let protocol = match facts.protocol {
            Protocol::Grpc if !ResponseHead::of(&response).is_grpc() => Protocol::Http,
            protocol => protocol,
        };
        // Of what has no body behind its head, the body may still say how long it would have been.
        let over = response.body().is_end_stream();
        let ended = over || is_bodyless(facts.method, response.status());
        let (mut code, mut owed, mut promised) = (None, UNTOLD, false);
        if watch.asks_how() {
            if protocol == Protocol::Grpc {
                code = grpc_status(response.headers());
            } else if !ended {
                let length = content_length(response.headers());
                owed = length.or_else(|| response.body().size_hint().exact()).unwrap_or(UNTOLD);
                promised = length.is_some();
            }
        }
        // One response is made, and not one for each case, so that it is moved but once.
        let mut watch = Some(watch);
        if ended && let Some(watch) = watch.take() {
            std::pin::pin!(watch).end(Finish::Complete { code });
        }
        let (head, inner) = response.into_parts();
        let inner = Some(inner);
        let body = Self { inner, watch, owed, protocol, code, promised, over };
        Response::from_parts(head, body)
    }
}

/// How much is owed where nobody said so. Nobody sends that much.
const UNTOLD: u64 = u64::MAX;

#[inline]
fn content_length(headers: &HeaderMap) -> Option<u64> {
    if headers.is_empty() {
        return None;
    }
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Ends the watch, if it has not ended.
#[inline]
fn finish<W: Watch>(mut watch: Pin<&mut Option<W>>, end: Finish<'_>) {
    if let Some(ending) = watch.as_mut().as_pin_mut() {
        ending.end(end);
    }
    watch.set(None);
}

/// A body that ended before the last byte which its `Content-Length` promised. The server breaks
/// the connection then, and the caller gets an error.
#[derive(Debug)]
struct CutShort;

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is shorter than its Content-Length")
    }
}

impl Error for CutShort {}

impl<B, W> Body for Watched<B, W>
where
    B: Body,
    B::Error: Into<BoxError>,
    W: Watch,
{
    type Data = B::Data;
    type Error = BoxError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let Some(watch) = this.watch.as_mut().as_pin_mut() else {
            return inner.poll_frame(cx).map_err(Into::into);
        };
        let _scope = watch.asks_how().then(clock::poll_body);
        watch.before(cx);
        let guard = OnUnwind::new(|| finish(this.watch.as_mut(), Finish::Panicked));
        let polled = inner.as_mut().poll_frame(cx);
        guard.defuse();
        let frame = match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    if *this.owed != UNTOLD {
                        *this.owed = this.owed.saturating_sub(data.remaining() as u64);
                    }
                    *this.over = inner.is_end_stream();
                    if *this.over {
                        finish(this.watch.as_mut(), at_end(*this.owed, *this.promised, *this.code));
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    finish(this.watch.as_mut(), Finish::Complete { code: grpc_status(trailers) });
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = error.into();
                finish(this.watch, Finish::Broken(&*error));
                return Poll::Ready(Some(Err(error)));
            }
            Poll::Ready(None) => {
                finish(this.watch, at_end(*this.owed, *this.promised, *this.code));
                return Poll::Ready(None);
            }
            Poll::Pending => Poll::Pending,
        };
        if let Some(watch) = this.watch.as_mut().as_pin_mut()
            && let Poll::Ready(rejection) = watch.poll_cut(frame.is_pending(), cx)
        {
            this.inner.set(None);
            finish(this.watch, Finish::Cut);
            return Poll::Ready(Some(cut(*this.protocol, rejection)));
        }
        frame
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.over || (self.watch.is_none() && self.inner.as_ref().is_none_or(Body::is_end_stream))
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            // What is owed was the inner body's own word, and is counted as long as it is watched.
            Some(_) if self.watch.is_some() && self.owed != UNTOLD && !self.promised => {
                SizeHint::with_exact(self.owed)
            }
            Some(inner) => inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// How a body ends that has no more to say: well, unless it promised more.
#[inline]
fn at_end(owed: u64, promised: bool, code: Option<Code>) -> Finish<'static> {
    if promised && owed > 0 { Finish::Broken(&CutShort) } else { Finish::Complete { code } }
}

/// What stands at the end of a body that we cut short: for gRPC trailers with a status, for all
/// else an error, which makes the server break the connection rather than end the body well.
fn cut<D>(protocol: Protocol, rejection: Rejection) -> Result<Frame<D>, BoxError> {
    if protocol != Protocol::Grpc {
        return Err(rejection.into());
    }
    let mut trailers = HeaderMap::with_capacity(3);
    rejection.write_grpc_status(&mut trailers);
    Ok(Frame::trailers(trailers))
}

#[pinned_drop]
impl<B, W: Watch> PinnedDrop for Watched<B, W> {
    #[inline]
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        let Some(watch) = this.watch.as_ref().get_ref() else { return };
        let _scope = watch.asks_how().then(clock::poll_body);
        // What the body holds goes first: a permit given back at the end must find it gone.
        this.inner.set(None);
        let end = match *this.owed {
            0 => Finish::Complete { code: *this.code },
            _ => Finish::Dropped,
        };
        finish(this.watch, end);
    }
}

impl<B: Default, W: Watch> Default for Watched<B, W> {
    fn default() -> Self {
        Self::passing(B::default())
    }
}

impl<B: From<String>, W: Watch> From<String> for Watched<B, W> {
    fn from(text: String) -> Self {
        Self::passing(text.into())
    }
}

impl<B: fmt::Debug, W: Watch> fmt::Debug for Watched<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("inner", &self.inner)
            .field("ended", &self.watch.is_none())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::BodyExt;

    use super::*;
    use crate::Method;

    /// Asks how a body ends, and keeps it to itself.
    struct Watching;

    impl Watch for Watching {
        fn end(self: Pin<&mut Self>, _: Finish<'_>) {}
    }

    /// Two frames, and how much is still to come where `known`.
    struct Pages {
        left: u64,
        known: bool,
    }

    impl Body for Pages {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            self.left -= 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"page")))))
        }

        fn is_end_stream(&self) -> bool {
            self.known && self.left == 0
        }

        fn size_hint(&self) -> SizeHint {
            if self.known { SizeHint::with_exact(4 * self.left) } else { SizeHint::default() }
        }
    }

    fn watched(method: Method, body: Pages) -> Watched<Pages, Watching> {
        let facts = Facts { protocol: Protocol::Http, method, status: None, code: None };
        Watched::around(facts, Response::new(body), Watching).into_body()
    }

    #[test]
    fn a_body_says_what_the_one_inside_says_of_its_end_and_its_size() {
        for known in [true, false] {
            let mut body = watched(Method::Get, Pages { left: 2, known });
            let mut plain = Pages { left: 2, known };
            for _ in 0..3 {
                assert_eq!(body.size_hint().exact(), plain.size_hint().exact(), "{known}");
                assert_eq!(body.is_end_stream(), plain.is_end_stream(), "{known}");
                let next = tokio_test::block_on(body.frame()).map(|frame| frame.unwrap());
                let same = tokio_test::block_on(plain.frame()).map(|frame| frame.unwrap());
                assert_eq!(next.is_some(), same.is_some());
            }
        }
    }

    // A server derives the `Content-Length` of its answer to a `HEAD` from it.
    #[test]
    fn the_body_that_a_head_leaves_out_still_says_how_long_it_is() {
        let body = watched(Method::Head, Pages { left: 2, known: true });

        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(8));
    }
}
