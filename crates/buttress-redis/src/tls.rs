use rustls::crypto::{CryptoProvider, ring};

/// Sees to it that there is some cryptography for TLS. The client library takes that of the process,
/// and panics if there is none, or more than one to choose from.
pub(crate) fn prepare() {
    if CryptoProvider::get_default().is_none() {
        // Another may have been faster, and that one does as well.
        let _ = ring::default_provider().install_default();
    }
}
