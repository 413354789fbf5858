//! What a key costs in memory, of a million, ours beside governor's: bytes that are allocated.

use std::{hash::Hash, net::IpAddr, num::NonZeroU32};

use allocation_counter::measure;
use buttress::{BoxError, Plain, Rate, rate_limit::RateLimitLayer};
use governor::{DefaultKeyedRateLimiter, Quota};
use tower::{Layer, Service, service_fn};

const KEYS: u32 = 1_000_000;
const RATE: NonZeroU32 = NonZeroU32::new(5).unwrap();

fn main() {
    println!("{:<34}{:>12}{:>12}", "bytes per key", "governor", "buttress");
    print("u64", |number| u64::from(number) * 0x9E37_79B9_7F4A_7C15);
    print("IpAddr", |number| IpAddr::from(number.to_be_bytes()));
    print("String of 24 bytes", |number| format!("{number:024}"));
    print("Box<str> of 24 bytes", |number| format!("{number:024}").into_boxed_str());
}

fn print<K: Hash + Eq + Clone + Send + Sync + 'static>(what: &str, key: fn(u32) -> K) {
    let theirs = measure(|| {
        let limiter = DefaultKeyedRateLimiter::keyed(Quota::per_hour(RATE));
        for number in 0..KEYS {
            assert!(limiter.check_key(&key(number)).is_ok());
        }
        std::mem::forget(limiter);
    });
    let ours = measure(|| {
        let layer = RateLimitLayer::new("r", Rate::per_hour(RATE)).exchange(Plain);
        let layer = layer.keyed(move |number: &u32| key(*number));
        let layer = layer.capacity((KEYS as usize * 2).try_into().expect("not 0"));
        let answer = |_: u32| std::future::ready(Ok::<_, BoxError>(()));
        let mut service = layer.layer(service_fn(answer));
        for number in 0..KEYS {
            drop(service.call(number));
        }
        assert_eq!(layer.handle().known(), KEYS as usize);
        std::mem::forget((layer, service));
    });
    #[expect(clippy::cast_precision_loss, reason = "bytes of one machine")]
    let each = |bytes: i64| bytes as f64 / f64::from(KEYS);
    println!("{what:<34}{:>12.1}{:>12.1}", each(theirs.bytes_current), each(ours.bytes_current));
}
