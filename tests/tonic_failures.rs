//! What tonic makes of each way in which a service can fail: the ground that our strategies stand
//! on, pinned here because tonic promises none of it.

use std::{
    fmt,
    future::{Ready, ready},
    task::{Context, Poll},
};

use ::tonic::{Code, TimeoutExpired, body::Body, transport::Server};
use buttress::{BoxError, Kind, Protocol, Rejection};
use buttress_tests::{Moody, ask, channel, serve_grpc, soon};
use http::{Request, Response};
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};
use tower::{Layer, Service, load_shed::error::Overloaded, timeout::error::Elapsed};

#[tokio::test]
async fn each_failure_has_one_code_around_a_server_and_one_around_a_channel() {
    for (failure, around_server, around_channel) in TABLE {
        let (server_says, channel_says) = (server_with(failure).await, channel_with(failure).await);

        assert_eq!(server_says, around_server, "{failure:?} around a server");
        assert_eq!(channel_says, around_channel, "{failure:?} around a channel");
    }
}

/// The failure of a service, what the client of a server inside it sees, and what the caller of
/// a channel inside it sees.
const TABLE: [(Failure, Code, Code); 13] = [
    // Whatever the error is: it is lost here. This is why nothing of ours refuses in
    // `poll_ready`, and why the two columns below differ from those of the same error in `call`.
    (Failure::NotReady, Code::Internal, Code::Unknown),
    (Failure::NotReadyRejection, Code::Internal, Code::Unknown),
    // A server resets the stream on an error that it knows nothing of.
    (Failure::Plain, Code::Internal, Code::Unknown),
    (Failure::Elapsed, Code::Internal, Code::Unknown),
    (Failure::Overloaded, Code::ResourceExhausted, Code::ResourceExhausted),
    // Found at the top only, and not behind another error.
    (Failure::OverloadedInside, Code::Internal, Code::Unknown),
    // `Cancelled` is what a caller says who went away; nobody did.
    (Failure::TimeoutExpired, Code::Cancelled, Code::Cancelled),
    // The `Status` behind a rejection is found, however deep it is.
    (Failure::Rejection, Code::ResourceExhausted, Code::ResourceExhausted),
    (Failure::RejectionInside, Code::ResourceExhausted, Code::ResourceExhausted),
    // An HTTP status loses what a gRPC status says: 429 is no `ResourceExhausted`.
    (Failure::Http(429), Code::Unavailable, Code::Unavailable),
    (Failure::Http(503), Code::Unavailable, Code::Unavailable),
    (Failure::Http(504), Code::Unavailable, Code::Unavailable),
    (Failure::TrailersOnly, Code::ResourceExhausted, Code::ResourceExhausted),
];

/// A way to fail.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// `poll_ready` fails.
    NotReady,
    /// `poll_ready` fails with a rejection, which has a `Status`.
    NotReadyRejection,
    /// `call` fails with an error of nobody's.
    Plain,
    /// `call` fails as tower's timeout does.
    Elapsed,
    /// `call` fails as tower's load shedding does.
    Overloaded,
    /// Likewise, behind another error.
    OverloadedInside,
    /// `call` fails as tonic's own timeout does.
    TimeoutExpired,
    /// `call` fails with a rejection.
    Rejection,
    /// Likewise, behind another error.
    RejectionInside,
    /// An HTTP response without a body.
    Http(u16),
    /// A rejection as a gRPC response.
    TrailersOnly,
}

impl Failure {
    fn when_polled(self) -> Result<(), BoxError> {
        match self {
            Self::NotReady => Err("not ready".into()),
            Self::NotReadyRejection => Err(rejection().into()),
            _ => Ok(()),
        }
    }

    fn when_called(self) -> Result<Response<Body>, BoxError> {
        match self {
            Self::NotReady | Self::NotReadyRejection => unreachable!("called before it was ready"),
            Self::Plain => Err("no reason".into()),
            Self::Elapsed => Err(Elapsed::new().into()),
            Self::Overloaded => Err(Overloaded::new().into()),
            Self::OverloadedInside => Err(Behind(Overloaded::new().into()).into()),
            Self::TimeoutExpired => Err(TimeoutExpired(()).into()),
            Self::Rejection => Err(rejection().into()),
            Self::RejectionInside => Err(Behind(rejection().into()).into()),
            Self::Http(status) => Ok(Response::builder().status(status).body(Body::empty())?),
            Self::TrailersOnly => Ok(rejection().into_response(Protocol::Grpc)),
        }
    }
}

fn rejection() -> Rejection {
    Rejection::new(Kind::RateLimited, "test")
}

/// What a client sees of a server whose service fails.
async fn server_with(failure: Failure) -> Code {
    let mut server = Server::builder().layer(FailLayer(failure));
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;
    let mut client = HealthClient::new(channel(address).await);
    soon(client.check(ask(""))).await.unwrap_err().code()
}

/// What a caller sees of a service around a channel that fails.
async fn channel_with(failure: Failure) -> Code {
    let address = serve_grpc(Server::builder().add_service(HealthServer::new(Moody))).await;
    let mut client = HealthClient::new(FailLayer(failure).layer(channel(address).await));
    soon(client.check(ask(""))).await.unwrap_err().code()
}

#[derive(Clone, Copy)]
struct FailLayer(Failure);

impl<S> Layer<S> for FailLayer {
    type Service = Fail;

    fn layer(&self, _: S) -> Fail {
        Fail(self.0)
    }
}

/// Fails in place of what it stands around.
#[derive(Clone, Copy)]
struct Fail(Failure);

impl Service<Request<Body>> for Fail {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(self.0.when_polled())
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(self.0.when_called())
    }
}

/// An error that came from another.
#[derive(Debug)]
struct Behind(BoxError);

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was not me")
    }
}

impl std::error::Error for Behind {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
