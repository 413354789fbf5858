//! Behind `axum::serve`, as most will use it: on sockets, many connections, a plain `.layer(..)`.

use std::{
    convert::Infallible,
    future::ready,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router, body::Body, error_handling::HandleErrorLayer, http::StatusCode, response::Response,
    routing::get,
};
use buttress::{
    TimeLimit,
    breaker::{BreakerLayer, Settings},
    bulkhead::BulkheadLayer,
};
use bytes::Bytes;
use http_body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tower::ServiceBuilder;
use tower_resilience::{
    bulkhead::{BulkheadLayer as TheirBulkhead, BulkheadServiceError},
    circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer as TheirBreaker},
};

use crate::{
    contender::at_most,
    report::{Figure, Row, live},
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "X03",
            what: "axum::serve, breaker of 2 failures, 8 connections: 500s and 503s",
            ought: "2 and 6",
            theirs: live(failing(behind_their_breaker)),
            ours: live(failing(|app| app.layer(BreakerLayer::new("b", Settings::consecutive(2))))),
        },
        Row {
            id: "X03",
            what: "axum::serve, bulkhead of 1, 4 connections: most at once",
            ought: "1",
            theirs: live(crowding(behind_their_bulkhead)),
            ours: live(crowding(|app| {
                let wait = TimeLimit::from_secs(5);
                app.layer(BulkheadLayer::new("b", at_most(1)).queue(10).wait(wait))
            })),
        },
        Row {
            id: "X13",
            what: "axum::serve, bulkhead of 1, 4 connections: streams at once",
            ought: "1",
            theirs: live(streaming(behind_their_shared_bulkhead)),
            ours: live(streaming(|app| app.layer(BulkheadLayer::new("b", at_most(1))))),
        },
    ]
}

type Layered = fn(Router) -> Router;

fn behind_their_breaker(app: Router) -> Router {
    let breaker = TheirBreaker::builder()
        .consecutive_failures(2)
        .failure_classifier(|answer: &Result<Response, Infallible>| {
            answer.as_ref().is_ok_and(|response| response.status().is_server_error())
        })
        .build()
        .expect("a valid configuration");
    let unavailable = |_: CircuitBreakerError<Infallible>| ready(StatusCode::SERVICE_UNAVAILABLE);
    app.layer(ServiceBuilder::new().layer(HandleErrorLayer::new(unavailable)).layer(breaker))
}

fn behind_their_bulkhead(app: Router) -> Router {
    let bulkhead = TheirBulkhead::builder().max_concurrent_calls(1).build();
    with_errors(app, bulkhead.expect("a valid configuration"))
}

/// With a handle theirs is one for all connections.
fn behind_their_shared_bulkhead(app: Router) -> Router {
    let bulkhead =
        TheirBulkhead::builder().max_concurrent_calls(1).reject_when_full().build_with_handle();
    with_errors(app, bulkhead.expect("a valid configuration").0)
}

fn with_errors(app: Router, bulkhead: TheirBulkhead) -> Router {
    let unavailable = |_: BulkheadServiceError<Infallible>| ready(StatusCode::SERVICE_UNAVAILABLE);
    app.layer(ServiceBuilder::new().layer(HandleErrorLayer::new(unavailable)).layer(bulkhead))
}

async fn failing(layered: Layered) -> Figure {
    let fails = || async { StatusCode::INTERNAL_SERVER_ERROR };
    let address = serve(layered(Router::new().route("/", get(fails)))).await;
    let (mut failed, mut refused) = (0, 0);
    for _ in 0..8 {
        match connect(address).await.0 {
            500 => failed += 1,
            503 => refused += 1,
            other => panic!("nothing answers with {other}"),
        }
    }
    Figure::new(&format!("{failed} and {refused}"), (failed, refused) == (2, 6))
}

async fn crowding(layered: Layered) -> Figure {
    let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&most);
    let work = move || {
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        async move {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(50)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let address = serve(layered(Router::new().route("/", get(work)))).await;
    let calls: Vec<_> = (0..4).map(|_| tokio::spawn(connect(address))).collect();
    for call in calls {
        assert_eq!(call.await.expect("it does not panic").0, 200);
    }
    let most = seen.load(Ordering::SeqCst);
    Figure::new(&most, most == 1)
}

async fn streaming(layered: Layered) -> Figure {
    let address = serve(layered(Router::new().route("/", get(async || Body::new(Endless(false))))));
    let address = address.await;
    let (mut streams, mut connections) = (0, Vec::new());
    for _ in 0..4 {
        let (status, connection) = connect(address).await;
        streams += u32::from(status == 200);
        // What is dropped is no stream any more.
        connections.push(connection);
    }
    Figure::new(&streams, streams == 1)
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Asks on a connection of its own, and returns the status with the connection.
async fn connect(address: SocketAddr) -> (u16, TcpStream) {
    let mut connection = TcpStream::connect(address).await.expect("a listening server");
    connection.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("it reads");
    let mut head = [0; "HTTP/1.1 200".len()];
    connection.read_exact(&mut head).await.expect("it answers");
    let status = std::str::from_utf8(&head[9..]).ok().and_then(|status| status.parse().ok());
    (status.expect("a status"), connection)
}

/// A body whose first frame is not its last, and which has no other. It remembers whether the
/// first was read.
struct Endless(bool);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"first")))))
    }
}
