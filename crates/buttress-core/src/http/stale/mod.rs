//! The last good responses, kept for when there is none.

mod body;
mod cache;
mod directives;
mod rules;
mod tape;

#[cfg(test)]
mod tests;

pub(super) use self::tape::set_age;
pub use self::{
    body::FallbackBody,
    cache::{Entry, StaleCache},
    rules::{Asked, StaleSettings, Target},
    tape::{Stored, Tape},
};
