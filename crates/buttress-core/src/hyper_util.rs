//! The error of hyper-util's client.

use ::hyper_util::client::legacy::Error;

impl crate::ClientError for Error {}

/// Whether the client could not connect.
pub(crate) fn is_unreached(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<Error>().is_some_and(Error::is_connect)
}
