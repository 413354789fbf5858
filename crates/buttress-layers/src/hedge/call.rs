use std::{mem, time::Instant};

use buttress_core::{
    Case, End, Facts, Judge, Kept, Lease, Protocol, Side, Stage, clock,
    hedge::{Next, Pushback, Race},
    retry::{Class, Failure, Known, Started, Stop, Wait},
};

use super::{
    handle::{Count, Fate, State},
    judge::Answered,
    lanes::Sent,
    layer::Headers,
};
use crate::{clock::read, retry::attempt::Attempt};

/// What further attempts take, besides what was kept of the request.
#[derive(Debug)]
pub(super) enum Spare<S> {
    /// A service; `None` once the last of them has taken it.
    Kept(Option<S>),
    /// It is only decided whether there would be one.
    Shadow,
    Not,
}

/// One request, from its first attempt to the answer that is handed out.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is known from the start, by itself")]
pub(super) struct Call<S, C: Case> {
    pub(super) state: Lease<State>,
    /// The first one.
    pub(super) attempt: Attempt<C>,
    pub(super) began: Instant,
    pub(super) facts: Facts,
    pub(super) race: Race,
    pub(super) spare: Spare<S>,
    /// How many attempts wait until their service is ready.
    pub(super) waiting: u32,
    pub(super) deadline: Option<Instant>,
    /// Whether the request itself carries the deadline.
    pub(super) is_told: bool,
    /// Whether it is yet to be learned how long the first attempt took.
    pub(super) learns: bool,
    /// Whether the budget wants to hear of successes and failures.
    pub(super) tells: bool,
    /// The budget that has noted the request, for layers further in.
    pub(super) known: Known,
    /// Whether a layer around this one tells the budget of what is handed out.
    pub(super) is_covered: bool,
    /// Whether the first attempt has failed and nobody has told the budget of it.
    pub(super) owes: bool,
    pub(super) _started: Started,
    pub(super) nested: bool,
    pub(super) headers: Headers,
}

impl<S, C: Case> Call<S, C> {
    /// The first attempt has ended, or is given up.
    #[inline]
    pub(super) fn learn(&mut self, answered: bool, now: Instant) {
        if self.learns {
            self.learns = false;
            let took = now.saturating_duration_since(self.began);
            self.state.settings.load().learn(took, answered, now);
        }
    }

    /// Whether the head of the first attempt's response alone says that all is well; then it is
    /// handed out.
    #[inline]
    pub(super) fn is_good<X, Request, Response, Error>(
        &mut self,
        exchange: &X,
        response: &Response,
    ) -> bool
    where
        X: Judge<Request, Response, Error, Case = C>,
    {
        let now = self.attempt.ends(|| clock::ready(read));
        exchange.head(&mut self.attempt.case, response);
        let good = self.attempt.is_good(now);
        if good && self.learns {
            self.learn(true, clock::ready(read));
        }
        good
    }

    /// The first attempt is given up in favour of another.
    pub(super) fn give_up(&mut self, now: Instant) {
        let end = End::Dropped { stage: Stage::BeforeHead, side: Side::Client, late: false };
        self.attempt.end(end, false, now);
        self.learn(false, now);
    }

    /// Whether there is another attempt, now that it is due: what it takes.
    pub(super) fn fire<K>(
        &mut self,
        kept_request: &mut Option<K>,
        now: Instant,
    ) -> Option<Sent<S, C>>
    where
        K: Kept,
        S: Clone,
    {
        let (state, settings) = (&self.state, self.state.settings.load());
        let budget = settings.of_budget();
        let (kept, in_shadow) = match (&self.spare, &*kept_request) {
            (Spare::Kept(_), Some(kept)) => (kept.check(), false),
            (Spare::Shadow, _) => (Ok(()), true),
            _ => (Err(Stop::Attempts), false),
        };
        let mut spent = None;
        let withdraw = || {
            // What is only decided costs those nothing who share the budget.
            if in_shadow {
                return budget.would_allow(now);
            }
            spent = budget.withdraw(now);
            state.budget_said(spent.is_some());
            spent.is_some()
        };
        let number = match self.race.fire(now, kept, withdraw) {
            Ok(number) => number,
            Err(why) => {
                state.unhedged(why);
                // Nothing is sent any more but what waits to be: a body may be large.
                if self.waiting == 0 {
                    (self.spare, *kept_request) = (Spare::Not, None);
                }
                return None;
            }
        };
        if in_shadow {
            state.count(Count::WouldFire);
            // Nobody was sent: the first attempt is the only one that is under way.
            self.race = Race::alone();
            return None;
        }
        state.count(Count::Fired);
        self.waiting += 1;
        let Spare::Kept(service) = &mut self.spare else { return None };
        let service = if self.race.is_last() { service.take() } else { service.clone() };
        let (state, fate) = (self.state.clone(), Fate::Dropped);
        Some(Sent { service, number, attempt: None, fate, state, _spent: spent })
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, number: u32, failure: &Failure, now: Instant) -> Next {
        let asked = failure.asked.map(|asked| match (asked, self.facts.protocol) {
            // It is in whole seconds, past which nobody hedges any more.
            (Wait::Never, _) | (Wait::After(_), Protocol::Http) => Pushback::Never,
            (Wait::After(wait), _) => Pushback::After(wait),
        });
        let (next, why) = self.race.failed(number, asked, now);
        if let Some(why) = why {
            self.state.unhedged(why);
        }
        next
    }

    /// Tells the budget of an attempt that failed: of one that nobody further out will hear of,
    /// or else if nobody further out shares the budget.
    pub(super) fn tell_failed(&self, failure: &Failure, is_handed_out: bool) {
        if self.tells && failure.is_counted() && !(is_handed_out && self.is_covered) {
            self.state.settings.load().of_budget().failed();
        }
    }

    /// The first attempt has failed, and others are under way: if it is handed out after all, a
    /// layer around this one that shares the budget tells of it.
    pub(super) fn first_failed(&mut self, failure: &Failure) {
        if self.is_covered {
            self.owes = self.tells && failure.is_counted();
        } else {
            self.tell_failed(failure, false);
        }
    }

    /// Tells the budget of a first attempt that failed and is not handed out.
    pub(super) fn settle(&mut self) {
        if mem::take(&mut self.owes) {
            self.state.settings.load().of_budget().failed();
        }
    }

    /// Tells the budget of the answer that is handed out.
    #[inline]
    pub(super) fn tell_answered(&self, answered: Answered) {
        if !self.tells || self.is_covered {
            return;
        }
        let settings = self.state.settings.load();
        match answered {
            Answered::Well => settings.of_budget().succeeded(),
            Answered::ForGood => settings.of_budget().failed(),
            Answered::Otherwise => {}
        }
    }
}

impl<S, C: Case> Drop for Call<S, C> {
    fn drop(&mut self) {
        self.settle();
        if self.learns {
            self.learn(false, read());
        }
    }
}

/// How an attempt after the first ended that failed so.
pub(super) fn fate(failure: &Failure) -> Fate {
    match failure.class {
        Class::Not(Stop::CircuitOpen | Stop::Rejected) => Fate::Refused,
        _ => Fate::Failed,
    }
}
