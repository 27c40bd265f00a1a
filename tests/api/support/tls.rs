//! A gateway with TLS, its certificate, and clients that trust it.

pub use tidegate_testkit::tls::{Files, client};

use super::Gateway;

/// A gateway that also listens with TLS, its files, and the certificate.
pub fn gateway(settings: &[(&str, &str)]) -> (Gateway, Files, String) {
    let (files, pem) = Files::new();
    let settings = [settings, &files.settings()].concat();
    let gateway = Gateway::with(&settings);
    (gateway, files, pem)
}
