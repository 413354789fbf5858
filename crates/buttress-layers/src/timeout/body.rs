use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress_core::{Finish, Lease, Rejection, Watch};
use tokio::time::{Sleep, sleep_until};

use super::{Clock, future::Call, handle::State, limits::Due};
use crate::clock::read;

/// Cuts off a body that takes too long.
#[derive(Debug)]
pub struct Cut {
    /// Made when the body first keeps us waiting: most never do. In a box, because a timer cannot
    /// be moved, and a retry further out has to move a body at which it has peeked; and because
    /// every layer further out moves this with the response, of which it would be half.
    timer: Option<Pin<Box<Sleep>>>,
    total: Option<Due>,
    idle: Option<Duration>,
    /// Since when the body has kept us waiting. The caller who does not ask is not waiting, so
    /// a slow reader never makes a body idle.
    waiting_since: Option<Instant>,
    state: Lease<State>,
    /// Whether the timer rang before the body was polled.
    rang: bool,
}

impl Cut {
    #[inline]
    pub(super) fn new(call: &Call, state: Lease<State>) -> Self {
        let Call { total, idle, .. } = *call;
        Self { timer: None, total, idle, waiting_since: None, state, rang: false }
    }

    /// Asks the clock: a timer is for who has to be woken.
    fn poll_total(&mut self) -> Poll<Rejection> {
        match self.total {
            Some(due) if due.at <= read() => self.expire(due.clock),
            _ => Poll::Pending,
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        loop {
            let since = self.waiting_since.zip(self.idle);
            let idle = since.map(|(since, idle)| Due { at: since + idle, clock: Clock::Idle });
            let Some(due) = Due::sooner(self.total, idle) else { return Poll::Pending };

            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due.at.into())));
            if due.at < timer.deadline().into_std() {
                timer.as_mut().reset(due.at.into());
                self.rang = false;
            }
            if !mem::take(&mut self.rang) && timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Set for a wait that is over: later is not now.
            if timer.deadline().into_std() < due.at {
                timer.as_mut().reset(due.at.into());
                continue;
            }
            return self.expire(due.clock);
        }
    }

    fn expire(&mut self, clock: Clock) -> Poll<Rejection> {
        // Counted once, shadow mode or not.
        (self.total, self.idle, self.timer) = (None, None, None);
        self.state.expire(clock).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Watch for Cut {
    #[inline]
    fn asks_how(&self) -> bool {
        false
    }

    /// The timer is asked before the body, which may use up the task's budget: a timer without
    /// any would be pending for ever.
    #[inline]
    fn before(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.get_mut();
        if let Some(timer) = &mut this.timer {
            this.rang = timer.as_mut().poll(cx).is_ready();
        }
    }

    fn poll_cut(self: Pin<&mut Self>, waiting: bool, cx: &mut Context<'_>) -> Poll<Rejection> {
        let this = self.get_mut();
        this.waiting_since = match (waiting, this.idle) {
            (true, Some(_)) => Some(this.waiting_since.unwrap_or_else(read)),
            _ => None,
        };
        if !waiting && this.timer.is_none() {
            return this.poll_total();
        }
        this.poll_timer(cx)
    }

    #[inline]
    fn end(self: Pin<&mut Self>, _: Finish<'_>) {}
}
