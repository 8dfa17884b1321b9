//! The cryptography of TLS: one for the process, as its libraries bring two and rustls takes neither by itself.

/// Chooses it. A choice that was made before stays.
pub fn choose_cryptography() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
}
