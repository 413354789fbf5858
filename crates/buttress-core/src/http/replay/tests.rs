use std::collections::VecDeque;

use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::BoxError;

type Boxed = UnsyncBoxBody<Bytes, BoxError>;

/// A body that is on its way, and what is kept of it.
fn keep<B: Replay>(mut body: B, room: Room) -> (B, Result<B::Kept, Stop>) {
    let kept = body.keep(room);
    (body, kept)
}

const ROOM: Room = Room { limit: 10, promised: None };

/// Frames one by one; `None` makes whoever polls wait, for ever.
struct Frames(VecDeque<Option<Result<Frame<Bytes>, BoxError>>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(None) => Poll::Pending,
            Some(frame) => Poll::Ready(frame),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a frame beside those that do not come")]
fn data(text: &'static str) -> Option<Result<Frame<Bytes>, BoxError>> {
    Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
}

fn streamed(frames: impl IntoIterator<Item = Option<Result<Frame<Bytes>, BoxError>>>) -> Boxed {
    Frames(frames.into_iter().collect()).boxed_unsync()
}

/// Reads a body to its end: its data, and whether it had trailers.
fn read(body: Boxed) -> (Vec<String>, bool) {
    let mut body = task::spawn(body);
    let (mut chunks, mut trailers) = (Vec::new(), false);
    while let Some(frame) = assert_ready!(body.enter(|cx, body| body.poll_frame(cx))) {
        match frame.unwrap().into_data() {
            Ok(data) => chunks.push(String::from_utf8(data.to_vec()).unwrap()),
            Err(_) => trailers = true,
        }
    }
    (chunks, trailers)
}

// X25
#[test]
fn a_body_that_streams_is_played_back_as_often_as_asked_frame_by_frame() {
    let (first, kept) = keep(streamed([data("hello"), data("world")]), ROOM);
    let mut kept = kept.unwrap();

    let expected = (vec!["hello".to_owned(), "world".to_owned()], false);
    assert_eq!(read(first), expected);
    for _ in 0..3 {
        assert_eq!(Boxed::check(&kept), Ok(()));
        let again = Boxed::again(&mut kept).unwrap();
        assert_eq!(again.size_hint().exact(), Some(10));
        assert_eq!(read(again), expected);
    }
}

#[test]
fn trailers_are_played_back() {
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "7".parse().unwrap());
    let frames = [data("x"), Some(Ok(Frame::trailers(trailers)))];
    let (first, kept) = keep(streamed(frames), ROOM);

    assert_eq!(read(first), (vec!["x".to_owned()], true));
    assert_eq!(read(Boxed::again(&mut kept.unwrap()).unwrap()), (vec!["x".to_owned()], true));
}

// Trailers behind what `Content-Length` promised, as HTTP/2 allows.
#[test]
fn trailers_behind_the_promised_length_are_played_back() {
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "7".parse().unwrap());
    let promising = Room { promised: Some(5), ..ROOM };
    let (first, kept) =
        keep(streamed([data("hello"), Some(Ok(Frame::trailers(trailers)))]), promising);

    assert_eq!(read(first), (vec!["hello".to_owned()], true));
    assert_eq!(read(Boxed::again(&mut kept.unwrap()).unwrap()), (vec!["hello".to_owned()], true));
}

#[test]
fn what_comes_behind_the_promised_length_is_played_back_or_is_too_long() {
    for (rest, expected) in [("!", Ok(())), ("world!", Err(Stop::BodyTooLarge))] {
        let promising = Room { promised: Some(5), ..ROOM };
        let (first, kept) = keep(streamed([data("hello"), data(rest)]), promising);
        let mut kept = kept.unwrap();

        read(first);

        assert_eq!(Boxed::check(&kept), expected);
        if expected.is_ok() {
            assert_eq!(read(Boxed::again(&mut kept).unwrap()).0.concat(), "hello!");
        }
    }
}

// X25
#[test]
fn exactly_the_limit_is_kept_and_one_byte_more_is_not() {
    for (last, expected) in [("world", Ok(())), ("world!", Err(Stop::BodyTooLarge))] {
        let (first, kept) = keep(streamed([data("hello"), data(last)]), ROOM);

        read(first);

        assert_eq!(Boxed::check(&kept.unwrap()), expected, "{last}");
    }
}

#[test]
fn a_body_in_crumbs_takes_little_more_room_than_its_bytes() {
    const CRUMBS: usize = 5_000;
    let room = Room { limit: CRUMBS, promised: None };
    let crumbs = (0..2 * CRUMBS).map(|crumb| data(if crumb % 2 == 0 { "" } else { "x" }));
    let (first, kept) = keep(streamed(crumbs), room);
    let mut kept = kept.unwrap();

    assert_eq!(read(first).0.len(), 2 * CRUMBS, "they are sent as they come");

    let again = read(Boxed::again(&mut kept).unwrap()).0;
    assert_eq!(again.concat(), "x".repeat(CRUMBS));
    assert!(again.len() <= MOST_CHUNKS, "{} pieces are kept", again.len());
}

/// A boxed body whose box cannot be had the second time.
#[derive(Default)]
struct Picky(Boxed);

thread_local! {
    static BOXES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Rebox for Picky {
    fn rebox(body: Recorded<Self>) -> Self {
        assert!(BOXES.replace(BOXES.get() + 1) == 0, "no more boxes");
        Self(body.boxed_unsync())
    }
}

impl Body for Picky {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

#[test]
fn a_box_that_panics_leaves_nothing_locked() {
    let (first, kept) = keep(Picky(streamed([data("hello")])), ROOM);
    let mut kept = kept.unwrap();
    drop(first);

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(Picky::again(&mut kept));
    }));

    assert!(panicked.is_err());
    assert_eq!(Picky::check(&kept), Ok(()), "the body was given back untouched");
}

// X25, R08
#[test]
fn over_the_limit_it_is_sent_once_whole() {
    let (first, kept) = keep(streamed([data("hello"), data("world"), data("!")]), ROOM);
    let mut kept = kept.unwrap();

    assert_eq!(read(first).0.concat(), "helloworld!");
    assert_eq!(Boxed::check(&kept), Err(Stop::BodyTooLarge));
    assert_eq!(Boxed::again(&mut kept).unwrap_err(), Stop::BodyTooLarge);
}

// X25
#[test]
fn what_says_beforehand_that_it_is_too_long_is_not_touched() {
    let long =
        || Full::new(Bytes::from_static(b"hello world")).map_err(BoxError::from).boxed_unsync();
    let promising = Room { promised: Some(11), ..ROOM };

    let (_, kept) = keep(long(), ROOM);
    assert_eq!(kept.unwrap_err(), Stop::BodyTooLarge);
    let (_, kept) = keep(streamed([data("short so far")]), promising);
    assert_eq!(kept.unwrap_err(), Stop::BodyTooLarge);
}

#[test]
fn an_upload_that_is_not_at_its_end_is_not_sent_again() {
    let (first, kept) = keep(streamed([data("hello"), None]), ROOM);
    let mut kept = kept.unwrap();
    assert_eq!(Boxed::check(&kept), Err(Stop::BodyUnfinished), "nobody has asked for it yet");

    let mut first = task::spawn(first);
    assert!(assert_ready!(first.enter(|cx, body| body.poll_frame(cx))).is_some());
    assert_pending!(first.enter(|cx, body| body.poll_frame(cx)));

    assert_eq!(Boxed::check(&kept), Err(Stop::BodyUnfinished));
    drop(first);
    assert_eq!(Boxed::again(&mut kept).unwrap_err(), Stop::BodyUnfinished);
}

#[test]
fn an_upload_that_failed_is_not_sent_again() {
    let (first, kept) = keep(streamed([data("hello"), Some(Err("lost".into()))]), ROOM);

    let mut first = task::spawn(first);
    assert!(assert_ready!(first.enter(|cx, body| body.poll_frame(cx))).unwrap().is_ok());
    assert!(assert_ready!(first.enter(|cx, body| body.poll_frame(cx))).unwrap().is_err());

    assert_eq!(Boxed::check(&kept.unwrap()), Err(Stop::BodyUnfinished));
}

#[test]
fn who_has_sent_what_content_length_promised_need_not_look_for_the_end() {
    let promising = Room { promised: Some(5), ..ROOM };
    let (first, kept) = keep(streamed([data("hello"), None]), promising);

    let mut first = task::spawn(first);
    assert!(assert_ready!(first.enter(|cx, body| body.poll_frame(cx))).is_some());
    drop(first);

    assert_eq!(read(Boxed::again(&mut kept.unwrap()).unwrap()).0, ["hello"]);
}

#[test]
fn what_was_dropped_untouched_is_sent_as_it_was_and_written_down_then() {
    let (first, kept) = keep(streamed([data("hello")]), ROOM);
    let mut kept = kept.unwrap();

    drop(first);
    let second = Boxed::again(&mut kept).unwrap();

    assert_eq!(Boxed::check(&kept), Err(Stop::BodyUnfinished));
    assert_eq!(read(second).0, ["hello"]);
    assert_eq!(read(Boxed::again(&mut kept).unwrap()).0, ["hello"]);
}

#[test]
fn an_empty_body_is_not_wrapped() {
    let (first, kept) = keep(Empty::new().map_err(|never| match never {}).boxed_unsync(), ROOM);

    assert!(first.is_end_stream());
    assert!(Boxed::again(&mut kept.unwrap()).unwrap().is_end_stream());
}

#[test]
fn a_body_that_is_there_as_a_whole_is_cloned_within_the_limit() {
    let (_, kept) = keep(Full::<Bytes>::from("hello"), ROOM);
    assert!(kept.is_ok());
    let (_, kept) = keep(String::from("hello world"), ROOM);
    assert_eq!(kept, Err(Stop::BodyTooLarge));
}

#[test]
fn what_goes_out_the_first_time_says_of_itself_what_it_said_before() {
    let body = || Full::new(Bytes::from_static(b"hello")).map_err(BoxError::from).boxed_unsync();

    let (first, _kept) = keep(body(), ROOM);

    assert_eq!(first.size_hint().exact(), body().size_hint().exact());
    assert!(!first.is_end_stream());
}
