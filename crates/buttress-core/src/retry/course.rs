use std::time::{Duration, Instant};

use super::{Progress, Settings, Stop};
use crate::{Code, Facts, Judgement, Kind, Protocol, Reason, Verdict};

/// How a server asks its callers to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// After this time, and not before.
    After(Duration),
    /// Not at all.
    Never,
}

impl Wait {
    /// What one value of `grpc-retry-pushback-ms` asks for, or none where there are several:
    /// whatever is no number asks not to come again
    /// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md)).
    #[must_use]
    pub fn of_pushback(value: Option<&[u8]>) -> Option<Self> {
        let millis = value.and_then(crate::deadline::parse_digits);
        Some(millis.map_or(Self::Never, |millis| Self::After(Duration::from_millis(millis))))
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether it is of a kind that is retried, or else why it is not.
    pub class: Class,
    /// What the server asks for.
    pub asked: Option<Wait>,
    /// It never reached the server.
    pub unreached: bool,
}

/// Whether an attempt failed in a way that is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It did.
    Retried,
    /// It did not.
    Not(Stop),
}

impl Failure {
    /// What an attempt that was judged so means; `None` if it is no failure.
    #[must_use]
    pub fn of(
        settings: &Settings,
        judgement: Judgement,
        facts: Facts,
        asked: Option<Wait>,
        unreached: bool,
    ) -> Option<Self> {
        let bad = judgement.verdict == Verdict::Bad;
        let class = match judgement.reason {
            Reason::Refused(kind) if settings.retries_rejection(kind, facts.protocol) => {
                Class::Retried
            }
            Reason::Refused(Kind::CircuitOpen) => Class::Not(Stop::CircuitOpen),
            Reason::Refused(_) => Class::Not(Stop::Rejected),
            _ if judgement.verdict == Verdict::Good => return None,
            // Who says himself how bad his answer is has answered as well as he can. An error is
            // no answer, and has no status.
            Reason::Application if facts.status.is_some() && facts.is_well() => return None,
            // What broke may have been done already: to gRPC that is `UNAVAILABLE`, and whoever
            // does not name that one has calls that are not to be made twice.
            Reason::Failed if bad && facts.code.is_none() => {
                let is_grpc = facts.protocol == Protocol::Grpc;
                if !is_grpc || unreached || settings.retries_code(Code::Unavailable) {
                    Class::Retried
                } else {
                    Class::Not(Stop::Final)
                }
            }
            _ => {
                let retried = match facts.protocol {
                    // The code is its own client's: nobody was there to say one.
                    Protocol::Grpc if bad && unreached => true,
                    Protocol::Grpc => facts.code.is_some_and(|code| settings.retries_code(code)),
                    Protocol::Http => match facts.status {
                        Some(status) => settings.retries_status(status, bad),
                        None => bad,
                    },
                    Protocol::Plain => bad,
                };
                match (retried, bad) {
                    (true, _) => Class::Retried,
                    (false, true) => Class::Not(Stop::Final),
                    // Not ours to mend, such as what the caller asked for and is not there.
                    (false, false) if asked != Some(Wait::Never) => return None,
                    (false, false) => Class::Not(Stop::Pushback),
                }
            }
        };
        // Who retries what a layer of ours refuses wants to do so in his own time: the refusal says
        // when it would be of use, and whoever listened to that would not need the option.
        let asked = asked.filter(|_| !matches!(judgement.reason, Reason::Refused(_)));
        Some(Self { class, asked, unreached })
    }

    /// That of an attempt which was cut, since it took too long.
    #[must_use]
    pub fn cut(settings: &Settings, protocol: Protocol) -> Self {
        let is_retried = settings.retries_timeout(protocol);
        let class = if is_retried { Class::Retried } else { Class::Not(Stop::Final) };
        Self { class, asked: None, unreached: false }
    }

    /// Whether a budget of tokens is to hear of it: a failure that is retried, or one by which
    /// the server asks not to be tried again.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.class == Class::Retried || self.asked == Some(Wait::Never)
    }
}

/// One request on its way through its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// Attempts that were made and are counted.
    counted: u32,
    /// Attempts that were made, all of them.
    made: u32,
    progress: Progress,
}

/// When an attempt failed, and what else a [`Course`] depends on that is not its own.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// When it failed.
    pub now: Instant,
    /// By when the caller wants its answer.
    pub deadline: Option<Instant>,
    /// What decides the jitter.
    pub draw: u64,
}

/// Leave to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// After what time.
    pub wait: Duration,
    /// The last attempt never reached the server: this one is for nothing.
    pub transparent: bool,
}

impl Course {
    /// A request whose first attempt is about to be made.
    #[must_use]
    pub fn new() -> Self {
        Self { counted: 1, made: 1, ..Self::default() }
    }

    /// How many attempts were made before the one under way, of which the server may know:
    /// one that never reached it does not count.
    #[must_use]
    pub fn previous(&self) -> u32 {
        self.counted.saturating_sub(1)
    }

    /// Whether the attempt under way is the last that is counted.
    #[must_use]
    pub fn is_last(&self, settings: &Settings) -> bool {
        settings.attempts.is_some_and(|attempts| self.counted >= attempts.get())
    }

    /// Whether nothing can follow upon the attempt under way.
    #[must_use]
    pub fn is_final(&self, settings: &Settings) -> bool {
        self.is_last(settings) && self.made > 1
    }

    /// Whether there is another attempt after this failure, and after what time. `kept` says
    /// whether the request can be made again. `withdraw` is asked last, when nothing else stands
    /// against it.
    ///
    /// # Errors
    ///
    /// With why there is none.
    pub fn again(
        &mut self,
        settings: &Settings,
        failure: Failure,
        kept: Result<(), Stop>,
        timing: When,
        withdraw: impl FnOnce() -> bool,
    ) -> Result<Again, Stop> {
        if failure.asked == Some(Wait::Never) {
            return Err(Stop::Pushback);
        }
        if let Class::Not(stop) = failure.class {
            return Err(stop);
        }
        kept?;
        let When { now, deadline, draw } = timing;
        // A first attempt for which there was no connection any more costs nobody anything. A second
        // one is a failure like any other, or a server that is down would be called without end.
        if failure.unreached && self.made == 1 {
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(Stop::Deadline);
            }
            self.made = self.made.saturating_add(1);
            return Ok(Again { wait: Duration::ZERO, transparent: true });
        }
        if self.is_last(settings) {
            return Err(Stop::Attempts);
        }
        let own = settings.backoff.next(&self.progress, draw).ok_or(Stop::Backoff)?;
        let asked = match failure.asked {
            Some(Wait::After(asked)) if asked > settings.ceiling => return Err(Stop::Ceiling),
            Some(Wait::After(asked)) => Some(asked),
            _ => None,
        };
        let wait = asked.map_or(own, |asked| asked.max(own));
        // At the deadline itself nobody is there any more, nor past the end of all clocks.
        let next = now.checked_add(wait).ok_or(Stop::Deadline)?;
        if deadline.is_some_and(|deadline| next >= deadline) {
            return Err(Stop::Deadline);
        }
        if !withdraw() {
            return Err(Stop::Budget);
        }
        match asked {
            Some(_) => self.progress.waited_as_asked(wait),
            None => self.progress.waited(wait),
        }
        self.counted = self.counted.saturating_add(1);
        self.made = self.made.saturating_add(1);
        Ok(Again { wait, transparent: false })
    }
}

#[cfg(test)]
mod tests;
