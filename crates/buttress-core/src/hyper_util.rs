//! The error of hyper-util's client.

impl crate::ClientError for ::hyper_util::client::legacy::Error {}
