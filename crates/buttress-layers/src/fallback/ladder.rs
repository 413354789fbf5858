use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress_core::{
    BoxError, Facts, clock,
    fallback::{Degraded, Skip, Why},
    guarded,
    http::{Degrade, Tape},
};
use pin_project::pin_project;
use tokio::time::{Sleep, sleep_until};

use super::{handle::State, rungs::Rung};
use crate::clock::read;

/// The rungs of a fallback, one after the other, as a type: what [`FallbackLayer`] builds up.
///
/// [`FallbackLayer`]: super::FallbackLayer
pub trait Ladder<Request, Response, Error, X>
where
    X: Degrade<Request, Response>,
{
    /// What the rungs keep of a request while it is under way.
    type Kept;
    /// The way down the ladder, once the service has failed.
    type Climb;

    /// How many rungs there are.
    const COUNT: usize;

    /// What is kept by rungs that need nothing of a request but what is known of it; `None` if one
    /// does. Without, no request is handed around for it.
    fn nothing(&self, facts: Facts) -> Option<Self::Kept>;

    /// Keeps of a request what the rungs need.
    fn keep(
        &self,
        exchange: &X,
        request: Request,
        facts: Facts,
        body: usize,
    ) -> (Request, Self::Kept);

    /// An answer without asking the service, which fails just now: another call looks whether it
    /// does so still.
    fn at_once(&self, kept: &mut Self::Kept, exchange: &X) -> Option<Given<X::Answer>>;

    /// The service has answered well: writes the response down, if somebody wants it.
    fn went_well(&self, kept: &mut Self::Kept, exchange: &X, response: &Response) -> Option<Tape>;

    /// The service has answered, or failed in a way that is to be answered for.
    fn settle(&self, kept: &mut Self::Kept, failed: bool);

    /// Sets out.
    fn set_out(&self) -> Self::Climb;

    /// Asks rung by rung; `None` if none had an answer.
    fn poll(
        &self,
        climb: Pin<&mut Self::Climb>,
        kept: &mut Self::Kept,
        guide: &mut Guide<'_, X>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<X::Answer>>;
}

/// How old an answer is, and whether it is stale, of one that was stored.
pub type Aged = Option<(Duration, bool)>;

/// An answer that a rung has given.
#[derive(Debug)]
pub struct Given<Response> {
    /// Which one.
    pub(super) rung: usize,
    pub(super) response: Response,
    pub(super) age: Aged,
}

/// What a rung says when it is asked.
#[derive(Debug)]
pub enum Step<Response> {
    /// An answer; of a stored one how old it is, and whether it is stale.
    Answered(Response, Aged),
    /// It has failed.
    Failed(Cause),
    /// It has no answer to this request.
    Skipped(Skip),
}

/// What a rung failed with.
#[derive(Debug)]
pub enum Cause {
    /// An error.
    Error(BoxError),
    /// An answer that is none.
    Answer(Why),
}

/// What the rungs are told on the way down.
#[derive(Debug)]
pub struct Guide<'a, X> {
    pub(super) exchange: &'a X,
    pub(super) why: &'a Why,
    pub(super) facts: Facts,
    pub(super) state: &'a State,
    pub(super) timer: Pin<&'a mut Option<Sleep>>,
    /// By when the rung under way must have answered.
    pub(super) due: &'a mut Option<Instant>,
}

impl<X> Guide<'_, X> {
    /// Whether the rung under way has had its time. Its timer is made when something is first
    /// found pending.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = *self.due else { return false };
        if self.timer.is_none() {
            self.timer.set(Some(sleep_until(due.into())));
        }
        let timer = self.timer.as_mut().as_pin_mut();
        timer.is_some_and(|timer| timer.poll(cx).is_ready())
    }
}

/// No rung at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl<Request, Response, Error, X> Ladder<Request, Response, Error, X> for Nothing
where
    X: Degrade<Request, Response>,
{
    type Kept = ();
    type Climb = ();
    const COUNT: usize = 0;

    #[inline]
    fn nothing(&self, _: Facts) -> Option<()> {
        Some(())
    }

    #[inline]
    fn keep(&self, _: &X, request: Request, _: Facts, _: usize) -> (Request, ()) {
        (request, ())
    }

    #[inline]
    fn at_once(&self, (): &mut (), _: &X) -> Option<Given<X::Answer>> {
        None
    }

    #[inline]
    fn went_well(&self, (): &mut (), _: &X, _: &Response) -> Option<Tape> {
        None
    }

    #[inline]
    fn settle(&self, (): &mut (), _: bool) {}

    fn set_out(&self) {}

    fn poll(
        &self,
        _: Pin<&mut ()>,
        (): &mut (),
        _: &mut Guide<'_, X>,
        _: &mut Context<'_>,
    ) -> Poll<Option<X::Answer>> {
        Poll::Ready(None)
    }
}

/// A ladder, and one more rung below it.
#[derive(Debug)]
pub struct Then<L, R> {
    /// Shared with the layer that was added to.
    pub(super) before: Arc<L>,
    pub(super) rung: R,
}

/// How far down a ladder somebody is.
#[pin_project(project = ClimbProj)]
#[derive(Debug)]
pub enum Climb<A, B> {
    /// On a rung further up.
    Before {
        /// Which is.
        #[pin]
        before: A,
    },
    /// On this one.
    This {
        /// At work.
        #[pin]
        run: B,
    },
    /// Below it.
    Over,
}

impl<L, R, Request, Response, Error, X> Ladder<Request, Response, Error, X> for Then<L, R>
where
    L: Ladder<Request, Response, Error, X>,
    R: Rung<Request, Response, Error, X>,
    X: Degrade<Request, Response>,
{
    type Kept = (L::Kept, R::Kept);
    type Climb = Climb<L::Climb, R::Run>;
    const COUNT: usize = L::COUNT + 1;

    #[inline]
    fn nothing(&self, facts: Facts) -> Option<Self::Kept> {
        Some((self.before.nothing(facts)?, self.rung.nothing(facts)?))
    }

    #[inline]
    fn keep(
        &self,
        exchange: &X,
        request: Request,
        facts: Facts,
        body: usize,
    ) -> (Request, Self::Kept) {
        let (request, before) = self.before.keep(exchange, request, facts, body);
        let (request, own) = self.rung.keep(exchange, request, facts, body);
        (request, (before, own))
    }

    #[inline]
    fn at_once(&self, kept: &mut Self::Kept, exchange: &X) -> Option<Given<X::Answer>> {
        if let Some(given) = self.before.at_once(&mut kept.0, exchange) {
            return Some(given);
        }
        let (response, age) = self.rung.at_once(&mut kept.1, exchange)?;
        Some(Given { rung: L::COUNT, response, age })
    }

    #[inline]
    fn went_well(&self, kept: &mut Self::Kept, exchange: &X, response: &Response) -> Option<Tape> {
        let before = self.before.went_well(&mut kept.0, exchange, response);
        before.or_else(|| self.rung.went_well(&mut kept.1, exchange, response))
    }

    #[inline]
    fn settle(&self, kept: &mut Self::Kept, failed: bool) {
        self.before.settle(&mut kept.0, failed);
        self.rung.settle(&mut kept.1, failed);
    }

    fn set_out(&self) -> Self::Climb {
        Climb::Before { before: self.before.set_out() }
    }

    fn poll(
        &self,
        mut climb: Pin<&mut Self::Climb>,
        kept: &mut Self::Kept,
        guide: &mut Guide<'_, X>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<X::Answer>> {
        let rung = &guide.state.rungs[L::COUNT];
        let panicked = || guide.state.failed(L::COUNT, None);
        if let ClimbProj::Before { before } = climb.as_mut().project() {
            match self.before.poll(before, &mut kept.0, guide, cx) {
                Poll::Ready(None) => {}
                answered => return answered,
            }
            guide.timer.set(None);
            *guide.due = rung.limit().and_then(|limit| read().checked_add(limit));
            let _within = clock::within(clock::Due { head: *guide.due, end: None });
            match guarded(|| self.rung.set_out(&mut kept.1, guide), panicked) {
                Ok(run) => climb.set(Climb::This { run }),
                Err(skip) => {
                    climb.set(Climb::Over);
                    guide.state.skipped(L::COUNT, skip);
                }
            }
        }
        let ClimbProj::This { run } = climb.as_mut().project() else { return Poll::Ready(None) };
        // Asked before the work, so that a busy task hears the timer ring.
        let is_over = guide.timer.is_some() && guide.is_over(cx);
        let polled = {
            let _within = clock::within(clock::Due { head: *guide.due, end: None });
            guarded(|| self.rung.poll(run, &mut kept.1, guide, cx), panicked)
        };
        let answer = match polled {
            Poll::Pending if is_over || guide.is_over(cx) => {
                guide.state.timed_out(L::COUNT);
                None
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Step::Answered(response, age)) => Some((response, age)),
            Poll::Ready(Step::Failed(cause)) => {
                guide.state.failed(L::COUNT, Some(&cause));
                None
            }
            Poll::Ready(Step::Skipped(skip)) => {
                guide.state.skipped(L::COUNT, skip);
                None
            }
        };
        climb.set(Climb::Over);
        Poll::Ready(answer.map(|(response, age)| {
            let given = Given { rung: L::COUNT, response, age };
            guide.state.hand_out::<Request, Response, X>(guide.exchange, given, guide.why.clone())
        }))
    }
}

impl State {
    /// Marks an answer, and counts it.
    pub(super) fn hand_out<Request, Response, X>(
        &self,
        exchange: &X,
        given: Given<X::Answer>,
        why: Why,
    ) -> X::Answer
    where
        X: Degrade<Request, Response>,
    {
        let Given { rung, mut response, age } = given;
        let (age, stale) = age.map_or((None, false), |(age, stale)| (Some(age), stale));
        self.answered(rung, age);
        let (layer, rung) = (Arc::clone(&self.name), Arc::clone(&self.rungs[rung].name));
        let note = Degraded { layer, rung, why, age, stale };
        exchange.mark(&mut response, note, self.header);
        response
    }
}
