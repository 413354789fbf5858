//! Callers who are gone by then.

use http::HeaderMap;

use super::*;
use crate::timeout::TimeoutLayer;

#[tokio::test(start_paused = true)]
async fn a_caller_who_would_be_gone_by_then_gets_no_hedge_and_no_copy_is_made() {
    let (server, layer) = (Server::does([Hangs]), plain(after(50 * MS)));
    let limit = TimeoutLayer::new("t", TimeLimit::from_millis(50));
    let stack = ServiceBuilder::new().layer(limit.exchange(Plain)).layer(layer.clone());

    assert!(stack.service(server.service()).oneshot(()).await.is_err());

    assert_eq!(server.calls(), 1);
    assert_eq!(layer.handle().snapshot().unhedged(Unhedged::Deadline), 1);
}

/// The request's own word, and no timer of anybody's.
fn within(millis: u32) -> Request<()> {
    Request::get("/").header("grpc-timeout", format!("{millis}m")).body(()).unwrap()
}

fn grpc(millis: u32) -> Request<()> {
    let mut request = within(millis);
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request
}

#[tokio::test(start_paused = true)]
async fn a_hedge_tells_what_is_left_and_not_what_there_was() {
    let seen = Arc::<Mutex<Vec<HeaderMap>>>::default();
    let asked = Arc::clone(&seen);
    let service = service_fn(move |request: Request<()>| {
        asked.lock().unwrap().push(request.headers().clone());
        async {
            sleep(100 * MS).await;
            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let layer = HedgeLayer::new("h", after(20 * MS).all_calls()).extra::<2>();

    layer.layer(service).oneshot(grpc(500)).await.unwrap();

    let told = seen.lock().unwrap().iter().map(|headers| headers["grpc-timeout"].clone()).collect();
    let told: Vec<http::HeaderValue> = told;
    assert_eq!(told, ["500m", "480000u", "460000u"]);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_whose_service_is_ready_when_the_caller_has_gone_is_not_sent() {
    let layer = HedgeLayer::new("h", after(20 * MS).all_calls());
    let handle = layer.handle();
    let (mut service, mut inner) =
        mock::spawn_layer::<Request<()>, Response<Full<Bytes>>, _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call(grpc(50)));
    let (_, first) = inner.next_request().await.unwrap();
    assert_pending!(response.poll());
    inner.allow(0);
    advance(20 * MS).await;
    assert_pending!(response.poll());
    advance(30 * MS).await;

    inner.allow(1);
    assert_pending!(response.poll());

    assert_pending!(inner.poll_request(), "nobody waits for it");
    first.send_response(Response::default());
    assert!(response.poll().is_ready());
    assert_eq!(fates(&handle), (1, [0, 0, 1, 0, 0]));
}
