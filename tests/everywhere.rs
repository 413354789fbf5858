//! A plain `.layer(..)` of breakers, bulkheads, retries, hedges, throttles, fallbacks and limits of a
//! fleet, in each configuration and each world.

use std::{borrow::Cow, time::Duration};

use axum::{Router, body::Body, handler::Handler, routing::get};
use buttress::{
    Criticality, Rate, Ratio, TimeLimit,
    breaker::{BreakerLayer, Isolation, Settings, Trip},
    bulkhead::{Adaptive, BulkheadLayer, Partitions, Shedding},
    fallback::{FallbackLayer, StaleCache, StaleSettings},
    hedge::{Delay, HedgeLayer, Settings as Hedges, Switch},
    http::StatusRules,
    retry::{Backoff, RetryLayer, Settings as Retries},
    throttle::{Settings as Excess, ThrottleLayer},
};
use buttress_redis::{FleetLimitLayer, Lease, MemoryStore, Settings as How};
use buttress_tests::{Moody, ask, channel, http_client, http2_client, serve_grpc, soon};
use http::{Request, StatusCode};
use tonic::transport::Server;
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};
use tower::{ServiceBuilder, ServiceExt};

fn parts() -> Partitions {
    Partitions::new().share("a", Ratio::percent(50))
}

macro_rules! bulkheads {
    ($with:ident) => {
        $with!(
            BulkheadLayer::new("b", 2.try_into().unwrap()).queue(3).wait(TimeLimit::from_secs(1))
        );
        $with!(BulkheadLayer::new("b", 2.try_into().unwrap()).partitions(parts(), |_: &_| "a"));
        $with!(BulkheadLayer::new("b", 2.try_into().unwrap()).bypass(|_: &_| false));
        $with!(
            BulkheadLayer::new("b", 2.try_into().unwrap())
                .criticality_by(Shedding::new(), |_: &_| Some(Criticality::Critical))
        );
        $with!(
            BulkheadLayer::new("b", 2.try_into().unwrap())
                .adaptive(Adaptive::gradient2())
                .until_head()
        );
        $with!(
            BulkheadLayer::new("b", 2.try_into().unwrap())
                .partitions(parts(), |_: &_| "a")
                .bypass(|_: &_| false)
                .criticality_by(Shedding::new(), |_: &_| None)
        );
    };
}
macro_rules! breakers {
    ($with:ident) => {
        $with!(BreakerLayer::new("b", Settings::rate()));
        $with!(
            BreakerLayer::new(
                "b",
                Settings::rate().or(Trip::slow_rate(Ratio::percent(50), TimeLimit::from_secs(1)))
            )
            .isolated_by(&Isolation::new())
        );
        $with!(BreakerLayer::new("b", Settings::rate()).keyed(|_: &_| Cow::Borrowed("k")));
        $with!(BreakerLayer::new("b", Settings::rate()).judge(StatusRules::DEFAULT));
        $with!(
            BreakerLayer::new("b", Settings::rate())
                .judge(StatusRules::DEFAULT)
                .keyed(|_: &_| Cow::Borrowed("k"))
        );
    };
}
macro_rules! hedges {
    ($with:ident) => {
        $with!(HedgeLayer::new("h", Hedges::default()));
        $with!(HedgeLayer::new("h", Hedges::new(Delay::at_once())).extra::<3>());
        $with!(HedgeLayer::new("h", Hedges::default()).judge(StatusRules::DEFAULT));
        $with!(HedgeLayer::new("h", Hedges::default()).switch(|_: &_| Some(Switch::On)));
    };
}
macro_rules! retries {
    ($with:ident) => {
        $with!(RetryLayer::new("r", Retries::default()));
        $with!(RetryLayer::new(
            "r",
            Retries::new(Backoff::constant(Duration::ZERO))
                .attempt_timeout(TimeLimit::from_secs(9))
        ));
        $with!(RetryLayer::new("r", Retries::plain()).judge(StatusRules::DEFAULT));
    };
}
macro_rules! throttles {
    ($with:ident) => {
        $with!(ThrottleLayer::new("t", Excess::new()));
        $with!(ThrottleLayer::new("t", Excess::new()).judge(StatusRules::DEFAULT));
    };
}
macro_rules! fallbacks {
    ($with:ident) => {
        $with!(FallbackLayer::new("f").respond(StatusCode::OK, "text/plain", "x"));
        $with!(FallbackLayer::new("f").stale(StaleCache::new(StaleSettings::new())));
        $with!(
            FallbackLayer::new("f")
                .function(|_, _| std::future::ready(None::<http::Response<String>>))
                .value(|| http::Response::new(String::new()))
                .within(TimeLimit::from_secs(1))
        );
        $with!(
            FallbackLayer::new("f")
                .judge(StatusRules::DEFAULT)
                .function_sync(|_, _| None::<http::Response<String>>)
        );
    };
}

macro_rules! fleet_limits {
    ($with:ident) => {
        $with!(fleet(How::strict()));
        $with!(fleet(How::leased(Lease::new(5.try_into().unwrap()))).keyed(|_: &_| "k"));
        $with!(fleet(How::strict()).cost(|_: &_| 2.try_into().unwrap()));
        $with!(fleet(How::strict()).reserve(2.try_into().unwrap(), |_: &_| false));
    };
}

fn fleet(settings: How) -> FleetLimitLayer<MemoryStore> {
    let rate = Rate::per_second(1000.try_into().unwrap());
    FleetLimitLayer::new("f", rate, settings, MemoryStore::new())
}

#[tokio::test]
async fn axum_takes_each_on_routers_routes_methods_and_handlers() {
    macro_rules! on {
        ($layer:expr) => {{
            let app: Router = Router::new().route("/", get(|| async { "hi" })).layer($layer);
            assert_eq!(
                app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap().status(),
                200
            );
            let app: Router = Router::new().route("/", get(|| async { "hi" }).layer($layer));
            assert_eq!(
                app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap().status(),
                200
            );
            let app: Router = Router::new().route("/", get((|| async { "hi" }).layer($layer)));
            assert_eq!(
                app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap().status(),
                200
            );
            let app: Router = Router::new().route("/", get(|| async { "hi" })).route_layer($layer);
            assert_eq!(
                app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap().status(),
                200
            );
        }};
    }
    bulkheads!(on);
    breakers!(on);
    retries!(on);
    hedges!(on);
    throttles!(on);
    fallbacks!(on);
    fleet_limits!(on);
}

#[tokio::test]
async fn tonic_takes_each_on_a_server_and_a_channel() {
    macro_rules! whole {
        ($layer:expr) => {{
            let mut server = Server::builder().layer($layer);
            let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;
            soon(HealthClient::new(channel(address).await).check(ask(""))).await.unwrap();
        }};
    }
    bulkheads!(whole);
    breakers!(whole);
    retries!(whole);
    hedges!(whole);
    throttles!(whole);
    fallbacks!(whole);
    fleet_limits!(whole);
    let address = serve_grpc(Server::builder().add_service(HealthServer::new(Moody))).await;
    macro_rules! client {
        ($layer:expr) => {{
            let stack = ServiceBuilder::new().layer($layer).service(channel(address).await);
            soon(HealthClient::new(stack).check(ask(""))).await.unwrap();
        }};
    }
    bulkheads!(client);
    breakers!(client);
    retries!(client);
    hedges!(client);
    throttles!(client);
    fallbacks!(client);
    fleet_limits!(client);
}

#[tokio::test]
async fn tonic_takes_each_on_a_service() {
    use tonic::service::LayerExt as _;
    macro_rules! each {
        ($layer:expr) => {{
            let service = $layer.named_layer(HealthServer::new(Moody));
            let address = serve_grpc(Server::builder().add_service(service)).await;
            soon(HealthClient::new(channel(address).await).check(ask(""))).await.unwrap();
        }};
    }
    bulkheads!(each);
    breakers!(each);
    retries!(each);
    hedges!(each);
    throttles!(each);
    fallbacks!(each);
    fleet_limits!(each);
}

#[tokio::test]
async fn reqwest_and_hyper_take_each() {
    let app: Router = Router::new().route("/", get(|| async { "hi" }));
    let address = buttress_tests::serve(app).await;
    let url = format!("http://{address}/");
    macro_rules! reqwests {
        ($layer:expr) => {{
            let stack = ServiceBuilder::new().layer($layer).service(http_client());
            let request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
            soon(stack.oneshot(request)).await.unwrap();
        }};
    }
    bulkheads!(reqwests);
    breakers!(reqwests);
    retries!(reqwests);
    hedges!(reqwests);
    throttles!(reqwests);
    fallbacks!(reqwests);
    fleet_limits!(reqwests);
    macro_rules! hypers {
        ($layer:expr) => {{
            let stack = ServiceBuilder::new().layer($layer).service(http2_client::<Body>());
            soon(stack.oneshot(Request::get(&url).body(Body::empty()).unwrap())).await.unwrap();
        }};
    }
    bulkheads!(hypers);
    breakers!(hypers);
    retries!(hypers);
    hedges!(hypers);
    throttles!(hypers);
    fallbacks!(hypers);
    fleet_limits!(hypers);
}
