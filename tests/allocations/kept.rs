//! What a request costs that may be sent again, or whose answer may be stored.

use std::{convert::Infallible, future::ready, hint::black_box, time::Duration};

use buttress::{
    Ratio,
    fallback::{FallbackLayer, StaleCache, StaleSettings},
    hedge::{Delay, HedgeLayer, Quantile, Settings as Hedges},
    retry::{Budget, InFlight, RetryLayer, Settings as Attempts, Tokens},
};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::{runtime::Runtime, time::sleep};
use tower::{Layer, Service, service_fn};

use super::{LIMIT, allocations, get, poll_counting, prompt, runtime};

/// The two parts of a header map and the two of an extension map, one extension in its box, and
/// what the value of one header takes to be shared from now on: the one copy of the head of a
/// request that may be sent again. Its method and address cost nothing here.
const COPY_OF_HEAD: u64 = 6;

/// A request with one header and one extension.
fn furnished(method: &'static str) -> Request<()> {
    let request = Request::builder().method(method).uri("/").header("accept", "*/*");
    request.extension("of a router").body(()).unwrap()
}

#[test]
fn a_retry_that_is_not_needed_costs_the_one_copy_of_the_head_that_it_keeps() {
    let runtime = runtime();
    for settings in [
        Attempts::default(),
        Attempts::default().budget(Tokens::new(10)),
        Attempts::default().budget(InFlight::new(Ratio::percent(20))),
    ] {
        let mut retry = RetryLayer::new("r", settings.clone()).layer(prompt());
        let mut once = RetryLayer::new("r", settings.attempts(1)).layer(prompt());

        assert_eq!(allocations(&runtime, &mut retry, || furnished("GET")), COPY_OF_HEAD);
        assert_eq!(allocations(&runtime, &mut retry, get), 0, "of a head with nothing in it");
        // What cannot be retried.
        assert_eq!(allocations(&runtime, &mut retry, || furnished("POST")), 0);
        assert_eq!(allocations(&runtime, &mut once, || furnished("GET")), 0);
    }
}

#[test]
fn a_hedge_that_does_not_fire_costs_the_one_copy_of_the_head_that_it_keeps() {
    let runtime = runtime();
    let later = || Delay::fixed(LIMIT.get());
    for settings in [
        Hedges::new(later()),
        Hedges::new(Quantile::new(Ratio::percent(95)).minimum(1).floor(LIMIT.get())),
        Hedges::new(later()).budget(InFlight::new(Ratio::percent(20))),
    ] {
        let layer = HedgeLayer::new("h", settings);
        let (mut one, mut four) =
            (layer.layer(prompt()), layer.clone().extra::<4>().layer(prompt()));
        let mut waiting = layer.layer(slow());

        assert_eq!(allocations(&runtime, &mut one, || furnished("GET")), COPY_OF_HEAD);
        assert_eq!(allocations(&runtime, &mut four, || furnished("GET")), COPY_OF_HEAD);
        // Its timer is set.
        assert_eq!(allocations(&runtime, &mut waiting, || furnished("GET")), COPY_OF_HEAD);
        assert_eq!(allocations(&runtime, &mut one, get), 0, "a head without headers");
        // What is not hedged is not kept.
        assert_eq!(allocations(&runtime, &mut one, || furnished("POST")), 0);
        assert_eq!(allocations(&runtime, &mut waiting, || furnished("POST")), 0);
        layer.handle().set_shadow(true);
        assert_eq!(allocations(&runtime, &mut one, || furnished("GET")), 0);
    }
    // As long as too little is known, and where it is switched off.
    for settings in [Hedges::default(), Hedges::new(Delay::never())] {
        let mut hedge = HedgeLayer::new("h", settings).layer(slow());
        assert_eq!(allocations(&runtime, &mut hedge, || furnished("GET")), 0);
    }
}

/// What a hedge costs that is sent: the number of its attempt, and room for one more header, which
/// is two parts of a map. The copy that was kept is sent.
const ATTEMPT_NUMBER: u64 = 3;

#[test]
fn a_hedge_that_fires_costs_the_number_that_it_says_besides() {
    let runtime = runtime();
    let hedge = HedgeLayer::new(
        "h",
        Hedges::new(Delay::fixed(Duration::from_millis(5))).budget(Budget::unlimited()),
    );
    let mut service = hedge.layer(slow());

    let counted = allocations(&runtime, &mut service, || furnished("GET"));

    assert_eq!(counted, COPY_OF_HEAD + ATTEMPT_NUMBER);
    assert_eq!(hedge.handle().snapshot().fired(), 3);
}

/// Answers in 10 ms, with a body of one frame.
fn slow()
-> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
{
    service_fn(|_: Request<()>| async {
        sleep(Duration::from_millis(10)).await;
        Ok::<_, Infallible>(Response::new(Full::from(Bytes::from_static(b"hello"))))
    })
}

/// The key, as it is made and as it is kept; the head, in two parts, and its values in one; the
/// body, in one piece; the tape; what is stored and its entry, and their places on the shelf.
const STORED: u64 = 11;

#[test]
fn a_fallback_that_is_not_needed_costs_what_its_rungs_keep() {
    let runtime = runtime();
    let layer = || FallbackLayer::new("f");
    let empty = || Response::new(Full::<Bytes>::default());
    let mut value = layer().value(empty).layer(prompt());
    let mut fixed = layer().respond(http::StatusCode::OK, "text/plain", "x").layer(prompt());
    let mut of_method = layer()
        .function_of(
            |request: &Request<()>| request.method() == "GET",
            |_, _| ready(None::<Response<Full<Bytes>>>),
        )
        .layer(prompt());
    let mut of_head = layer().function_sync(|_, _| None::<Response<Full<Bytes>>>).layer(prompt());
    let mut service = layer().service(prompt()).layer(prompt());
    let mut stale = layer().stale(StaleCache::new(StaleSettings::new())).layer(prompt());
    let post = || furnished("POST");
    let get = || furnished("GET");

    assert_eq!(allocations(&runtime, &mut value, get), 0);
    assert_eq!(allocations(&runtime, &mut fixed, get), 0);
    assert_eq!(allocations(&runtime, &mut of_method, get), 0);
    assert_eq!(allocations(&runtime, &mut of_head, get), COPY_OF_HEAD);
    assert_eq!(allocations(&runtime, &mut service, post), COPY_OF_HEAD);
    assert_eq!(allocations(&runtime, &mut stale, post), 0, "it takes no part");
    assert_eq!(allocations(&runtime, &mut stale, get), STORED);
}

/// The tape on which a body that streams is written down, its list of four chunks, and the box of
/// `UnsyncBoxBody` around it: all that it takes to keep 4 KiB.
const TAPE: u64 = 3;

#[test]
fn a_body_that_has_to_be_written_down_costs_what_is_stated_and_no_byte_is_copied() {
    type Upload = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;
    fn upload(chunks: usize) -> Request<Upload> {
        let frame = |_| Ok(Frame::data(Bytes::from_static(&[7; 1024])));
        let body = StreamBody::new(stream::iter((0..chunks).map(frame)));
        Request::put("/").body(body.boxed_unsync()).unwrap()
    }
    let reads = || {
        service_fn(|request: Request<Upload>| async {
            black_box(request.into_body().collect().await.unwrap().to_bytes().len());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        })
    };
    let runtime = runtime();
    let count = |runtime: &Runtime, request: Request<Upload>, retry: bool| {
        let (bare, retrying) = (reads(), RetryLayer::new("r", Attempts::default()).layer(reads()));
        let mut counted = 0;
        runtime.block_on(async {
            let work: std::pin::Pin<Box<dyn Future<Output = ()>>> = if retry {
                let mut retrying = retrying;
                Box::pin(async move { drop(retrying.call(request).await) })
            } else {
                let mut bare = bare;
                Box::pin(async move { drop(bare.call(request).await) })
            };
            counted = poll_counting(work).await;
        });
        counted
    };

    let without = count(&runtime, upload(4), false);
    let with = count(&runtime, upload(4), true);

    assert_eq!(with - without, TAPE);
}
