//! The sockets that a gateway listens on, and the certificate for those with TLS.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use rustls::ServerConfig;

use crate::{
    auth,
    listen::{self, Certificate, Inherited},
    settings::Settings,
};

/// The listening sockets of a gateway. Connections wait in them until it serves.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(super) plain: Vec<TcpListener>,
    pub(super) encrypted: Vec<TcpListener>,
    pub(super) operations: Vec<TcpListener>,
    pub(super) tls: Option<(Certificate, Arc<ServerConfig>)>,
}

impl Listeners {
    /// Listens on every address of `server.listen`, `tls.listen` and `ops.listen`, and reads the
    /// certificate. Uses listeners passed on to this process where they fit.
    ///
    /// # Errors
    /// If the settings are contradictory, the certificate cannot be used, or an address cannot be
    /// listened on. The text names it.
    pub(crate) fn bind(settings: &Settings) -> io::Result<Self> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        settings.check().map_err(|error| invalid(error.to_string()))?;
        auth::check_keys(settings).map_err(invalid)?;
        let tls = if settings.tls.listen.is_empty() {
            None
        } else {
            let certificate = Certificate::load(&settings.tls).map_err(invalid)?;
            let config = certificate.server_config().map_err(invalid)?;
            Some((certificate, config))
        };
        let mut inherited = Inherited::take()?;
        let mut bind = |key: &str, addresses: &[SocketAddr]| {
            let each = addresses.iter().map(|it| listen::bind(key, *it, &mut inherited, settings));
            each.collect::<io::Result<_>>()
        };
        let plain = bind("server.listen", &settings.server.listen)?;
        let encrypted = bind("tls.listen", &settings.tls.listen)?;
        let operations = bind("ops.listen", &settings.ops.listen)?;
        inherited.check_none_left()?;
        Ok(Self { plain, encrypted, operations, tls })
    }
}
