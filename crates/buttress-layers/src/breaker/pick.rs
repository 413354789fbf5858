use std::borrow::Cow;

use buttress_core::{Lease, Shared};

use super::{circuit::Circuit, registry::Registry};

/// Which breaker a request meets.
pub trait Pick<Request>: Clone {
    /// Holds on to it for one call.
    fn pick(&self, request: &Request) -> Lease<Circuit>;
}

/// One breaker for all requests.
#[derive(Clone, Debug)]
pub struct One(pub(super) Shared<Circuit>);

impl<Request> Pick<Request> for One {
    #[inline]
    fn pick(&self, _: &Request) -> Lease<Circuit> {
        self.0.lease()
    }
}

/// A breaker for each key that `F` finds in a request.
#[derive(Clone)]
pub struct Keyed<F> {
    pub(super) registry: Shared<Registry>,
    pub(super) key: F,
}

impl<F, Request> Pick<Request> for Keyed<F>
where
    F: Fn(&Request) -> Cow<'_, str> + Clone,
{
    fn pick(&self, request: &Request) -> Lease<Circuit> {
        self.registry.pick(&(self.key)(request))
    }
}

impl<F> std::fmt::Debug for Keyed<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyed").field("registry", &self.registry).finish_non_exhaustive()
    }
}
