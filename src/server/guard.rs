//! Keeps web pages of other sites away from a gateway without keys.
//!
//! A page that a developer visits can send requests to the developer's own machine, and a name that its owner points
//! to 127.0.0.1 makes them look like same-origin ones. So unknown host names are refused whatever is asked for, and
//! so are writes that another origin's page sends.

use actix_web::{
    Error, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HOST, ORIGIN},
    middleware::Next,
};
use url::{Host, Url};

use super::public_base;
use crate::{gateway::Gateway, problem::Problem, settings::Settings};

/// Lets a request through, or refuses it with 421 for an unknown host or 403 for a write from a foreign origin.
///
/// The gateway's own routes are behind it. An embedding application puts its routes that write behind it as well:
/// `web::resource("/items").wrap(from_fn(guard))`, in an application that [`Gateway::configure`] has configured.
///
/// # Errors
/// Those of the service behind it.
pub async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match check(request.request()) {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(problem) => Ok(request.error_response(problem)),
    }
}

fn check(request: &HttpRequest) -> Result<(), Problem> {
    let gateway = Gateway::of(request);
    check_host(request, gateway.settings())?;
    if request.method().is_safe() {
        return Ok(());
    }
    check_origin(request, gateway.settings())
}

fn check_host(request: &HttpRequest, settings: &Settings) -> Result<(), Problem> {
    // HTTP/2 carries it in the address, HTTP/1.0 may carry none.
    let header = request.headers().get(HOST).map(|it| it.to_str().unwrap_or(""));
    let Some(host) = header.or_else(|| request.uri().authority().map(|it| it.as_str())) else {
        return Ok(());
    };
    let parsed = Url::parse(&format!("http://{host}/")).ok();
    let is_known = parsed.and_then(|url| url.host().map(|it| is_known(&it, settings)));
    if is_known == Some(true) {
        return Ok(());
    }
    Err(Problem::misdirected(
        "the `Host` is not one of this gateway's (`server.public_url`, `server.hosts`)",
    ))
}

/// Names that nobody can point to this machine but its owner. A literal address is what it is.
fn is_known(host: &Host<&str>, settings: &Settings) -> bool {
    let Host::Domain(name) = host else { return true };
    let public = settings.server.public_url.as_ref().and_then(|url| url.host_str());
    *name == "localhost"
        || name.ends_with(".localhost")
        || public.is_some_and(|it| it.eq_ignore_ascii_case(name))
        || settings.server.hosts.iter().any(|it| it.eq_ignore_ascii_case(name))
}

fn check_origin(request: &HttpRequest, settings: &Settings) -> Result<(), Problem> {
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let own = public_base(request, settings).origin().ascii_serialization();
    let allowed = settings.cors.origins.iter().map(String::as_str).chain([own.as_str()]);
    if origin.to_str().is_ok_and(|origin| allowed.into_iter().any(|it| it == origin)) {
        return Ok(());
    }
    Err(Problem::foreign_origin("pages of this `Origin` may not write here (`cors.origins`)"))
}
