//! A plain `.layer(..)` of rate limits in each configuration and each world, and keys as users find
//! them: in addresses, headers, routes and extensions.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request as AxumRequest},
    handler::Handler,
    routing::get,
};
use buttress::{
    Criticality, Rate, Rejection, TimeLimit,
    http::{TrustedProxies, key},
    rate_limit::RateLimitLayer,
};
use buttress_redis::{FleetLimitLayer, Lease, MemoryStore, Settings as How};
use buttress_tests::{Moody, ask, channel, http_client, http2_client, serve_grpc, soon};
use http::{Request, Response};
use tonic::transport::Server;
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};
use tower::{
    Layer, ServiceBuilder, ServiceExt, service_fn,
    util::{BoxCloneSyncService, option_layer},
};

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn ample() -> Rate {
    Rate::per_second(n(1000))
}

fn plain() -> RateLimitLayer {
    RateLimitLayer::new("r", ample())
}

macro_rules! limits {
    ($with:ident) => {
        $with!(plain());
        $with!(RateLimitLayer::several("r", [ample(), Rate::per_day(n(100_000))]));
        $with!(plain().wait(TimeLimit::from_secs(1)));
        $with!(plain().keyed(|_: &_| "k"));
        $with!(
            plain()
                .keyed(|_: &_| "k")
                .within([ample()])
                .capacity(9.try_into().unwrap())
                .wait(TimeLimit::from_secs(1))
                .cost(|_: &_| n(2))
                .reserve(n(3), |_: &_| false)
        );
        $with!(plain().cost(|_: &_| n(2)));
        $with!(plain().reserve(n(2), |_: &_| false));
    };
}

/// Those that want requests or responses of `http`.
macro_rules! http_limits {
    ($with:ident) => {
        limits!($with);
        $with!(plain().headers());
        $with!(plain().reserve_for(n(2), Criticality::CriticalPlus));
        $with!(plain().keyed(key::client_address(TrustedProxies::none())).headers());
        $with!(plain().keyed(|request: &Request<_>| request.uri().path().to_owned()));
        $with!(plain().keyed(|request: &Request<_>| request.headers().get("x-api-key").cloned()));
    };
}

#[tokio::test]
async fn axum_takes_each_on_routers_routes_methods_and_handlers() {
    macro_rules! on {
        ($layer:expr) => {{
            let hi = || async { "hi" };
            let apps: [Router; 5] = [
                Router::new().route("/", get(hi)).layer($layer),
                Router::new().route("/", get(hi).layer($layer)),
                Router::new().route("/", get(hi.layer($layer))),
                Router::new().route("/", get(hi)).route_layer($layer),
                Router::new().route("/", get(hi)).layer(option_layer(Some($layer))),
            ];
            for app in apps {
                let request = Request::get("/").body(Body::empty()).unwrap();
                assert_eq!(app.oneshot(request).await.unwrap().status(), 200);
            }
        }};
    }
    http_limits!(on);
}

#[tokio::test]
async fn tonic_takes_each_on_a_server_a_service_and_a_channel() {
    use tonic::service::LayerExt as _;
    macro_rules! server {
        ($layer:expr) => {{
            let mut server = Server::builder().layer($layer);
            let whole = serve_grpc(server.add_service(HealthServer::new(Moody))).await;
            let service = $layer.named_layer(HealthServer::new(Moody));
            let each = serve_grpc(Server::builder().add_service(service)).await;
            for address in [whole, each] {
                soon(HealthClient::new(channel(address).await).check(ask(""))).await.unwrap();
            }
        }};
    }
    http_limits!(server);
    let address = serve_grpc(Server::builder().add_service(HealthServer::new(Moody))).await;
    macro_rules! client {
        ($layer:expr) => {{
            let stack = ServiceBuilder::new().layer($layer).service(channel(address).await);
            soon(HealthClient::new(stack).check(ask(""))).await.unwrap();
        }};
    }
    http_limits!(client);
}

#[tokio::test]
async fn reqwest_and_hyper_take_each() {
    let app: Router = Router::new().route("/", get(|| async { "hi" }));
    let url = format!("http://{}/", buttress_tests::serve(app).await);
    macro_rules! reqwests {
        ($layer:expr) => {{
            let stack = ServiceBuilder::new().layer($layer).service(http_client());
            let request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
            soon(stack.oneshot(request)).await.unwrap();
        }};
    }
    limits!(reqwests);
    macro_rules! hypers {
        ($layer:expr) => {{
            let stack = ServiceBuilder::new().layer($layer).service(http2_client::<Body>());
            soon(stack.oneshot(Request::get(&url).body(Body::empty()).unwrap())).await.unwrap();
        }};
    }
    http_limits!(hypers);
}

#[tokio::test]
async fn each_can_be_boxed_with_a_body_that_is_boxed() {
    type Boxed = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Infallible>;
    let bare = service_fn(|_: Request<Boxed>| async {
        Ok::<_, Infallible>(Response::new(Boxed::default()))
    });
    macro_rules! boxed {
        ($layer:expr) => {{
            let service: BoxCloneSyncService<Request<Boxed>, Response<Boxed>, Infallible> =
                BoxCloneSyncService::new($layer.layer(bare));
            let response = service.clone().oneshot(Request::new(Boxed::default())).await.unwrap();
            assert_eq!(response.status(), 200);
        }};
    }
    http_limits!(boxed);
}

/// What the limits of a fleet add to those that `everywhere` has.
#[tokio::test]
async fn a_limit_of_a_fleet_can_be_boxed_and_be_an_option() {
    let fleet = |settings| FleetLimitLayer::new("f", ample(), settings, MemoryStore::new());
    let by_address = || key::client_address(TrustedProxies::none());
    macro_rules! boxed {
        ($layer:expr) => {{
            let bare = service_fn(|_: Request<Body>| async {
                Ok::<_, Infallible>(Response::new(Body::empty()))
            });
            let service: BoxCloneSyncService<Request<Body>, Response<Body>, Infallible> =
                BoxCloneSyncService::new($layer.layer(bare));
            let app = Router::new().route("/", get(|| async {})).layer(option_layer(Some($layer)));
            let request = || Request::get("/").body(Body::empty()).unwrap();
            assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), 200);
            assert_eq!(app.oneshot(request()).await.unwrap().status(), 200);
        }};
    }
    boxed!(fleet(How::strict()).headers());
    boxed!(fleet(How::strict()).keyed(by_address()).cost(|_: &_| n(2)).headers());
    boxed!(fleet(How::leased(Lease::new(n(5)))).keyed(by_address()).reserve(n(3), |_: &_| false));
}

/// What a router answers to one request after the other.
async fn statuses<const N: usize>(app: Router, requests: [Request<Body>; N]) -> [u16; N] {
    let mut statuses = [0; N];
    for (status, request) in statuses.iter_mut().zip(requests) {
        *status = app.clone().oneshot(request).await.unwrap().status().as_u16();
    }
    statuses
}

fn once() -> RateLimitLayer {
    RateLimitLayer::new("r", Rate::per_hour(n(1)))
}

fn get_of(path: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

fn hello() -> Router {
    Router::new()
        .route("/users/{id}", get(|| async { "a user" }))
        .route("/orders/{id}", get(|| async { "an order" }))
}

#[tokio::test]
async fn an_api_key_a_header_a_route_and_an_extension_are_keys() {
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Tenant(u64);
    let key_of = |request: &AxumRequest| request.headers().get("x-api-key").cloned();
    let route_of = |request: &AxumRequest| key::route(request).into_owned();
    let tenant_of = |request: &AxumRequest| request.extensions().get::<Tenant>().cloned();
    let of_tenant = |tenant| {
        let mut request = get_of("/users/1", &[]);
        request.extensions_mut().insert(Tenant(tenant));
        request
    };

    let by_key = statuses(
        hello().layer(once().keyed(key_of)),
        [("a", "/users/1"), ("a", "/users/2"), ("b", "/users/1")]
            .map(|(key, path)| get_of(path, &[("x-api-key", key)])),
    );
    let by_route = statuses(
        hello().route_layer(once().keyed(route_of)),
        ["/users/1", "/users/2", "/orders/1"].map(|path| get_of(path, &[])),
    );
    let by_tenant = statuses(hello().layer(once().keyed(tenant_of)), [1, 1, 2].map(of_tenant));

    assert_eq!(by_key.await, [200, 429, 200]);
    assert_eq!(by_route.await, [200, 429, 200]);
    assert_eq!(by_tenant.await, [200, 429, 200]);
}

/// A request that `peer` hands over, with what it says of whom it came from.
fn from(peer: &str, forwarded: &[&str]) -> Request<Body> {
    let forwarded: Vec<_> = forwarded.iter().map(|list| ("x-forwarded-for", *list)).collect();
    let mut request = get_of("/users/1", &forwarded);
    let peer: IpAddr = peer.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer, 4711)));
    request
}

fn by_client(trusted: &[&str]) -> Router {
    let proxies = TrustedProxies::parse(trusted.iter().copied()).unwrap();
    hello().layer(once().keyed(key::client_address(proxies)))
}

#[tokio::test]
async fn nobody_is_another_client_by_what_it_writes() {
    let trusted = &["10.0.0.0/8", "fd00::/8"];

    // No proxy of ours: whatever it says, it is itself.
    let strangers = [from("203.0.113.1", &["1.1.1.1"]), from("203.0.113.1", &["2.2.2.2"])];
    // Behind two of ours, with inventions before, in one list or in lines of their own.
    let inventions = [
        from("10.0.0.1", &["203.0.113.7, 10.0.0.2"]),
        from("10.0.0.1", &["1.1.1.1, 203.0.113.7, 10.0.0.2"]),
        from("10.0.0.1", &["1.1.1.1", "203.0.113.7", "10.0.0.2"]),
        from("10.0.0.1", &["10.9.9.9, 203.0.113.7,10.0.0.2"]),
        from("10.0.0.1", &["203.0.113.7:9999"]),
        from("::ffff:10.0.0.1", &["::ffff:203.0.113.7"]),
        from("fd00::1", &["203.0.113.7"]),
    ];

    let strangers = statuses(by_client(trusted), strangers).await;
    let inventions = statuses(by_client(trusted), inventions).await;

    assert_eq!(strangers, [200, 429]);
    assert_eq!(inventions, [200, 429, 429, 429, 429, 429, 429]);
}

#[tokio::test]
async fn a_subscriber_of_ipv6_is_one_client_and_a_mapped_address_is_the_one_it_maps() {
    let of_v6 = [
        from("2001:db8:1:2::1", &[]),
        from("2001:db8:1:2:ffff:ffff:ffff:ffff", &[]),
        from("2001:db8:1:3::1", &[]),
    ];
    let mapped = [
        from("::ffff:203.0.113.1", &[]),
        from("203.0.113.1", &[]),
        from("::ffff:203.0.113.2", &[]),
    ];

    assert_eq!(statuses(by_client(&[]), of_v6).await, [200, 429, 200]);
    assert_eq!(statuses(by_client(&[]), mapped).await, [200, 429, 200]);
}

/// As the manual says: so the service has to be made with connect info.
#[tokio::test]
async fn requests_of_which_nobody_says_who_has_connected_share_a_key() {
    let unknown = [get_of("/users/1", &[]), get_of("/users/1", &[("x-forwarded-for", "1.1.1.1")])];

    assert_eq!(statuses(by_client(&["0.0.0.0/0", "::/0"]), unknown).await, [200, 429]);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_is_told_of_each_limit_and_when_the_one_that_refused_it_admits_again() {
    let rates = [Rate::per_second(n(2)), Rate::per_day(n(3))];
    let limit = RateLimitLayer::several("api", rates).headers();
    let app = hello().layer(limit);
    let mut told = Vec::new();

    for pause in [0, 0, 0, 1, 0] {
        tokio::time::advance(Duration::from_secs(pause)).await;
        let response = app.clone().oneshot(get_of("/users/1", &[])).await.unwrap();
        let header = |name: &str| {
            response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        told.push((response.status().as_u16(), header("ratelimit"), header("retry-after")));
    }

    let line = |status, state: &str, after: &str| (status, state.to_owned(), after.to_owned());
    let expected = [
        line(200, r#""api";r=1;t=1, "api-2";r=2;t=28800"#, ""),
        line(200, r#""api";r=0;t=1, "api-2";r=1;t=28800"#, ""),
        line(429, r#""api";r=0;t=1, "api-2";r=1"#, "1"),
        line(200, r#""api";r=1;t=1, "api-2";r=0;t=28799"#, ""),
        line(429, r#""api";r=1;t=1, "api-2";r=0;t=28799"#, "28799"),
    ];
    assert_eq!(told, expected);
}

/// A refusal is found in the response by layers further out.
#[tokio::test]
async fn a_refusal_stands_in_the_extensions_of_the_response() {
    let app = hello().layer(once());

    let mut last = None;
    for _ in 0..2 {
        last = Some(app.clone().oneshot(get_of("/users/1", &[])).await.unwrap());
    }

    let refused = last.unwrap();
    let rejection = refused.extensions().get::<Rejection>().unwrap();
    let wait = rejection.retry_after().unwrap();
    assert!(wait > Duration::from_secs(3500) && wait <= Duration::from_secs(3600), "{wait:?}");
}
