//! How a call ends whose body ends, breaks or is abandoned, behind axum and hyper.

use std::{future::pending, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{StatusCode, header::CONTENT_LENGTH},
    response::Response,
    routing::get,
};
use buttress::{Judgement, Reason, TimeLimit, sli::SliLayer, timeout::TimeoutLayer};
use buttress_tests::{Calls, GOOD, bad, excluded, http2_client, recorded, serve, soon};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

#[tokio::test]
async fn over_http1_a_call_ends_as_its_body_does() {
    let mut server = Observed::start().await;

    for connection in ["keep-alive", "close"] {
        for case in CASES {
            let judgement = server.visit_in_http1(case, connection).await;

            assert_eq!(judgement, case.judgement, "{}, connection: {connection}", case.what);
        }
    }

    assert_eq!(server.counts.snapshot().in_flight, 0);
}

#[tokio::test]
async fn over_http2_a_call_ends_as_its_body_does() {
    let mut server = Observed::start().await;

    for case in CASES {
        let judgement = server.visit_in_http2(case).await;

        assert_eq!(judgement, case.judgement, "{}", case.what);
    }

    assert_eq!(server.counts.snapshot().in_flight, 0);
}

/// A shared cache would keep half a page for a whole one.
#[tokio::test]
async fn an_answer_that_is_cut_off_does_not_look_whole_whatever_its_caller_said_it_spoke() {
    let timeout = TimeoutLayer::new("shop", TimeLimit::from_millis(50));
    let address = serve(app(Arc::new(Notify::new())).layer(timeout)).await;

    for said in ["", "content-type: application/grpc\r\n"] {
        let request = format!("GET /stalls HTTP/1.1\r\nhost: x\r\n{said}\r\n");
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon(socket.read_to_end(&mut answer)).await.unwrap();

        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains(PART), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    }
}

const CASES: [Case; 13] = [
    Case::new("a body that is there", "GET", "/full", GOOD),
    Case::new("a body in chunks", "GET", "/chunks", GOOD),
    // hyper asks for no more than was promised, and drops the body without having seen its end.
    Case::new("a stream of a promised length", "GET", "/promised", GOOD),
    Case::new("no body", "GET", "/empty", GOOD),
    Case::new("no content", "GET", "/204", GOOD),
    // A body that is never asked for.
    Case::new("only the head of a body", "HEAD", "/full", GOOD),
    Case::new("only the head of a stream", "HEAD", "/chunks", GOOD),
    Case::new("only the head of an endless stream", "HEAD", "/stalls", GOOD),
    Case::new("a body that must not be there", "GET", "/304", GOOD),
    Case::new("a body that breaks", "GET", "/breaks", bad(Reason::Broken)),
    Case::new("a body that panics", "GET", "/panics", bad(Reason::Panicked)),
    Case::new("a client that leaves in the body", "GET", "/stalls", LEFT).leaves(Leaves::InBody),
    Case::new("a client that leaves before", "GET", "/never", LEFT).leaves(Leaves::BeforeHead),
];

const LEFT: Judgement = excluded(Reason::Left);

/// A request, what its client does, and what the call counts as.
#[derive(Clone, Copy)]
struct Case {
    what: &'static str,
    method: &'static str,
    path: &'static str,
    leaves: Leaves,
    judgement: Judgement,
}

/// When a client goes.
#[derive(Clone, Copy)]
enum Leaves {
    /// Not before the call has ended on the server.
    AfterTheEnd,
    /// With a part of the body in its hands.
    InBody,
    /// While the handler is at work.
    BeforeHead,
}

impl Case {
    const fn new(
        what: &'static str,
        method: &'static str,
        path: &'static str,
        judgement: Judgement,
    ) -> Self {
        Self { what, method, path, leaves: Leaves::AfterTheEnd, judgement }
    }

    const fn leaves(mut self, leaves: Leaves) -> Self {
        self.leaves = leaves;
        self
    }
}

/// A server whose calls are recorded.
struct Observed {
    address: SocketAddr,
    counts: buttress::sli::SliHandle,
    calls: Calls,
    /// Told when the handler that never answers has started.
    at_work: Arc<Notify>,
}

impl Observed {
    async fn start() -> Self {
        let (sli, calls) = recorded(SliLayer::server("ours"));
        let counts = sli.handle();
        let at_work = Arc::new(Notify::new());
        let address = serve(app(Arc::clone(&at_work)).layer(sli)).await;
        Self { address, counts, calls, at_work }
    }

    async fn visit_in_http1(&mut self, case: Case, connection: &str) -> Judgement {
        let Case { method, path, leaves, .. } = case;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n");
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();

        match leaves {
            Leaves::AfterTheEnd => {
                let call = self.calls.next().await;
                drop(socket);
                return call.judgement;
            }
            Leaves::InBody => read_until(&mut socket, PART).await,
            Leaves::BeforeHead => soon(self.at_work.notified()).await,
        }
        drop(socket);
        self.calls.next().await.judgement
    }

    async fn visit_in_http2(&mut self, case: Case) -> Judgement {
        let Case { method, path, leaves, .. } = case;
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let client = http2_client();

        match leaves {
            Leaves::AfterTheEnd => {
                // That of a body which breaks at once may break, too.
                let response = soon(client.request(request)).await;
                let call = self.calls.next().await;
                drop(response);
                return call.judgement;
            }
            Leaves::InBody => {
                let mut body = soon(client.request(request)).await.unwrap().into_body();
                soon(body.frame()).await.unwrap().unwrap();
            }
            Leaves::BeforeHead => {
                let response = tokio::spawn(client.request(request));
                soon(self.at_work.notified()).await;
                response.abort();
            }
        }
        self.calls.next().await.judgement
    }
}

async fn read_until(socket: &mut TcpStream, what: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(what) {
        let count = soon(socket.read_buf(&mut seen)).await.unwrap();
        assert_ne!(count, 0, "the server is to hold the connection open");
    }
}

fn app(at_work: Arc<Notify>) -> Router {
    let never = || async move {
        at_work.notify_one();
        pending::<&'static str>().await
    };
    Router::new()
        .route("/full", get(|| async { "a whole body" }))
        .route("/empty", get(|| async {}))
        .route("/chunks", get(|| async { Body::from_stream(parts()) }))
        .route("/promised", get(|| async { promised() }))
        .route("/204", get(|| async { StatusCode::NO_CONTENT }))
        .route("/304", get(|| async { (StatusCode::NOT_MODIFIED, "not to be sent") }))
        .route("/breaks", get(|| async { Body::from_stream(parts().chain(broken())) }))
        .route("/panics", get(|| async { Body::from_stream(parts().chain(panics())) }))
        .route("/stalls", get(|| async { Body::from_stream(parts().chain(stream::pending())) }))
        .route("/never", get(never))
}

/// Three parts, each of which comes when it is next asked for.
fn parts() -> impl Stream<Item = io::Result<&'static str>> {
    stream::iter([PART; 3]).then(|part| async move {
        tokio::task::yield_now().await;
        Ok(part)
    })
}

fn promised() -> Response {
    let length = 3 * PART.len();
    Response::builder().header(CONTENT_LENGTH, length).body(Body::from_stream(parts())).unwrap()
}

fn broken() -> impl Stream<Item = io::Result<&'static str>> {
    stream::iter([Err(io::Error::other("the disk is gone"))])
}

fn panics() -> impl Stream<Item = io::Result<&'static str>> {
    stream::iter([()]).map(|()| panic!("a part of the test: the body panics"))
}

const PART: &str = "a part";
