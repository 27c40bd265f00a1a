//! What a client would like: `Prefer: wait=N` (RFC 7240, section 4.3), `Accept` (RFC 9110, section 12.5.1).

use std::time::Duration;

use actix_web::{HttpRequest, http::header::ACCEPT};

use super::params::whole_number;

/// How long the client would like to wait for an answer.
pub(crate) fn preferred_wait(request: &HttpRequest) -> Option<Duration> {
    let values = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
    let seconds = values
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next()?.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| whole_number(seconds.trim().trim_matches('"')))?;
    Some(Duration::from_secs(seconds as u64))
}

/// Whether the client takes a media type: the most specific range decides. Without the header, or with one that cannot be
/// read, it takes everything.
pub(super) fn accepts(request: &HttpRequest, kind: &str) -> bool {
    let headers = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    let ranges: Vec<(&str, f64)> =
        headers.flat_map(|value| value.split(',')).filter_map(range).collect();
    let family = kind.split_once('/').map_or("", |(family, _)| family);
    let specificity = |range: &str| match range.split_once('/') {
        _ if range.eq_ignore_ascii_case(kind) => Some(2),
        Some((name, "*")) if name.eq_ignore_ascii_case(family) => Some(1),
        Some(("*", "*")) => Some(0),
        _ => None,
    };
    let best = ranges.iter().filter_map(|(range, quality)| Some((specificity(range)?, *quality)));
    ranges.is_empty() || best.max_by_key(|(rank, _)| *rank).is_some_and(|(_, it)| 0.0 < it)
}

/// A media range and its weight; `None` if it is none.
fn range(text: &str) -> Option<(&str, f64)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().filter(|it| it.contains('/'))?;
    let weight = parts.filter_map(|it| it.split_once('=')).find(|(name, _)| name.trim() == "q");
    let weight = match weight {
        Some((_, weight)) => weight.trim().parse().ok().filter(|it| (0.0..=1.0).contains(it))?,
        None => 1.0,
    };
    Some((range, weight))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_most_specific_range_decides() {
        let accepts = |header: &str| {
            let request = TestRequest::default().insert_header((ACCEPT, header)).to_http_request();
            accepts(&request, "text/event-stream")
        };
        for good in [
            "text/event-stream",
            "Text/Event-Stream; q=0.1",
            "*/*",
            "text/*;q=0.5",
            "*/*;q=0, text/event-stream",
            "text/html, */*;q=0.1",
            "",
            "garbage",
            "text/html;q=x",
        ] {
            assert!(accepts(good), "{good}");
        }
        for bad in [
            "text/html",
            "text/event-stream;q=0",
            "text/event-stream;q=0, */*",
            "text/*;q=0, */*",
            "application/json, image/*",
        ] {
            assert!(!accepts(bad), "{bad}");
        }
    }
}
