use std::convert::Infallible;

use http::{Request, Response};
use tower::ServiceExt;

use super::*;

fn answer()
-> impl Service<Request<u32>, Response = Response<String>, Error = Infallible, Future: Send> + Clone
{
    service_fn(|_: Request<u32>| async { Ok(Response::new(String::from("hello"))) })
}

/// Status, policy, state and `Retry-After`.
async fn told<S>(service: &mut S) -> (u16, String, String, Option<String>)
where
    S: Service<Request<u32>, Response = Response<String>, Error = Infallible>,
{
    assert!(service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    let response = service.call(Request::new(7)).await.unwrap();
    let header =
        |name: &str| Some(response.headers().get(name)?.to_str().expect("it is text").to_owned());
    let (policy, state) = (header("ratelimit-policy"), header("ratelimit"));
    let told = (policy.unwrap_or_default(), state.unwrap_or_default());
    (response.status().as_u16(), told.0, told.1, header("retry-after"))
}

#[tokio::test(start_paused = true)]
async fn every_response_says_what_the_limit_is_and_what_is_left_of_it() {
    let rate = Rate::per_minute(n(120)).burst(n(2));
    let mut service = RateLimitLayer::new("a \"b\"", rate).headers().layer(answer());
    let policy = String::from(r#""a \"b\"";q=2;w=1"#);
    let state = |rest: &str| format!(r#""a \"b\"";{rest}"#);

    let first = told(&mut service).await;
    let second = told(&mut service).await;
    let refused = told(&mut service).await;

    assert_eq!(first, (200, policy.clone(), state("r=1;t=1"), None));
    assert_eq!(second, (200, policy.clone(), state("r=0;t=1"), None));
    assert_eq!(refused, (429, policy, state("r=0;t=1"), Some("1".into())));
}

#[tokio::test(start_paused = true)]
async fn several_limits_and_those_of_a_key_are_told_in_one_list() {
    let rates = [Rate::per_second(n(5)), Rate::per_day(n(1000))];
    let layer = RateLimitLayer::several("api", rates).headers();
    let mut service = layer.keyed(|request: &Request<u32>| *request.body()).layer(answer());

    let (_, policy, state, _) = told(&mut service).await;

    assert_eq!(policy, r#""api";q=5;w=1, "api-2";q=1000;w=86400"#);
    assert_eq!(state, r#""api";r=4;t=1, "api-2";r=999;t=87"#);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_is_told_what_is_left_then() {
    let layer = RateLimitLayer::new("api", Rate::per_second(n(1)).burst(n(2))).headers();
    let mut service = layer.wait(TimeLimit::from_secs(5)).layer(answer());
    told(&mut service).await;
    told(&mut service).await;

    let (status, _, state, _) = told(&mut service).await;

    assert_eq!((status, &*state), (200, r#""api";r=0;t=1"#));
}

#[tokio::test(start_paused = true)]
async fn the_last_of_the_bucket_is_for_who_is_critical() {
    let layer = layer(Rate::per_second(n(10))).reserve(n(3), |request: &u32| *request == 0);
    let mut service = layer.layer(echo());

    let common = (0..10).filter(|_| assert_ready!(call(&mut service, 1).poll()).is_ok()).count();
    let critical = (0..10).filter(|_| assert_ready!(call(&mut service, 0).poll()).is_ok()).count();

    assert_eq!((common, critical), (7, 3));
}

#[tokio::test(start_paused = true)]
async fn of_two_reserves_the_greater_holds_for_who_may_have_neither() {
    let layer = layer(Rate::per_second(n(10)));
    let layer = layer.reserve(n(6), |request: &u32| *request < 2);
    let layer = layer.reserve(n(3), |request: &u32| *request == 0);
    let mut service = layer.layer(echo());

    let admitted = [2, 1, 0].map(|class| {
        (0..10).filter(|_| assert_ready!(call(&mut service, class).poll()).is_ok()).count()
    });

    assert_eq!(admitted, [4, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_the_bucket_is_for_who_is_critical_enough_by_the_class_that_travels() {
    use buttress_core::Criticality;

    let layer = RateLimitLayer::new("api", Rate::per_second(n(10)))
        .reserve_for(n(6), Criticality::Critical)
        .reserve_for(n(3), Criticality::CriticalPlus);
    let mut service = layer.layer(answer());
    let mut admits = async |class: Option<Criticality>, header: Option<&str>| {
        let mut request = Request::new(7);
        if let Some(class) = class {
            request.extensions_mut().insert(class);
        }
        if let Some(header) = header {
            request.headers_mut().insert(Criticality::HEADER, header.parse().unwrap());
        }
        service.ready().await.unwrap().call(request).await.unwrap().status() == 200
    };

    let mut sheddable = 0;
    for header in ["sheddable", "SHEDDABLE-PLUS", "sheddable", "sheddable", "sheddable"] {
        sheddable += u32::from(admits(None, Some(header)).await);
    }
    // What says nothing, and what says nonsense, is critical.
    let silent = [admits(None, None).await, admits(None, Some("urgent")).await];
    let extension_counts = admits(Some(Criticality::Sheddable), Some("critical_plus")).await;
    let last = [admits(None, None).await, admits(None, None).await];
    let mut most = 0;
    for _ in 0..5 {
        most += u32::from(admits(Some(Criticality::CriticalPlus), None).await);
    }

    assert_eq!((sheddable, silent, extension_counts), (4, [true, true], false));
    assert_eq!((last, most), ([true, false], 3));
}

/// What a client reads of one limit that is full.
async fn policy(rate: Rate) -> String {
    told(&mut RateLimitLayer::new("api", rate).headers().layer(answer())).await.1
}

/// RFC 9651, 3.3.1: an integer has fifteen digits at the most. And who goes by what it is told gets
/// what it may have.
#[tokio::test(start_paused = true)]
async fn a_policy_tells_the_rate_in_whole_seconds_and_in_numbers_of_fifteen_digits() {
    let in_all = Rate::new(n(1), TimeLimit::MAX).burst(n(u32::MAX));
    let at_once = Rate::new(n(u32::MAX), TimeLimit::try_from(Duration::from_nanos(1)).unwrap());

    let policies = [
        policy(Rate::per_second(n(100)).burst(n(5))).await,
        policy(Rate::per_second(n(100)).burst(n(150))).await,
        policy(Rate::per_minute(n(60)).burst(n(5))).await,
        policy(Rate::per_second(n(3)).burst(n(1))).await,
        policy(in_all).await,
        policy(at_once).await,
    ];

    let expected = [
        "q=100;w=1",
        "q=200;w=2",
        "q=5;w=5",
        "q=3;w=1",
        "q=31709791;w=999999999999999",
        "q=999999999999999;w=1",
    ];
    assert_eq!(policies, expected.map(|it| format!("\"api\";{it}")));
}

/// Revision 11, 6: `Retry-After` is not earlier than the end of a `t`.
#[tokio::test(start_paused = true)]
async fn no_field_says_a_later_time_than_retry_after_does() {
    let rates = [Rate::per_second(n(1)), Rate::per_day(n(1000))];
    let mut service =
        RateLimitLayer::several("api", rates).headers_named(["burst", "daily"]).layer(answer());

    let (_, policy, first, _) = told(&mut service).await;
    let (status, _, refused, retry_after) = told(&mut service).await;

    assert_eq!(policy, r#""burst";q=1;w=1, "daily";q=1000;w=86400"#);
    assert_eq!(first, r#""burst";r=0;t=1, "daily";r=999;t=87"#);
    assert_eq!((status, &*refused), (429, r#""burst";r=0;t=1, "daily";r=999"#));
    assert_eq!(retry_after.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn what_all_keys_have_together_is_told_to_none() {
    let layer = RateLimitLayer::several("api", [Rate::per_second(n(5))]).headers();
    let layer = layer.keyed(|request: &Request<u32>| *request.body());
    let mut service = layer.within([Rate::per_second(n(100))]).layer(answer());

    let (_, policy, state, _) = told(&mut service).await;

    assert_eq!((&*policy, &*state), (r#""api";q=5;w=1"#, r#""api";r=4;t=1"#));
}

#[tokio::test(start_paused = true)]
async fn what_bypasses_takes_nothing_and_is_told_nothing() {
    let layer = RateLimitLayer::new("api", Rate::per_second(n(1))).headers();
    let layer = layer.bypass(|request: &Request<u32>| *request.body() == 7);
    let handle = layer.reserve(n(1), |_: &Request<u32>| true);
    let (mut service, handle) = (handle.layer(answer()), handle.handle());

    let free = [told(&mut service).await, told(&mut service).await];

    assert_eq!(free, [(); 2].map(|()| (200, String::new(), String::new(), None)));
    assert_eq!((handle.peek().available, handle.totals()), (1, Totals::default()));
}

#[tokio::test(start_paused = true)]
async fn what_is_hopeless_is_told_so_and_not_when_to_come_again() {
    let layer = layer(Rate::per_second(n(1))).cost(|request: &u32| n(*request));
    let mut service = layer.layer(echo());
    let mut refused = |cost| match assert_ready!(call(&mut service, cost).poll()) {
        Ok(_) => None,
        Err(error) => {
            let rejection = Rejection::find(&*error).unwrap();
            Some((rejection.is_hopeless(), rejection.retry_after(), rejection.pushback_millis()))
        }
    };

    let said = [refused(1), refused(1), refused(2)];

    let wait = Duration::from_secs(1);
    let expected = [None, Some((false, Some(wait), Some(1000))), Some((true, None, Some(-1)))];
    assert_eq!(said, expected);
}
