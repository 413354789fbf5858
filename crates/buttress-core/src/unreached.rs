use std::{
    error::Error,
    fmt::{self, Write},
    io,
};

use crate::{Rejection, UNREACHED, errors::chain};

/// Whether a request never reached its server, and so may be sent again whatever it asks for: the
/// connection that it needed could not be made, or its server reset the HTTP/2 stream with
/// `REFUSED_STREAM`, which promises that nothing was done
/// ([RFC 9113](https://www.rfc-editor.org/rfc/rfc9113#section-8.7), section 8.7).
///
/// Told by the errors of the clients whose features are on, by an [`io::Error`] that only a
/// connection which was never there ends in, and by what the `h2` crate says of such a stream.
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
                || says(error, REFUSED_STREAM)
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

/// What `h2::Error` says, word for word, when a server has reset a stream so. By its words, for
/// the type would cost everybody a dependency on that crate: hyper, which all these clients stand
/// on, hides it in its own error and says no more than that. A test in `tests/retry_reqwest.rs`
/// fails when the words change.
const REFUSED_STREAM: &str =
    "stream error received: refused stream before processing any application logic";

/// Whether an error says just that.
fn says(error: &(dyn Error + 'static), words: &str) -> bool {
    let mut expected = Expected(words);
    write!(expected, "{error}").is_ok() && expected.0.is_empty()
}

/// What is still to come of a text. Nothing is allocated to compare it.
struct Expected<'a>(&'a str);

impl Write for Expected<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(text).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxError, Kind};

    #[test]
    fn a_refused_stream_is_told_by_its_very_words_and_by_no_others() {
        let told = |words: &str| is_unreached(&*BoxError::from(words));

        assert!(told(REFUSED_STREAM));
        assert!(is_unreached(&io::Error::other(BoxError::from(REFUSED_STREAM))));
        assert!(!told(
            "stream error sent by user: refused stream before processing any application logic"
        ));
        assert!(!told(&format!("{REFUSED_STREAM}, said the other one")));
        assert!(!told(&REFUSED_STREAM[..20]));
        assert!(!told(""));
        assert!(!is_unreached(&Rejection::new(Kind::Overloaded, "b")));
    }
}
