//! Pages for people: the start page and the files that pages need, embedded in the binary.

use actix_web::{HttpRequest, HttpResponse, http::header::IF_NONE_MATCH, web};
use askama::Template as _;
use rust_embed::RustEmbed;

use crate::problem::Problem;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Assets;

#[derive(askama::Template)]
#[template(path = "start.html")]
struct Start<'a> {
    version: &'a str,
}

/// `GET /`: publish, subscribe over each transport, see events arrive.
///
/// # Errors
/// Never in practice: the template is checked when the gateway is built.
pub async fn start(_: HttpRequest) -> Result<HttpResponse, Problem> {
    let page = Start { version: env!("CARGO_PKG_VERSION") };
    let html =
        page.render().map_err(|error| Problem::unavailable("internal", error.to_string()))?;
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("cache-control", "no-cache"))
        .insert_header(("x-content-type-options", "nosniff"))
        .insert_header((
            "content-security-policy",
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ))
        .body(html))
}

/// `GET /static/…`: an embedded file, with a tag by which browsers ask again.
///
/// # Errors
/// If there is no such file.
pub async fn asset(request: HttpRequest, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let file = Assets::get(&path).ok_or_else(|| Problem::not_found("there is no such file"))?;
    let hash = file.metadata.sha256_hash();
    let tag =
        hash[..8].iter().fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}")) + "\"";
    let known = request.headers().get(IF_NONE_MATCH).and_then(|it| it.to_str().ok());
    let is_known = known.is_some_and(|known| known.contains(&tag));
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .content_type(file.metadata.mimetype())
        .insert_header(("etag", tag))
        .insert_header(("cache-control", "public, max-age=0, must-revalidate"))
        .insert_header(("x-content-type-options", "nosniff"));
    Ok(if is_known { response.finish() } else { response.body(file.data.into_owned()) })
}
