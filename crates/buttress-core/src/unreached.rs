use std::{error::Error, io};

use crate::{Rejection, UNREACHED, errors::chain};

/// Whether a request never reached its server, and so may be sent again whatever it asks for: the
/// connection that it needed could not be made.
///
/// Told by the errors of the clients whose features are on, and by an [`io::Error`] that only a
/// connection which was never there ends in.
///
/// ```
/// use std::io;
/// use buttress_core::is_unreached;
///
/// assert!(is_unreached(&io::Error::from(io::ErrorKind::ConnectionRefused)));
/// assert!(!is_unreached(&io::Error::from(io::ErrorKind::ConnectionReset)));
/// ```
#[must_use]
pub fn is_unreached(error: &(dyn Error + 'static)) -> bool {
    // A refusal of ours further in is an answer, also where it stands behind a failed connection.
    Rejection::find(error).is_none()
        && chain(error).any(|error| {
            error.downcast_ref().is_some_and(is_never_connected)
                || UNREACHED.iter().any(|is_unreached| is_unreached(error))
        })
}

fn is_never_connected(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable
    )
}
