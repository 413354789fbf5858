//! Keys for layers that keep a state for each: a breaker per route, per method, per authority, a
//! rate limit per client.

use std::borrow::Cow;

use http::{Request, header};

use super::RequestHead;
pub use super::client::client_address;

/// The template of the request's route, or the method of a gRPC call; empty where there is none,
/// so that such requests share a key. Never a raw path, of which there may be any number.
///
/// ```
/// use buttress_core::{Route, http::key};
///
/// let mut request = http::Request::get("/users/7").body(()).unwrap();
/// assert_eq!(key::route(&request), "");
/// request.extensions_mut().insert(Route::from("/users/{id}"));
/// assert_eq!(key::route(&request), "/users/{id}");
///
/// // A caller that calls itself gRPC does not get a key of its own for that.
/// request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
/// assert_eq!(key::route(&request), "/users/{id}");
/// ```
pub fn route<B>(request: &Request<B>) -> Cow<'_, str> {
    let head = RequestHead::of(request);
    head.route(head.facts().protocol).unwrap_or_default().into()
}

/// The authority that the request is for: of its address, or else of its `Host` header; empty
/// where there is none.
///
/// ```
/// use buttress_core::http::key;
///
/// let request = http::Request::get("https://stock.example:8443/items").body(()).unwrap();
/// assert_eq!(key::authority(&request), "stock.example:8443");
/// ```
pub fn authority<B>(request: &Request<B>) -> Cow<'_, str> {
    let host = || request.headers().get(header::HOST)?.to_str().ok();
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or_else(host).unwrap_or_default().into()
}
