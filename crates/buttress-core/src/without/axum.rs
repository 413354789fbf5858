//! Without axum there is no `MatchedPath` to read a route template from.

pub(crate) fn matched_path(_: &::http::Extensions) -> Option<&str> {
    None
}

pub(crate) fn peer(_: &::http::Extensions) -> Option<std::net::SocketAddr> {
    None
}
