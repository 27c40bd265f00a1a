//! A gateway with TLS, its certificate, and clients that trust it.

use std::{fs, path::PathBuf};

use reqwest::Client;
use tempfile::TempDir;

use super::Gateway;

/// Files with a certificate and its key.
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    _directory: TempDir,
}

impl Files {
    /// Files with a new certificate for this machine; returns it as PEM as well.
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

/// A gateway that listens with TLS as well, its files, and the certificate.
pub fn gateway(settings: &[(&str, &str)]) -> (Gateway, Files, String) {
    let (files, pem) = Files::new();
    let settings = [settings, &files.settings()].concat();
    let gateway = Gateway::with(&settings);
    (gateway, files, pem)
}

/// A client with connections of its own that trusts a certificate and nothing else.
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
}
