use std::{
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    task::Waker,
    time::Instant,
};

use buttress_core::rate_limit::{Ask, Entry, Limiter, Place, Standing};

use super::{
    common::{Admission, Common, Decided, Told},
    counts::Cell,
};
use crate::clock::read;

/// Which bucket a request draws from.
pub trait Pool<Request>: Clone {
    /// A place in the queue for that bucket.
    type Seat: Seat;

    /// Draws from it, or joins those who wait for it.
    fn enter(&self, request: &Request, ask: Ask, now: Instant) -> Admission<Self::Seat>;

    /// The layer's name.
    fn name(&self) -> &str;

    /// What is in it.
    fn standings(&self, request: &Request, now: Instant) -> Vec<Standing>;
}

/// A place in a queue. To drop it gives it up.
pub trait Seat {
    /// Asks whether it is its turn. Not after that.
    fn ask(&mut self, now: Instant, waker: &Waker) -> Told;

    /// The layer's name.
    fn name(&self) -> &str;

    /// What is in the bucket.
    fn standings(&self, now: Instant) -> Vec<Standing>;
}

/// Whether nobody else holds on to some state of a layer.
///
/// An `Arc` is enough to share it: only who waits takes a count of its own for a call.
pub(super) fn is_last<T>(state: &Arc<T>) -> bool {
    let last = Arc::strong_count(state) == 1;
    // Who sees the 1 that another left must see what that one did before.
    fence(Ordering::Acquire);
    last
}

/// One bucket, or one for each limit, for all requests.
#[derive(Clone, Debug)]
pub struct One(pub(super) Arc<Bucket>);

/// The bucket of a layer without keys.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) common: Common,
    pub(super) limiter: Limiter,
}

impl<Request> Pool<Request> for One {
    type Seat = Queued;

    #[inline]
    fn enter(&self, _: &Request, ask: Ask, now: Instant) -> Admission<Queued> {
        let Bucket { common, limiter } = &*self.0;
        let seat = |place| Queued { bucket: Arc::clone(&self.0), place: Some(place) };
        let enter = |patience| match patience {
            None => match limiter.take(ask, now) {
                Ok(()) => Decided::Admitted,
                Err(shortage) => Decided::Refused(shortage),
            },
            Some(patience) => match limiter.take_or_wait(ask, patience, now) {
                Entry::Admitted => Decided::Admitted,
                Entry::Refused(shortage) => Decided::Refused(shortage),
                Entry::Waiting(place) => Decided::Waiting(seat(place)),
            },
        };
        common.enter(now, enter, |patience| limiter.take_ahead(ask, patience, now))
    }

    fn name(&self) -> &str {
        &self.0.common.name
    }

    fn standings(&self, _: &Request, now: Instant) -> Vec<Standing> {
        self.0.limiter.standings(now)
    }
}

/// A place in the queue of a layer without keys.
#[derive(Debug)]
pub struct Queued {
    bucket: Arc<Bucket>,
    /// `None` once it is over.
    place: Option<Place>,
}

impl Seat for Queued {
    fn ask(&mut self, now: Instant, waker: &Waker) -> Told {
        let place = self.place.expect("polled after completion");
        let told = self.bucket.common.tell(self.bucket.limiter.ask(place, now, waker));
        if !matches!(told, Told::Wait(_)) {
            self.place = None;
        }
        told
    }

    fn name(&self) -> &str {
        &self.bucket.common.name
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        self.bucket.limiter.standings(now)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.bucket.limiter.leave(place, read());
            self.bucket.common.counts.add(Cell::Left);
        }
    }
}
