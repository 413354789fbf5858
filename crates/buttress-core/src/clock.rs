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
    /// The `call` that is on this thread's stack right now.
    static CALL: Cell<Option<Call>> = const { Cell::new(None) };
    /// The `poll` that is on this thread's stack right now.
    static POLL: Cell<Poll> = const { Cell::new(Poll::NONE) };
    /// By when the `call` or `poll` that is on this thread's stack has to be done.
    static DUE: Cell<Due> = const { Cell::new(Due::NEVER) };
    /// When the inner future, or body, of the last poll came back ready.
    static READY: Cell<Option<Instant>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, Debug)]
struct Call {
    /// When it came in.
    at: Instant,
    /// Whether a layer around what comes next will share the reading on the way out, too.
    shared: bool,
}

#[derive(Clone, Copy, Debug)]
struct Poll {
    /// Whether a layer around it shares its reading.
    nested: bool,
    /// Whether it is the poll of a body.
    body: bool,
    /// Whether what is known of when it came back ready is an outermost poll's own reading.
    own: bool,
}

impl Poll {
    const NONE: Self = Self { nested: false, body: false, own: false };
}

/// Whether the `call` that is on this thread's stack has been [entered](enter) already.
#[must_use]
#[inline]
pub fn is_entered() -> bool {
    CALL.get().is_some_and(|call| call.shared)
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
    DUE.set(if outer == Due::NEVER { due } else { outer.sooner(due) });
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
    let (at, after) = match CALL.get() {
        Some(Call { at, shared: true }) => return Entered { at, after: After::Same },
        Some(Call { at, .. }) => (at, After::Arrived),
        None => (read(), After::Nothing),
    };
    CALL.set(Some(Call { at, shared: true }));
    Entered { at, after }
}

/// Enters the scope of a `call`, for a layer that will not ask when the answer has come. The first
/// layer further in that does is the outermost of those that share that reading.
#[inline]
pub fn arrive(read: impl FnOnce() -> Instant) -> Entered {
    if let Some(Call { at, .. }) = CALL.get() {
        return Entered { at, after: After::Same };
    }
    let at = read();
    CALL.set(Some(Call { at, shared: false }));
    Entered { at, after: After::Nothing }
}

/// The scope of one `call`.
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct Entered {
    at: Instant,
    after: After,
}

/// What there is when a scope has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// What there is within: it is that of a layer around this one.
    Same,
    /// The scope of who has [arrived](arrive).
    Arrived,
    Nothing,
}

impl Entered {
    /// When the call came in.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Instant {
        self.at
    }

    /// Whether a layer around this one shares the reading, and waits for the next.
    #[must_use]
    #[inline]
    pub fn is_nested(&self) -> bool {
        self.after == After::Same
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        let call = match self.after {
            After::Same => return,
            After::Arrived => Some(Call { at: self.at, shared: false }),
            After::Nothing => None,
        };
        CALL.set(call);
    }
}

/// Enters the scope of a `poll` of a layer whose `call` was `nested` or not.
///
/// Ends a `call` scope for as long as it lasts: who calls from inside a poll comes in later than
/// the `call` that is waiting further up the stack.
#[inline]
pub fn poll(nested: bool) -> Polling {
    Polling::begin(|_| Poll { nested, body: false, own: false })
}

/// Enters the scope of a poll of a watched body, or of its drop.
#[inline]
pub fn poll_body() -> Polling {
    Polling::begin(|outer| Poll { nested: outer.body, body: true, own: false })
}

/// When the inner future, or body, came back ready: what a layer further in has read, or a
/// reading.
///
/// Only inside the scope of a [`poll`] or of a [`poll_body`].
#[inline]
pub fn ready(read: impl FnOnce() -> Instant) -> Instant {
    let poll = POLL.get();
    let known = READY.get().filter(|_| poll.nested || poll.own);
    known.unwrap_or_else(|| {
        let now = read();
        READY.set(Some(now));
        POLL.set(Poll { own: !poll.nested, ..poll });
        now
    })
}

/// The scope of one `poll`.
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct Polling {
    nested: bool,
    outer: Poll,
    call: Option<Call>,
}

impl Polling {
    #[inline]
    fn begin(poll: impl FnOnce(Poll) -> Poll) -> Self {
        // What was ready before is of another poll.
        READY.set(None);
        let outer = POLL.get();
        let poll = poll(outer);
        POLL.set(poll);
        let outer = Poll { own: false, ..outer };
        Self { nested: poll.nested, outer, call: CALL.take() }
    }
}

impl Drop for Polling {
    #[inline]
    fn drop(&mut self) {
        POLL.set(self.outer);
        if self.call.is_some() {
            CALL.set(self.call);
        }
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
    fn who_only_arrives_shares_the_time_of_the_call_and_not_that_of_the_answer() {
        let clock = Ticking::new();

        let arrived = arrive(|| clock.read());
        let (outer, inner) = (enter(|| clock.read()), enter(|| clock.read()));
        assert_eq!([outer.now(), inner.now()], [arrived.now(); 2]);
        assert!(!outer.is_nested() && inner.is_nested());
        drop((inner, outer));
        assert!(!is_entered());
        drop(arrived);

        assert_eq!(clock.readings.get(), 1);
        assert_eq!(arrive(|| clock.read()).now(), clock.at(2));
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
