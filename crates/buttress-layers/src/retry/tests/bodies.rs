//! Requests whose bodies are no `Clone`.

use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};

use super::*;

type Upload = UnsyncBoxBody<Bytes, BoxError>;

fn upload(frames: usize, of: usize) -> Request<Upload> {
    let frame = move |index| {
        let byte = u8::try_from(index % 251).unwrap();
        Ok::<_, BoxError>(Frame::data(Bytes::from(vec![byte; of])))
    };
    let body = StreamBody::new(futures_util::stream::iter((0..frames).map(frame)));
    Request::put("/").body(body.boxed_unsync()).unwrap()
}

/// What was read of each upload.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Reads what it is sent, or so many frames of it, fails so often, and keeps how much it was.
fn reading(
    failures: u32,
    most: usize,
) -> (Seen, impl Service<Request<Upload>, Response = Response<Full<Bytes>>, Error = BoxError> + Clone)
{
    let (seen, calls) = (Arc::new(Mutex::new(Vec::new())), Calls::default());
    let log = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Upload>| {
        let (log, calls) = (Arc::clone(&log), calls.clone());
        async move {
            let (mut body, mut read) = (request.into_body(), Vec::new());
            for _ in 0..most {
                let Some(frame) = body.frame().await else { break };
                read.extend(frame?.into_data().unwrap());
            }
            log.lock().unwrap().push(read);
            let down = calls.0.fetch_add(1, Ordering::Relaxed) < failures;
            let status = if down { 503 } else { 200 };
            Ok(Response::builder().status(status).body(Full::default()).unwrap())
        }
    });
    (seen, service)
}

// X25
#[tokio::test(start_paused = true)]
async fn an_upload_that_is_no_clone_is_sent_again_within_the_limit() {
    let (seen, service) = reading(2, usize::MAX);
    let layer = RetryLayer::new("r", every(MS));

    let response = layer.layer(service).oneshot(upload(50, 1024)).await.unwrap();

    assert_eq!(response.status(), 200);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), seen[0].len()), (3, 50 * 1024));
    assert!(seen.iter().all(|read| *read == seen[0]));
}

// X25, R08: 500 bytes into a buffer of 200
#[tokio::test(start_paused = true)]
async fn over_the_limit_it_is_sent_once_and_the_counts_say_why() {
    for (settings, frames, of) in [(every(MS), 1024, 1024), (every(MS).body_limit(200), 5, 100)] {
        let (seen, service) = reading(2, usize::MAX);
        let layer = RetryLayer::new("r", settings);

        let response = layer.layer(service).oneshot(upload(frames, of)).await.unwrap();

        assert_eq!(response.status(), 503);
        assert_eq!(seen.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [frames * of]);
        assert_eq!(layer.handle().snapshot().stopped(Stop::BodyTooLarge), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_the_upload_is_passed_on() {
    let (seen, service) = reading(2, 3);
    let layer = RetryLayer::new("r", every(MS));

    let response = layer.layer(service).oneshot(upload(9, 10)).await.unwrap();

    assert_eq!(response.status(), 503);
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(layer.handle().snapshot().stopped(Stop::BodyUnfinished), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_began_to_read_is_sent_as_it_was() {
    let (seen, service) = reading(0, usize::MAX);
    let first = Arc::new(AtomicU32::new(0));
    let unreached = service_fn(move |request: Request<Upload>| {
        let (call, service) = (first.fetch_add(1, Ordering::Relaxed), service.clone());
        async move {
            if call == 0 {
                drop(request);
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
            }
            service.oneshot(request).await
        }
    });

    let response = RetryLayer::new("r", every(MS)).layer(unreached).oneshot(upload(3, 10)).await;

    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(seen.lock().unwrap()[0].len(), 30);
}

#[tokio::test(start_paused = true)]
async fn what_goes_out_is_of_the_type_that_came_in() {
    fn same<T>(_: &T, _: &T) {}
    let (_, service) = reading(0, usize::MAX);
    let retrying = RetryLayer::new("r", every(MS)).layer(service);
    let body = upload(1, 1).into_body();

    same(&body, &upload(1, 1).into_body());
    assert_eq!(body.size_hint().lower(), 0);
    assert!(retrying.oneshot(upload(1, 1)).await.is_ok());
}
