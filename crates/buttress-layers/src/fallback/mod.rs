//! Answers in the service's stead when it fails.

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
    ladder::{Ladder, Nothing, Rungs, Then},
    layer::FallbackLayer,
    rungs::{
        Backup, Fixed, Function, Immediate, Keep, Keeps, OfHead, OfRequest, Reply, Rung, Stale,
        Value,
    },
    service::Fallback,
};
