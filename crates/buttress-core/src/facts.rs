use std::sync::Arc;

use crate::Code;

/// What is known of a call without judging it: read off the request, completed by the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How the caller speaks.
    pub protocol: Protocol,
    /// The method, where the protocol has one.
    pub method: Method,
    /// The HTTP status, once there is a head.
    pub status: Option<u16>,
    /// The gRPC code, once there is one: with a head that has no trailers to come, or at the end.
    pub code: Option<Code>,
}

impl Facts {
    /// Whether the status, or the code, says that all is well, as far as there is one.
    pub(crate) fn is_well(self) -> bool {
        match self.protocol {
            Protocol::Grpc => self.code.is_none_or(|code| code == Code::Ok),
            Protocol::Http | Protocol::Plain => self.status.is_none_or(|status| status < 400),
        }
    }
}

/// How a caller speaks. Told by each request, for one port may serve them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP, gRPC-Web among it: that one keeps its trailers in the body.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
    /// A service of anything else.
    Plain,
}

impl Protocol {
    /// The protocol of an HTTP request with this content type.
    ///
    /// gRPC is `application/grpc`, or that followed by `+` or `;`.
    ///
    /// ```
    /// use buttress_core::Protocol;
    ///
    /// assert_eq!(Protocol::of_content_type(b"application/grpc+proto"), Protocol::Grpc);
    /// assert_eq!(Protocol::of_content_type(b"application/grpc-web"), Protocol::Http);
    /// ```
    #[must_use]
    #[inline]
    pub fn of_content_type(value: &[u8]) -> Self {
        const GRPC: &[u8] = b"application/grpc";
        let Some((start, rest)) = value.split_at_checked(GRPC.len()) else {
            return Self::Http;
        };
        match rest.first() {
            None | Some(b'+' | b';') if start.eq_ignore_ascii_case(GRPC) => Self::Grpc,
            _ => Self::Http,
        }
    }

    /// The value of a `protocol` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Plain => "plain",
        }
    }
}

/// A request method, from the closed set that OpenTelemetry allows in a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// Any method that has no name here.
    Other,
    /// `CONNECT`
    Connect,
    /// `DELETE`
    Delete,
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `TRACE`
    Trace,
}

impl Method {
    /// All methods, each at the place of its number.
    pub const ALL: [Self; 10] = [
        Self::Other,
        Self::Connect,
        Self::Delete,
        Self::Get,
        Self::Head,
        Self::Options,
        Self::Patch,
        Self::Post,
        Self::Put,
        Self::Trace,
    ];

    /// The value of the `http_request_method` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "_OTHER",
            Self::Connect => "CONNECT",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Trace => "TRACE",
        }
    }
}

/// The route template of a request, for its extensions, where no framework puts one.
///
/// axum's `MatchedPath` and the method of a gRPC call are found without it.
///
/// ```
/// use buttress_core::Route;
///
/// let mut request = http::Request::get("/users/7").body(()).unwrap();
/// request.extensions_mut().insert(Route::from("/users/{id}"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route(Arc<str>);

impl Route {
    /// The template.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Route {
    fn from(template: T) -> Self {
        Self(template.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_itself_is_grpc() {
        for grpc in ["application/grpc", "application/grpc;charset=utf-8", "Application/gRPC+json"]
        {
            assert_eq!(Protocol::of_content_type(grpc.as_bytes()), Protocol::Grpc, "{grpc}");
        }
        for http in
            ["", "application/grp", "application/grpcx", "application/grpc-web+proto", "text/html"]
        {
            assert_eq!(Protocol::of_content_type(http.as_bytes()), Protocol::Http, "{http}");
        }
    }

    #[test]
    fn every_method_stands_at_its_number() {
        for (number, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, number);
        }
    }
}
