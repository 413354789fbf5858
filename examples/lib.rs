//! Programs that show buttress at work. Each is a target of its own: see `Cargo.toml`.
