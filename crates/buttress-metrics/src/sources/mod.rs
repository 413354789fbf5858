//! How each layer's handle becomes series: one module per layer.

mod sli;
mod timeout;
