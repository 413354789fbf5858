//! x

mod bucket;
mod buckets;
mod circuit;
mod clock;
mod core;
mod counts;
mod driver;
mod fleet;
mod handle;
mod key;
mod layer;
mod lease;
mod memory;
mod purse;
mod redis;
mod scale;
#[doc(hidden)]
pub mod script;
mod seat;
mod settings;
#[cfg(feature = "metrics")]
mod source;
mod store;

pub use self::{
    buckets::{Buckets, Many, Single},
    counts::{Source, Totals},
    fleet::{By, Find, Fleet, Whole},
    handle::FleetLimitHandle,
    key::FleetKey,
    layer::FleetLimitLayer,
    lease::Lease,
    memory::{MemoryAnswer, MemoryStore},
    redis::{RedisAnswer, RedisStore},
    scale::{Debt, Scale, wait},
    settings::{Outage, Replicas, Settings, share_of},
    store::{Failure, MOST, Store, StoreError, Take, Taken},
};
