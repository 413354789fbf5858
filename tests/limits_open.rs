//! What users of rate limits may expect and do not get yet.

use std::{convert::Infallible, net::SocketAddr, num::NonZeroU32};

use buttress::{
    BoxError, Plain, Rate, TimeLimit,
    http::{TrustedProxies, key},
    rate_limit::RateLimitLayer,
};
use buttress_redis::{FleetLimitLayer, Lease, MemoryStore, Settings};
use buttress_tests::{Moody, ask, channel, serve_grpc, soon};
use http::{Request, Response};
use tonic::transport::Server;
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};
use tower::{Layer, Service, ServiceExt, service_fn};

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

#[derive(Clone, Debug)]
struct Echo;

impl Service<u32> for Echo {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Ready<Result<u32, BoxError>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        std::future::ready(Ok(request))
    }
}

const CRITICAL: u32 = 99;

fn leased() -> FleetLimitLayer<MemoryStore, Plain> {
    let (rate, settings) = (Rate::per_hour(n(100)), Settings::leased(Lease::new(n(50))));
    FleetLimitLayer::new("api", rate, settings, MemoryStore::new()).exchange(Plain)
}

/// Requests of some in turn with those of others who may have less, until nobody gets anything; how
/// many were admitted of the first, and of the last.
async fn in_turn<L, const N: usize>(layer: &L, requests: [u32; N]) -> [u32; N]
where
    L: Layer<Echo>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    let mut admitted = [0; N];
    for _ in 0..200 {
        for (admitted, request) in admitted.iter_mut().zip(requests) {
            *admitted += u32::from(layer.layer(Echo).oneshot(request).await.is_ok());
        }
    }
    admitted
}

#[tokio::test(start_paused = true)]
async fn a_reserve_of_a_fleet_holds_whether_keys_are_named_before_it_or_after() {
    let critical = |request: &u32| *request == CRITICAL;
    let before = leased().reserve(n(40), critical).keyed(|_: &u32| 1_u32);
    let after = leased().keyed(|_: &u32| 1_u32).reserve(n(40), critical);

    let after = in_turn(&after, [CRITICAL, 1]).await;
    let before = in_turn(&before, [CRITICAL, 1]).await;

    // In turn they take sixty, and the rest is for who is critical.
    assert_eq!((after, before), ([70, 30], [70, 30]));
}

#[tokio::test(start_paused = true)]
async fn of_two_reserves_of_a_fleet_the_greater_holds_in_whichever_order() {
    let (most, some) = (|it: &u32| *it == CRITICAL, |it: &u32| *it >= 50);
    let ascending = leased().reserve(n(10), most).reserve(n(40), some);
    let descending = leased().reserve(n(40), some).reserve(n(10), most);

    // Who may have all but ten, and who may have all but forty.
    let ascending = in_turn(&ascending, [50, 1]).await;
    let descending = in_turn(&descending, [50, 1]).await;

    assert_eq!((ascending, descending), ([60, 30], [60, 30]));
}

/// tonic's own server says who has connected in an extension of its own.
#[tokio::test]
async fn a_client_of_a_tonic_server_is_known_by_its_address() {
    let limit = RateLimitLayer::new("r", Rate::per_hour(n(10)))
        .keyed(key::client_address(TrustedProxies::none()));
    let handle = limit.handle();
    let mut server = Server::builder().layer(limit);
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;

    soon(HealthClient::new(channel(address).await).check(ask(""))).await.unwrap();

    let known = [None, Some("127.0.0.1".parse().unwrap())].map(|key| handle.peek(&key).is_some());
    assert_eq!(known, [false, true], "nobody, and the client's address");
}

/// RFC 7239, by a proxy that is trusted and writes nothing else.
#[tokio::test]
async fn who_is_named_in_forwarded_by_a_proxy_of_ours_is_the_client() {
    let proxies = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
    let client = key::client_address(proxies);
    let mut request = Request::new(());
    request.extensions_mut().insert(SocketAddr::from(([10, 0, 0, 1], 443)));
    request.headers_mut().insert(
        "forwarded",
        "for=1.1.1.1, for=\"[2001:db8::7]:4711\";proto=https".parse().unwrap(),
    );

    assert_eq!(client(&request), Some("2001:db8::".parse().unwrap()));
}

fn answer()
-> impl Service<Request<()>, Response = Response<String>, Error = Infallible, Future: Send> + Clone
{
    service_fn(|_: Request<()>| async { Ok(Response::new(String::new())) })
}

async fn header(rate: Rate, name: &str) -> String {
    let service = RateLimitLayer::new("api", rate).headers().layer(answer());
    let response = service.oneshot(Request::new(())).await.unwrap();
    response.headers()[name].to_str().unwrap().to_owned()
}

/// RFC 9651, 3.3.1: an integer has fifteen digits at the most.
#[tokio::test]
async fn numbers_in_headers_are_those_that_structured_fields_allow() {
    let rate = Rate::new(n(1), TimeLimit::MAX).burst(n(u32::MAX));

    let policy = header(rate, "ratelimit-policy").await;

    let window = policy.rsplit_once(";w=").unwrap().1;
    assert!(window.len() <= 15, "{policy}");
}

/// Who goes by what it is told gets what it may have: a hundred a second, not five.
#[tokio::test]
async fn a_policy_whose_burst_takes_less_than_a_second_tells_the_rate() {
    let policy = header(Rate::per_second(n(100)).burst(n(5)), "ratelimit-policy").await;

    let number = |name: &str| -> f64 {
        let from = policy.split_once(name).unwrap().1;
        from.split(';').next().unwrap().parse().unwrap()
    };
    let told = number(";q=") / number(";w=");
    assert!(told >= 99.0, "{told} a second: {policy}");
}

/// gRPC's A6: a client that is told a negative number does not try again.
#[tokio::test]
async fn a_grpc_caller_that_asks_for_too_much_is_told_not_to_try_again() {
    let limit = RateLimitLayer::new("r", Rate::per_hour(n(1))).cost(|_: &Request<_>| n(2));
    let mut server = Server::builder().layer(limit);
    let address = serve_grpc(server.add_service(HealthServer::new(Moody))).await;

    let refused = soon(HealthClient::new(channel(address).await).check(ask(""))).await.unwrap_err();

    let pushback = refused.metadata().get("grpc-retry-pushback-ms");
    assert!(pushback.is_some_and(|value| value == "-1"), "{pushback:?}");
}

/// Strangers with keys without number, each of whom comes once: an IPv6 network, or whatever stands
/// in a header that nobody has looked at yet.
#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_does_not_lock_out_who_has_used_a_fifth_of_its_own() {
    let limit = RateLimitLayer::new("r", Rate::per_hour(n(5)))
        .exchange(Plain)
        .keyed(|key: &u32| *key)
        .capacity(1000.try_into().unwrap());
    let mut service = limit.layer(Echo);
    let customer = u32::MAX;
    let first = service.call(customer).await.is_ok();

    for stranger in 0..10_000 {
        let _ = service.call(stranger).await;
    }

    let (known, newcomer) = (service.call(customer).await, service.call(customer - 1).await);
    assert_eq!((first, known.is_ok(), newcomer.is_ok()), (true, true, true));
}
