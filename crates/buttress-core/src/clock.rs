//! One reading of the clock for all layers around one call.
//!
//! A clock costs about 20 ns, more than most layers have to do. Layers that are nested in one
//! another want the same instants anyway: the moment the call came in, and the moment its answer
//! came back. So the outermost layer reads the clock in `call`, and the innermost when its inner
//! future has come back ready; the others take that instant from a scope which lives on the stack
//! of that one `call` or `poll`.
//!
//! A `call` is *nested* if it happens inside the `call` of another layer, with no `poll` in
//! between; a body is, if it is polled inside the poll of another watched body. Who is not nested
//! is *outermost*: it takes its last reading along when it returns, and on the way out it always
//! reads for itself. So what callers waited is right, whatever a handler, or a layer of somebody
//! else's, did between. Layers in the middle may miss the work that such a layer does further in
//! after the answer has come back; they are told the time of the answer.
//!
//! This module does not know what time it is: `read` is an argument.
//!
//! ```
//! use std::{cell::Cell, time::{Duration, Instant}};
//! use buttress_core::clock;
//!
//! # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
//! let origin = Instant::now();
//! let readings = Cell::new(0);
//! let read = || {
//!     readings.set(readings.get() + 1);
//!     origin + Duration::from_secs(readings.get())
//! };
//!
//! let outer = clock::enter(read);
//! let inner = clock::enter(read);
//! assert_eq!(outer.now(), inner.now());
//! assert!(inner.is_nested() && !outer.is_nested());
//! assert_eq!(readings.get(), 1);
//! ```

use std::{cell::Cell, time::Instant};

thread_local! {
    /// The instant of the `call` that is on this thread's stack right now.
    static CALL: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The `poll` that is on this thread's stack right now.
    static POLL: Cell<Poll> = const { Cell::new(Poll::NONE) };
    /// By when the `call` or `poll` that is on this thread's stack has to be done.
    static DUE: Cell<Due> = const { Cell::new(Due::NEVER) };
    /// When the inner future, or body, of the last nested poll came back ready.
    static READY: Cell<Option<Instant>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, Debug)]
struct Poll {
    /// Whether a layer around it shares its reading.
    nested: bool,
    /// Whether it is the poll of a body.
    body: bool,
    /// What an outermost poll has read for itself.
    read: Option<Instant>,
}

impl Poll {
    const NONE: Self = Self { nested: false, body: false, read: None };
}

/// Whether the `call` that is on this thread's stack has read the clock already.
#[must_use]
#[inline]
pub fn is_entered() -> bool {
    CALL.get().is_some()
}

/// By when a call has to be done: its head, and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The response head.
    pub head: Option<Instant>,
    /// The end of the response.
    pub end: Option<Instant>,
}

impl Due {
    /// By when nothing has to be done.
    pub const NEVER: Self = Self { head: None, end: None };

    /// The sooner of both, part by part.
    #[must_use]
    #[inline]
    pub fn sooner(self, other: Self) -> Self {
        let sooner = |one: Option<Instant>, other| one.into_iter().chain(other).min();
        Self { head: sooner(self.head, other.head), end: sooner(self.end, other.end) }
    }
}

/// Enters the scope of a deadline, for one `call` or `poll` of what must meet it. An earlier one
/// around it stays in force.
///
/// So a layer further in learns when its caller will have given up, without a word in the
/// request: a caller who gives up *then* says something about the service.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress_core::clock::{self, Due};
///
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// let now = Instant::now();
/// let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
///
/// let outer = clock::within(Due { head: Some(soon), end: None });
/// let inner = clock::within(Due { head: Some(later), end: Some(later) });
/// assert_eq!(clock::due(), Due { head: Some(soon), end: Some(later) });
/// drop((inner, outer));
/// assert_eq!(clock::due(), Due::NEVER);
/// ```
#[inline]
pub fn within(due: Due) -> Within {
    let outer = DUE.get();
    DUE.set(outer.sooner(due));
    Within { outer }
}

/// By when the `call` or `poll` that is on this thread's stack has to be done.
#[must_use]
#[inline]
pub fn due() -> Due {
    DUE.get()
}

/// The scope of a deadline.
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct Within {
    outer: Due,
}

impl Drop for Within {
    #[inline]
    fn drop(&mut self) {
        DUE.set(self.outer);
    }
}

/// Enters the scope of a `call`. It ends when the returned value is dropped.
#[inline]
pub fn enter(read: impl FnOnce() -> Instant) -> Entered {
    if let Some(now) = CALL.get() {
        return Entered { now, nested: true };
    }
    let now = read();
    CALL.set(Some(now));
    Entered { now, nested: false }
}

/// The scope of one `call`.
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct Entered {
    now: Instant,
    nested: bool,
}

impl Entered {
    /// When the call came in.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Whether a layer around this one shares the reading, and waits for the next.
    #[must_use]
    #[inline]
    pub fn is_nested(&self) -> bool {
        self.nested
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        if !self.nested {
            CALL.set(None);
        }
    }
}

/// Enters the scope of a `poll` of a layer whose `call` was `nested` or not.
///
/// Ends a `call` scope for as long as it lasts: who calls from inside a poll comes in later than
/// the `call` that is waiting further up the stack.
#[inline]
pub fn poll(nested: bool) -> Polling {
    READY.set(None);
    let outer = POLL.replace(Poll { nested, body: false, read: None });
    Polling { nested, outer, call: CALL.replace(None) }
}

/// Enters the scope of a poll of a watched body, or of its drop.
#[inline]
pub fn poll_body() -> Polling {
    READY.set(None);
    let outer = POLL.get();
    let nested = outer.body;
    POLL.set(Poll { nested, body: true, read: None });
    Polling { nested, outer, call: CALL.replace(None) }
}

/// When the inner future, or body, came back ready: what a layer further in has read, or a
/// reading.
///
/// Only inside the scope of a [`poll`] or of a [`poll_body`].
#[inline]
pub fn ready(read: impl FnOnce() -> Instant) -> Instant {
    let poll = POLL.get();
    let known = if poll.nested { READY.get() } else { poll.read };
    known.unwrap_or_else(|| {
        let now = read();
        if poll.nested {
            READY.set(Some(now));
        } else {
            POLL.set(Poll { read: Some(now), ..poll });
        }
        now
    })
}

/// The scope of one `poll`.
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct Polling {
    nested: bool,
    outer: Poll,
    call: Option<Instant>,
}

impl Drop for Polling {
    #[inline]
    fn drop(&mut self) {
        CALL.set(self.call);
        POLL.set(self.outer);
        if !self.nested {
            READY.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A clock that moves a second each time it is read.
    struct Ticking {
        origin: Instant,
        readings: Cell<u64>,
    }

    impl Ticking {
        fn new() -> Self {
            #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
            let origin = Instant::now();
            Self { origin, readings: Cell::new(0) }
        }

        fn read(&self) -> Instant {
            self.readings.set(self.readings.get() + 1);
            self.at(self.readings.get())
        }

        fn at(&self, reading: u64) -> Instant {
            self.origin + Duration::from_secs(reading)
        }
    }

    #[test]
    fn eight_nested_layers_read_once_in_and_once_out_and_the_outermost_for_itself() {
        let clock = Ticking::new();

        let calls: Vec<_> = (0..8).map(|_| enter(|| clock.read())).collect();
        let nested: Vec<_> = calls.iter().map(Entered::is_nested).collect();
        drop(calls);
        let mut polls: Vec<_> = nested.iter().map(|nested| poll(*nested)).collect();
        let mut last = Vec::new();
        while !polls.is_empty() {
            last.push(ready(|| clock.read()));
            last.push(ready(|| clock.read()));
            polls.pop();
        }

        let (outermost, others) = (last.split_off(14), last);
        assert_eq!(clock.readings.get(), 3);
        assert!(others.iter().all(|instant| *instant == clock.at(2)));
        assert_eq!(outermost, [clock.at(3), clock.at(3)]);
    }

    #[test]
    fn the_next_call_reads_again() {
        let clock = Ticking::new();

        drop(enter(|| clock.read()));
        let second = enter(|| clock.read());

        assert_eq!(second.now(), clock.at(2));
    }

    #[test]
    fn a_client_called_from_a_handler_does_not_tell_the_server_the_time() {
        let clock = Ticking::new();

        let _outermost = poll(false);
        let _server = poll(true);
        {
            // The handler calls a client stack of two, and works on after the answer has come.
            let outer = enter(|| clock.read());
            let inner = enter(|| clock.read());
            assert!(!outer.is_nested() && inner.is_nested());
            let (_outer, _inner) = (poll(false), poll(true));
            assert_eq!(ready(|| clock.read()), clock.at(2));
        }
        let ended = ready(|| clock.read());

        assert_eq!(ended, clock.at(3));
    }

    #[test]
    fn a_body_read_by_a_handler_does_not_tell_the_server_the_time() {
        let clock = Ticking::new();

        let _outermost = poll(false);
        let _server = poll(true);
        {
            let _body = poll_body();
            assert_eq!(ready(|| clock.read()), clock.at(1));
        }

        assert_eq!(ready(|| clock.read()), clock.at(2));
    }

    #[test]
    fn bodies_around_one_another_share_a_reading_but_for_the_outermost() {
        let clock = Ticking::new();

        let bodies = [poll_body(), poll_body(), poll_body()];
        let mut ended = Vec::new();
        for body in bodies.into_iter().rev() {
            ended.push(ready(|| clock.read()));
            drop(body);
        }

        assert_eq!(ended, [clock.at(1), clock.at(1), clock.at(2)]);
    }

    #[test]
    fn a_poll_inside_a_call_scope_starts_afresh_and_gives_it_back() {
        let clock = Ticking::new();
        let outer = enter(|| clock.read());

        let within = {
            let _poll = poll(false);
            enter(|| clock.read()).now()
        };
        let after = enter(|| clock.read());

        assert_eq!(within, clock.at(2));
        assert_eq!(after.now(), outer.now());
    }
}
