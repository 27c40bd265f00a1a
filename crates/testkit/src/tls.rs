//! Certificates for a gateway, and clients that trust them.

use std::{fs, path::PathBuf, sync::Arc};

use reqwest::Client;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::gateway::Gateway;

/// Files with a certificate and its key.
#[derive(Debug)]
pub struct Files {
    /// The file with the certificate, as PEM.
    pub certificate: PathBuf,
    /// The file with its key, as PEM.
    pub key: PathBuf,
    _directory: TempDir,
}

impl Files {
    /// Creates files with a new certificate for this machine. Also returns it as PEM.
    pub fn new() -> (Self, String) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let certificate = directory.path().join("certificate.pem");
        let key = directory.path().join("key.pem");
        let files = Self { certificate, key, _directory: directory };
        let pem = files.renew();
        (files, pem)
    }

    /// Writes a new certificate and its key.
    pub fn renew(&self) -> String {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let pem = made.cert.pem();
        fs::write(&self.certificate, &pem).expect("it can be written");
        fs::write(&self.key, made.signing_key.serialize_pem()).expect("it can be written");
        pem
    }

    /// The settings that name the files.
    pub fn settings(&self) -> [(&str, &str); 3] {
        [
            ("TLS__LISTEN", "127.0.0.1:0"),
            ("TLS__CERTIFICATE", self.certificate.to_str().expect("text")),
            ("TLS__KEY", self.key.to_str().expect("text")),
        ]
    }
}

/// A client with connections of its own that trusts only this certificate.
pub fn client(pem: &str, over_http_2: bool) -> Client {
    let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate");
    let builder = Client::builder().tls_certs_only([certificate]);
    let builder = if over_http_2 { builder } else { builder.http1_only() };
    builder.build().expect("a client")
}

impl Gateway {
    /// The full address of a path with TLS.
    pub fn secure_url(&self, path: &str) -> String {
        let base = self.urls.iter().find(|it| it.starts_with("https://"));
        format!("{}{path}", base.expect("it listens with TLS").trim_end_matches('/'))
    }

    /// Opens a TLS connection with this ALPN protocol.
    pub async fn secure_stream(&self, pem: &str, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().expect("versions of TLS");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let url = self.secure_url("");
        let address = url.trim_start_matches("https://").trim_end_matches('/');
        let stream = TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.expect("a handshake")
    }
}
