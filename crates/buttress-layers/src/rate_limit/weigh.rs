use std::{fmt, num::NonZeroU32};

use buttress_core::{Criticality, SaysCriticality, rate_limit::Ask};

/// What a request costs.
pub trait Weigh<Request>: Clone {
    /// Reads it off the request.
    fn weigh(&self, request: &Request) -> Ask;

    /// Whether it is let through without a look at any bucket.
    #[inline]
    fn is_free(&self, _: &Request) -> bool {
        false
    }
}

/// Each request costs one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Each;

impl<Request> Weigh<Request> for Each {
    #[inline]
    fn weigh(&self, _: &Request) -> Ask {
        Ask::one()
    }
}

/// A request costs what a closure says.
#[derive(Clone, Copy)]
pub struct Cost<F>(pub(super) F);

impl<Request, F> Weigh<Request> for Cost<F>
where
    F: Fn(&Request) -> NonZeroU32 + Clone,
{
    #[inline]
    fn weigh(&self, request: &Request) -> Ask {
        Ask::cost((self.0)(request))
    }
}

impl<F> fmt::Debug for Cost<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cost(..)")
    }
}

/// The last part of the bucket is for some requests only.
#[derive(Clone, Copy)]
pub struct Reserve<C, F> {
    pub(super) cost: C,
    pub(super) kept: u32,
    pub(super) critical: F,
}

impl<Request, C, F> Weigh<Request> for Reserve<C, F>
where
    C: Weigh<Request>,
    F: Fn(&Request) -> bool + Clone,
{
    #[inline]
    fn weigh(&self, request: &Request) -> Ask {
        let ask = self.cost.weigh(request);
        if (self.critical)(request) { ask } else { ask.leaving(self.kept) }
    }

    #[inline]
    fn is_free(&self, request: &Request) -> bool {
        self.cost.is_free(request)
    }
}

impl<C: fmt::Debug, F> fmt::Debug for Reserve<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve")
            .field("cost", &self.cost)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

/// The last part of the bucket is for requests that are critical enough.
#[derive(Clone, Copy, Debug)]
pub struct ReserveFor<C> {
    pub(super) cost: C,
    pub(super) kept: u32,
    pub(super) least: Criticality,
}

impl<Request: SaysCriticality, C: Weigh<Request>> Weigh<Request> for ReserveFor<C> {
    #[inline]
    fn weigh(&self, request: &Request) -> Ask {
        let ask = self.cost.weigh(request);
        let class = request.criticality(Criticality::HEADER).unwrap_or_default();
        if class >= self.least { ask } else { ask.leaving(self.kept) }
    }

    #[inline]
    fn is_free(&self, request: &Request) -> bool {
        self.cost.is_free(request)
    }
}

/// Some requests cost nothing.
#[derive(Clone, Copy)]
pub struct Bypass<C, F> {
    pub(super) cost: C,
    pub(super) by: F,
}

impl<Request, C, F> Weigh<Request> for Bypass<C, F>
where
    C: Weigh<Request>,
    F: Fn(&Request) -> bool + Clone,
{
    #[inline]
    fn weigh(&self, request: &Request) -> Ask {
        self.cost.weigh(request)
    }

    #[inline]
    fn is_free(&self, request: &Request) -> bool {
        self.cost.is_free(request) || (self.by)(request)
    }
}

impl<C: fmt::Debug, F> fmt::Debug for Bypass<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bypass").field("cost", &self.cost).finish_non_exhaustive()
    }
}
