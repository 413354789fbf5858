//! The numbers that manuals state and nothing else looks at: presets, defaults and their edges.

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request as AxumRequest};
use buttress::{
    BoxError, Plain,
    fallback::{FallbackLayer, StaleCache, StaleSettings},
    retry::{Backoff, Budget, RetryLayer, Settings, Stop},
};
use buttress_tests::{ask, channel, serve, soon};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, advance};
use tonic_health::pb::health_client::HealthClient;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

/// The waits between the attempts of a call that never succeeds.
async fn waits(settings: Settings) -> Vec<Duration> {
    let came = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&came);
    let down = service_fn(move |()| {
        log.lock().unwrap().push(Instant::now());
        ready(Err::<(), BoxError>("down".into()))
    });
    let layer = RetryLayer::new("r", settings.seed(17)).exchange(Plain);
    assert!(layer.layer(down).oneshot(()).await.is_err());
    let came = came.lock().unwrap();
    came.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn the_plain_preset_is_three_attempts_and_a_second_doubling_to_ten_with_up_to_one_more() {
    assert_eq!(waits(Settings::plain()).await.len(), 2);

    let endless = Settings::plain().attempts(60).budget(Budget::unlimited());
    let waits = waits(endless).await;

    // Tokio's timers have a millisecond.
    for (wait, least) in waits.iter().zip([1_000, 2_000, 4_000, 8_000]) {
        assert!((least * MS..=(least + 1_001) * MS).contains(wait), "{waits:?}");
    }
    assert!(waits[4..].iter().all(|wait| (9_000 * MS..=10_001 * MS).contains(wait)), "{waits:?}");
    assert!(waits[4..].iter().any(|wait| *wait > 9_900 * MS), "{waits:?}");
    assert!(waits[4..].iter().any(|wait| *wait < 9_100 * MS), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn the_default_is_three_attempts_and_full_jitter_of_50_ms_doubling_to_2_s_and_a_fifth() {
    assert_eq!(waits(Settings::default()).await.len(), 2);
    let budget = Settings::default().of_budget().clone();
    let now = Instant::now().into_std();
    for _ in 0..1_000 {
        let _ = budget.begin(now);
    }
    assert_eq!(budget.balance(now), Some(100 + 200), "ten a second for ten seconds, and a fifth");

    let endless = Settings::default().attempts(200).budget(Budget::unlimited());
    let waits = waits(endless).await;

    for (wait, most) in waits.iter().zip([50, 100, 200, 400, 800, 1_600]) {
        assert!(*wait <= (most + 1) * MS, "{waits:?}");
    }
    let late = &waits[6..];
    let mean = late.iter().sum::<Duration>() / u32::try_from(late.len()).unwrap();
    assert!(late.iter().all(|wait| *wait <= 2_001 * MS), "{waits:?}");
    assert!(late.iter().any(|wait| *wait > 1_900 * MS), "{waits:?}");
    // Half of 2 s, and five standard deviations of a mean of 193.
    assert!(mean.abs_diff(1_000 * MS) < 210 * MS, "{mean:?}");
}

// R09
#[tokio::test(start_paused = true)]
async fn half_a_minute_is_waited_for_and_a_second_more_is_not() {
    for (asked, calls) in [("30", 2), ("31", 1)] {
        let count = Arc::new(AtomicU32::new(0));
        let came = Arc::clone(&count);
        let down = service_fn(move |_: Request<()>| {
            came.fetch_add(1, Ordering::Relaxed);
            let response = Response::builder().status(503).header("retry-after", asked);
            ready(Ok::<_, BoxError>(response.body(Full::<Bytes>::default()).unwrap()))
        });
        let settings = Settings::new(Backoff::constant(MS)).attempts(2);
        let start = Instant::now();

        RetryLayer::new("r", settings).layer(down).oneshot(Request::new(())).await.unwrap();

        assert_eq!(count.load(Ordering::Relaxed), calls, "{asked} s");
        assert_eq!(start.elapsed().as_secs(), u64::from(calls - 1) * 30);
    }
}

// X25: 64 KiB, and not a byte more.
#[tokio::test(start_paused = true)]
async fn of_an_upload_65536_bytes_are_sent_again_and_65537_are_not() {
    for (bytes, calls) in [(64 * 1024, 3), (64 * 1024 + 1, 1)] {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        let down = service_fn(move |request: Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                let body = request.into_body().collect().await?.to_bytes();
                log.lock().unwrap().push(body.len());
                let response = Response::builder().status(503).body(Full::<Bytes>::default());
                Ok::<_, BoxError>(response.unwrap())
            }
        });
        let parts = [Bytes::from(vec![1; 40_000]), Bytes::from(vec![2; bytes - 40_000])];
        let body = Body::from_stream(stream::iter(parts.map(Ok::<_, BoxError>)));
        let layer = RetryLayer::new("r", Settings::new(Backoff::constant(MS)));

        layer.layer(down).oneshot(Request::put("/").body(body).unwrap()).await.unwrap();

        assert_eq!(*sent.lock().unwrap(), vec![bytes; calls]);
        let stopped = layer.handle().snapshot().stopped(Stop::BodyTooLarge);
        assert_eq!(stopped, u64::from(calls == 1));
    }
}

// X25
#[tokio::test]
async fn a_tonic_message_of_50_kib_is_sent_again_and_one_of_a_mebibyte_is_not() {
    for (bytes, calls) in [(50 * 1024, 3), (1024 * 1024, 1)] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let app = Router::new().fallback(move |request: AxumRequest| {
            let log = Arc::clone(&log);
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                log.lock().unwrap().push(body);
                let response = Response::builder().header("content-type", "application/grpc");
                response.header("grpc-status", "14").body(Body::empty()).unwrap()
            }
        });
        let retry = RetryLayer::new("r", Settings::new(Backoff::constant(MS)));
        let channel = channel(serve(app).await).await;
        let stack = ServiceBuilder::new().layer(retry.clone()).service(channel);

        let failed = soon(HealthClient::new(stack).check(ask(&"x".repeat(bytes)))).await;

        assert_eq!(failed.unwrap_err().code(), tonic::Code::Unavailable);
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), calls, "{bytes}");
        assert!(seen.iter().all(|body| body.len() > bytes && *body == seen[0]));
        let stopped = retry.handle().snapshot().stopped(Stop::BodyTooLarge);
        assert_eq!(stopped, u64::from(calls == 1));
    }
}

// T07, with the settings that nobody has touched.
#[tokio::test(start_paused = true)]
async fn what_is_stored_answers_for_ten_minutes_in_16_mib_and_1024_entries() {
    let cache = StaleCache::new(StaleSettings::new());
    let bounds = cache.bounds();
    assert_eq!((bounds.bytes, bounds.entries), (16 * 1024 * 1024, 1_024));

    let calls = Arc::new(AtomicU32::new(0));
    let service = {
        let calls = Arc::clone(&calls);
        FallbackLayer::new("f").stale(cache).layer(service_fn(move |_: Request<()>| {
            let is_up = calls.fetch_add(1, Ordering::Relaxed) == 0;
            let page = Response::new(Full::<Bytes>::from("good"));
            ready(if is_up { Ok(page) } else { Err(BoxError::from("down")) })
        }))
    };
    let call = || service.clone().oneshot(Request::new(()));
    call().await.unwrap().into_body().collect().await.unwrap();

    advance(Duration::from_secs(600)).await;
    assert!(call().await.is_ok());
    advance(MS).await;
    assert!(call().await.is_err());
    assert_eq!(calls.load(Ordering::Relaxed), 3, "the service is always asked");
}
