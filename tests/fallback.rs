//! Fallbacks on real servers over loopback, and what an SLI around them counts.

use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::State, response::IntoResponse, routing::get};
use buttress::{
    BoxError, TimeLimit,
    fallback::{Degraded, FallbackLayer, StaleCache, StaleSettings},
    sli::SliLayer,
    slo::{Objective, Sli, SloLayer, SloTracker},
    timeout::TimeoutLayer,
};
use buttress_tests::{Moody, NEVER, ask, channel, http_client, serve, serve_grpc, soon};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tonic::{Status, transport::Server};
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

/// A router that works for as long as the flag is up.
fn shop(up: &Arc<AtomicBool>) -> Router {
    let page = |State(up): State<Arc<AtomicBool>>| async move {
        if up.load(Ordering::Relaxed) {
            "fresh".into_response()
        } else {
            StatusCode::BAD_GATEWAY.into_response()
        }
    };
    Router::new().route("/", get(page)).with_state(Arc::clone(up))
}

#[tokio::test]
async fn an_axum_server_answers_with_its_last_good_page() {
    let up = Arc::new(AtomicBool::new(true));
    let cache = StaleCache::new(StaleSettings::new());
    let layer = FallbackLayer::new("shop").stale(cache.clone());
    let sli = SliLayer::server("shop");
    let counts = sli.handle();
    let address = serve(shop(&up).layer(layer).layer(sli)).await;
    let (client, url) = (http_client(), format!("http://{address}/"));
    let page = || async { soon(client.get(&url).send()).await.unwrap() };

    assert_eq!(page().await.text().await.unwrap(), "fresh");
    assert_eq!(cache.len(), 1, "it was read to its end");
    up.store(false, Ordering::Relaxed);
    let degraded = page().await;

    assert_eq!(degraded.headers()["x-degraded"], "shop; rung=stale; age=0; stale");
    assert_eq!(degraded.text().await.unwrap(), "fresh");
    assert_eq!((counts.counts().good, counts.counts().bad, counts.degraded()), (2, 0, 1));
}

#[tokio::test]
async fn an_axum_server_answers_with_another_router_of_another_body() {
    let up = Arc::new(AtomicBool::new(false));
    let other = service_fn(|_: Request<Body>| {
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("the other"))))
    });
    let layer = FallbackLayer::new("shop").service(other);
    let address = serve(shop(&up).layer(layer)).await;

    let page = soon(http_client().get(format!("http://{address}/")).send()).await.unwrap();

    assert_eq!(page.text().await.unwrap(), "the other");
}

#[tokio::test(start_paused = true)]
async fn a_limited_route_of_axum_is_answered_for_in_each_order_of_writing() {
    let slow = || async {
        std::future::pending::<()>().await;
        "never"
    };
    let app: Router = Router::new().route("/", get(slow)).layer(
        ServiceBuilder::new()
            .layer(FallbackLayer::new("f").function(|parts, why| async move {
                Some(Response::new(Body::from(format!("{}: {why}", parts.uri))))
            }))
            .layer(TimeoutLayer::new("t", TimeLimit::from_millis(500))),
    );

    let page = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();

    let text = page.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "/: timed out before the end of the response (t)");
}

#[tokio::test]
async fn a_tonic_client_asks_another_server_with_the_same_message() {
    let mut down = Server::builder().layer(TimeoutLayer::new("t", TimeLimit::from_millis(20)));
    let down = serve_grpc(down.add_service(HealthServer::new(Moody))).await;
    // The other one serves even the service about which the first is silent.
    let well = serve_grpc(Server::builder().add_service(HealthServer::new(Well))).await;
    let layer = FallbackLayer::new("health").service(channel(well).await);
    let handle = layer.handle();
    let mut client = HealthClient::new(layer.layer(channel(down).await));

    let answer = soon(client.check(ask(NEVER))).await.unwrap();

    assert_eq!(answer.metadata().get("x-degraded").unwrap(), "health; rung=service");
    assert!(answer.extensions().get::<Degraded>().is_some());
    assert_eq!(answer.into_inner().status, 1);
    assert_eq!(handle.snapshot().rung("service").unwrap().answered, 1);
}

/// Serves everybody.
#[derive(Clone)]
struct Well;

#[tonic::async_trait]
impl tonic_health::pb::health_server::Health for Well {
    async fn check(
        &self,
        _: tonic::Request<tonic_health::pb::HealthCheckRequest>,
    ) -> Result<tonic::Response<tonic_health::pb::HealthCheckResponse>, Status> {
        Moody.check(tonic::Request::new(ask(""))).await
    }

    type WatchStream = <Moody as tonic_health::pb::health_server::Health>::WatchStream;

    async fn watch(
        &self,
        request: tonic::Request<tonic_health::pb::HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Moody.watch(request).await
    }
}

#[tokio::test]
async fn a_reqwest_client_gets_responses_of_its_own() {
    let up = Arc::new(AtomicBool::new(true));
    let address = serve(shop(&up)).await;
    let layer = FallbackLayer::new("shop").stale(StaleCache::new(StaleSettings::new())).respond(
        StatusCode::OK,
        "text/plain",
        "constant",
    );
    let service = layer.layer(http_client());
    let call = |path: &str| {
        let url = format!("http://{address}{path}").parse().unwrap();
        soon(service.clone().oneshot(reqwest::Request::new(http::Method::GET, url)))
    };

    assert_eq!(call("/").await.unwrap().text().await.unwrap(), "fresh");
    up.store(false, Ordering::Relaxed);
    let stale = call("/").await.unwrap();
    assert_eq!(stale.headers()["x-degraded"], "shop; rung=stale; age=0; stale");
    assert_eq!(stale.text().await.unwrap(), "fresh");
    assert_eq!(call("/?other").await.unwrap().text().await.unwrap(), "constant");
    assert_eq!(call("/404").await.unwrap().status(), 404);
}

#[tokio::test(start_paused = true)]
async fn objectives_count_degraded_answers_as_good_unless_told_otherwise() {
    let objective =
        || Objective::new("up".parse().unwrap(), Sli::Availability, "99.9%".parse().unwrap());
    for (strict, good, bad) in [(false, 1, 0), (true, 0, 1)] {
        let tracker = SloTracker::new("shop".parse().unwrap(), [objective()]).unwrap();
        let slo = SloLayer::server("shop", &tracker);
        let slo = if strict { slo.degraded_is_bad() } else { slo };
        let handle = slo.handle();
        let service = ServiceBuilder::new()
            .layer(slo)
            .layer(FallbackLayer::new("f").respond(StatusCode::OK, "text/plain", "constant"))
            .service(service_fn(|_: Request<Full<Bytes>>| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Err::<Response<Full<Bytes>>, _>(BoxError::from("down"))
            }));

        let answer = service.oneshot(Request::new(Full::default())).await.unwrap();
        answer.into_body().collect().await.unwrap();

        let counts = tracker.recorder("up").unwrap().counts();
        assert_eq!((counts.good, counts.bad, handle.degraded()), (good, bad, 1));
    }
}
