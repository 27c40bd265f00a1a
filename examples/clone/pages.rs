//! The pages of the example. They work without scripts, and all foreign text is escaped.

use actix_web::{HttpResponse, http::StatusCode};

use crate::{
    address,
    clones::{Clone, File, LONGEST_LISTING},
};

/// Returns the page that asks for an address. After a refusal it shows the input and the reason.
pub(crate) fn ask(typed: &str, refusal: Option<&str>, is_file_allowed: bool) -> HttpResponse {
    let status = if refusal.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let refusal = refusal.map(|it| format!("<p class=\"bad\" role=\"alert\">{}</p>", escape(it)));
    let schemes = if is_file_allowed { "https:// or file:///" } else { "https://" };
    let page = fill(
        include_str!("ask.html"),
        &[
            ("typed", &escape(typed)),
            ("refusal", &refusal.unwrap_or_default()),
            ("schemes", schemes),
            ("longest", &address::LONGEST.to_string()),
        ],
    );
    respond(status, page)
}

/// Returns the page with the files of a clone.
pub(crate) fn listing(clone: &Clone, files: &[File], are_more: bool) -> HttpResponse {
    let row = |file: &File| {
        format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(&file.name), size(file.size))
    };
    let count = match (files.len(), are_more) {
        (_, true) => format!("More than {LONGEST_LISTING} files; these are some of them."),
        (1, false) => "One file.".to_owned(),
        (n_files, false) => format!("{n_files} files."),
    };
    let page = fill(
        include_str!("listing.html"),
        &[
            ("address", &escape(clone.address.as_str())),
            ("count", &count),
            ("rows", &files.iter().map(row).collect::<String>()),
        ],
    );
    respond(StatusCode::OK, page)
}

/// Returns the page for a clone that does not exist.
pub(crate) fn missing() -> HttpResponse {
    respond(StatusCode::NOT_FOUND, include_str!("missing.html").to_owned())
}

fn respond(status: StatusCode, page: String) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header(("cache-control", "private, no-cache"))
        .insert_header(("x-content-type-options", "nosniff"))
        .insert_header((
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'",
        ))
        .body(page)
}

/// Replaces the marks `{{name}}` of a page with texts. The texts themselves are not searched for
/// marks.
fn fill(page: &str, texts: &[(&str, &str)]) -> String {
    let mut parts = page.split("{{");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").expect("a mark has an end");
        let (_, text) = texts.iter().find(|it| it.0 == name).expect("a mark has a text");
        filled.push_str(text);
        filled.push_str(rest);
    }
    filled
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for it in text.chars() {
        match it {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            it => escaped.push(it),
        }
    }
    escaped
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).to_string()
}
