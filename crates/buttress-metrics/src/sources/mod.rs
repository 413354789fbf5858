//! How each layer's handle becomes series: one module per layer.

mod breaker;
mod bulkhead;
mod sli;
mod slo;
mod timeout;
