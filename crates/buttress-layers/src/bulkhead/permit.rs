use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress_core::{
    Code, Facts, Finish, Judgement, Kind, Lease, Reason, Verdict, Watch,
    bulkhead::{Gate, Outcome, Place, Sample, Seat},
    clock,
};

use super::handle::State;
use crate::clock::read;

/// A place that a call holds until its response has ended, or until it is dropped.
#[derive(Debug)]
pub struct Permit {
    state: Lease<State>,
    seat: Option<Seat>,
    /// Since when, where the limit moves with the time for which places are held.
    since: Option<Instant>,
    /// How the call has ended, as far as is known.
    ending: Option<Ending>,
}

/// How a call ends, for a limit that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With an answer.
    Answered,
    /// It was given up: by its caller, or by somebody further in for want of time or of room.
    Dropped,
    /// In a way that says nothing about how loaded the service is.
    Unmeasured,
}

impl Permit {
    #[inline]
    pub(super) fn new(state: Lease<State>, seat: Option<Seat>, since: Option<Instant>) -> Self {
        Self { state, seat, since, ending: None }
    }

    /// Whether anybody wants to know how the call ends.
    #[inline]
    pub(super) fn is_measured(&self) -> bool {
        self.since.is_some()
    }

    /// Takes note of what the head of the response says, or the error in its stead. `judge` is
    /// told how long it took.
    pub(super) fn judge(&mut self, judge: impl FnOnce(Duration) -> (Option<Judgement>, Facts)) {
        let Some(since) = self.since else { return };
        let took = clock::ready(read).saturating_duration_since(since);
        let (judged, facts) = judge(took);
        let overload = match judged.map(|judged| judged.reason) {
            Some(Reason::Refused(kind)) => kind != Kind::CircuitOpen,
            Some(Reason::Deadline) => true,
            _ => {
                facts.code.is_some_and(is_overload) || matches!(facts.status, Some(429 | 503 | 504))
            }
        };
        if overload {
            self.ending = Some(Ending::Dropped);
        } else if judged.is_some_and(|judged| judged.verdict == Verdict::Bad) {
            // To fail is quick, or slow, for reasons of its own.
            self.ending = Some(Ending::Unmeasured);
        }
    }

    /// Gives the place back, once. Whoever is let in for it must find that what the call held is
    /// gone.
    #[inline]
    pub(super) fn settle(&mut self, ending: Ending) {
        let Some(seat) = self.seat.take() else { return };
        let Some(since) = self.since else { return self.state.gate.leave(seat) };
        let ending = self.ending.unwrap_or(ending);
        let now = if ending == Ending::Answered { clock::ready(read) } else { read() };
        let sample = match ending {
            Ending::Answered => Some(Sample::Answered(now.saturating_duration_since(since))),
            Ending::Dropped => Some(Sample::Dropped),
            Ending::Unmeasured => None,
        };
        self.state.leave(seat, sample, now);
    }
}

/// Nothing in it is pinned.
impl Unpin for Permit {}

impl Watch for Permit {
    #[inline]
    fn asks_how(&self) -> bool {
        self.is_measured()
    }

    #[inline]
    fn end(self: Pin<&mut Self>, finish: Finish<'_>) {
        self.get_mut().settle(match finish {
            Finish::Complete { code: None | Some(Code::Ok) } => Ending::Answered,
            Finish::Complete { code: Some(code) } if is_overload(code) => Ending::Dropped,
            // A body may break, and its reader may leave, early or late for reasons of their own.
            _ => Ending::Unmeasured,
        });
    }
}

/// Whether a call failed for want of time or of room.
fn is_overload(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded)
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if self.seat.is_some() {
            self.settle(Ending::Dropped);
        }
    }
}

/// A place of a call that is being made: given back should that panic.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    gate: &'a Gate,
    seat: Option<Seat>,
}

impl<'a> Taken<'a> {
    #[inline]
    pub(super) fn new(gate: &'a Gate, seat: Seat) -> Self {
        Self { gate, seat: Some(seat) }
    }

    /// The call has been made, and holds its place itself.
    #[inline]
    pub(super) fn keep(mut self) -> Option<Seat> {
        self.seat.take()
    }
}

impl Drop for Taken<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.gate.leave(seat);
        }
    }
}

/// A place in line, which is left when this is dropped.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) state: Lease<State>,
    pub(super) place: Option<Place>,
}

impl Queued {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let place = self.place.as_ref().expect("it waits");
        match self.state.gate.poll(place, cx.waker()) {
            None => Poll::Pending,
            Some(outcome) => {
                self.place = None;
                Poll::Ready(outcome)
            }
        }
    }

    /// Leaves the queue; what has become of the place meanwhile.
    pub(super) fn give_up(&mut self) -> Option<Outcome> {
        self.state.gate.give_up(self.place.take()?)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.place.is_none() {
            return;
        }
        self.state.abandoned.increment();
        // Its turn may have come while nobody looked: then it is the next one's.
        if let Some(Outcome::Admitted(seat)) = self.give_up() {
            self.state.gate.leave(seat);
        }
    }
}
