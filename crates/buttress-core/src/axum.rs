//! The route template of a request that an axum router has matched, and axum's body.

use ::axum::{body::Body, extract::MatchedPath};

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
