//! How it all hangs together, and why.
