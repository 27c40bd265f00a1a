//! The TLS certificate, which can be reloaded from its files.

use std::{
    fmt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::settings::TlsSettings;

/// The certificate in use. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Certificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl Certificate {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// If a file cannot be read, or the key does not belong to the certificate. The text names the
    /// setting and the file.
    pub(crate) fn load(settings: &TlsSettings) -> Result<Self, String> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(read(settings)?)))))
    }

    /// Reads the files again. New connections use the new certificate.
    ///
    /// # Errors
    /// As [`Certificate::load`]. The certificate in use is then kept.
    pub(crate) fn reload(&self, settings: &TlsSettings) -> Result<(), String> {
        let certificate = Arc::new(read(settings)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certificate;
        Ok(())
    }

    /// Returns the configuration for accepting connections.
    ///
    /// # Errors
    /// If the cryptography provider of this build lacks what TLS needs.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, String> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read(settings: &TlsSettings) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_file_iter(&settings.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed("tls.certificate", &settings.certificate, error))?;
    if chain.is_empty() {
        return Err(failed("tls.certificate", &settings.certificate, "there is no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&settings.key)
        .map_err(|error| failed("tls.key", &settings.key, error))?;
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|error| failed("tls.key", &settings.key, error))
}

fn failed(setting: &str, file: &Path, reason: impl fmt::Display) -> String {
    format!("{setting}: {}: {reason}", file.display())
}
