use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress_core::{Finish, Lease, Rejection, Watch};
use pin_project::pin_project;
use tokio::time::{Sleep, sleep_until};

use super::{Clock, future::Call, handle::State, limits::Due};
use crate::clock::read;

/// Cuts off a body that takes too long.
///
/// Every layer further out moves it with the response, so what only a body needs that keeps us
/// waiting is elsewhere.
#[derive(Debug)]
pub struct Cut {
    /// Made when the body first keeps us waiting: most never do. In a box, because a timer cannot
    /// be moved, and a retry further out has to move a body at which it has peeked.
    timer: Option<Pin<Box<Timer>>>,
    total: Option<Due>,
    idle: Option<Duration>,
    state: Lease<State>,
}

#[pin_project]
#[derive(Debug)]
struct Timer {
    #[pin]
    sleep: Sleep,
    /// Since when the body has kept us waiting. The caller who does not ask is not waiting, so
    /// a slow reader never makes a body idle.
    waiting_since: Option<Instant>,
    /// Whether it rang before the body was polled.
    rang: bool,
}

impl Cut {
    #[inline]
    pub(super) fn new(call: &Call, state: Lease<State>) -> Self {
        Self { timer: None, total: call.total, idle: call.idle, state }
    }

    /// Asks the clock: a timer is for who has to be woken.
    fn poll_total(&mut self) -> Poll<Rejection> {
        match self.total {
            Some(due) if due.at <= read() => self.expire(due.clock),
            _ => Poll::Pending,
        }
    }

    fn poll_timer(&mut self, since: Option<Instant>, cx: &mut Context<'_>) -> Poll<Rejection> {
        if let Some(timer) = &mut self.timer {
            *timer.as_mut().project().waiting_since = since;
        }
        let idle = since.zip(self.idle);
        let idle = idle.map(|(since, idle)| Due { at: since + idle, clock: Clock::Idle });
        let Some(due) = Due::sooner(self.total, idle) else { return Poll::Pending };

        let timer = self.timer.get_or_insert_with(|| {
            let sleep = sleep_until(due.at.into());
            Box::pin(Timer { sleep, waiting_since: since, rang: false })
        });
        let mut timer = timer.as_mut().project();
        loop {
            if due.at < timer.sleep.deadline().into_std() {
                timer.sleep.as_mut().reset(due.at.into());
                *timer.rang = false;
            }
            if !mem::take(timer.rang) && timer.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Set for a wait that is over: later is not now.
            if timer.sleep.deadline().into_std() >= due.at {
                return self.expire(due.clock);
            }
            timer.sleep.as_mut().reset(due.at.into());
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
        if let Some(timer) = &mut self.get_mut().timer {
            let timer = timer.as_mut().project();
            *timer.rang = timer.sleep.poll(cx).is_ready();
        }
    }

    fn poll_cut(self: Pin<&mut Self>, waiting: bool, cx: &mut Context<'_>) -> Poll<Rejection> {
        let this = self.get_mut();
        if !waiting && this.timer.is_none() {
            return this.poll_total();
        }
        let waits = waiting && this.idle.is_some();
        let since = this.timer.as_ref().and_then(|timer| timer.waiting_since);
        this.poll_timer(waits.then(|| since.unwrap_or_else(read)), cx)
    }

    #[inline]
    fn end(self: Pin<&mut Self>, _: Finish<'_>) {}
}
