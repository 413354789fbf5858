//! How each layer's handle becomes series: one module per layer.

mod retry;
mod sli;
mod throttle;
mod timeout;
