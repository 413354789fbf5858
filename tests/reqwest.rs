//! Plain `.layer(..)` on a `reqwest::Client`, on the `http` adapter around it, and on its connector.

use std::{
    future::{Pending, pending},
    io,
    net::SocketAddr,
    task::{Context, Poll},
};

use ::reqwest::{Body, Client, Url};
use axum::{
    Router,
    extract::Request as AxumRequest,
    response::Redirect,
    routing::{get, post},
};
use buttress::{
    Deadline, Kind, Reason, Route, TimeLimit,
    reqwest::HttpClient,
    sli::SliLayer,
    timeout::{Clock, TimeoutLayer},
};
use buttress_tests::{
    GOOD, bad, excluded, http_client, recorded, refused_by, refusing, serve, soon,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tower::{Service, ServiceBuilder, ServiceExt, layer::layer_fn};

#[tokio::test]
async fn a_bad_status_counts_as_bad_though_reqwest_calls_it_ok() {
    let address = serve(app()).await;
    let (sli, mut calls) = recorded(SliLayer::client("upstream"));
    let stack = ServiceBuilder::new()
        .layer(sli)
        .layer(TimeoutLayer::new("upstream", LONG))
        .service(http_client());

    for (path, judgement) in
        [("/hello", GOOD), ("/down", bad(Reason::Status)), ("/nowhere", excluded(Reason::Status))]
    {
        let response = soon(stack.clone().oneshot(ask(address, path))).await.unwrap();
        soon(response.bytes()).await.unwrap();

        assert_eq!(calls.next().await.judgement, judgement, "{path}");
    }
}

#[tokio::test]
async fn a_watched_response_still_knows_its_url_its_head_and_its_body() {
    let address = serve(app()).await;
    let stack = ServiceBuilder::new()
        .layer(SliLayer::client("upstream"))
        .layer(TimeoutLayer::new("upstream", LONG))
        .service(http_client());

    let response = soon(stack.oneshot(ask(address, "/moved"))).await.unwrap();

    assert_eq!(response.url().as_str(), format!("http://{address}/hello"));
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(response.content_length(), Some(5));
    assert_eq!(soon(response.text()).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_late_head_is_an_error_with_the_rejection() {
    let address = serve(app()).await;
    let (sli, mut calls) = recorded(SliLayer::client("upstream"));
    let stack = ServiceBuilder::new()
        .layer(sli)
        .layer(TimeoutLayer::new("upstream", SHORT))
        .service(http_client());

    let error = soon(stack.oneshot(ask(address, "/never"))).await.unwrap_err();

    assert_eq!(refused_by(&*error), Some((Kind::TimedOut, "upstream")));
    assert_eq!(calls.next().await.judgement, TIMED_OUT);
}

#[tokio::test]
async fn a_late_body_breaks_with_the_rejection_behind_reqwests_own_error() {
    let address = serve(app()).await;
    let (sli, mut calls) = recorded(SliLayer::client("upstream"));
    let stack = ServiceBuilder::new()
        .layer(sli)
        .layer(TimeoutLayer::new("upstream", HEAD_COMES_FIRST))
        .service(http_client());

    let mut response = soon(stack.oneshot(ask(address, "/stalls"))).await.unwrap();
    let first = soon(response.chunk()).await.unwrap();
    let error = soon(response.chunk()).await.unwrap_err();

    assert_eq!(first, Some(Bytes::from_static(b"a part")));
    assert_eq!(refused_by(&error), Some((Kind::TimedOut, "upstream")), "{error:?}");
    assert_eq!(calls.next().await.judgement, TIMED_OUT);
}

#[tokio::test]
async fn an_error_of_reqwest_stays_one() {
    let (_held, address) = refusing();
    let (sli, mut calls) = recorded(SliLayer::client("upstream"));
    let stack = ServiceBuilder::new()
        .layer(sli)
        .layer(TimeoutLayer::new("upstream", LONG))
        .service(http_client());

    let error = soon(stack.oneshot(ask(address, "/hello"))).await.unwrap_err();

    let error = error.downcast_ref::<::reqwest::Error>().expect("reqwest's own");
    assert!(error.is_connect(), "{error:?}");
    assert_eq!(calls.next().await.judgement, bad(Reason::Failed));
}

#[tokio::test]
async fn a_caller_that_drops_the_body_keeps_the_verdict_of_the_head() {
    let address = serve(app()).await;
    let (sli, mut calls) = recorded(SliLayer::client("upstream"));
    let stack = ServiceBuilder::new().layer(sli).service(http_client());

    let response = soon(stack.oneshot(ask(address, "/stalls"))).await.unwrap();
    drop(response);

    assert_eq!(calls.next().await.judgement, GOOD);
}

#[tokio::test]
async fn the_deadline_travels_in_a_header() {
    let address = serve(app()).await;
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new("upstream", TimeLimit::from_secs(60)).propagate())
        .service(http_client());

    let response = soon(stack.oneshot(ask(address, "/deadline"))).await.unwrap();
    let told: u64 = soon(response.text()).await.unwrap().parse().unwrap();

    assert!((30_000..=60_000).contains(&told), "{told} ms");
}

#[tokio::test]
async fn the_adapter_takes_http_requests_with_their_extensions() {
    let address = serve(app()).await;
    let (sli, mut calls) = recorded(SliLayer::client("upstream"));
    let stack = ServiceBuilder::new()
        .layer(sli)
        .layer(TimeoutLayer::new("upstream", LONG))
        .service(HttpClient::new(http_client()));
    let request = Request::post(format!("http://{address}/echo"))
        .extension(Route::from("/echo"))
        .body(Body::from("what was sent"))
        .unwrap();

    let response = soon(stack.oneshot(request)).await.unwrap();
    let body = soon(response.into_body().collect()).await.unwrap().to_bytes();

    assert_eq!(body, "what was sent");
    let call = calls.next().await;
    assert_eq!((call.route.as_deref(), call.judgement), (Some("/echo"), GOOD));
}

#[tokio::test]
async fn the_adapter_refuses_what_is_late_already_and_what_is_late_in_the_end() {
    let address = serve(app()).await;
    let timeout = TimeoutLayer::new("upstream", HEAD_COMES_FIRST).propagate();
    let handle = timeout.handle();
    let stack = ServiceBuilder::new().layer(timeout).service(HttpClient::new(http_client()));
    let get = |path| Request::get(format!("http://{address}{path}"));
    let passed = Deadline(tokio::time::Instant::now().into_std());

    let already = get("/hello").extension(passed).body(Body::default()).unwrap();
    let already = soon(stack.clone().oneshot(already)).await.unwrap_err();
    let late = soon(stack.clone().oneshot(get("/never").body(Body::default()).unwrap())).await;
    let part = soon(stack.oneshot(get("/stalls").body(Body::default()).unwrap())).await.unwrap();
    let part = soon(part.into_body().collect()).await.unwrap_err();

    assert_eq!(refused_by(&*already), Some((Kind::Expired, "upstream")), "{already:?}");
    for error in [late.unwrap_err(), part] {
        assert_eq!(refused_by(&*error), Some((Kind::TimedOut, "upstream")), "{error:?}");
    }
    assert_eq!(handle.snapshot().refused(), 1);
    assert_eq!(handle.snapshot().expired(Clock::Total), 2);
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_refused_inside_of_reqwests_connect_error() {
    let timeout = TimeoutLayer::connect("dial", SHORT);
    let handle = timeout.handle();
    let client = Client::builder()
        .no_proxy()
        .connector_layer(layer_fn(Hang))
        .connector_layer(timeout)
        .build()
        .unwrap();

    let error = soon(client.get("http://127.0.0.1:1/").send()).await.unwrap_err();

    assert!(error.is_connect(), "{error:?}");
    assert_eq!(refused_by(&error), Some((Kind::TimedOut, "dial")));
    assert_eq!(handle.snapshot().expired(Clock::Total), 1);
}

#[tokio::test]
async fn a_limit_on_connecting_leaves_what_comes_after_it_alone() {
    let address = serve(app()).await;
    let timeout = TimeoutLayer::connect("dial", LONG);
    let client = Client::builder().no_proxy().connector_layer(timeout).build().unwrap();

    let response = soon(client.get(format!("http://{address}/hello")).send()).await.unwrap();

    assert_eq!(soon(response.text()).await.unwrap(), "hello");
}

/// A connector that never connects.
#[derive(Clone, Debug)]
struct Hang<S>(S);

impl<S: Service<R>, R> Service<R> for Hang<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pending<Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, _: R) -> Self::Future {
        pending()
    }
}

/// An upstream for every case.
fn app() -> Router {
    let stalls = || {
        let part = stream::iter([Ok::<_, io::Error>("a part")]);
        axum::body::Body::from_stream(part.chain(stream::pending()))
    };
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/moved", get(|| async { Redirect::temporary("/hello") }))
        .route("/down", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/never", get(pending::<&'static str>))
        .route("/stalls", get(move || async move { stalls() }))
        .route("/deadline", get(told))
}

/// The header in which a caller said how long it will wait.
async fn told(request: AxumRequest) -> String {
    let header = request.headers().get(<TimeoutLayer>::DEADLINE_HEADER);
    header.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

fn ask(address: SocketAddr, path: &str) -> ::reqwest::Request {
    let url: Url = format!("http://{address}{path}").parse().unwrap();
    ::reqwest::Request::new(::reqwest::Method::GET, url)
}

/// Enough time for whatever else happens in a test.
const LONG: TimeLimit = TimeLimit::from_secs(600);

/// Enough time for the head to come on the busiest machine, and not too much to wait for the end.
const HEAD_COMES_FIRST: TimeLimit = TimeLimit::from_millis(400);

const SHORT: TimeLimit = TimeLimit::from_millis(50);

const TIMED_OUT: buttress::Judgement = bad(Reason::Refused(Kind::TimedOut));
