//! The route template of a request that an axum router has matched.

use ::axum::extract::MatchedPath;

/// `/users/{id}`, not `/users/7`; `None` in a fallback, and outside the router.
pub(crate) fn matched_path(extensions: &::http::Extensions) -> Option<&str> {
    extensions.get::<MatchedPath>().map(MatchedPath::as_str)
}
