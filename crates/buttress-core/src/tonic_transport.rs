//! The error of tonic's channel.

impl crate::ClientError for ::tonic::transport::Error {}
