use std::{future::poll_fn, iter, panic::resume_unwind, rc::Rc, sync::Arc, time::Duration};

use buttress_core::{Observe, Random, TimeLimit};
use tokio::{
    runtime::Builder,
    task::{JoinHandle, LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until, timeout},
};
use tower_service::Service;

use super::{
    Answer, Dependency, Report, Script, Traffic,
    journal::Journal,
    latency::whole_millis,
    report::Called,
    traffic::{Loop, arrivals},
};
use crate::BoxError;

/// Traffic through a stack of layers around a dependency, in virtual time.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct Simulation {
    traffic: Traffic,
    script: Script,
    lasting: TimeLimit,
    gives_up_after: TimeLimit,
    seed: u64,
}

/// One call of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// Which one it is, counted from 0: in an open loop by when it comes, in a closed one those
    /// of one user after the other.
    pub number: u64,
}

impl Simulation {
    /// A minute of traffic, of callers who give up after a minute, with the seed 0.
    pub const fn new(traffic: Traffic, script: Script) -> Self {
        let minute = TimeLimit::from_secs(60);
        Self { traffic, script, lasting: minute, gives_up_after: minute, seed: 0 }
    }

    /// How long calls are made. Then the run goes on until the last of them is answered.
    pub const fn lasting(mut self, lasting: TimeLimit) -> Self {
        self.lasting = lasting;
        self
    }

    /// After how long a caller drops its call.
    pub const fn giving_up_after(mut self, patience: TimeLimit) -> Self {
        self.gives_up_after = patience;
        self
    }

    /// Decides all that is random in traffic and dependency. What is random in a layer has a seed
    /// of its own.
    pub const fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Runs it. An answer is good; an error is a refusal if there is a
    /// [`Rejection`](buttress_core::Rejection) in it, and a failure otherwise.
    ///
    /// `stack` is handed the dependency to put its layers around, and an observer for their
    /// handles. Each call is made on a clone of what it returns.
    ///
    /// # Panics
    ///
    /// If a call does, and if there is a tokio runtime already: it has its own.
    pub fn run<S>(&self, stack: impl FnOnce(Dependency, Arc<dyn Observe>) -> S) -> Report
    where
        S: Service<Call, Error: Into<BoxError>> + Clone + 'static,
    {
        self.run_judging(stack, |answer| match answer {
            Ok(_) => Answer::Good,
            Err(error) => Answer::of(&*error.into()),
        })
    }

    /// Runs it, and lets `judge` tell what an answer is: that of an HTTP service is often a
    /// failure in a response.
    ///
    /// # Panics
    ///
    /// As [`Simulation::run`].
    pub fn run_judging<S>(
        &self,
        stack: impl FnOnce(Dependency, Arc<dyn Observe>) -> S,
        judge: impl Fn(Result<S::Response, S::Error>) -> Answer + 'static,
    ) -> Report
    where
        S: Service<Call> + Clone + 'static,
    {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing that could be missing");
        LocalSet::new().block_on(&runtime, async {
            let origin = Instant::now();
            // Streams of their own, so that one more call shifts nothing but itself.
            let [of_arrivals, of_dependency] = [0, 1].map(|stream| Random::at(self.seed, stream));
            let dependency = Dependency::new(self.script.clone(), of_dependency, origin);
            let journal = Journal::new(origin);
            let service = stack(dependency.clone(), Arc::new(journal.clone()));
            let caller = Caller {
                service,
                judge: Rc::new(judge),
                origin,
                lasting: self.lasting.get(),
                patience: self.gives_up_after.get(),
            };
            let calls = caller.all(self.traffic, of_arrivals).await;
            let (reached, most_at_once) = dependency.seen();
            Report::new(self.lasting.get(), calls, reached, most_at_once, journal.take())
        })
    }
}

/// Makes calls.
struct Caller<S, J> {
    service: S,
    judge: Rc<J>,
    origin: Instant,
    lasting: Duration,
    patience: Duration,
}

impl<S: Clone, J> Clone for Caller<S, J> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), judge: Rc::clone(&self.judge), ..*self }
    }
}

impl<S, J> Caller<S, J>
where
    S: Service<Call> + Clone + 'static,
    J: Fn(Result<S::Response, S::Error>) -> Answer + 'static,
{
    /// All calls, in the order in which they were due.
    async fn all(self, traffic: Traffic, seed: u64) -> Vec<Called> {
        match traffic.0 {
            Loop::Open { per_second, spacing } => {
                let due = arrivals(per_second, spacing, seed);
                let due = due.take_while(|due| *due < self.lasting);
                let mut calls = Vec::new();
                for (number, due) in iter::zip(0.., due) {
                    sleep_until(self.origin + due).await;
                    calls.push(spawn_local(self.clone().call(Call { number }, due)));
                }
                joined(calls).await
            }
            Loop::Closed { users, thinking } => {
                let users = users.get();
                let thinking = whole_millis(thinking.get());
                let loops = (0..users).map(|user| {
                    let first = whole_millis(thinking * user / users);
                    spawn_local(self.clone().user(u64::from(user), first, thinking))
                });
                let mut calls = joined(loops.collect()).await.concat();
                calls.sort_by_key(|call| call.due);
                calls
            }
        }
    }

    /// The calls of one user.
    async fn user(self, user: u64, first: Duration, thinking: Duration) -> Vec<Called> {
        let mut calls = Vec::new();
        sleep_until(self.origin + first).await;
        for number in user << 32.. {
            let due = self.origin.elapsed();
            if due >= self.lasting {
                break;
            }
            calls.push(self.clone().call(Call { number }, due).await);
            sleep(thinking).await;
        }
        calls
    }

    async fn call(mut self, call: Call, due: Duration) -> Called {
        let answer = timeout(self.patience, async {
            match poll_fn(|cx| self.service.poll_ready(cx)).await {
                Ok(()) => self.service.call(call).await,
                Err(error) => Err(error),
            }
        });
        let answer = answer.await.map_or(Answer::GaveUp, |answer| (self.judge)(answer));
        Called { due, took: self.origin.elapsed().saturating_sub(due), answer }
    }
}

/// What tasks return, in their order. A panic of one goes on.
async fn joined<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        match task.await {
            Ok(output) => done.push(output),
            Err(error) => resume_unwind(error.into_panic()),
        }
    }
    done
}
