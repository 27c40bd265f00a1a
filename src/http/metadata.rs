//! Metadata for clients that need an access token for the gateway (RFC 9728).

use actix_web::{HttpRequest, HttpResponse, http::header::CACHE_CONTROL, web};
use serde::Serialize;
use url::Url;

use crate::{
    auth::DETAIL,
    gateway::Gateway,
    http::{problem::Problem, public_base},
    settings::Settings,
};

/// The beginning of the document's path.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

#[derive(Serialize)]
struct MetadataDocument<'a> {
    resource: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_servers: Vec<&'a str>,
    authorization_details_types_supported: [&'static str; 1],
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "str::is_empty")]
    mercure_cookie: &'a str,
    mercure_matcher_types_supported: &'static [&'static str],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    mercure_subscriptions: bool,
}

/// Handles `GET /.well-known/oauth-protected-resource/.well-known/mercure`, for all clients.
///
/// # Errors
/// If the path is not that of the hub, or if the gateway is in development mode.
pub(crate) async fn metadata(
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    let settings = gateway.settings();
    let hub = hub_url(&request, settings);
    let is_hub = path.trim_start_matches('/') == hub.path().trim_start_matches('/');
    if !is_hub || settings.auth.is_development() {
        return Err(Problem::not_found("there is no protected resource at this path"));
    }
    let pinned = settings.auth.audiences.first().filter(|_| settings.server.public_url.is_none());
    let has_server = |keys: &Option<crate::settings::KeySettings>| {
        keys.as_ref().is_some_and(|it| it.jwks_url.is_some())
    };
    let servers = settings.auth.issuers.iter();
    // Without a public address the document depends on the request, so it must not be shared.
    let caching = match settings.server.public_url {
        Some(_) => "public, max-age=300",
        None => "private, max-age=300",
    };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, caching)).json(MetadataDocument {
        resource: pinned.cloned().unwrap_or_else(|| hub.into()),
        authorization_servers: servers
            .filter(|it| has_server(&it.publisher) || has_server(&it.subscriber))
            .map(|it| it.name.as_str())
            .collect(),
        authorization_details_types_supported: [DETAIL],
        bearer_methods_supported: ["header"],
        mercure_cookie: &settings.auth.cookie,
        mercure_matcher_types_supported: match settings.speaks_old_dialect() {
            true => &["exact", "urlpattern", "uritemplate"],
            false => &["exact", "urlpattern"],
        },
        mercure_subscriptions: settings.mercure.subscriptions,
    }))
}

/// Returns the address of the document for the hub that serves `request`.
pub(super) fn metadata_url(request: &HttpRequest, settings: &Settings) -> String {
    let mut url = hub_url(request, settings);
    let path = format!("{WELL_KNOWN}{}", url.path());
    url.set_path(&path);
    url.into()
}

/// Returns the address of the hub as the client sees it.
pub(crate) fn hub_url(request: &HttpRequest, settings: &Settings) -> Url {
    let mut url = public_base(request, settings);
    let path = format!("{}/.well-known/mercure", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}
