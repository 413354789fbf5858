use std::fmt;

use buttress_core::hedge::Switch;

/// Says of a request whether it is to be hedged, or not to be, before anything else does.
pub trait Choose<Request>: Clone {
    /// Looks at a request; `None` leaves it to the extension of the request, and to its method.
    fn choose(&self, request: &Request) -> Option<Switch>;
}

/// The request itself says so, in an extension, or nobody does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsaid;

impl<Request> Choose<Request> for Unsaid {
    #[inline]
    fn choose(&self, _: &Request) -> Option<Switch> {
        None
    }
}

/// A closure says so.
#[derive(Clone, Copy)]
pub struct By<F>(pub(super) F);

impl<Request, F> Choose<Request> for By<F>
where
    F: Fn(&Request) -> Option<Switch> + Clone,
{
    fn choose(&self, request: &Request) -> Option<Switch> {
        (self.0)(request)
    }
}

impl<F> fmt::Debug for By<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("By(..)")
    }
}
