use std::io;

use crate::{BoxError, Reject, Rejection};

/// The exchange that every layer has unless told otherwise: chosen by the inner service's types.
///
/// | inner response and error | a refusal is | a call is judged |
/// |---|---|---|
/// | `http::Response<B>`, `Infallible` | a response: HTTP status and `Retry-After`, or gRPC trailers-only | by status, trailers and the end of the body |
/// | `http::Response<B>`, a [`ClientError`] | a `BoxError` with the [`Rejection`] and, for tonic, a `Status` in its chain | likewise |
/// | `reqwest::Response`, `reqwest::Error` | likewise | likewise: a 503 is a failure, though it is `Ok` |
/// | `tonic::Response<T>`, `tonic::Status` | a `Status` with the right code | by the code |
///
/// [`Plain`](crate::Plain) serves all other services.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

/// An error beside which [`Auto`] surfaces a refusal as a boxed error.
///
/// Known are `BoxError`, `io::Error` and, with their features, the errors of tonic's channel, of
/// hyper-util's client and of reqwest. Implement it for the error of your own client, and plain
/// `.layer(..)` works there too.
///
/// ```
/// use buttress_core::{Auto, BoxError, ClientError, Kind, Reject, Rejection};
///
/// #[derive(Debug)]
/// struct LinkDown;
/// # impl std::fmt::Display for LinkDown {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("down") }
/// # }
/// impl std::error::Error for LinkDown {}
/// impl ClientError for LinkDown {}
///
/// let error: BoxError = Reject::<(), (), LinkDown>::inner(&Auto, LinkDown);
/// assert!(error.is::<LinkDown>());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known as the error of a client",
    note = "if it is an error of yours, write `impl ClientError for {Self} {{}}`; it has to turn into a `BoxError`",
    note = "otherwise choose how refusals surface: `.on_reject(Raise)` for a boxed error, `.on_reject(Typed)` where `{Self}: From<Rejection>`, or `.on_reject(With(closure))`",
    note = "a service of your own requests and responses takes `.exchange(Plain)`"
)]
pub trait ClientError: Into<BoxError> {}

impl ClientError for BoxError {}
impl ClientError for io::Error {}

impl<Req, Res, E: ClientError> Reject<Req, Res, E> for Auto {
    type Error = BoxError;
    type Context = ();

    #[inline]
    fn context(&self, _: &Req) {}

    #[inline]
    fn reject(&self, (): (), rejection: Rejection) -> Result<Res, BoxError> {
        Err(rejection.into())
    }

    #[inline]
    fn inner(&self, error: E) -> BoxError {
        error.into()
    }
}
