//! Personalised recommendations with a limit, else popular ones from a cache, else a constant.

use super::*;

#[derive(Debug)]
struct CacheDown;

impl std::fmt::Display for CacheDown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the cache is down")
    }
}

impl std::error::Error for CacheDown {}

#[tokio::test(start_paused = true)]
async fn recommendations_come_from_the_first_that_has_some_and_each_failure_is_told_once() {
    let popular = service_fn(|request: Request<Full<Bytes>>| {
        ready(match request.uri().query() {
            Some("cache=down") => Err(CacheDown),
            _ => Ok(answer(200, "popular")),
        })
    });
    let layer = FallbackLayer::new("recommendations")
        .service(popular)
        .named("popular")
        .within(TimeLimit::from_millis(100))
        .value(|| answer(200, "bestsellers"))
        .named("constant");
    let (handle, log) = (layer.handle(), Log::of(&layer.handle()));
    let personalised = ServiceBuilder::new()
        .layer(layer)
        .layer(TimeoutLayer::new("personalised", TimeLimit::from_millis(500)))
        .service(service_fn(|request: Request<Full<Bytes>>| async move {
            if request.uri().path() != "/ada" {
                pending::<()>().await;
            }
            Ok::<_, BoxError>(answer(200, "for you"))
        }));

    let began = Instant::now();
    let (_, body, note) = ask(personalised.clone(), get("/bob")).await;
    assert_eq!((body.as_str(), began.elapsed()), ("popular", Duration::from_millis(500)));
    assert_eq!(&*note.unwrap().rung, "popular");

    let (_, body, note) = ask(personalised.clone(), get("/bob?cache=down")).await;
    assert_eq!((body.as_str(), &*note.unwrap().rung), ("bestsellers", "constant"));
    ask(personalised, get("/bob?cache=down")).await;

    assert_eq!(
        log.lines(),
        [
            "[timed out before the end of the response (personalised)] the service failed (timed_out)",
            "[popular] a rung answered",
            "[popular: the cache is down] a rung failed",
            "[constant] a rung answered",
        ]
    );
    let seen = handle.snapshot();
    assert_eq!((seen.all_triggered(), seen.unanswered), (3, 0));
    assert_eq!(seen.rung("popular").map(|rung| (rung.answered, rung.failed)), Some((1, 2)));
    assert_eq!(seen.rung("constant").map(|rung| rung.answered), Some(2));
}
