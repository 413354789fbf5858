//! How each layer's handle becomes series: one module per layer.

mod breaker;
mod bulkhead;
mod fallback;
mod hedge;
mod rate_limit;
mod retry;
mod sli;
mod slo;
mod throttle;
mod timeout;
