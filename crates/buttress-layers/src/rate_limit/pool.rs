use std::{task::Waker, time::Instant};

use buttress_core::{
    Lease, Shared,
    rate_limit::{Ask, Limiter, Place, Standing},
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
