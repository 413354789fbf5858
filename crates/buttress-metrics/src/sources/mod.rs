//! How each layer's handle becomes series: one module per layer.

mod rate_limit;
mod sli;
mod timeout;
