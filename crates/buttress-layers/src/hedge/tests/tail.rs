//! What it is for: a service of which one call in a hundred is slow.

use buttress_core::Random;

use super::*;

const REQUESTS: usize = 20_000;
const SEED: u64 = 7;

/// What callers of 20,000 requests saw, one each 5 ms, and what the service saw.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    p50: Duration,
    p99: Duration,
    p999: Duration,
    calls: u32,
}

/// Plays them against a service of which this share of the calls takes a second, and any other
/// 10 ms.
async fn run(slow: Ratio, layer: Option<&HedgeLayer<Plain>>) -> Run {
    let (random, calls) = (Arc::new(Random::seeded(SEED)), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |()| {
        counted.fetch_add(1, Ordering::Relaxed);
        let is_slow = Random::hits(random.draw(), slow);
        async move {
            sleep(if is_slow { 1_000 * MS } else { 10 * MS }).await;
            Ok::<_, BoxError>(())
        }
    });
    let start = Instant::now();
    let requests = (0..REQUESTS).map(|number| {
        let service = service.clone();
        async move {
            let comes = start + u32::try_from(number).unwrap() * 5 * MS;
            tokio::time::sleep_until(comes).await;
            match layer {
                Some(layer) => layer.layer(service).oneshot(()).await,
                None => service.oneshot(()).await,
            }
            .unwrap();
            comes.elapsed()
        }
    });
    let mut took = futures_util::future::join_all(requests).await;
    took.sort_unstable();
    Run {
        p50: took[REQUESTS / 2],
        p99: took[REQUESTS * 99 / 100],
        p999: took[REQUESTS * 999 / 1000],
        calls: calls.load(Ordering::Relaxed),
    }
}

/// A service that answers after 10 ms for 40 seconds, and after a second from then on.
async fn turns_slow(layer: &HedgeLayer<Plain>) -> (u64, Duration) {
    let start = Instant::now();
    let turn = start + Duration::from_secs(40);
    let service = service_fn(move |()| async move {
        sleep(if Instant::now() < turn { 10 * MS } else { 1_000 * MS }).await;
        Ok::<_, BoxError>(())
    });
    let requests = (0..REQUESTS).map(|number| {
        let service = layer.layer(service);
        async move {
            tokio::time::sleep_until(start + u32::try_from(number).unwrap() * 5 * MS).await;
            service.oneshot(()).await.unwrap();
        }
    });
    let watch = async {
        let mut last = (0, Duration::ZERO);
        for tick in 0..1_000 {
            tokio::time::sleep_until(start + tick * 100 * MS).await;
            let fired = layer.handle().snapshot().fired();
            if fired != last.0 {
                last = (fired, Instant::now().saturating_duration_since(turn));
            }
        }
        last
    };
    let (_, last) =
        futures_util::future::join(futures_util::future::join_all(requests), watch).await;
    last
}

#[tokio::test(start_paused = true)]
async fn a_service_that_turns_slow_is_hedged_until_the_delay_has_followed_or_the_budget_is_spent() {
    let unlimited = plain(Settings::default().budget(Budget::unlimited()));
    let budgeted = plain(Settings::default().budget(budget(5)));

    let (without, until) = turns_slow(&unlimited).await;
    let (with_budget, _) = turns_slow(&budgeted).await;

    println!("200 a second turn slow: {without} hedges, the last after {until:?}");
    println!("with a budget of 5 %:   {with_budget} hedges");
    assert_eq!((without, until), (1_000, 5_100 * MS));
    assert_eq!(with_budget, 100, "5 % of those that came in ten seconds");
}

fn budget(percent: u32) -> Budget {
    Percentage::new(Ratio::percent(percent)).floor(0).into()
}

#[tokio::test(start_paused = true)]
async fn the_tail_is_gone_for_a_fifth_of_the_load_that_the_budget_would_allow() {
    let quantile = Quantile::new(Ratio::percent(95));
    let learned = plain(Settings::new(quantile).budget(budget(5)));
    let fixed = plain(Settings::new(Delay::fixed(20 * MS)).budget(budget(5)));
    let slow = Ratio::percent(1);

    let without = run(slow, None).await;
    let with_learned = run(slow, Some(&learned)).await;
    let with_fixed = run(slow, Some(&fixed)).await;

    println!("1 % slow, seed {SEED}");
    println!("no hedges       {without:?}");
    println!("after the p95   {with_learned:?}");
    println!("after 20 ms     {with_fixed:?}");
    let second = 1_000 * MS;
    let expected = |p99, p999, calls| Run { p50: 10 * MS, p99, p999, calls };
    assert_eq!(without, expected(second, second, 20_000));
    assert_eq!(with_learned, expected(21 * MS, 21 * MS, 20_214));
    assert_eq!(with_fixed, expected(30 * MS, 30 * MS, 20_215));
    assert_eq!(fates(&fixed.handle()), (215, [213, 2, 0, 0, 0]));
    assert_eq!(fixed.handle().snapshot().unhedged(Unhedged::Budget), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_slow_altogether_gets_no_more_load_than_the_budget_allows() {
    let budgeted = plain(Settings::new(Delay::fixed(20 * MS)).budget(budget(5)));
    let unlimited = plain(Settings::new(Delay::fixed(20 * MS)).budget(Budget::unlimited()));

    let with_budget = run(Ratio::ONE, Some(&budgeted)).await;
    let without_budget = run(Ratio::ONE, Some(&unlimited)).await;
    // What takes longer than it did when it was measured is slow no more, once that is known.
    let learned = plain(Settings::default().budget(Budget::unlimited()));
    let with_learned = run(Ratio::ONE, Some(&learned)).await;

    println!("all slow, seed {SEED}");
    println!("budget of 5 %   {} calls", with_budget.calls);
    println!("no budget       {} calls", without_budget.calls);
    println!("after the p95   {} calls", with_learned.calls);
    assert_eq!((with_budget.calls, without_budget.calls), (21_000, 40_000));
    assert_eq!(with_learned.calls, 20_000);
}
