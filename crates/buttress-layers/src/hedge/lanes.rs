use std::{fmt, pin::Pin};

use buttress_core::{Case, Lease, retry::Spent};
use pin_project::pin_project;

use super::handle::{Fate, State};
use crate::retry::attempt::Attempt;

/// Room for so many attempts after the first, from 1 to 4.
///
/// It lies in the response future itself: who wants one has no use for the room of four, and
/// nothing is boxed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<const N: usize>;

/// How many attempts there may be after the first: [`Extra<1>`](Extra) to `Extra<4>`.
#[diagnostic::on_unimplemented(
    message = "there is no room for so many hedges",
    note = "`.extra::<N>()` takes from 1 to 4: with the first attempt they are five at the most, as in gRPC"
)]
pub trait Several {
    /// Where they are kept.
    type Lanes<S, F, C: Case>: Lanes<S, F, C>;
}

impl Several for Extra<1> {
    type Lanes<S, F, C: Case> = More<S, F, C, Last>;
}

impl Several for Extra<2> {
    type Lanes<S, F, C: Case> = More<S, F, C, More<S, F, C, Last>>;
}

impl Several for Extra<3> {
    type Lanes<S, F, C: Case> = More<S, F, C, More<S, F, C, More<S, F, C, Last>>>;
}

impl Several for Extra<4> {
    type Lanes<S, F, C: Case> = More<S, F, C, More<S, F, C, More<S, F, C, More<S, F, C, Last>>>>;
}

/// The attempts after the first, each in its lane.
pub trait Lanes<S, F, C: Case> {
    /// Lanes in which there is nobody.
    fn empty() -> Self;

    /// The lane of this number, counted from 0, if there is one.
    fn lane(self: Pin<&mut Self>, number: u32) -> Option<Pin<&mut Lane<S, F, C>>>;
}

/// A lane, and those after it.
#[pin_project]
pub struct More<S, F, C: Case, Rest> {
    #[pin]
    lane: Lane<S, F, C>,
    #[pin]
    rest: Rest,
}

/// No lane any more.
#[derive(Debug)]
pub struct Last;

impl<S, F, C: Case, Rest: Lanes<S, F, C>> Lanes<S, F, C> for More<S, F, C, Rest> {
    #[inline]
    fn empty() -> Self {
        Self { lane: Lane { inner: None, hedge: None }, rest: Rest::empty() }
    }

    fn lane(self: Pin<&mut Self>, number: u32) -> Option<Pin<&mut Lane<S, F, C>>> {
        let this = self.project();
        match number.checked_sub(1) {
            None => Some(this.lane),
            Some(number) => this.rest.lane(number),
        }
    }
}

impl<S, F, C: Case> Lanes<S, F, C> for Last {
    #[inline]
    fn empty() -> Self {
        Self
    }

    fn lane(self: Pin<&mut Self>, _: u32) -> Option<Pin<&mut Lane<S, F, C>>> {
        None
    }
}

impl<S, F, C: Case, Rest> fmt::Debug for More<S, F, C, Rest> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("More").finish_non_exhaustive()
    }
}

/// One attempt after the first, or room for it.
#[pin_project(project = LaneProj)]
pub struct Lane<S, F, C: Case> {
    /// Once it was called.
    #[pin]
    pub(super) inner: Option<F>,
    /// As long as it is under way.
    pub(super) hedge: Option<Sent<S, C>>,
}

impl<S, F, C: Case> fmt::Debug for Lane<S, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("is_sent", &self.hedge.is_some()).finish_non_exhaustive()
    }
}

/// An attempt after the first, counted when it ends, however that is.
pub(super) struct Sent<S, C: Case> {
    /// The service that is called when it is ready.
    pub(super) service: Option<S>,
    /// How many attempts were sent before it.
    pub(super) number: u32,
    /// Once it was called.
    pub(super) attempt: Option<Attempt<C>>,
    pub(super) fate: Fate,
    pub(super) state: Lease<State>,
    pub(super) _spent: Option<Spent>,
}

impl<S, C: Case> Drop for Sent<S, C> {
    fn drop(&mut self) {
        self.state.ended(self.fate);
    }
}

impl<S, F, C: Case> Lane<S, F, C> {
    /// Sends an attempt as soon as its service is ready.
    pub(super) fn send(self: Pin<&mut Self>, sent: Sent<S, C>) {
        *self.project().hedge = Some(sent);
    }

    /// Drops what is under way, if anything is.
    pub(super) fn clear(self: Pin<&mut Self>, fate: Fate) {
        let mut this = self.project();
        if let Some(sent) = &mut *this.hedge {
            sent.fate = fate;
        }
        // What it holds of a body goes before the rest.
        this.inner.set(None);
        *this.hedge = None;
    }
}
