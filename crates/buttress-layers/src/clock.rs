//! What time it is: tokio's clock, which a paused test moves.

use std::{pin::Pin, time::Instant};

use tokio::time::{Sleep, sleep_until};

/// A reading, for the scopes of [`buttress_core::clock`].
#[inline]
pub(crate) fn read() -> Instant {
    #[cfg(test)]
    tests::READINGS.set(tests::READINGS.get() + 1);
    tokio::time::Instant::now().into_std()
}

/// A timer that is made when it is first asked for, and set to `at`.
#[inline]
pub(crate) fn sleep(mut timer: Pin<&mut Option<Sleep>>, at: Instant) -> Pin<&mut Sleep> {
    let at = at.into();
    match timer.as_mut().as_pin_mut() {
        None => timer.set(Some(sleep_until(at))),
        Some(timer) if timer.deadline() != at => timer.reset(at),
        Some(_) => {}
    }
    timer.as_pin_mut().expect("made above")
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        convert::Infallible,
        future::ready,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use buttress_core::{Rate, Ratio, TimeLimit, breaker, throttle};
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body::Body;
    use http_body_util::Full;
    use tower::{Service, ServiceBuilder, service_fn};

    use crate::{
        breaker::BreakerLayer,
        bulkhead::BulkheadLayer,
        rate_limit::RateLimitLayer,
        sli::{Record, SliLayer},
        throttle::ThrottleLayer,
        timeout::TimeoutLayer,
    };

    thread_local! {
        pub(super) static READINGS: Cell<u64> = const { Cell::new(0) };
    }

    const LIMIT: TimeLimit = TimeLimit::from_secs(30);

    /// How often the clock is read for one call, from readiness to the end of the body.
    fn readings<S, B>(mut service: S) -> u64
    where
        S: Service<Request<()>, Response = Response<B>>,
        B: Body,
    {
        let cx = &mut Context::from_waker(Waker::noop());
        let before = READINGS.get();
        assert!(service.poll_ready(cx).is_ready());
        let Poll::Ready(Ok(response)) = pin!(service.call(Request::new(()))).poll(cx) else {
            panic!("it answers at once");
        };
        let mut body = pin!(response.into_body());
        while !body.is_end_stream() {
            assert!(body.as_mut().poll_frame(cx).is_ready());
        }
        READINGS.get() - before
    }

    fn prompt()
    -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone {
        service_fn(|_: Request<()>| {
            ready(Ok::<_, Infallible>(Response::new(Full::from(Bytes::from_static(b"hello")))))
        })
    }

    fn rate() -> Rate {
        Rate::per_second(1_000_000.try_into().unwrap())
    }

    #[test]
    fn a_layer_reads_the_clock_only_for_what_it_needs() {
        let stack = || ServiceBuilder::new();
        let timeout = || TimeoutLayer::new("t", LIMIT);
        let bulkhead = || BulkheadLayer::new("b", 64.try_into().unwrap());
        let breaker = || BreakerLayer::new("b", breaker::Settings::rate());
        let slow = breaker::Trip::slow_rate(Ratio::percent(50), LIMIT);

        // By when it must be done.
        assert_eq!(readings(stack().layer(timeout()).service(prompt())), 1);
        assert_eq!(readings(stack().layer(bulkhead()).service(prompt())), 0);
        // In which part of the window it ended.
        assert_eq!(readings(stack().layer(breaker()).service(prompt())), 1);
        // When it came, when its head did, and when it ended.
        let slow = BreakerLayer::new("b", breaker::Settings::rate().or(slow));
        assert_eq!(readings(stack().layer(slow).service(prompt())), 3);
        // When it came and when it ended; a sink is told when its head did as well.
        let sink = SliLayer::server("s").sink(|_: &Record<'_>| ());
        assert_eq!(readings(stack().layer(SliLayer::server("s")).service(prompt())), 2);
        assert_eq!(readings(stack().layer(sink).service(prompt())), 3);
        // One reading on the way in does for both.
        let both = stack().layer(timeout()).layer(timeout()).layer(bulkhead());
        assert_eq!(readings(both.service(prompt())), 1);
    }

    #[test]
    fn eight_layers_read_the_clock_once_in_and_once_out_and_the_outermost_at_the_end_for_itself() {
        let stack = ServiceBuilder::new()
            .layer(SliLayer::server("s"))
            .layer(TimeoutLayer::new("t", LIMIT))
            .layer(RateLimitLayer::new("r", rate()))
            .layer(BulkheadLayer::new("b", 64.try_into().unwrap()))
            .layer(ThrottleLayer::new("t", throttle::Settings::new()))
            .layer(BreakerLayer::new("b", breaker::Settings::rate()))
            .layer(BulkheadLayer::new("b", 64.try_into().unwrap()))
            .layer(TimeoutLayer::new("t", LIMIT))
            .service(prompt());

        assert_eq!(readings(stack), 3);
    }
}
