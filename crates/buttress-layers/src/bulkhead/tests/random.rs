//! Random calls, polls, drops, resizes and panics, and nothing is lost.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use buttress_core::Random;

use super::*;

/// A service that does as each request says, and counts what is inside of it.
#[derive(Clone)]
struct Fickle {
    inside: Rc<Cell<u32>>,
    most: Rc<Cell<u32>>,
}

#[derive(Clone, Copy)]
enum Fate {
    Answer(u32),
    Fail,
    PanicInCall,
    PanicInPoll,
}

struct Inside {
    service: Fickle,
    fate: Fate,
}

impl Service<Fate> for Fickle {
    type Response = ();
    type Error = BoxError;
    type Future = Inside;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, fate: Fate) -> Inside {
        if let Fate::PanicInCall = fate {
            // Without a word to standard error.
            std::panic::resume_unwind(Box::new("as it was told"));
        }
        self.inside.set(self.inside.get() + 1);
        self.most.set(self.most.get().max(self.inside.get()));
        Inside { service: self.clone(), fate }
    }
}

impl Future for Inside {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.fate {
            Fate::Answer(0) => Poll::Ready(Ok(())),
            Fate::Answer(polls) => {
                *polls -= 1;
                Poll::Pending
            }
            Fate::Fail => Poll::Ready(Err("as it was told".into())),
            Fate::PanicInCall | Fate::PanicInPoll => {
                std::panic::resume_unwind(Box::new("as it was told"))
            }
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.service.inside.set(self.service.inside.get() - 1);
    }
}

/// Admit, cancel, resize, panic: in all a million steps, as many as there are in the issue.
#[tokio::test(start_paused = true)]
async fn a_million_random_steps_exceed_no_limit_and_lose_no_place() {
    const RUNS: u64 = 200;
    const STEPS: u64 = 5_000;

    for seed in 0..RUNS {
        let random = Random::seeded(seed);
        let draw = |below: u64| Random::below(random.draw(), below);
        let small = |below: u64| u32::try_from(draw(below)).unwrap();
        let layer = plain(1 + small(5)).queue(small(6));
        let handle = layer.handle();
        let fickle = Fickle { inside: Rc::default(), most: Rc::default() };
        let mut service = layer.layer(fickle.clone());
        let mut calls: Vec<Pin<Box<_>>> = Vec::new();
        let cx = &mut Context::from_waker(Waker::noop());
        // Whatever was under way when the limit was lowered stays.
        let mut highest = handle.limit();

        for step in 0..STEPS {
            fickle.most.set(fickle.inside.get());
            match draw(16) {
                0..6 => {
                    let fate = match draw(8) {
                        0 => Fate::Fail,
                        1 => Fate::PanicInCall,
                        2 => Fate::PanicInPoll,
                        _ => Fate::Answer(small(4)),
                    };
                    assert!(service.poll_ready(cx).is_ready());
                    if let Ok(call) = catch_unwind(AssertUnwindSafe(|| service.call(fate))) {
                        calls.push(Box::pin(call));
                    }
                }
                6..12 if !calls.is_empty() => {
                    let index = usize::try_from(draw(calls.len() as u64)).unwrap();
                    let call = &mut calls[index];
                    let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
                    // Who panicked is dropped some time later.
                    if polled.is_ok_and(|polled| polled.is_ready()) || draw(2) == 0 {
                        drop(calls.swap_remove(index));
                    }
                }
                12..14 if !calls.is_empty() => {
                    let index = usize::try_from(draw(calls.len() as u64)).unwrap();
                    drop(calls.swap_remove(index));
                }
                14 => {
                    handle.set_limit(small(8));
                    handle.set_queue(small(8));
                }
                _ => advance(MILLIS * 100).await,
            }
            let at = || format!("seed {seed}, step {step}");
            let in_flight = handle.snapshot().in_flight;
            highest = highest.max(handle.limit());
            assert!(in_flight <= highest && fickle.most.get() <= highest, "{}", at());
            assert!(fickle.inside.get() <= in_flight, "{}", at());
            highest = in_flight.max(handle.limit());
        }

        calls.clear();
        let now = handle.snapshot();
        assert_eq!((now.in_flight, now.queued, fickle.inside.get()), (0, 0, 0), "seed {seed}");
        handle.set_limit(1);
        service.ready().await.unwrap().call(Fate::Answer(0)).await.unwrap();
        drop((service, layer));
        assert!(handle.is_last(), "seed {seed}");
    }
}
