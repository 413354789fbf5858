//! A service that fails, and all its callers with it, in virtual time.

use buttress_core::Random;

use super::*;

const REQUESTS: u64 = 10_000;

/// How often the service is called for 10,000 requests, a hundred a second, of which it fails so
/// many percent.
async fn calls(failing: u64, budget: Budget) -> u64 {
    let calls = Arc::new(AtomicU32::new(0));
    let service = {
        let calls = Arc::clone(&calls);
        service_fn(move |()| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            let fails = Random::below(Random::at(11, call.into()), 100) < failing;
            ready(if fails { Err(BoxError::from("down")) } else { Ok(()) })
        })
    };
    let backoff =
        Backoff::exponential(50 * MS).up_to(2_000 * MS).jitter(buttress_core::retry::Jitter::Full);
    let settings = Settings::new(backoff).attempts(3).seed(5).budget(budget);
    let service = plain(settings).layer(service);
    let mut under_way = Vec::new();
    for _ in 0..REQUESTS {
        under_way.push(tokio::spawn(service.clone().oneshot(())));
        advance(10 * MS).await;
    }
    for request in under_way {
        let _ = request.await.unwrap();
    }
    calls.load(Ordering::Relaxed).into()
}

fn share(percent: u32) -> Budget {
    Percentage::new(Ratio::percent(percent)).floor(0).into()
}

// X17, D21
#[tokio::test(start_paused = true)]
async fn a_budget_ties_the_load_to_what_is_asked_and_nothing_else_does() {
    let mut seen = Vec::new();
    for failing in [50, 100] {
        for budget in [Budget::unlimited(), share(20), share(10), share(0)] {
            seen.push(calls(failing, budget).await);
        }
    }

    println!("calls for {REQUESTS} requests: without a budget, 20 %, 10 %, 0 %");
    println!("  50 % failing: {:?}", &seen[..4]);
    println!(" 100 % failing: {:?}", &seen[4..]);
    // Without a budget: 1 + 1/2 + 1/4, and 3.
    assert!(seen[0].abs_diff(17_500) < 300, "{seen:?}");
    assert_eq!(seen[4], 30_000);
    for failing in [&seen[1..4], &seen[5..8]] {
        for (calls, most) in failing.iter().zip([12_000, 11_000, 10_000]) {
            assert!((most * 99 / 100..=most).contains(calls), "{calls} of at most {most}");
        }
    }
}

// X17, as the row has it
#[tokio::test(start_paused = true)]
async fn at_half_failing_and_ten_percent_ten_thousand_requests_are_eleven_thousand_calls() {
    let failing = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&failing);
    let service = service_fn(move |()| {
        let call = count.fetch_add(1, Ordering::Relaxed);
        ready(if call.is_multiple_of(2) { Err(BoxError::from("down")) } else { Ok(()) })
    });
    let budget = Percentage::new(Ratio::percent(10)).floor(0).within(TimeLimit::from_secs(60));
    let mut service = plain(every(Duration::ZERO).attempts(10).budget(budget)).layer(service);

    for _ in 0..REQUESTS {
        let _ = service.ready().await.unwrap().call(()).await;
    }

    let calls = failing.load(Ordering::Relaxed);
    println!("{calls} calls for {REQUESTS} requests");
    assert!((10_999..=11_000).contains(&calls), "{calls}");
}
