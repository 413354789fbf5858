//! One reading of the clock for all layers around one call.
//!
//! A clock costs about 20 ns, more than most layers have to do. Layers that are nested in one
//! another want the same instant anyway: the moment the call came in, and the moment its answer
//! came back. So the outermost layer reads the clock in `call` and the innermost reads it when
//! its inner future has come back ready; the others take that instant from a scope which lives
//! on the stack of that one `call` or `poll`.
//!
//! Nothing is guessed. A `call` is *nested* if it happens inside the `call` of another layer,
//! with no `poll` in between. Only a nested layer leaves its last reading for the layers around
//! it; the outermost takes it along when it returns. A handler that calls a client stack from
//! within a server stack so starts a scope of its own and does not hand the server a stale time.
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
    /// The instant at which a nested layer's inner future came back ready.
    static READY: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Enters the scope of a `call`. It ends when the returned value is dropped.
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
    Polling { nested, call: CALL.replace(None) }
}

/// When the inner future came back ready: what a layer further in has read, or a reading.
///
/// Only inside the scope of a [`poll`].
pub fn ready(read: impl FnOnce() -> Instant) -> Instant {
    READY.get().unwrap_or_else(|| {
        let now = read();
        READY.set(Some(now));
        now
    })
}

/// The scope of one `poll`.
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct Polling {
    nested: bool,
    call: Option<Instant>,
}

impl Drop for Polling {
    #[inline]
    fn drop(&mut self) {
        CALL.set(self.call);
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
    fn eight_nested_calls_and_polls_read_twice() {
        let clock = Ticking::new();

        let calls: Vec<_> = (0..8).map(|_| enter(|| clock.read())).collect();
        let nested: Vec<_> = calls.iter().map(Entered::is_nested).collect();
        drop(calls);
        let polls: Vec<_> = nested.iter().map(|nested| poll(*nested)).collect();
        let last: Vec<_> = polls.iter().rev().map(|_| ready(|| clock.read())).collect();

        assert_eq!(clock.readings.get(), 2);
        assert!(last.iter().all(|instant| *instant == clock.at(2)));
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

        let _server = poll(false);
        {
            // The handler calls a client stack, and works on after the answer has come.
            let call = enter(|| clock.read());
            assert!(!call.is_nested());
            let _client = poll(call.is_nested());
            assert_eq!(ready(|| clock.read()), clock.at(2));
        }
        let ended = ready(|| clock.read());

        assert_eq!(ended, clock.at(3));
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
