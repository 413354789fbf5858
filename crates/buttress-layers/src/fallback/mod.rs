//! Answers in the service's stead when it fails: with another service, with the last good
//! response, with a function, with a value.
//!
//! What fails is answered for by the first *rung* of a ladder that has an answer, in the order in
//! which they were added, each with a time limit of its own if it has one. The answer says that it
//! is degraded. When no rung has one, the caller gets the failure itself: the response with its
//! body, or the error.
//!
//! # Example
//!
//! Personalised recommendations within half a second; else popular items, from a cache; else
//! the same for all:
//!
//! ```
//! # use std::{future::{pending, ready}, time::Duration};
//! # use buttress_core::{BoxError, TimeLimit, fallback::Degraded};
//! # use buttress_layers::{fallback::FallbackLayer, timeout::TimeoutLayer};
//! # use bytes::Bytes;
//! # use http::{Request, Response, StatusCode};
//! # use http_body_util::{BodyExt, Full};
//! # use tower::{ServiceBuilder, ServiceExt, service_fn};
//! # type Page = Response<Full<Bytes>>;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let personalised = service_fn(|_: Request<Full<Bytes>>| pending::<Result<Page, BoxError>>());
//! # let cache = service_fn(|request: Request<Full<Bytes>>| ready(match request.uri().query() {
//! #     Some("cache=down") => Err(BoxError::from("the cache is down")),
//! #     _ => Ok(Response::new(Full::<Bytes>::from("popular"))),
//! # }));
//! let layer = FallbackLayer::new("recommendations")
//!     .service(cache)
//!     .named("popular")
//!     .within(TimeLimit::from_millis(100))
//!     .respond(StatusCode::OK, "text/plain", "bestsellers")
//!     .named("constant");
//! let handle = layer.handle();
//! let service = ServiceBuilder::new()
//!     .layer(layer)
//!     .layer(TimeoutLayer::new("personalised", TimeLimit::from_millis(500)))
//!     .service(personalised);
//!
//! let page = service.clone().oneshot(Request::get("/ada").body(Full::default())?).await?;
//! assert_eq!(page.headers()["x-degraded"], "recommendations; rung=popular");
//! assert_eq!(page.into_body().collect().await?.to_bytes(), "popular");
//!
//! let page = service.oneshot(Request::get("/ada?cache=down").body(Full::default())?).await?;
//! assert_eq!(&*page.extensions().get::<Degraded>().unwrap().rung, "constant");
//! assert_eq!(page.into_body().collect().await?.to_bytes(), "bestsellers");
//!
//! assert_eq!(handle.snapshot().rung("popular").unwrap().failed, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What it answers for
//!
//! [`Triggers`](buttress_core::fallback::Triggers): errors; responses that are judged bad; what
//! layers of ours further in refuse, time that ran out among it, but for a rate limit unless that
//! is asked for. Not what is the caller's doing, such as a 404. Not a call that is dropped: who
//! is not there any more gets no answer, and no rung runs. Not what breaks once the head of the
//! response was handed out, be it a body or, for gRPC, trailers with a bad status behind it: a gRPC
//! error is answered for when it comes with the head, as tonic and others send it.
//!
//! # The rungs
//!
//! - [`service`](FallbackLayer::service): the request is made again from its head and as much of
//!   its body as is kept, 64 KiB unless told otherwise. For a longer body, or one that was not
//!   sent to its end, the rung is skipped, and the counts say why. A failure of that service is none of
//!   the caller's: the next rung is asked.
//! - [`stale`](FallbackLayer::stale): the last good response, see below.
//! - [`function`](FallbackLayer::function): an async function of the request without its body,
//!   and [`Why`](buttress_core::fallback::Why); `None` and `Err` go on to the next rung.
//!   [`function_of`](FallbackLayer::function_of) keeps less of the request,
//!   [`function_sync`](FallbackLayer::function_sync) does not wait.
//! - [`value`](FallbackLayer::value) and [`respond`](FallbackLayer::respond): there always is an
//!   answer, but that a page is none to gRPC, whose callers would take it for `INTERNAL` and lose
//!   sight of the failure: there `respond` is skipped. A `value` may be a response of gRPC.
//!
//! Of HTTP an answer may have any body; one that is not the service's own is boxed then.
//! Requests and responses need not be `Clone`. What a call costs that does not fail: nothing is
//! allocated for values and functions of less than the head; a copy of the head for each `service`
//! and each `function`; for `stale` the key, the values by which responses may vary, and for a
//! response that is stored a copy of its head and its body: what a connection has read is not held on
//! to for the sake of a part of it.
//!
//! # The last good response
//!
//! A [`StaleCache`](buttress_core::http::StaleCache) is no cache: the service is always asked, and
//! only what fails is answered from it. Good responses to `GET` and `HEAD` are stored while they
//! stream to their callers, once they have ended well, bounded in bytes, entries and age; one at a
//! time under a key, so that a herd of callers stores once. The key is the method, the scheme, the
//! authority, the path and the query, and `Vary` is respected. Where anything else decides what a
//! caller is told, an `X-Api-Key` or the tenant that an outer layer has found, make it part of
//! the [key](buttress_core::http::StaleSettings::key).
//!
//! Stored is what RFC 9111 lets a shared cache store, and less: no `no-store`, `no-cache` or
//! `private`, no `Set-Cookie`, no part of anything, nothing that varies by a header that is not
//! known beforehand; what has an `Authorization` or a `Cookie` in its request only if the response
//! says `public` or `s-maxage`. Nothing is stored by writing: after a `PUT`, and after a 404, the
//! last good response is still the one of before, until it is too old. How long it may answer, is said by the response's `stale-if-error` (RFC 5861) beyond
//! its `max-age`, or else by the settings; `must-revalidate` forbids it. An answer has its
//! `Age`, and no `Warning`, which RFC 9111 has abolished. That counts on from the `Age` that the
//! response came with; its `Date` counts with a [`wall_clock`](buttress_core::http::StaleSettings::wall_clock). Of the stored response's extensions there are
//! none.
//!
//! While a service fails slowly, each caller waits for that. With
//! [`probe_alone`](buttress_core::http::StaleSettings::probe_alone) one does, and the others of its
//! key are answered at once.
//!
//! # What is told
//!
//! The answer has a [`Degraded`](buttress_core::fallback::Degraded) among its extensions and, but
//! for [`without_header`](FallbackLayer::without_header), a header: `x-degraded: shop; rung=stale;
//! age=11; stale`. An [`sli`](crate::sli) around it counts it apart. Observers, and so the log, are told
//! of each failure with its cause and each answering rung, but of the same thing with the same cause
//! only once until it has not happened for a minute, and of eight causes of a thing at the most;
//! [`tell_all`](FallbackLayer::tell_all) tells it each time. In
//! *shadow* mode the layer decides and counts, keeps nothing, and answers nothing.
//!
//! # Sharing
//!
//! One [`FallbackLayer`] is one ladder with one state, shared by every service that it builds and
//! their clones. Adding a rung makes another layer with a state of its own, so take the handle
//! last. A [`StaleCache`](buttress_core::http::StaleCache) may be given to several layers of one
//! service.
//!
//! # Readiness and cancellation
//!
//! `poll_ready` is the inner service's own; what fails there is passed on, and the error type is
//! left as it is. Another service is made ready inside the response's future, on a clone of its
//! own, and within the rung's limit. The failed response is held until a rung has answered, for
//! it may be all there is. A panic goes on.
//!
//! # Defaults
//!
//! No rungs; the triggers above; the header `x-degraded`; 64 KiB of a request's body; for stored
//! responses 16 MiB in 1,024 entries, and ten minutes.
//!
//! # When not to use
//!
//! Inside of retries, which it ends after the first attempt. Where a wrong answer is worse than none:
//! a price, a balance, a permission. With a backup that depends on what has just failed. And as
//! a cache, which it is not.

mod future;
mod handle;
mod ladder;
mod layer;
mod look;
mod rungs;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    future::ResponseFuture,
    handle::{FallbackHandle, FallbackSnapshot, NoSuchRung, RungCounts},
    ladder::{Aged, Cause, Given, Guide, Ladder, Nothing, Step, Then},
    layer::FallbackLayer,
    rungs::{
        Backup, Fixed, Function, Immediate, Keep, OfHead, OfRequest, Reply, Rung, Stale, Value,
    },
    service::Fallback,
};
