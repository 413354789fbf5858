//! The error of tonic's channel, and who has connected to tonic's server.

use std::net::SocketAddr;

use ::tonic::transport::server::TcpConnectInfo;

impl crate::ClientError for ::tonic::transport::Error {}

/// Who has connected to tonic's own server, with TLS or without.
pub(crate) fn peer(extensions: &::http::Extensions) -> Option<SocketAddr> {
    extensions.get::<TcpConnectInfo>()?.remote_addr()
}
