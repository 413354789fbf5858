use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::Random;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::{Script, Spell, latency::whole_millis};
use crate::ScriptedError;

/// The innermost service of a simulation: it does as its [`Script`] says, and counts who comes.
///
/// It takes any request, so that a stack may turn a [`Call`](super::Call) into whatever it works
/// with. It is always ready.
#[derive(Clone, Debug)]
pub struct Dependency {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    script: Script,
    seed: u64,
    origin: Instant,
    reached: Vec<Duration>,
    in_flight: u64,
    most_at_once: u64,
    queue: Queue,
}

/// The dependency answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply;

/// What becomes of one call.
enum Fate {
    After(Duration, Result<Reply, ScriptedError>),
    Never,
}

impl Dependency {
    pub(super) fn new(script: Script, seed: u64, origin: Instant) -> Self {
        let (reached, queue) = (Vec::new(), Queue::default());
        let state = State { script, seed, origin, reached, in_flight: 0, most_at_once: 0, queue };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// The instants at which calls came, and how many were under way at once.
    pub(super) fn seen(&self) -> (Vec<Duration>, u64) {
        let state = lock(&self.shared);
        (state.reached.clone(), state.most_at_once)
    }
}

impl State {
    fn takes(&mut self) -> Fate {
        let now = self.origin.elapsed();
        let draw = Random::at(self.seed, self.reached.len() as u64);
        self.reached.push(now);
        self.in_flight += 1;
        self.most_at_once = self.most_at_once.max(self.in_flight);

        let latency = whole_millis(self.script.latency.at(draw));
        let answer = |after| Fate::After(after, Ok(Reply));
        match self.script.at(now) {
            Spell::Fails => Fate::After(Duration::ZERO, Err(FAILED)),
            Spell::Hangs => Fate::Never,
            Spell::Slow(times) => answer(latency * times.get()),
            // Another draw: slow calls are not to be those that fail.
            Spell::FailsShare(share) if Random::hits(Random::at(draw, 0), share) => {
                Fate::After(latency, Err(FAILED))
            }
            Spell::Healthy | Spell::FailsShare(_) => answer(latency),
            Spell::Capacity(most) => {
                let spell = self.script.find(now);
                answer(self.queue.wait(spell, most.get(), now, latency))
            }
        }
    }
}

const FAILED: ScriptedError = ScriptedError("the dependency failed");

/// Those who work, and when each of them will be done.
#[derive(Debug, Default)]
struct Queue {
    spell: Option<usize>,
    busy_until: BinaryHeap<Reverse<Duration>>,
}

impl Queue {
    /// How long a call waits and works that comes now and takes so long to work on.
    fn wait(
        &mut self,
        spell: Option<usize>,
        most: u32,
        now: Duration,
        takes: Duration,
    ) -> Duration {
        if self.spell != spell {
            *self = Self { spell, busy_until: BinaryHeap::new() };
        }
        let is_room = self.busy_until.len() < most as usize;
        let first = if is_room { None } else { self.busy_until.pop() };
        let end = first.map_or(now, |Reverse(until)| until.max(now)) + takes;
        self.busy_until.push(Reverse(end));
        end.saturating_sub(now)
    }
}

impl<Request> Service<Request> for Dependency {
    type Response = Reply;
    type Error = ScriptedError;
    type Future = Working;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ScriptedError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Working {
        let (wait, answer) = match lock(&self.shared).takes() {
            Fate::After(Duration::ZERO, answer) => (None, Some(answer)),
            Fate::After(wait, answer) => (Some(Box::pin(sleep(wait))), Some(answer)),
            Fate::Never => (None, None),
        };
        Working { wait, answer, shared: Arc::clone(&self.shared) }
    }
}

/// The response of a [`Dependency`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Working {
    wait: Option<Pin<Box<Sleep>>>,
    /// `None` for a call that hangs.
    answer: Option<Result<Reply, ScriptedError>>,
    shared: Arc<Mutex<State>>,
}

impl Future for Working {
    type Output = Result<Reply, ScriptedError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
        }
        // Who hangs is woken by nobody.
        self.answer.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        lock(&self.shared).in_flight -= 1;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
