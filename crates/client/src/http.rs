//! HTTP clients for a single server, and the meaning of their errors.

use std::error::Error;

use reqwest::{Client, ClientBuilder, StatusCode, Url, redirect::Policy};

/// Creates a client for one server, which follows no redirects. For `http` URLs it loads no
/// certificates, because small containers have none.
pub fn client(url: &Url) -> ClientBuilder {
    let builder = Client::builder().redirect(Policy::none());
    if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder }
}

/// Formats an error and its causes.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Whether the same request may get a different answer later.
#[must_use]
pub fn is_passing(status: StatusCode) -> bool {
    let is_passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || is_passing.contains(&status)
}
