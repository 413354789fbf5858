//! What axum says of a request: the route template that it matched, and who has connected; and its
//! body.

use std::net::SocketAddr;

use ::axum::{
    body::Body,
    extract::{ConnectInfo, MatchedPath},
};

use crate::http::{Rebox, Recorded};

impl Rebox for Body {
    fn rebox(body: Recorded<Self>) -> Self {
        Self::new(body)
    }
}

/// `/users/{id}`, not `/users/7`; `None` in a fallback, and outside the router.
pub(crate) fn matched_path(extensions: &::http::Extensions) -> Option<&str> {
    extensions.get::<MatchedPath>().map(MatchedPath::as_str)
}

/// Who has connected, where the router is served so that it knows.
pub(crate) fn peer(extensions: &::http::Extensions) -> Option<SocketAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0)
}
