use std::{mem, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::{
    StaleCache,
    cache::{Kept, size_of_head},
};
use crate::{
    Code,
    fallback::Claim,
    http::{ResponseHead, head::grpc_status},
};

/// A response that can be given any number of times.
#[derive(Clone, Debug)]
pub struct Stored {
    status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Stored {
    /// A response with this body.
    #[must_use]
    pub fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        Self { status, headers, body, trailers: None }
    }

    /// The head of one that is on its way, without what is between two hops only: RFC 9110,
    /// section 7.6.1. Its age is told anew each time.
    pub(super) fn begin(head: ResponseHead<'_>) -> Self {
        let named: Vec<HeaderName> = head
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|names| names.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        let stays = |name: &HeaderName| {
            *name != header::AGE && !named.contains(name) && !HOP_BY_HOP.contains(name)
        };
        let headers = own(head.headers, stays);
        Self { status: head.status, headers, body: Bytes::new(), trailers: None }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its head once more, to which a body belongs that plays it back.
    #[must_use]
    pub fn head(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.headers);
        response
    }

    fn size(&self) -> usize {
        let trailers = self.trailers.as_ref().map_or(0, size_of_head);
        size_of_head(&self.headers) + self.body.len() + trailers
    }
}

const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
];

/// The headers that stay, with values of their own, in one piece: those that were received are parts
/// of all that their connection has read at once.
fn own(headers: &HeaderMap, stays: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let stay = || headers.iter().filter(|(name, _)| stays(name));
    let mut text = Vec::with_capacity(stay().map(|(_, value)| value.len()).sum());
    stay().for_each(|(_, value)| text.extend_from_slice(value.as_bytes()));
    let mut text = Bytes::from(text);
    let mut own = HeaderMap::with_capacity(headers.len());
    for (name, value) in stay() {
        let copy = HeaderValue::from_maybe_shared(text.split_to(value.len()));
        let mut copy = copy.unwrap_or_else(|_| value.clone());
        copy.set_sensitive(value.is_sensitive());
        own.append(name, copy);
    }
    own
}

/// Writes a response down while it streams to its caller. It is stored once it has ended well:
/// what breaks off, or is dropped, or turns out too long, is forgotten.
#[derive(Debug)]
pub struct Tape {
    cache: StaleCache,
    key: Arc<str>,
    claim: Claim,
    /// `None` once it was stored.
    kept: Option<Kept>,
    /// A copy: what was received is a part of all that its connection has read at once.
    body: Vec<u8>,
    /// How many bytes still fit.
    room: usize,
    /// How many bytes `Content-Length` still promises.
    owed: Option<u64>,
    grpc: bool,
}

impl Tape {
    pub(super) fn new(
        cache: StaleCache,
        key: Arc<str>,
        claim: Claim,
        kept: Kept,
        (room, owed, grpc): (usize, Option<u64>, bool),
    ) -> Self {
        Self { cache, key, claim, kept: Some(kept), body: Vec::new(), room, owed, grpc }
    }

    /// Takes a chunk of the body, which is the last one if the body says so itself.
    pub(super) fn data(&mut self, data: &Bytes, last: bool) -> Noted {
        let Some(room) = self.room.checked_sub(data.len()) else { return Noted::TooLong };
        self.room = room;
        if let Some(owed) = &mut self.owed {
            let Some(left) = owed.checked_sub(data.len() as u64) else { return Noted::TooLong };
            *owed = left;
        }
        if self.body.is_empty() {
            let owed = self.owed.and_then(|owed| usize::try_from(owed).ok()).unwrap_or_default();
            self.body.reserve_exact(data.len().saturating_add(owed));
        }
        self.body.extend_from_slice(data);
        // A server that has sent what was promised looks for no end.
        if !self.grpc && (last || self.owed == Some(0)) { Noted::Whole } else { Noted::Partly }
    }

    /// The body has ended.
    pub(super) fn finish(mut self, trailers: Option<&HeaderMap>) {
        let Some(kept) = self.kept.take() else { return };
        let is_ok = || trailers.and_then(grpc_status) == Some(Code::Ok);
        if self.owed.is_some_and(|owed| owed > 0) || (self.grpc && !is_ok()) {
            self.kept = Some(kept);
            return;
        }
        let Kept { stored, life, mask, fields } = kept;
        let mut stored = Arc::unwrap_or_clone(stored);
        self.body.shrink_to_fit();
        stored.body = mem::take(&mut self.body).into();
        stored.trailers = trailers.map(|trailers| own(trailers, |_| true));
        let (size, received) = (stored.size(), life.received());
        let fields_size: usize = fields.iter().map(|(_, value)| value.len()).sum();
        let Some(until) = life.until() else {
            self.cache.shelf().give_up(&self.key, self.claim);
            return;
        };
        let kept = Arc::new(Kept { stored: Arc::new(stored), life, mask, fields });
        let like = Arc::clone(&kept);
        let removed = self.cache.shelf().put(
            &self.key,
            self.claim,
            (size + fields_size, until),
            kept,
            |old| old.mask == like.mask && old.fields == like.fields,
            received,
        );
        drop(removed);
    }
}

/// How much of a body has been written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Partly,
    Whole,
    /// More than fits, or than was promised.
    TooLong,
}

impl Drop for Tape {
    fn drop(&mut self) {
        if self.kept.is_some() {
            self.cache.shelf().give_up(&self.key, self.claim);
        }
    }
}

/// Marks a stored response as old, as RFC 9111, section 5.1 asks of who answers from a store.
pub(crate) fn set_age(headers: &mut HeaderMap, seconds: u64) {
    headers.insert(header::AGE, HeaderValue::from(seconds));
}
