//! How each layer's handle becomes series: one module per layer.

mod breaker;
mod sli;
mod timeout;
