use std::time::{Duration, Instant};

use super::Unhedged;
use crate::retry::Stop;

/// One request on its way: its first attempt, number 0, and those that were sent after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Race {
    delay: Duration,
    /// How many attempts may yet be sent.
    left: u32,
    /// How many were sent after the first.
    fired: u32,
    /// When the next is due, if there is to be one.
    next: Option<Instant>,
    deadline: Option<Instant>,
    /// Which attempts are under way, a bit for each.
    running: u32,
}

/// What becomes of a request when one of its attempts has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Others are under way.
    Wait,
    /// None is: what the first one ended in is passed on.
    PassOn,
}

/// How a server asks not to be sent more attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// None at all.
    Never,
    /// None before this time has passed.
    After(Duration),
}

impl Race {
    /// How many attempts may be sent after the first, at the most. As gRPC has it: five in all
    /// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md)).
    pub const MOST: u32 = 4;

    /// A request whose first attempt begins, and whose next ones are due each after `delay`, so
    /// many at the most.
    ///
    /// # Errors
    ///
    /// [`Unhedged::Deadline`] if its caller would be gone by then.
    pub fn new(
        now: Instant,
        delay: Duration,
        most: u32,
        deadline: Option<Instant>,
    ) -> Result<Self, Unhedged> {
        let mut race = Self { delay, deadline, left: most.min(Self::MOST), ..Self::alone() };
        race.schedule(now, delay);
        if race.next.is_none() && race.left > 0 {
            return Err(Unhedged::Deadline);
        }
        Ok(race)
    }

    /// A request whose first attempt begins and is the only one.
    #[must_use]
    pub const fn alone() -> Self {
        let (delay, next, deadline) = (Duration::ZERO, None, None);
        Self { delay, left: 0, fired: 0, next, deadline, running: 1 }
    }

    /// When the next attempt is due; `None` if there is to be none.
    #[must_use]
    #[inline]
    pub const fn due(&self) -> Option<Instant> {
        self.next
    }

    /// How many attempts were sent after the first.
    #[must_use]
    pub const fn fired(&self) -> u32 {
        self.fired
    }

    /// Whether no attempt can follow upon those that were sent.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.left == 0
    }

    /// Sends another attempt, whose number is returned, now that it is due. `kept` says whether
    /// the request can be made again; `withdraw` is asked last, when nothing else stands against it.
    ///
    /// # Errors
    ///
    /// With why it is not sent. None is due any more then.
    pub fn fire(
        &mut self,
        now: Instant,
        kept: Result<(), Stop>,
        withdraw: impl FnOnce() -> bool,
    ) -> Result<u32, Unhedged> {
        self.next = None;
        kept?;
        // Whoever polls late finds a caller that has gone.
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Unhedged::Deadline);
        }
        if !withdraw() {
            return Err(Unhedged::Budget);
        }
        self.fired += 1;
        self.left = self.left.saturating_sub(1);
        self.running |= 1 << self.fired;
        self.schedule(now, self.delay);
        Ok(self.fired)
    }

    /// No more attempts are sent.
    const fn stop(&mut self) {
        self.next = None;
        self.left = 0;
    }

    /// An attempt failed, and what its server asks for. With why there are no more attempts, if
    /// there was to be another and that is the end of it.
    ///
    /// gRPC has a failure bring the next attempt forward. Here it does not: a service that fails
    /// is the business of a retry, with its waits; what is hedged against is slowness.
    pub fn failed(
        &mut self,
        attempt: u32,
        asked: Option<Pushback>,
        now: Instant,
    ) -> (Next, Option<Unhedged>) {
        self.running &= !(1 << attempt);
        if self.running == 0 {
            self.stop();
            return (Next::PassOn, None);
        }
        let (Some(asked), Some(next)) = (asked, self.next) else { return (Next::Wait, None) };
        let why = match asked {
            Pushback::Never => {
                self.stop();
                Some(Unhedged::Pushback)
            }
            Pushback::After(wait) => {
                // Never sooner than it was due anyway.
                let own = next.saturating_duration_since(now);
                self.schedule(now, wait.max(own));
                self.next.is_none().then_some(Unhedged::Deadline)
            }
        };
        (Next::Wait, why)
    }

    fn schedule(&mut self, now: Instant, delay: Duration) {
        // At the deadline itself nobody is there any more, nor past the end of all clocks.
        let next = now.checked_add(delay).filter(|_| self.left > 0);
        self.next = next.filter(|next| self.deadline.is_none_or(|deadline| *next < deadline));
    }
}

#[cfg(test)]
mod tests;
