use http::{Request, Response};
use tower_service::Service;

use crate::{Body, BoxError};

/// What a layer makes of an [`HttpProbe`](crate::HttpProbe), as far as the laws need to know it.
///
/// Nobody implements it: what fits, has it.
pub trait Stacked:
    Service<Request<Body>, Response = Response<<Self as Stacked>::Body>, Error: Into<BoxError>> + Clone
{
    /// The body of its responses.
    type Body: http_body::Body<Error: Into<BoxError>>;
}

impl<S, B> Stacked for S
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>> + Clone,
    B: http_body::Body<Error: Into<BoxError>>,
{
    type Body = B;
}
