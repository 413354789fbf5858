//! Without tonic's transport there is no server of its own.

pub(crate) fn peer(_: &::http::Extensions) -> Option<std::net::SocketAddr> {
    None
}
