//! Content negotiation (`Accept`, RFC 9110, section 12.5.1).

use actix_web::{
    HttpRequest,
    http::header::{Accept, Header as _},
};
use mime::Mime;

/// Returns the client's preferred one of `offers`: the highest weight, then the earliest range in
/// the header. The most specific range that matches a media type decides, and a weight of 0
/// excludes it. Without a readable header it is the first offer.
pub(crate) fn preferred(request: &HttpRequest, offers: &[&'static str]) -> Option<&'static str> {
    let ranges = Accept::parse(request).map(|it| it.0).unwrap_or_default();
    if ranges.is_empty() {
        return offers.first().copied();
    }
    let rated = offers.iter().filter_map(|offer| {
        let deciding = ranges
            .iter()
            .enumerate()
            .filter_map(|(at, range)| Some((specificity(&range.item, offer)?, at, range)))
            // The first one of equally specific ranges decides.
            .max_by_key(|(specificity, at, _)| (*specificity, std::cmp::Reverse(*at)));
        let (_, at, range) = deciding?;
        let weight = range.quality;
        (weight != actix_web::http::header::Quality::ZERO).then_some((*offer, weight, at))
    });
    // The first one of equally good offers is chosen.
    let best = rated.reduce(|best, next| {
        let is_better = best.1 < next.1 || (best.1 == next.1 && next.2 < best.2);
        if is_better { next } else { best }
    });
    best.map(|(offer, ..)| offer)
}

/// Whether the client accepts a media type.
pub(crate) fn accepts(request: &HttpRequest, kind: &'static str) -> bool {
    preferred(request, &[kind]).is_some()
}

/// Returns how exactly a range names a media type, or `None` if it does not match. Parameters of
/// ranges are ignored.
fn specificity(range: &Mime, kind: &str) -> Option<u8> {
    let (family, _) = kind.split_once('/')?;
    match (range.type_().as_str(), range.subtype().as_str()) {
        ("*", "*") => Some(0),
        (it, "*") if it == family => Some(1),
        // Compares the full name, because the crate's subtype lacks a suffix such as `+json`.
        _ if range.essence_str() == kind => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{http::header::ACCEPT, test::TestRequest};

    use super::*;

    const OFFERS: [&str; 3] = ["application/json", "text/html", "text/event-stream"];

    fn preferred_of(header: &str) -> Option<&'static str> {
        let request = TestRequest::default().insert_header((ACCEPT, header)).to_http_request();
        preferred(&request, &OFFERS)
    }

    #[test]
    fn the_most_specific_range_decides_and_zero_excludes() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (header, expected) in [
            ("", Some("application/json")),
            ("*/*", Some("application/json")),
            (browser, Some("text/html")),
            ("text/event-stream", Some("text/event-stream")),
            ("Text/Event-Stream; q=0.1", Some("text/event-stream")),
            ("application/json;q=0, */*", Some("text/html")),
            ("application/json;q=0, text/*;q=0.5, */*", Some("text/html")),
            ("application/*;q=0, text/html;q=0, */*;q=0.1", Some("text/event-stream")),
            ("text/html;q=0.5, application/json;q=0.4", Some("text/html")),
            ("text/html, application/json", Some("text/html")),
            ("*/*;q=0, text/event-stream", Some("text/event-stream")),
            ("text/event-stream;q=0, */*;q=0", None),
            ("image/png", None),
            ("garbage", Some("application/json")),
            ("text/html;q=x", Some("application/json")),
        ] {
            assert_eq!(preferred_of(header), expected, "{header}");
        }
        let suffixed = ["application/json", "application/ld+json"];
        let request = TestRequest::default().insert_header((ACCEPT, suffixed[1])).to_http_request();
        assert_eq!(preferred(&request, &suffixed), Some(suffixed[1]));
        assert_eq!(preferred(&TestRequest::default().to_http_request(), &OFFERS), Some(OFFERS[0]));
    }
}
