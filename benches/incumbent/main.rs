//! What the nearest incumbent does where it matters, and what ours does, in the same scenarios:
//! `cargo bench --bench incumbent`.
//!
//! Rows are numbered as our behaviours are. `+` is what ought to be, `-` is not; the program fails
//! if one of ours is not. Wherever theirs has a way of sharing its state, by a handle, it is used;
//! but for X03, which is about a plain `.layer(..)`.

mod breaker;
mod bulkhead;
mod contender;
mod half_open;
mod report;
mod served;

use std::process::ExitCode;

fn main() -> ExitCode {
    let groups = [breaker::rows(), half_open::rows(), bulkhead::rows(), served::rows()];
    report::print(groups.into_iter().flatten().collect())
}
