//! Names of headers that users choose.

/// The name, if it is one.
///
/// # Panics
///
/// If it is no header name in lower case. When a layer is built, and not with the first request.
pub(crate) fn checked(header: &'static str) -> &'static str {
    // A token of RFC 9110, less the capitals.
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    assert!(
        !header.is_empty() && header.bytes().all(fits),
        "{header:?} is no header name in lower case; write it as x-request-timeout-ms"
    );
    header
}
