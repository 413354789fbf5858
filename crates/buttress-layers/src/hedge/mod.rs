//! x

mod call;
mod choose;
mod future;
mod handle;
mod judge;
mod lanes;
mod layer;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    choose::{By, Choose, Unsaid},
    future::ResponseFuture,
    handle::{Fate, HedgeHandle, HedgeSnapshot},
    lanes::{Extra, Lane, Lanes, Several},
    layer::HedgeLayer,
    service::Hedge,
};
