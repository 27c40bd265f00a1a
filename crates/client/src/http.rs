//! HTTP clients that talk to one server only, and what their errors mean.

use std::error::Error;

use reqwest::{Client, ClientBuilder, StatusCode, Url, redirect::Policy};

/// A client for one server only: it follows no redirect. One that never uses TLS needs no certificates, so that it can
/// do without those of the system, which small containers do not have.
pub fn client(url: &Url) -> ClientBuilder {
    let builder = Client::builder().redirect(Policy::none());
    if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder }
}

/// An error and what led to it.
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

/// Whether the same request may be answered otherwise later.
#[must_use]
pub fn is_passing(status: StatusCode) -> bool {
    let is_passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || is_passing.contains(&status)
}
