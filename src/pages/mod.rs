//! HTML pages: the start page and the files that pages need, embedded in the binary.

mod library;

use std::borrow::Cow;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
    web,
};
use bytes::Bytes;
use rust_embed::RustEmbed;

use crate::{
    gateway::Gateway,
    http::{etag::revalidated, problem::Problem, public_base},
    settings::StoreKind,
};

#[derive(RustEmbed)]
#[folder = "static/"]
struct Assets;

#[derive(askama::Template)]
#[template(path = "start.html")]
struct Start<'a> {
    version: &'a str,
    /// The clients that may publish and subscribe without an access token, in development mode.
    reach: Option<&'a str>,
    /// The URL of the gateway, without a trailing slash.
    base: &'a str,
    /// Whether a stream's access token may be in its address (`mercure.compat`).
    takes_address_token: bool,
    /// The cookie that may contain the access token (`auth.cookie`), or nothing.
    cookie: &'a str,
    /// Where events are kept.
    history: &'a str,
    /// Whether this listener serves `/metrics`.
    has_metrics: bool,
}

/// Handles `GET /`: a page to publish, subscribe over each transport, and see events arrive.
///
/// # Errors
/// Never in practice: the template is checked when the gateway is built.
pub(crate) async fn start(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    let settings = gateway.settings();
    let reach = if !settings.auth.is_development() {
        None
    } else if settings.server.open_to_everybody {
        Some("every client that reaches this address")
    } else {
        Some("every program on this machine")
    };
    let base = public_base(&request, gateway.settings());
    let base = base.as_str().trim_end_matches('/');
    html(&Start {
        version: env!("CARGO_PKG_VERSION"),
        reach,
        base,
        takes_address_token: settings.speaks_old_dialect(),
        cookie: &settings.auth.cookie,
        history: match settings.history.store {
            StoreKind::Disk => "on disk",
            StoreKind::Memory => "in memory",
            StoreKind::Redis => "in Redis, shared by several nodes",
        },
        has_metrics: settings.ops.listen.is_empty(),
    })
}

/// Renders a page as a response. The page may load only what the gateway serves, and nothing
/// inline.
pub(crate) fn html(page: &impl askama::Template) -> Result<HttpResponse, Problem> {
    let html =
        page.render().map_err(|error| Problem::unavailable("internal", error.to_string()))?;
    let mut response = HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-cache")).body(html);
    protect(&mut response);
    Ok(response)
}

/// Makes the response an HTML page that loads only what the gateway serves. No other page can frame
/// it. Its URL, which may be the permission to see a job, is sent to no other site.
pub(crate) fn protect<B>(response: &mut HttpResponse<B>) {
    const POLICY: &str =
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static(NO_REFERRER));
}

/// The value of `Referrer-Policy` where a URL may be secret.
pub(crate) const NO_REFERRER: &str = "no-referrer";

/// Handles `GET /static/…`: an embedded file with an `ETag`, so that browsers can revalidate it.
///
/// # Errors
/// If there is no such file.
pub(crate) async fn asset(
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    if let Some(served) = library::library(&path) {
        return Ok(revalidated(&request, SCRIPT, &served.tag, served.content.clone()));
    }
    if let Some(percent) = progress_of(&path) {
        let tag = format!("\"p{percent}\"");
        return Ok(revalidated(&request, "image/svg+xml", &tag, progress_icon(percent).into()));
    }
    let file = Assets::get(&path).ok_or_else(|| Problem::not_found("there is no such file"))?;
    let tag = tag(&file.metadata.sha256_hash());
    let content = match file.data {
        Cow::Borrowed(content) => Bytes::from_static(content),
        Cow::Owned(content) => content.into(),
    };
    Ok(revalidated(&request, file.metadata.mimetype(), &tag, content))
}

/// The media type of scripts (RFC 9239).
const SCRIPT: &str = "text/javascript";

/// The entity tag of a file with this hash, with its quotes.
fn tag(hash: &[u8]) -> String {
    hash.iter().take(8).fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}")) + "\""
}

/// Returns the percentage in the name of an icon that shows one: `icon-35.svg`.
fn progress_of(path: &str) -> Option<u8> {
    let digits = path.strip_prefix("icon-")?.strip_suffix(".svg")?;
    let percent = digits.parse().ok().filter(|it| *it <= 100)?;
    (digits == u8::to_string(&percent)).then_some(percent)
}

/// Draws an icon: a ring, of which the part that is done has a colour.
fn progress_icon(percent: u8) -> String {
    let color = if percent == 100 { "#16803c" } else { "#0e7490" };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\" fill=\"none\" stroke-width=\"3\">\
         <circle cx=\"8\" cy=\"8\" r=\"6\" stroke=\"#9aa6b1\"/>\
         <circle cx=\"8\" cy=\"8\" r=\"6\" stroke=\"{color}\" pathLength=\"100\" \
         stroke-dasharray=\"{percent} 100\" transform=\"rotate(-90 8 8)\"/></svg>"
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use askama::Template as _;

    use super::*;

    /// Asserts that a page needs only what its policy allows and the binary contains.
    pub(crate) fn assert_self_contained(html: &str) {
        for inline in ["<script>", "<style", " style=", " onload=", " onclick=", "data:"] {
            assert!(!html.contains(inline), "{inline}");
        }
        let assets: Vec<&str> =
            html.split("static/").skip(1).filter_map(|it| it.split('"').next()).collect();
        assert!(!assets.is_empty());
        for asset in assets {
            let is_there = Assets::get(asset).is_some() || progress_of(asset).is_some();
            assert!(is_there, "{asset}");
        }
    }

    #[test]
    fn the_start_page_needs_only_what_its_policy_allows_and_the_binary_holds() {
        for reach in [Some("<everybody>"), None] {
            let page = Start {
                version: "1",
                reach,
                base: "http://localhost",
                takes_address_token: true,
                cookie: "\"><script>",
                history: "on disk",
                has_metrics: true,
            };
            let html = page.render().expect("the template is valid");
            assert!(!html.contains("<everybody>"));
            assert_self_contained(&html);
        }
    }
}
