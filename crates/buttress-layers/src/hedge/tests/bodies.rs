//! Requests whose bodies stream, and the bodies of answers.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::stream;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};

use super::*;

type Upload = UnsyncBoxBody<Bytes, BoxError>;

/// A server that reads each upload to its end, and then takes its time for the first of them.
fn reads(
    seen: &Arc<Mutex<Vec<Bytes>>>,
) -> impl Service<Request<Upload>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone + use<>
{
    let (seen, calls) = (Arc::clone(seen), Arc::new(AtomicU32::new(0)));
    service_fn(move |request: Request<Upload>| {
        let (seen, is_first) = (Arc::clone(&seen), calls.fetch_add(1, Ordering::Relaxed) == 0);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            seen.lock().unwrap().push(body);
            sleep(if is_first { 500 * MS } else { MS }).await;
            Ok(Response::new(Full::default()))
        }
    })
}

/// What is there of an upload: chunks, and its end, which is `None`.
type Parts = Arc<Mutex<VecDeque<Option<&'static str>>>>;

fn upload(parts: &Parts) -> Upload {
    let parts = Arc::clone(parts);
    let next = move |_: &mut Context<'_>| match parts.lock().unwrap().pop_front() {
        // Nobody is woken: these tests poll by hand.
        None => Poll::Pending,
        Some(part) => {
            Poll::Ready(part.map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from(part)))))
        }
    };
    StreamBody::new(stream::poll_fn(next)).boxed_unsync()
}

fn parts(parts: impl IntoIterator<Item = Option<&'static str>>) -> Parts {
    Arc::new(Mutex::new(parts.into_iter().collect()))
}

fn put(body: Upload) -> Request<Upload> {
    Request::put("/").body(body).unwrap()
}

// X25, for hedges
#[tokio::test(start_paused = true)]
async fn an_upload_that_was_sent_to_its_end_is_sent_again() {
    let (seen, layer) = (Arc::default(), HedgeLayer::new("h", after(50 * MS)));
    let body = upload(&parts([Some("a "), Some("stream"), None]));
    let start = Instant::now();

    layer.layer(reads(&seen)).oneshot(put(body)).await.unwrap();

    assert_eq!(
        (start.elapsed(), &**seen.lock().unwrap()),
        (51 * MS, &["a stream"; 2].map(Bytes::from)[..])
    );
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_not_finished_when_the_time_has_come_is_sent_once() {
    let (seen, layer) = (Arc::default(), HedgeLayer::new("h", after(50 * MS)));
    let parts = parts([Some("half")]);
    let mut response = task::spawn(layer.layer(reads(&seen)).oneshot(put(upload(&parts))));
    assert_pending!(response.poll());

    advance(50 * MS).await;
    assert_pending!(response.poll());
    parts.lock().unwrap().push_back(None);
    assert_pending!(response.poll());
    advance(500 * MS).await;

    assert_ready_ok!(response.poll());
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(layer.handle().snapshot().unhedged(Unhedged::BodyUnfinished), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_over_the_limit_is_sent_once() {
    // Known from the start, and only found out on the way.
    for promised in [true, false] {
        let settings = after(50 * MS).body_limit(7);
        let (seen, layer) = (Arc::default(), HedgeLayer::new("h", settings));
        let body = if promised {
            Full::from("a stream").map_err(|never| match never {}).boxed_unsync()
        } else {
            upload(&parts([Some("a "), Some("stream"), None]))
        };

        let mut response = task::spawn(layer.layer(reads(&seen)).oneshot(put(body)));
        assert_pending!(response.poll());
        advance(50 * MS).await;
        assert_pending!(response.poll());
        advance(500 * MS).await;

        assert_ready_ok!(response.poll());
        assert_eq!(seen.lock().unwrap().len(), 1);
        assert_eq!(layer.handle().snapshot().unhedged(Unhedged::BodyTooLarge), 1);
    }
}

/// A body that tells when it is dropped.
#[derive(Debug)]
struct Held {
    _held: Arc<()>,
}

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

#[tokio::test(start_paused = true)]
async fn bad_answers_that_were_kept_are_dropped_with_their_bodies_and_the_best_one_is_not() {
    let held = Arc::new(());
    let calls = Arc::new(AtomicU32::new(0));
    let service = {
        let held = Arc::clone(&held);
        service_fn(move |_: Request<()>| {
            let (call, body) =
                (calls.fetch_add(1, Ordering::Relaxed), Held { _held: Arc::clone(&held) });
            async move {
                sleep([30, 30, 50][call as usize] * MS).await;
                let status = if call == 2 { 200 } else { 503 };
                Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
            }
        })
    };
    let layer = HedgeLayer::new("h", after(10 * MS)).extra::<2>();
    let mut response = task::spawn(layer.layer(service).oneshot(Request::new(())));
    // 0: the first; 10 and 20: its hedges; 30 and 40: two have failed.
    for _ in 0..5 {
        assert_pending!(response.poll());
        advance(10 * MS).await;
    }
    assert_eq!(fates(&layer.handle()), (2, [0, 0, 1, 0, 0]));
    // The test's; the first answer, which may yet be the last, and the attempt under way.
    assert_eq!(Arc::strong_count(&held), 3);
    advance(20 * MS).await;

    let answer = assert_ready_ok!(response.poll());

    assert_eq!(answer.status(), 200);
    assert_eq!(Arc::strong_count(&held), 2, "that of the answer itself");
}
