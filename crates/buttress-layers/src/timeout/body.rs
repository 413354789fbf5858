use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress_core::{Finish, Lease, Rejection, Watch};
use pin_project::pin_project;
use tokio::time::Sleep;

use super::{
    Clock,
    future::{Call, sleep},
    handle::State,
    limits::Due,
};
use crate::clock::read;

/// Cuts off a body that takes too long.
#[pin_project]
#[derive(Debug)]
pub struct Cut {
    #[pin]
    timer: Option<Sleep>,
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
}

impl Watch for Cut {
    /// The timer is asked before the body, which may use up the task's budget: a timer without
    /// any would be pending for ever.
    #[inline]
    fn before(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.project();
        *this.rang = this.timer.as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready());
    }

    #[inline]
    fn poll_cut(self: Pin<&mut Self>, waiting: bool, cx: &mut Context<'_>) -> Poll<Rejection> {
        let mut this = self.project();
        *this.waiting_since = match (waiting, *this.idle) {
            (true, Some(_)) => Some(this.waiting_since.unwrap_or_else(read)),
            _ => None,
        };
        loop {
            let since = this.waiting_since.zip(*this.idle);
            let idle = since.map(|(since, idle)| Due { at: since + idle, clock: Clock::Idle });
            let Some(due) = Due::sooner(*this.total, idle) else { return Poll::Pending };

            let mut timer = sleep(this.timer.as_mut(), due.at);
            if due.at < timer.deadline().into_std() {
                timer.as_mut().reset(due.at.into());
                *this.rang = false;
            }
            if !std::mem::take(this.rang) && timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Set for a wait that is over: later is not now.
            if timer.deadline().into_std() < due.at {
                timer.reset(due.at.into());
                continue;
            }
            // Counted once, shadow mode or not.
            (*this.total, *this.idle) = (None, None);
            this.timer.set(None);
            return this.state.expire(due.clock).map_or(Poll::Pending, Poll::Ready);
        }
    }

    #[inline]
    fn end(self: Pin<&mut Self>, _: Finish<'_>) {}
}
