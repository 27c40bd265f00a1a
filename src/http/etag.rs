//! The entity tags that a client has (`If-None-Match`, RFC 9110, section 13.1.2).

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{
        CACHE_CONTROL, ETAG, Header as _, IF_NONE_MATCH, IfNoneMatch, X_CONTENT_TYPE_OPTIONS,
    },
};
use bytes::Bytes;

/// The entity tags of a request.
#[derive(Debug)]
pub(crate) struct KnownTags(IfNoneMatch);

impl KnownTags {
    /// Reads the header of a request. Unreadable tags are ignored.
    pub(crate) fn of(request: &HttpRequest) -> Self {
        Self(IfNoneMatch::parse(request).unwrap_or_else(|_| IfNoneMatch::Items(Vec::new())))
    }

    /// Whether the client has none.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.0, IfNoneMatch::Items(tags) if tags.is_empty())
    }

    /// Whether the client has the representation with this tag, written with its quotes. The
    /// comparison is weak.
    pub(crate) fn contain(&self, tag: &str) -> bool {
        match &self.0 {
            IfNoneMatch::Any => true,
            IfNoneMatch::Items(tags) => tags.iter().any(|it| it.tag() == tag.trim_matches('"')),
        }
    }
}

/// Responds with content that browsers may keep and revalidate: 304 if the client has it.
pub(crate) fn revalidated(
    request: &HttpRequest,
    content_type: &str,
    tag: &str,
    content: Bytes,
) -> HttpResponse {
    let is_known = KnownTags::of(request).contain(tag);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .content_type(content_type)
        .insert_header((ETAG, tag))
        .insert_header((CACHE_CONTROL, "public, max-age=0, must-revalidate"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    if is_known { response.finish() } else { response.body(content) }
}

/// Returns the first tag without its quotes. It may have characters that a tag must not have: the
/// tag of a poll is a cursor, which may be any id of an event.
pub(crate) fn first_tag(request: &HttpRequest) -> Option<&str> {
    let tags = request.headers().get(IF_NONE_MATCH)?.to_str().ok()?.trim();
    tags.strip_prefix("W/").unwrap_or(tags).strip_prefix('"')?.split('"').next()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn known(header: &str) -> KnownTags {
        let request = TestRequest::default().insert_header((IF_NONE_MATCH, header));
        KnownTags::of(&request.to_http_request())
    }

    #[test]
    fn tags_are_compared_weakly_and_whole() {
        for (header, expected) in [
            ("\"v1\"", true),
            ("W/\"v1\"", true),
            ("\"v0\", W/\"v1\"", true),
            ("*", true),
            ("\"v10\"", false),
            ("\"xv1\"", false),
            ("v1", false),
            ("", false),
        ] {
            assert_eq!(known(header).contain("\"v1\""), expected, "{header}");
        }
        assert!(KnownTags::of(&TestRequest::default().to_http_request()).is_empty());
        assert!(!known("*").is_empty() && !known("\"a\"").is_empty());
    }
}
