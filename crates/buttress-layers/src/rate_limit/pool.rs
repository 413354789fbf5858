use std::{task::Waker, time::Instant};

use buttress_core::{
    Lease, Shared,
    rate_limit::{Ask, Limiter, Place},
};

use super::{
    common::{Admission, Common, Told},
    counts::Cell,
};
use crate::clock::read;

/// Which bucket a request draws from.
pub trait Pool<Request>: Clone {
    /// A place in the queue for that bucket.
    type Seat: Seat;

    /// Draws from it, or joins those who wait for it.
    fn enter(&self, request: &Request, ask: Ask, now: Instant) -> Admission<Self::Seat>;
}

/// A place in a queue. To drop it gives it up.
pub trait Seat {
    /// Asks whether it is its turn. Not after that.
    fn ask(&mut self, now: Instant, waker: &Waker) -> Told;
}

/// One bucket, or one for each limit, for all requests.
#[derive(Clone, Debug)]
pub struct One(pub(super) Shared<Bucket>);

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
        common.enter(
            now,
            || limiter.take(ask, now),
            |patience| limiter.take_or_wait(ask, patience, now),
            |place| Queued { bucket: self.0.lease(), place: Some(place) },
        )
    }
}

/// A place in the queue of a layer without keys.
#[derive(Debug)]
pub struct Queued {
    bucket: Lease<Bucket>,
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
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.bucket.limiter.leave(place, read());
            self.bucket.common.counts.add(Cell::Left);
        }
    }
}
